//! What every command prints by: buffered, and quiet when nobody reads on. What is printed has no colour: it is
//! for programs as much as for people.

use std::{
    io::{self, BufWriter, StdoutLock, Write as _},
    ops::Range,
};

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// Standard output.
pub(super) type Out = BufWriter<StdoutLock<'static>>;

/// Standard output, which has to be flushed at the end.
pub(super) fn stdout() -> Out {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints lines.
pub(super) fn line(text: &str) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// An empty table; `numbers` are the columns that hold some. A row is a line, however narrow the terminal: an address
/// that is cut in two reads as another.
pub(super) fn table(header: &[&str], numbers: Range<usize>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    for (index, column) in table.column_iter_mut().enumerate() {
        let last = index + 1 == header.len();
        column.set_padding((0, if last { 0 } else { 2 }));
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Whether a command failed only since its reader left, as `head` does: no failure of ours.
#[must_use]
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let direct = cause.downcast_ref().map(io::Error::kind);
        let encoding = cause.downcast_ref::<serde_json::Error>();
        let kind = direct.or_else(|| encoding?.io_error_kind());
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn only_a_reader_that_left_is_forgiven() {
        let error = |kind| Err::<(), _>(io::Error::from(kind)).context("writing");
        assert!(is_closed(&error(io::ErrorKind::BrokenPipe).unwrap_err()));
        assert!(!is_closed(&error(io::ErrorKind::StorageFull).unwrap_err()));
        assert!(!is_closed(&anyhow!("broken pipe")));
    }
}
