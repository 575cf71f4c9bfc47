//! One poll of one unit: its windows, its ids, its pages, and the events of all of them.
//!
//! # Invariants
//! - A window's end is kept after its events were given away, and only if all of its pages came: what failed is asked for
//!   again. Where a disk did not keep the events for one output, all outputs get them again.
//! - The events of a window are given away together, or none of them.
//! - Only a program can take too long for an answer. It is waited for no longer then, but another one begins only after it
//!   has ended: a unit has one thread at most.

use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::collect::apis::{Level, Pages};
use serde_json::Value;

use super::ask::{Asked, PollError};
use super::cursors::Cursors;
use super::http::{Answer, Failure, start};
use super::mapping::{Mapped, Mapper};
use super::pages::{Pager, Seen};
use super::place::Names;
use super::plan::Unit;
use super::session::below;
use super::{Sink, dtinfo, shape, window};
use crate::model::{Event, Time};

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(100);
/// Answers beyond this are made into events on a thread of their own, in bytes.
const SMALL: usize = 64 << 10;

/// What a poll brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Polled {
    /// Events that were given away.
    pub events: u64,
    /// Those beyond the bound.
    pub beyond: u64,
    /// By how much the end of the last window was ahead of the clock, in milliseconds: windows began anew.
    pub ahead_ms: Option<i64>,
    /// The program took too long, and may run on.
    pub too_long: bool,
}

/// A failed poll, with what it brought before that.
pub(crate) type Failed = (PollError, Polled);

/// No node's fault.
fn ours(what: String, polled: Polled) -> Failed {
    (PollError::ours(what), polled)
}

impl Unit {
    /// Polls, and gives the events to `sink`.
    pub(crate) async fn poll(&self, cursors: &Arc<Cursors>, sink: &Sink) -> Result<Polled, Failed> {
        let mut polled = Polled::default();
        if let Some(facts) = &self.facts {
            facts.refresh().await;
        }
        let Some(wanted) = &self.api.window else {
            let found = self.list(self.names.clone(), &mut polled).await;
            self.give(found.map_err(|it| (it, polled))?, sink, &mut polled).await?;
            return Ok(polled);
        };
        let now = Time::now().unix_millis();
        let beside = format!("{} beside", self.key);
        let begin = window::begin(cursors.get(&self.key), cursors.get(&beside), now);
        polled.ahead_ms = begin.ahead_ms;
        let key = if begin.ahead_ms.is_some() { beside } else { self.key.clone() };
        for (from, to) in window::due(wanted, begin.cursor, now) {
            let mut names = self.names.clone();
            names.0.push(("window.start", window::write(from, &wanted.format)));
            names.0.push(("window.end", window::write(to, &wanted.format)));
            let found = self.list(names, &mut polled).await;
            self.give(found.map_err(|it| (it, polled))?, sink, &mut polled).await?;
            let (cursors, key) = (Arc::clone(cursors), key.clone());
            let kept = tokio::task::spawn_blocking(move || cursors.set(&key, to)).await;
            if let Ok(Err(what)) = kept {
                return Err(ours(what, polled));
            }
        }
        Ok(polled)
    }

    async fn give(&self, found: Mapped, sink: &Sink, polled: &mut Polled) -> Result<(), Failed> {
        let now = Time::now();
        let source = self.source();
        let event = |(time, fields): (Option<Time>, _)| Event {
            source: Arc::clone(&source),
            name: self.api.name.as_str().into(),
            time: time.unwrap_or(now),
            fields,
        };
        let events: Vec<_> = found.events.into_iter().map(event).collect();
        let number = events.len() as u64;
        sink.give(events).await.map_err(|what| ours(what, *polled))?;
        polled.events += number;
        polled.beyond += found.beyond;
        Ok(())
    }

    /// The events of all requests of one window, or of the poll.
    async fn list(&self, names: Names, polled: &mut Polled) -> Result<Mapped, PollError> {
        if matches!(self.api.level, Level::Dtinfo { .. }) {
            return self.dtinfo().await;
        }
        let mut all = Mapped::default();
        let path = names.path(&self.api.path);
        if self.api.ids.is_none() {
            let body = self.api.body.as_ref().map(|it| names.body(it, &[]));
            self.pages(&path, body.as_deref(), &mut all, polled).await?;
            return Ok(all);
        }
        let (ids, at_a_time) = self.ids(&names).await?;
        for some in ids.chunks(at_a_time) {
            let texts = some.iter().map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
            let mut names = names.clone();
            names.0.push(("ids", texts.collect::<Vec<_>>().join(",")));
            let path = names.path(&self.api.path);
            names.0.pop();
            let body = self.api.body.as_ref().map(|it| names.body(it, some));
            self.pages(&path, body.as_deref(), &mut all, polled).await?;
        }
        Ok(all)
    }

