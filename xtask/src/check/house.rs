//! The rules of the house that no lint knows.
//!
//! A file is one idea: 500 lines are the limit, or its first lines say why it is more. No test is switched
//! off and nothing is left for later, since both look like work that is done.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

const LIMIT: usize = 500;

/// What excuses a longer file, in a line of its own, with the reason after it.
const EXCUSE: &str = "// Over 500 lines: ";

/// What must not be written, and why. (In two halves: this file is read as well.)
const BANNED: [(&str, &str); 4] = [
    (
        concat!("#[ign", "ore"),
        "a test that does not run is no test",
    ),
    (
        concat!("cfg(an", "y())"),
        "code that is never compiled rots",
    ),
    (concat!("to", "do!("), "finish it, or leave it out"),
    (concat!("unimpl", "emented!("), "finish it, or leave it out"),
];

/// Checks every Rust file of the project.
///
/// # Errors
/// With one line for each place that breaks a rule.
pub(super) fn check(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    let mut files = 0_usize;
    walk(root, &mut |file| {
        files += 1;
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(file).display();
        findings.extend(findings_in(&text).map(|finding| format!("{name}{finding}")));
        Ok(())
    })?;
    if !findings.is_empty() {
        bail!("{} findings\n  {}", findings.len(), findings.join("\n  "));
    }
    println!("{files} files keep the rules of the house");
    Ok(())
}

/// Calls `visit` with each Rust file below `directory`; what cargo and git keep there is not the project's.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot see {}", path.display()))?;
        if kind.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, visit)?;
        } else if kind.is_file() && name.ends_with(".rs") {
            visit(&path)?;
        }
    }
    Ok(())
}

fn findings_in(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().count();
    let excused = text.lines().any(|line| line.starts_with(EXCUSE));
    let long = (lines > LIMIT && !excused)
        .then(|| format!(": {lines} lines; split it, or say why in a line `{EXCUSE}..`"));
    let banned = text.lines().enumerate().flat_map(|(index, line)| {
        let banned = BANNED.iter().filter(move |(word, _)| line.contains(word));
        banned.map(move |(word, why)| format!(":{}: `{word}`: {why}", index + 1))
    });
    long.into_iter().chain(banned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        findings_in(text).collect()
    }

    #[test]
    fn each_banned_word_is_found_with_its_line() {
        for (word, why) in BANNED {
            assert_eq!(
                findings(&format!("fn main() {{}}\n    {word}\n")),
                [format!(":2: `{word}`: {why}")]
            );
        }
        assert_eq!(findings("fn todo() { ignore!() }"), [""; 0]);
    }

    #[test]
    fn a_long_file_needs_an_excuse() {
        let long = "\n".repeat(LIMIT);
        assert_eq!(findings(&long), [""; 0]);
        let longer = "\n".repeat(LIMIT + 1);
        assert_eq!(findings(&longer).len(), 1);
        assert_eq!(findings(&format!("{EXCUSE}one table.\n{longer}")), [""; 0]);
    }

    #[test]
    fn the_project_is_walked_and_its_build_is_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut seen = Vec::new();
        walk(root.parent().unwrap(), &mut |file| {
            seen.push(file.to_owned());
            Ok(())
        })
        .unwrap();
        assert!(seen.contains(&root.join("src/check/house.rs")));
        assert!(
            !seen
                .iter()
                .any(|file| file.components().any(|part| part.as_os_str() == "target"))
        );
    }
}
