//! A JSON object's text, changed in single places: everything else stays as its author wrote it, byte for byte.

use std::ops::Range;

use serde_json::{Map, Value};

/// A key that is set to a value of JSON, or taken out.
pub(super) type Edit<'a> = (&'a str, Option<Value>);

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// A member of the object.
struct Member {
    key: String,
    /// Where its key begins.
    start: usize,
    value: Range<usize>,
}

/// The text's object. An empty text is an empty one.
///
/// # Errors
/// When it is no JSON object.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, Malformed> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Malformed {
            line: 1,
            message: "not an object; it has to begin with { and end with }".to_owned(),
        }),
        Err(error) => Err(Malformed {
            line: error.line(),
            message: error.to_string(),
        }),
    }
}

/// Makes the edits. A key that has its value already is left alone.
///
/// # Errors
/// When the text is no JSON object.
pub(super) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Malformed> {
    let mut text = text.to_owned();
    for (key, value) in edits {
        let object = parse(&text)?;
        match value {
            Some(value) if object.get(*key) != Some(value) => set(&mut text, key, value),
            None if object.contains_key(*key) => remove(&mut text, key),
            _ => {}
        }
    }
    Ok(text)
}

fn set(text: &mut String, key: &str, value: &Value) {
    let value = value.to_string();
    let members = members(text);
    // Of a key that stands there twice the last one counts.
    if let Some(old) = members.iter().rev().find(|member| member.key == key) {
        text.replace_range(old.value.clone(), &value);
        return;
    }
    let member = format!("{}: {value}", Value::from(key));
    if let Some(last) = members.last() {
        let gap = gap(text, last.start);
        text.insert_str(last.value.end, &format!(",{gap}{member}"));
        return;
    }
    let Some((open, close)) = text.find('{').zip(text.rfind('}')) else {
        text.push_str(&format!("{{\n    {member}\n}}\n"));
        return;
    };
    text.replace_range(open + 1..close, &format!("\n    {member}\n"));
}

/// What stands between two members: a line's end and the last one's indentation, or a space where all is one line.
fn gap(text: &str, start: usize) -> String {
    let before = text.get(..start).unwrap_or_default();
    let indent = before.len() - before.trim_end_matches([' ', '\t']).len();
    let (rest, indent) = before.split_at(before.len() - indent);
    if rest.ends_with("\r\n") {
        format!("\r\n{indent}")
    } else if rest.ends_with('\n') {
        format!("\n{indent}")
    } else {
        " ".to_owned()
    }
}

fn remove(text: &mut String, key: &str) {
    loop {
        let members = members(text);
        let Some(index) = members.iter().position(|member| member.key == key) else {
            return;
        };
        let Some(gone) = members.get(index) else {
            return;
        };
        let before = index.checked_sub(1).and_then(|index| members.get(index));
        let range = match (before, members.get(index + 1)) {
            // With the comma before it, and what is between.
            (Some(before), _) => before.value.end..gone.value.end,
            (None, Some(next)) => gone.start..next.start,
            (None, None) => {
                let open = text.find('{').map_or(gone.start, |open| open + 1);
                open..text.rfind('}').unwrap_or(gone.value.end)
            }
        };
        text.replace_range(range, "");
    }
}

/// The members of the object that `text`, which has been parsed, is.
fn members(text: &str) -> Vec<Member> {
    let mut members = Vec::new();
    let Some(open) = text.find('{') else {
        return members;
    };
    let mut at = open + 1;
    loop {
        let start = at + skipped(text, at, |c| c.is_ascii_whitespace() || c == ',');
        if !text.get(start..).is_some_and(|rest| rest.starts_with('"')) {
            return members;
        }
        let key_end = end_of_value(text, start);
        let key = text.get(start..key_end).unwrap_or_default();
        let value = key_end + skipped(text, key_end, |c| c.is_ascii_whitespace() || c == ':');
        let end = end_of_value(text, value);
        members.push(Member {
            key: serde_json::from_str(key).unwrap_or_default(),
            start,
            value: value..end,
        });
        at = end;
    }
}

fn skipped(text: &str, at: usize, skip: impl Fn(char) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.len() - rest.trim_start_matches(skip).len()
}

