//! `outrider data ls`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use outrider_home::Root;
use outrider_protocol::exit::Exit;
use outrider_spool::Place;
use serde::Serialize;

use super::args::Ls;
use super::source::{File, find, outcome};
use super::table::{Column, Rows, terminal_width};
use super::{Ended, conclude};
use crate::report::Error;

/// A row: a model of an export, or one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    export: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    integration: Option<String>,
    state: &'static str,
    files: u64,
    /// Nothing where not every file tells it: one that grows, one at a backend.
    objects: Option<u64>,
    bytes: u64,
}

/// Lists.
pub(super) fn ls(root: &Root, flags: &Ls) -> Result<Exit, Error> {
    let source = find(root, &flags.which)?;
    let rows: Vec<Row> = if flags.files {
        source.files.iter().map(|file| Row { number: Some(file.stored.number), ..row(file) }).collect()
    } else {
        summed(source.files.iter().map(row))
    };
    let out = BufWriter::new(io::stdout().lock());
    let written = if flags.json { json(out, &rows) } else { table(out, &rows, flags) };
    conclude(written.map(|()| outcome(source.whole)))
}

fn row(file: &File) -> Row {
    let stored = &file.stored;
    Row {
        agent: file.agent.clone(),
        export: stored.export.clone(),
        model: stored.model.clone(),
        number: None,
        integration: stored.origin.clone(),
        state: match (&file.agent, stored.place) {
            (Some(_), _) => "received",
            (None, Place::Writing) => "writing",
            (None, Place::Waiting) => "waiting",
            (None, Place::Sent) => "sent",
        },
        files: 1,
        objects: stored.records,
        bytes: stored.bytes,
    }
}

/// The files of a model, an integration and a state in one row.
fn summed(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut sums: BTreeMap<_, Row> = BTreeMap::new();
    for row in rows {
        let Row { agent, export, model, integration, state, .. } = row.clone();
        match sums.entry((agent, export, model, integration, state)) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(row)),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let sum = entry.get_mut();
                sum.files += row.files;
                sum.bytes += row.bytes;
                sum.objects = sum.objects.zip(row.objects).map(|(one, other)| one + other);
            }
        }
    }
    sums.into_values().collect()
}

fn json(mut out: impl Write, rows: &[Row]) -> Result<(), Ended> {
    for row in rows {
        serde_json::to_writer(&mut out, row).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// In a terminal an export is a table with its id above it, which then is whole; elsewhere a row says everything.
fn table(mut out: impl Write, rows: &[Row], flags: &Ls) -> Result<(), Ended> {
    let Some(width) = terminal_width() else { return part(&mut out, rows, flags, None) };
    let groups = rows.chunk_by(|one, other| (&one.agent, &one.export) == (&other.agent, &other.export));
    for (index, group) in groups.enumerate() {
        let gap = if index == 0 { "" } else { "\n" };
        let agent = group[0].agent.as_deref().map(|it| format!(" of agent {it}")).unwrap_or_default();
        writeln!(out, "{gap}export {}{agent}", group[0].export)?;
        part(&mut out, group, flags, Some(width))?;
    }
    Ok(out.flush()?)
}

fn part(out: impl Write, rows: &[Row], flags: &Ls, terminal: Option<u16>) -> Result<(), Ended> {
    let received = flags.which.dir.is_some();
    let mut columns = Vec::new();
    if terminal.is_none() {
        columns.extend(received.then(|| Column::text("agent")));
        columns.push(Column::text("export"));
    }
    columns.push(Column::text("model"));
    columns.extend((!received).then(|| Column::text("integration").yielding()));
    columns.push(Column::text("state"));
    columns.push(Column::number(if flags.files { "file" } else { "files" }));
    columns.extend([Column::number("objects"), Column::number("size")]);
    let mut table = Rows::new(out, columns, terminal);
    for row in rows {
        let mut cells = Vec::new();
        if terminal.is_none() {
            cells.extend(row.agent.clone());
            cells.push(row.export.clone());
        }
        cells.push(row.model.clone());
        cells.extend((!received).then(|| row.integration.clone().unwrap_or_else(|| "?".into())));
        let objects = row.objects.map_or_else(|| "?".into(), |it| indicatif::HumanCount(it).to_string());
        cells.push(row.state.into());
        cells.push(row.number.unwrap_or(row.files).to_string());
        cells.extend([objects, indicatif::HumanBytes(row.bytes).to_string()]);
        table.row(cells)?;
    }
    Ok(table.end()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_summed_by_model_and_state() {
        let file = |model: &str, state, objects| Row {
            export: "e".into(),
            model: model.into(),
            state,
            files: 1,
            objects,
            bytes: 10,
            ..Row::default()
        };
        let rows = summed(
            [
                file("b", "sent", Some(2)),
                file("a", "sent", Some(1)),
                file("b", "sent", Some(3)),
                file("b", "writing", None),
                file("b", "writing", Some(1)),
            ]
            .into_iter(),
        );
        let told: Vec<_> =
            rows.iter().map(|it| (it.model.as_str(), it.state, it.files, it.objects, it.bytes)).collect();
        assert_eq!(
            told,
            [("a", "sent", 1, Some(1), 10), ("b", "sent", 2, Some(5), 20), ("b", "writing", 2, None, 20)]
        );
    }
}
