//! `outrider data checkpoints`: the last-processed values of sessions.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;
use outrider_home::{Checkpoints, Root, SessionPath, StoreError};
use outrider_protocol::exit::Exit;
use outrider_protocol::ids::IntegrationId;

use super::args;
use super::removed::configured;
use super::table::{Column, Rows, terminal_width};
use super::{Ended, WAIT, agreed, conclude, note};
use crate::report::Error;
use crate::say::say;

/// How much of a value a table shows, in characters.
const SHOWN: usize = 80;

/// Lists, or drops.
pub(super) fn checkpoints(root: &Root, flags: &args::Checkpoints) -> Result<Exit, Error> {
    let below = below(flags)?;
    if flags.drop && below.is_none() {
        return Err(Error::usage("--drop: found no --integration and no --path, expected one of them")
            .hint("see what there is with `outrider data checkpoints`"));
    }
    let drops = flags.drop || flags.drop_removed;
    let state = if drops { root.settle_state_by_hand() } else { root.check_state() };
    state.map_err(|err| Error::failure(&err))?;
    let Some(store) = open(root)? else {
        note(&format!("no last-processed value is stored in {}", root.checkpoints_db().display()));
        return Ok(Exit::Ok);
    };
    if drops {
        return drop_some(root, flags, store, below.as_ref());
    }
    conclude(list(&store, below.as_ref(), flags.json))
}

/// The part of the store that is asked for.
fn below(flags: &args::Checkpoints) -> Result<Option<SessionPath>, Error> {
    if let Some(path) = &flags.path {
        let path = serde_json::from_str(path).map_err(|err| {
            Error::usage(format!("--path {path}: {err}"))
                .hint("expected a path as `outrider data checkpoints --json` shows it: [\"git\",[\"repository\",\"/srv/a\"]]")
        });
        return path.map(Some);
    }
    let id = flags.integration.as_deref().map(IntegrationId::new).transpose();
    let id = id.map_err(|err| Error::usage(format!("--integration: {err}")))?;
    Ok(id.map(SessionPath::of))
}

/// Opens the store; nothing where there never was one. It is not made by a look.
fn open(root: &Root) -> Result<Option<Checkpoints>, Error> {
    if !root.checkpoints_db().exists() {
        return Ok(None);
    }
    Checkpoints::open(root, WAIT).map(Some).map_err(|err| match &err {
        StoreError::InUse { .. } => Error::of(Exit::RootInUse, &err)
            .hint("an export is running and holds it: try again when it is over (`outrider status`)"),
        _ => Error::failure(&err),
    })
}

fn list(store: &Checkpoints, below: Option<&SessionPath>, as_json: bool) -> Result<Exit, Ended> {
    let mut out = BufWriter::new(io::stdout().lock());
    if as_json {
        walk(store, below, |path, value| {
            let path = serde_json::to_string(path)?;
            writeln!(out, "{{\"path\":{path},\"bytes\":{},\"value\":{value}}}", value.len())
        })?;
        out.flush()?;
        return Ok(Exit::Ok);
    }
    let columns = vec![
        Column::text("integration"),
        Column::text("session").keeping_end(),
        Column::number("bytes"),
        Column::text("value").yielding(),
    ];
    let mut table = Rows::new(out, columns, terminal_width());
    walk(store, below, |path, value| {
        let mut short: String = value.chars().take(SHOWN).collect();
        if short.len() < value.len() {
            short.push('…');
        }
        table.row(vec![path.integration.to_string(), session(path), value.len().to_string(), short])
    })?;
    table.end()?;
    Ok(Exit::Ok)
}

/// The path below the integration, for people: an object that is the same as that of the session above is not repeated.
fn session(path: &SessionPath) -> String {
    let (mut text, mut above) = (String::new(), None);
    for (name, object) in &path.parts {
        if !text.is_empty() {
            text.push_str(" / ");
        }
        text.push_str(name);
        if let Some(object) = object.as_ref().filter(|it| above != Some(*it)) {
            text.push(' ');
            text.push_str(object);
        }
        above = object.as_ref();
    }
    text
}

fn walk(
    store: &Checkpoints,
    below: Option<&SessionPath>,
    mut visit: impl FnMut(&SessionPath, &str) -> io::Result<()>,
) -> Result<(), Ended> {
    let mut failed = None;
    let walked = store.walk(below, &mut |path, value| match visit(path, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(err) => {
            failed = Some(err);
            ControlFlow::Break(())
        }
    });
    walked.map_err(|err| Error::failure(&err))?;
    failed.map_or(Ok(()), |err| Err(err.into()))
}

/// Drops what is asked for, after a person agreed.
fn drop_some(
    root: &Root,
    flags: &args::Checkpoints,
    store: Checkpoints,
    below: Option<&SessionPath>,
) -> Result<Exit, Error> {
    let kept = if flags.drop_removed { Some(configured(root, Timestamp::now(), flags.days)?) } else { None };
    let mut counts: BTreeMap<IntegrationId, u64> = BTreeMap::new();
    let walked = store.walk(below, &mut |path, _| {
        if !kept.as_ref().is_some_and(|kept| kept.contains(&path.integration)) {
            *counts.entry(path.integration.clone()).or_default() += 1;
        }
        ControlFlow::Continue(())
    });
    walked.map_err(|err| Error::failure(&err))?;
    if counts.is_empty() {
        say("Nothing to drop: no such value is stored.");
        return Ok(Exit::Ok);
    }
    // Given back while a person thinks: an export may begin.
    drop(store);
    let places: Vec<SessionPath> = match below {
        Some(path) => vec![path.clone()],
        None => counts.keys().cloned().map(SessionPath::of).collect(),
    };
    for place in &places {
        let count = counts.get(&place.integration).copied().unwrap_or_default();
        say(format!("{} of {place}, and what is below it", values(count)));
    }
    if !flags.yes && !agreed()? {
        say("Nothing was dropped.");
        return Ok(Exit::Cancelled);
    }
    let Some(store) = open(root)? else { return Ok(Exit::Ok) };
    for place in &places {
        let dropped = store.remove(place).map_err(|err| Error::failure(&err))?;
        say(format!("Dropped {} of {place}: the next export begins there from nothing.", values(dropped)));
    }
    Ok(Exit::Ok)
}

fn values(count: u64) -> String {
    format!("{count} last-processed value{}", if count == 1 { "" } else { "s" })
}
