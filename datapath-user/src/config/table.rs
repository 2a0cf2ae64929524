//! TOML with its places: every complaint can name the file, the line, the key and the value.

use std::{fmt, ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, ports::shortened};

/// A file's text, for turning places in it into lines.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

/// A table, all of whose keys are known.
pub(super) struct Section<'a> {
    text: Text<'a>,
    /// Its name with a dot behind it, or nothing for the file itself.
    prefix: String,
    table: &'a DeTable<'a>,
    /// Where it begins.
    span: Range<usize>,
}

/// One value, and the key that it stands under.
pub(super) struct Item<'a> {
    text: Text<'a>,
    key: String,
    value: &'a DeValue<'a>,
    span: Range<usize>,
}

impl Text<'_> {
    /// The line that a place is on, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// What stands at a place, on one line.
    fn excerpt(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let words: Vec<_> = text.split_whitespace().collect();
        let line: String = words
            .join(" ")
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        shortened(&line)
    }

    pub(super) fn error(&self, span: &Range<usize>, message: impl fmt::Display) -> ConfigError {
        ConfigError::new(self.path, Some(self.line(span.start)), message)
    }
}

impl<'a> Section<'a> {
    /// The file itself.
    pub(super) fn root(
        text: Text<'a>,
        table: &'a DeTable<'a>,
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        Self::new(text, String::new(), table, 0..0, known)
    }

    fn new(
        text: Text<'a>,
        prefix: String,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        // The first in the file, not in the alphabet.
        let unknown = table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        if let Some(key) = unknown {
            let name = shortened(&key.get_ref().escape_debug().to_string());
            let known = known.join(", ");
            return Err(text.error(
                &key.span(),
                format_args!("{prefix}{name}: unknown key; known here: {known}"),
            ));
        }
        Ok(Self {
            text,
            prefix,
            table,
            span,
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        let value = self.table.get(key)?;
        Some(Item {
            text: self.text,
            key: format!("{}{key}", self.prefix),
            value: value.get_ref(),
            span: value.span(),
        })
    }

    /// A value that has to be there.
    pub(super) fn need(&self, key: &str, remedy: &str) -> Result<Item<'a>, ConfigError> {
        self.get(key).ok_or_else(|| {
            self.text.error(
                &self.span,
                format_args!("{}{key}: missing; {remedy}", self.prefix),
            )
        })
    }

    /// A yes or no, with what holds when it is not there.
    pub(super) fn bool_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        self.get(key).map_or(Ok(default), |item| item.bool())
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&self, key: &str, known: &[&str]) -> Result<Vec<Self>, ConfigError> {
        let Some(item) = self.get(key) else {
            return Ok(Vec::new());
        };
        let expected = format!("begin each entry with [[{key}]]");
        let tables = item.array(&expected)?;
        tables
            .into_iter()
            .map(|table| table.section(known, &expected))
            .collect()
    }

    /// The table of `[key]`.
    pub(super) fn table(&self, key: &str, known: &[&str]) -> Result<Option<Self>, ConfigError> {
        self.get(key)
            .map(|item| item.section(known, &format!("begin it with [{key}]")))
            .transpose()
    }
}

impl<'a> Item<'a> {
    /// What is wrong with the value.
    pub(super) fn wrong(&self, message: impl fmt::Display) -> ConfigError {
        let value = self.text.excerpt(&self.span);
        let key = &self.key;
        self.text
            .error(&self.span, format_args!("{key}: {value}: {message}"))
    }

    /// The key and the line, for naming this value in a complaint about another.
    pub(super) fn place(&self) -> String {
        format!("{} on line {}", self.key, self.text.line(self.span.start))
    }

    pub(super) fn is_string(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub(super) fn string(&self, expected: &str) -> Result<&'a str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.wrong(expected))
    }

    pub(super) fn bool(&self) -> Result<bool, ConfigError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.wrong("write true or false"))
    }

    pub(super) fn integer(&self, bounds: Range<u32>) -> Result<u32, ConfigError> {
        let bad = || {
            self.wrong(format_args!(
                "write a whole number from {} to {}",
                bounds.start,
                bounds.end - 1
            ))
        };
        let integer = self.value.as_integer().ok_or_else(bad)?;
        u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(bad)
    }

    /// The values of an array, each under its index.
    pub(super) fn array(&self, expected: &str) -> Result<Vec<Self>, ConfigError> {
        let array = self.value.as_array().ok_or_else(|| self.wrong(expected))?;
        let items = array.iter().enumerate().map(|(index, value)| Self {
            text: self.text,
            key: format!("{}[{index}]", self.key),
            value: value.get_ref(),
            span: value.span(),
        });
        Ok(items.collect())
    }

    fn section(self, known: &[&str], expected: &str) -> Result<Section<'a>, ConfigError> {
        let table = self.value.as_table().ok_or_else(|| self.wrong(expected))?;
        Section::new(self.text, format!("{}.", self.key), table, self.span, known)
    }
}
