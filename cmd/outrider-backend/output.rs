//! What people and programs read on stdout: lines, tables, JSON.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};
use jiff::Timestamp;
use outrider_protocol::exit::Exit;
use serde::Serialize;

use crate::report::Error;

/// Writes a line to stdout. A reader that has gone away is no error: `outrider-backend … | head`.
pub(crate) fn line(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{}", visible(text)));
}

/// Writes a line to stderr, for people only.
pub(crate) fn note(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// A text without control characters but those that end lines and cells: what agents and their sources say is shown in
/// terminals, which obey some of them.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(is_control) { text.replace(is_control, "\u{fffd}").into() } else { text.into() }
}

/// Whether somebody looks at stdout in a terminal.
pub(crate) fn in_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Writes a value as JSON to stdout.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Exit, Error> {
    line(&serde_json::to_string_pretty(value).map_err(|err| Error::failure(&err))?);
    Ok(Exit::Ok)
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// A table in plain text.
pub(crate) fn table(columns: &[Column], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| match column {
        Column::Text(name) => Cell::new(name),
        Column::Number(name) => Cell::new(name).set_alignment(CellAlignment::Right),
    }));
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in columns.iter().enumerate() {
        if let Some(shown) = table.column_mut(index) {
            shown.set_padding((0, 2));
            if matches!(column, Column::Number(_)) {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

/// Bytes for people: `1.2 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    indicatif::HumanBytes(bytes).to_string()
}

/// A count for people: `12,345`.
pub(crate) fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

/// How long ago something was: `3 min ago`.
pub(crate) fn ago(time: Option<Timestamp>) -> String {
    let Some(time) = time else { return "never".into() };
    let seconds = Timestamp::now().duration_since(time).as_secs().max(0);
    match seconds {
        0..=1 => "now".into(),
        2..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A time span for people: `12 ms`, `4.2 s`, `3 min 20 s`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long a command ran, or has run until now.
pub(crate) fn ran(started: Option<Timestamp>, ended: Option<Timestamp>) -> String {
    let Some(started) = started else { return "–".into() };
    let ended = ended.unwrap_or_else(Timestamp::now);
    span(Duration::try_from(ended.duration_since(started)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_texts_left() {
        let columns = [Column::Text("model"), Column::Number("objects")];
        let shown =
            table(&columns, vec![vec!["a.B".into(), count(12_345)], vec!["a.Longer".into(), count(1)]]);
        assert_eq!(shown, "model     objects\na.B        12,345\na.Longer        1");
    }

    #[test]
    fn what_others_say_gives_a_terminal_no_orders() {
        assert_eq!(visible("a\x1b[2J\u{9b}31m\rb\tc\nd"), "a\u{fffd}[2J\u{fffd}31m\u{fffd}b\tc\nd");
        assert!(matches!(visible("plain – text"), Cow::Borrowed(_)));
    }

    #[test]
    fn spans_and_sizes_are_for_people() {
        assert_eq!(span(Duration::from_millis(4230)), "4.2 s");
        assert_eq!(span(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(bytes(900), "900 B");
        assert_eq!(bytes(1_300_000), "1.24 MiB");
    }
}
