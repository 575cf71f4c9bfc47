//! `outrider data cat`, `grep` and `count`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::ops::ControlFlow;

use outrider_home::Root;
use outrider_protocol::exit::Exit;
use regex::bytes::{Regex, RegexBuilder};

use super::args::{Cat, Count, Grep};
use super::filter::Query;
use super::pick::FieldPath;
use super::source::{File, each, find};
use super::table::{Column, Rows, terminal_width, visible};
use super::{Ended, conclude, note};
use crate::report::Error;

/// What is written at once, in bytes.
const OUT_BYTES: usize = 64 << 10;

/// Shows objects.
pub(super) fn cat(root: &Root, flags: Cat) -> Result<Exit, Error> {
    show(root, flags, None)
}

/// Shows the objects that a pattern is found in.
pub(super) fn grep(root: &Root, flags: Grep) -> Result<Exit, Error> {
    let pattern = if flags.fixed { regex::escape(&flags.pattern) } else { flags.pattern.clone() };
    let pattern = RegexBuilder::new(&pattern).case_insensitive(flags.ignore_case).build().map_err(|err| {
        Error::usage(format!("{:?} is no pattern: {err}", flags.pattern))
            .hint("--fixed takes it as plain text")
    })?;
    show(root, flags.cat, Some(pattern))
}

fn show(root: &Root, flags: Cat, pattern: Option<Regex>) -> Result<Exit, Error> {
    let source = find(root, &flags.which)?;
    let query = Query { conditions: flags.matching.conditions, pattern };
    let mut left = flags.limit.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(Exit::Ok);
    }
    let as_is = query.is_all() && flags.fields.is_empty() && flags.limit.is_none();
    let mut strange = Strange::default();
    let mut out = Out::new(flags.fields);
    let read = source.read(|file, lines| {
        if as_is {
            out.lines(lines)?;
            return Ok(ControlFlow::Continue(()));
        }
        for object in each(lines) {
            let shown = query.fits(object).map(|fits| fits.then(|| out.prepare(object)).transpose());
            match shown.and_then(|it| it) {
                Ok(None) => continue,
                Ok(Some(prepared)) => out.object(object, prepared)?,
                Err(err) => {
                    strange.met(file, &err);
                    continue;
                }
            }
            left -= 1;
            if left == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    let done = read.and_then(|exit| out.end().map(|()| strange.exit(exit)));
    conclude(done)
}

/// Counts objects.
pub(super) fn count(root: &Root, flags: Count) -> Result<Exit, Error> {
    let source = find(root, &flags.which)?;
    let query = Query { conditions: flags.matching.conditions, pattern: None };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for file in &source.files {
        counts.insert(&file.stored.model, 0);
    }
    let mut strange = Strange::default();
    let read = source.read(|file, lines| {
        let mut fitting = 0;
        if query.is_all() {
            fitting = memchr::memchr_iter(b'\n', lines).count() as u64;
        } else {
            for object in each(lines) {
                match query.fits(object) {
                    Ok(fits) => fitting += u64::from(fits),
                    Err(err) => strange.met(file, &err),
                }
            }
        }
        if let Some(count) = counts.get_mut(file.stored.model.as_str()) {
            *count += fitting;
        }
        Ok(ControlFlow::Continue(()))
    });
    let out = BufWriter::new(io::stdout().lock());
    conclude(read.and_then(|exit| told(out, &counts, flags.json).map(|()| strange.exit(exit))))
}

fn told(mut out: impl Write, counts: &BTreeMap<&str, u64>, as_json: bool) -> Result<(), Ended> {
    if as_json {
        for (model, objects) in counts {
            writeln!(out, "{}", serde_json::json!({ "model": model, "objects": objects }))?;
        }
        return Ok(out.flush()?);
    }
    let mut table = Rows::new(out, vec![Column::text("model"), Column::number("objects")], terminal_width());
    let human = |count: u64| indicatif::HumanCount(count).to_string();
    for (model, objects) in counts {
        table.row(vec![(*model).to_owned(), human(*objects)])?;
    }
    if counts.len() > 1 {
        table.row(vec!["all".into(), human(counts.values().sum())])?;
    }
    Ok(table.end()?)
}

/// Records that are no JSON: the first is told, the others are counted.
#[derive(Debug, Default)]
struct Strange(u64);

impl Strange {
    fn met(&mut self, file: &File, err: &serde_json::Error) {
        self.0 += 1;
        if self.0 == 1 {
            let stored = &file.stored;
            note(&format!(
                "file {} of {} of the export {} holds a record that is no JSON, which is left out: {err}",
                stored.number, stored.model, stored.export
            ));
        }
    }

    fn exit(&self, exit: Exit) -> Exit {
        match self.0 {
            0 => exit,
            1 => Exit::Failure,
            count => {
                note(&format!("{count} records are no JSON, and are left out"));
                Exit::Failure
            }
        }
    }
}

/// Where objects are shown.
enum Out {
    Lines { out: BufWriter<StdoutLock<'static>>, terminal: bool },
    Table { fields: Vec<FieldPath>, rows: Rows<BufWriter<StdoutLock<'static>>> },
}

impl Out {
    fn new(fields: Vec<FieldPath>) -> Self {
        let out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
        let width = terminal_width();
        if fields.is_empty() {
            return Self::Lines { out, terminal: width.is_some() };
        }
        let columns = fields.iter().map(|it| Column::text(it.to_string())).collect();
        Self::Table { fields, rows: Rows::new(out, columns, width) }
    }

    /// The cells of an object's row; nothing for lines.
    fn prepare(&self, object: &[u8]) -> Result<Vec<String>, serde_json::Error> {
        match self {
            Self::Lines { .. } => Ok(Vec::new()),
            Self::Table { fields, .. } => fields.iter().map(|it| it.shown(object)).collect(),
        }
    }

    fn object(&mut self, object: &[u8], cells: Vec<String>) -> io::Result<()> {
        match self {
            Self::Lines { .. } => {
                self.lines(object)?;
                self.lines(b"\n")
            }
            Self::Table { rows, .. } => rows.row(cells),
        }
    }

    /// Writes lines as they are; in a terminal without the characters that it obeys.
    fn lines(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Lines { out, terminal: false } => out.write_all(lines),
            Self::Lines { out, terminal: true } => {
                out.write_all(visible(&String::from_utf8_lossy(lines)).as_bytes())
            }
            Self::Table { .. } => Ok(()),
        }
    }

    fn end(self) -> Result<(), Ended> {
        match self {
            Self::Lines { mut out, .. } => Ok(out.flush()?),
            Self::Table { rows, .. } => Ok(rows.end()?),
        }
    }
}