    async fn pages(
        &self,
        path: &str,
        body: Option<&str>,
        all: &mut Mapped,
        polled: &mut Polled,
    ) -> Result<(), PollError> {
        let mut pager = Pager::new(&self.api.pages, path.to_owned());
        let (mut next, mut preferred) = (Some(pager.first()), None);
        while let Some(path) = next.take() {
            let (answer, at) = self.asker.ask_json(&path, body, preferred).await?;
            let node = &self.asker.nodes[at];
            preferred = Some(at);
            let left = self.asker.bounds.events.saturating_sub(all.events.len());
            let link = answer.link.clone();
            let done = self.made(answer, left).await.map_err(|(what, too_long)| {
                polled.too_long |= too_long;
                PollError::of(node, format!("{}: {what}", shown(&path)))
            })?;
            let url = below(&node.url, &path).map_err(|it| PollError::of(node, it.to_string()))?;
            let seen = Seen {
                answer: &done.paging,
                link: link.as_deref(),
                elements: done.mapped.elements,
                url: &url,
                node: &node.url,
            };
            next = pager.next(&seen).map_err(|what| PollError::of(node, what))?;
            all.beyond += done.mapped.beyond;
            all.events.extend(done.mapped.events);
            if next.is_some() && pager.seen() >= self.asker.bounds.pages {
                let what = format!("{}: more than {} pages (`pages`)", shown(&path), pager.seen());
                return Err(PollError::of(node, what));
            }
        }
        Ok(())
    }

    /// An answer's events, and what of it says where the next page is. With what went wrong comes whether a program took too
    /// long.
    async fn made(&self, mut answer: Answer, most: usize) -> Result<Made, (String, bool)> {
        let keep = self.api.pages.clone();
        if answer.bytes.len() <= SMALL && !self.mapper.may_loop() {
            return make(&answer, &keep, &self.mapper, most).map_err(|it| (it, false));
        }
        let mapper = Arc::clone(&self.mapper);
        // Kept here: a program without an end would keep others' large answers from coming, for ever.
        let _large = answer.large.take();
        let running = Arc::clone(&self.running).lock_owned().await;
        let (done, mut result) = tokio::sync::oneshot::channel();
        // Not of the runtime's own: it may never end.
        let begun = std::thread::Builder::new().name("mapping".into()).spawn(move || {
            let made = make(&answer, &keep, &mapper, most);
            drop((answer, running));
            // Whoever waited may have given up.
            drop(done.send(made));
        });
        begun.map_err(|err| (format!("start a thread: {err}"), false))?;
        let broke = |_| ("make events of its answer: that broke off, which is a bug".to_owned(), false);
        if !self.mapper.may_loop() {
            return result.await.map_err(broke)?.map_err(|it| (it, false));
        }
        // Many short times rather than a long one: a process that is stopped for a while, or a host that sleeps, costs one
        // of them, and not what the program may take.
        for _ in 0..self.program_time.as_millis() / LOOK.as_millis() {
            if let Ok(made) = tokio::time::timeout(LOOK, &mut result).await {
                return made.map_err(broke)?.map_err(|it| (it, false));
            }
        }
        let seconds = self.program_time.as_secs_f64();
        Err((format!("the program `jq` has not ended within {seconds} s"), true))
    }

    /// Waits until no program of this unit runs any more.
    pub(crate) async fn program_ended(&self) {
        drop(self.running.lock().await);
    }