/// Where the value that begins there ends.
fn end_of_value(text: &str, start: usize) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (offset, byte) in text.bytes().enumerate().skip(start) {
        if quoted {
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                quoted = false;
                if depth == 0 {
                    return offset + 1;
                }
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return offset,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return offset + 1;
                }
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return offset,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn done(text: &str) -> String {
        edit(
            text,
            &[
                ("iptables", Some(json!(false))),
                ("userland-proxy", Some(json!(false))),
            ],
        )
        .unwrap()
    }

    #[test]
    fn what_is_there_stays_as_it_was_written() {
        let text = "{\n  \"log-driver\" :\t\"json-file\",\n\n  \"bip\": \"10.0.0.1/24\" ,\n  \"big\": 1e400\n}\n";
        let text = text.replace("1e400", "12345678901234567890123");
        assert_eq!(
            done(&text),
            text.replace(
                "0123\n}",
                "0123,\n  \"iptables\": false,\n  \"userland-proxy\": false\n}"
            )
        );
        assert_eq!(
            done("{\"a\": {\"iptables\": [1, \"}\"]}}"),
            "{\"a\": {\"iptables\": [1, \"}\"]}, \"iptables\": false, \"userland-proxy\": false}"
        );
        assert_eq!(
            done("{\r\n\t\"a\": \"\\\"}\"\r\n}"),
            "{\r\n\t\"a\": \"\\\"}\",\r\n\t\"iptables\": false,\r\n\t\"userland-proxy\": false\r\n}"
        );
        assert_eq!(
            done("{\"iptables\":true,\"x\":1,\"iptables\" : true}"),
            "{\"iptables\":true,\"x\":1,\"iptables\" : false, \"userland-proxy\": false}"
        );
        assert_eq!(done(&done(&text)), done(&text));
    }

    #[test]
    fn nothing_becomes_an_object() {
        let new = "{\n    \"iptables\": false,\n    \"userland-proxy\": false\n}";
        assert_eq!(done(""), format!("{new}\n"));
        assert_eq!(done("{}"), new);
        assert_eq!(done("\u{feff}{ \n }\n"), format!("\u{feff}{new}\n"));
    }

    #[test]
    fn keys_are_taken_out_with_their_commas() {
        for (text, expected) in [
            ("{\"a\": 1}", "{}"),
            ("{\n \"a\": 1,\n \"b\": 2\n}", "{\n \"b\": 2\n}"),
            ("{\n \"b\": 2,\n \"a\": [1, 2]\n}", "{\n \"b\": 2\n}"),
            (
                "{\n \"b\": 2,\n \"a\": 1,\n \"c\": 3\n}",
                "{\n \"b\": 2,\n \"c\": 3\n}",
            ),
            ("{\"a\":1,\"a\":2}", "{}"),
            ("{\"b\":{\"a\":1}}", "{\"b\":{\"a\":1}}"),
        ] {
            assert_eq!(edit(text, &[("a", None)]).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_line() {
        assert_eq!(parse("{\n \"a\": 1,\n}").unwrap_err().line, 3);
        assert_eq!(parse("{\"a\": 1} x").unwrap_err().line, 1);
        assert_eq!(parse("{\n// no\n}").unwrap_err().line, 2);
        assert!(parse("[]").unwrap_err().message.contains("not an object"));
        assert!(edit("{", &[("a", None)]).is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_edit_changes_its_key_alone_and_undoing_it_gives_the_same_object(
            members in prop::collection::btree_map("[ab,:{}\"\\\\]{0,3}", value(), 0..5),
            pretty: bool,
            key in "[ab]{1,2}",
        ) {
            let before = Value::Object(members.clone().into_iter().collect());
            let text = if pretty { format!("{before:#}") } else { before.to_string() };
            let changed = edit(&text, &[(&key, Some(json!([7])))]).unwrap();
            let mut expected = parse(&text).unwrap();
            let old = expected.insert(key.clone(), json!([7]));
            prop_assert_eq!(parse(&changed).unwrap(), expected);
            let undone = edit(&changed, &[(&key, old)]).unwrap();
            prop_assert_eq!(parse(&undone).unwrap(), parse(&text).unwrap());
        }
    }
}
