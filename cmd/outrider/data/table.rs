//! Rows that come one by one as a table. The first rows decide how wide the columns are, so that no more than these are held
//! in memory. In a terminal the table is as wide as that at most, and what does not fit is cut off; elsewhere nothing is.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, Row, Table, Width, presets};

/// The rows that are laid out together.
const BATCH: usize = 500;
/// What a cell is cut to before it is laid out, in characters.
const LONGEST_CELL: usize = 2000;
/// The space between two columns.
const GAP: u16 = 2;
/// No column is made narrower than this for the others' sake.
const NARROWEST: u16 = 6;

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    name: String,
    /// It holds numbers.
    number: bool,
    /// It is made narrower before the others are.
    yields: bool,
    /// The end of its texts says most: what does not fit is cut off in front.
    keeps_end: bool,
}

impl Column {
    pub(super) fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), number: false, yields: false, keeps_end: false }
    }

    pub(super) fn number(name: impl Into<String>) -> Self {
        Self { number: true, ..Self::text(name) }
    }

    /// The same as one of texts whose end says most.
    pub(super) fn keeping_end(self) -> Self {
        Self { keeps_end: true, ..self }
    }

    /// The same as one that gives way first where the terminal is narrow.
    pub(super) fn yielding(self) -> Self {
        Self { yields: true, ..self }
    }
}

/// A table that is written to `out`.
#[derive(Debug)]
pub(super) struct Rows<W> {
    out: W,
    columns: Vec<Column>,
    /// The terminal's width; none where there is no terminal.
    terminal: Option<u16>,
    waiting: Vec<Vec<String>>,
    /// Of each column, once the first rows are written.
    widths: Option<Vec<u16>>,
}

/// The width of the terminal that stdout is.
pub(super) fn terminal_width() -> Option<u16> {
    let terminal = console::Term::stdout();
    if !terminal.is_term() {
        return None;
    }
    Some(terminal.size_checked().map_or(80, |(_, width)| width).max(20))
}

impl<W: Write> Rows<W> {
    pub(super) fn new(out: W, columns: Vec<Column>, terminal: Option<u16>) -> Self {
        Self { out, columns, terminal, waiting: Vec::new(), widths: None }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) -> io::Result<()> {
        self.waiting.push(cells.into_iter().map(|it| one_line(&it)).collect());
        if self.waiting.len() >= BATCH { self.write() } else { Ok(()) }
    }

    /// Writes what is left, and the names of the columns also when there was no row.
    pub(super) fn end(mut self) -> io::Result<()> {
        if !self.waiting.is_empty() || self.widths.is_none() {
            self.write()?;
        }
        self.out.flush()
    }

    fn write(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        let first = self.widths.is_none();
        let widths = self.widths.get_or_insert_with(|| widths(&self.columns, &rows, self.terminal));
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_truncation_indicator("…");
        if first {
            table.set_header(self.columns.iter().map(|it| cell(it, &it.name)));
        }
        for row in &rows {
            let cells = self.columns.iter().zip(row).zip(widths.iter());
            let mut row = Row::from(cells.map(|((column, text), width)| match self.terminal {
                Some(_) if column.keeps_end => cell(column, &end_of(text, *width)),
                _ => cell(column, text),
            }));
            if self.terminal.is_some() {
                row.max_height(1);
            }
            table.add_row(row);
        }
        let last = self.columns.len().saturating_sub(1);
        for (index, width) in widths.iter().enumerate() {
            let gap = if index == last { 0 } else { GAP };
            let width = Width::Fixed(width + gap);
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, gap));
                column.set_constraint(match self.terminal {
                    Some(_) => ColumnConstraint::Absolute(width),
                    None => ColumnConstraint::LowerBoundary(width),
                });
            }
        }
        writeln!(self.out, "{}", table.trim_fmt())
    }
}

fn cell(column: &Column, text: &str) -> Cell {
    let cell = Cell::new(text);
    if column.number { cell.set_alignment(CellAlignment::Right) } else { cell }
}