    async fn ids(&self, names: &Names) -> Result<(Vec<Value>, usize), PollError> {
        let mut all = Vec::new();
        let Some(ids) = &self.api.ids else { return Ok((all, 1)) };
        let mut pager = Pager::new(&ids.pages, names.path(&ids.path));
        let (mut next, mut preferred) = (Some(pager.first()), None);
        while let Some(path) = next.take() {
            let (answer, at) = self.asker.ask_json(&path, None, preferred).await?;
            let node = &self.asker.nodes[at];
            preferred = Some(at);
            let wrong = |what: String| PollError::of(node, format!("{}: {what}", shown(&path)));
            let value = parse(&answer.bytes).map_err(wrong)?;
            let url = below(&node.url, &path).map_err(|it| wrong(it.to_string()))?;
            let paging = paging(&value, &ids.pages);
            let elements = match shape::take(value, &ids.split) {
                Ok(Value::Array(elements)) => elements,
                Ok(Value::Null) => Vec::new(),
                Ok(other) => {
                    return Err(wrong(format!(
                        "`{}` is {}; expected an array",
                        ids.split,
                        shape::kind(&other)
                    )));
                }
                Err(found) => return Err(wrong(format!("there is no field `{}`: {found}", ids.split))),
            };
            let seen = Seen {
                answer: &paging,
                link: answer.link.as_deref(),
                elements: elements.len() as u64,
                url: &url,
                node: &node.url,
            };
            next = pager.next(&seen).map_err(wrong)?;
            for element in elements {
                all.push(match &ids.field {
                    None => element,
                    Some(field) => {
                        shape::take(element, field).map_err(|it| wrong(format!("`{field}`: {it}")))?
                    }
                });
            }
            if next.is_some() && pager.seen() >= self.asker.bounds.pages
                || all.len() > self.asker.bounds.events
            {
                return Err(wrong("more pages or ids than `pages` and `events` allow".to_owned()));
            }
        }
        Ok((all, ids.at_a_time))
    }

    /// Of a node that answers both questions: another one's answer may be of another VDC.
    async fn dtinfo(&self) -> Result<Mapped, PollError> {
        let asked = Asked { paths: &[dtinfo::OWNERS, dtinfo::STATES], body: None };
        let read = |answers: Vec<Answer>| {
            let texts: Vec<_> = answers.iter().map(|it| String::from_utf8_lossy(&it.bytes)).collect();
            let [owners, states] = &texts[..] else {
                return Err(Failure::Content("one of two answers is missing".to_owned()));
            };
            dtinfo::join(owners, states).map_err(Failure::Content)
        };
        let (tables, _) = self.asker.ask(&asked, None, read).await?;
        let mut mapped = Mapped { elements: tables.len() as u64, ..Mapped::default() };
        mapped.beyond = tables.len().saturating_sub(self.asker.bounds.events) as u64;
        let kept = tables.into_iter().take(self.asker.bounds.events);
        mapped.events = kept.map(|it| (None, it)).collect();
        Ok(mapped)
    }
}

#[derive(Debug)]
struct Made {
    mapped: Mapped,
    paging: Value,
}

fn make(answer: &Answer, pages: &Pages, mapper: &Mapper, most: usize) -> Result<Made, String> {
    let value = parse(&answer.bytes)?;
    let paging = paging(&value, pages);
    Ok(Made { mapped: mapper.map(value, most)?, paging })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes)
        .map_err(|err| format!("its answer is no JSON ({err}): {}", start(bytes, &[])))
}

/// The field that says where the next page is, by itself: the rest becomes events.
fn paging(value: &Value, pages: &Pages) -> Value {
    let field = match pages {
        Pages::NextField(field) | Pages::Token { field, .. } => field,
        Pages::Number { last_field: Some(field), .. } => field,
        _ => return Value::Null,
    };
    let found = value.as_object().and_then(|it| shape::at(it, field)).cloned().unwrap_or_default();
    Value::Object([(field.clone(), found)].into_iter().collect())
}

/// What is certainly no JSON may be what another node does not say.
pub(super) fn like_json(answer: Answer) -> Result<Answer, Failure> {
    let first = answer.bytes.iter().find(|it| !it.is_ascii_whitespace());
    let shown = || start(&answer.bytes, &[]);
    match first {
        Some(b'<') => {
            Err(Failure::Content(format!("it answers with a page of HTML or XML, not JSON: {}", shown())))
        }
        None => Err(Failure::Content("its answer is empty; expected JSON".to_owned())),
        _ => Ok(answer),
    }
}

pub(super) fn shown(path: &str) -> &str {
    path.split_once('?').map_or(path, |it| it.0)
}
