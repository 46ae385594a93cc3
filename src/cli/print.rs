//! The only writer to standard output and standard error. It writes whole lines, leaves out
//! colour where no terminal shows it, and treats a closed reader as no error.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};

use super::failure::CommandError;

/// Prints a line of the result.
pub(super) fn say(line: &str) -> Result<(), CommandError> {
    let mut out = anstream::stdout().lock();
    written(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Prints octets of the result as they are.
pub(super) fn pass_on(octets: &[u8]) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    written(out.write_all(octets).and_then(|()| out.flush()))
}

/// Prints a line that is not part of the result.
pub(super) fn complain(line: &str) -> Result<(), CommandError> {
    written(writeln!(anstream::stderr().lock(), "{line}"))
}

/// Prints JSON for machines.
pub(super) fn say_json(value: &serde_json::Value) -> Result<(), CommandError> {
    say(&format!("{value:#}"))
}

fn written(result: io::Result<()>) -> Result<(), CommandError> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::OutputClosed,
        _ => CommandError::Failed(format!("cannot write to the output: {error}")),
    })
}

/// A table for people. On a terminal it fits into the width; elsewhere every row is one
/// line, so that it can be searched.
pub(super) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let rows = rows.into_iter().map(|row| row.map(|cell| plain(&cell)));
    table.set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Text without control characters: what a client or an upstream wrote must not move the
/// cursor of the reader's terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let row = |n: u8| [n.to_string(), "x".repeat(200)];
        let table = table(["N", "TEXT"], vec![row(1), row(2)]);
        assert_eq!(table.lines().count(), 3, "{table}");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let table = table(["A"], vec![["a\x1b[2J\nb".to_owned()]]);
        assert_eq!(table.lines().count(), 2, "{table:?}");
        assert!(!table.contains('\x1b'));
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let gone = written(Err(io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(gone, Err(CommandError::OutputClosed)));
    }
}