/// The last characters of a text.
fn end_of(text: &str, width: u16) -> Cow<'_, str> {
    let surplus = text.chars().count().saturating_sub(width.into());
    match text.char_indices().nth(surplus + 1) {
        Some((at, _)) if surplus > 0 => format!("…{}", &text[at..]).into(),
        _ => text.into(),
    }
}

/// As wide as the content; in a terminal columns give way until all fit, the widest first.
fn widths(columns: &[Column], rows: &[Vec<String>], terminal: Option<u16>) -> Vec<u16> {
    let mut content = Table::new();
    content.set_header(columns.iter().map(|it| &it.name));
    for row in rows {
        content.add_row(row);
    }
    let mut widths = content.column_max_content_widths();
    let Some(terminal) = terminal else { return widths };
    let gaps = GAP.saturating_mul(u16::try_from(columns.len()).unwrap_or(u16::MAX).saturating_sub(1));
    loop {
        let all = widths.iter().fold(gaps, |sum, width| sum.saturating_add(*width));
        if all <= terminal {
            return widths;
        }
        let wide = |it: &(&mut u16, &Column)| *it.0 > NARROWEST;
        let giving =
            widths.iter_mut().zip(columns).filter(wide).max_by_key(|(width, it)| (it.yields, **width));
        match giving {
            Some((width, _)) => *width -= 1,
            None => return widths,
        }
    }
}

/// A text as one line in a cell.
fn one_line(text: &str) -> String {
    let cut = text.char_indices().nth(LONGEST_CELL).map_or(text, |(at, _)| &text[..at]);
    let line = cut.split(['\n', '\r', '\t']).filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ");
    visible(&line).into_owned()
}

/// A text without characters that give a terminal orders: what sources say is shown in terminals, which obey some of them.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(is_control) { text.replace(is_control, "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: Option<u16>, rows: &[[&str; 3]]) -> String {
        let columns = vec![Column::text("model"), Column::number("objects"), Column::text("message")];
        let mut out = Vec::new();
        let mut table = Rows::new(&mut out, columns, terminal);
        for row in rows {
            table.row(row.iter().map(|&it| it.to_owned())).unwrap();
        }
        table.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_cut_off_without_a_terminal() {
        let text = shown(None, &[["a.B", "12", "x"], ["a.Longer", "3", "two\nlines and \u{1b}[2J"]]);
        assert_eq!(
            text,
            "model     objects  message\na.B            12  x\na.Longer        3  two lines and \u{fffd}[2J\n"
        );
        assert_eq!(shown(None, &[]), "model  objects  message\n");
    }

    #[test]
    fn a_terminal_is_never_too_narrow() {
        let long = "word ".repeat(40);
        let text = shown(Some(40), &[["a.B", "12", &long], ["sourcecode.PullRequest", "3", "x"]]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|it| it.chars().count() <= 40), "{text}");
        assert!(lines[1].ends_with('…') && lines[2].contains('…'), "{text}");
    }

    #[test]
    fn what_yields_gives_way_first() {
        let mut out = Vec::new();
        let columns = vec![Column::text("session").keeping_end(), Column::text("value").yielding()];
        let mut table = Rows::new(&mut out, columns, Some(30));
        table.row(vec!["a session of 20 byte".into(), "0123456789".into()]).unwrap();
        table.end().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().nth(1).unwrap(), "a session of 20 byte  0123456…");
        assert_eq!((end_of("abcdef", 4), end_of("abcd", 4)), ("…def".into(), "abcd".into()));
    }

    #[test]
    fn later_rows_keep_the_columns() {
        let mut rows = vec![["model", "1", "x"]; BATCH];
        rows.extend([["b", "2", "y"], ["much longer than before", "3", "z"]]);
        let text = shown(Some(60), &rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), BATCH + 3);
        assert_eq!(lines[BATCH + 1], "b            2  y");
        assert!(lines[BATCH + 2].chars().count() <= 60);
    }
}
