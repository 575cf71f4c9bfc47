//! What a VDC says of itself and of its nodes, as tags of their events: an id, a version.
//!
//! # Invariants
//! - It is asked for when somebody polls, once for all, and again after the time that its system says, or some minutes where
//!   it failed. Polls wait for the first answer alone, and not for long.
//! - What is not known costs its tags and nothing else; what was known stays until it is known better.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outrider_protocol::collect::apis::Fact;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::ask::{Asker, PollError};
use super::node::NodeState;
use super::place::Names;
use super::poll::{parse, shown};
use super::shape;
use super::telling::Telling;

/// How soon it is asked for again where that failed, at the latest.
const AGAIN: Duration = Duration::from_secs(300);
/// How long a poll waits for the first answer.
const FIRST: Duration = Duration::from_secs(5);

/// Names and values.
type Pairs = Vec<(String, String)>;

/// What one VDC says.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Group, system and VDC.
    pub(crate) key: String,
    facts: Vec<Fact>,
    asker: Asker,
    names: Names,
    /// How long what is known is good.
    good: Duration,
    /// When it is asked for again; held while it is.
    due: Arc<tokio::sync::Mutex<Option<Instant>>>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Of each fact, by its number.
    of: Vec<Found>,
    /// Whether there was an answer to all, or an error.
    is_asked: bool,
    failing: Option<PollError>,
    telling: Telling,
}

/// What one answer says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    vdc: Pairs,
    /// Nodes by a host, an address, an id or a name.
    nodes: Vec<(String, Pairs)>,
}

impl Facts {
    pub(crate) fn new(key: String, facts: &[Fact], asker: Asker, names: Names, good: Duration) -> Self {
        let known = Known { of: vec![Found::default(); facts.len()], ..Known::default() };
        let (due, known) = (Arc::default(), Mutex::new(known));
        Self { key, facts: facts.to_vec(), asker, names, good, due, known }
    }

    /// Begins to ask, if that is due.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        // Where it is held, somebody asks.
        if let Ok(due) = Arc::clone(&self.due).try_lock_owned() {
            if due.is_some_and(|it| it > Instant::now()) {
                return;
            }
            let it = Arc::clone(self);
            tokio::spawn(async move { it.ask_all(due).await });
        }
        if !self.known().is_asked {
            drop(tokio::time::timeout(FIRST, self.due.lock()).await);
        }
    }

    /// Waits until nobody asks.
    pub(crate) async fn asked(&self) {
        drop(self.due.lock().await);
    }

    async fn ask_all(&self, mut due: tokio::sync::OwnedMutexGuard<Option<Instant>>) {
        let mut failed = None;
        for (at, fact) in self.facts.iter().enumerate() {
            match self.ask(fact).await {
                Ok(found) => self.known().of[at] = found,
                Err(err) => failed = Some(err),
            }
        }
        *due = Some(Instant::now() + if failed.is_none() { self.good } else { AGAIN.min(self.good) });
        let mut known = self.known();
        known.telling.went(failed.as_ref().map_or(Ok(()), Err));
        (known.failing, known.is_asked) = (failed, true);
    }

    async fn ask(&self, fact: &Fact) -> Result<Found, PollError> {
        let path = self.names.path(&fact.path);
        let (answer, at) = self.asker.ask_json(&path, None, None).await?;
        let found = parse(&answer.bytes).and_then(|it| read(fact, it));
        found.map_err(|what| PollError::of(&self.asker.nodes[at], format!("{}: {what}", shown(&path))))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it works again or fails now, where that was not told yet.
    pub(crate) fn news(&self) -> Option<Result<(), PollError>> {
        self.known().telling.news()
    }

    /// Why it failed, when it did the last time.
    pub(crate) fn failing(&self) -> Option<PollError> {
        self.known().failing.clone()
    }

    /// The tags of the VDC's events, or of those of one of its nodes.
    pub(crate) fn tags(&self, node: Option<&NodeState>) -> Pairs {
        let known = self.known();
        let vdc = known.of.iter().flat_map(|it| it.vdc.clone());
        let of_node = node.into_iter().flat_map(|node| {
            let mut names =
                vec![node.url.as_str().trim_end_matches('/'), node.id.as_str(), node.name.as_str()];
            names.extend(node.url.host_str().map(|it| it.trim_matches(['[', ']'])));
            let all = known.of.iter().flat_map(|it| &it.nodes);
            let fitting: Vec<_> = all.filter(|it| names.contains(&it.0.as_str())).cloned().collect();
            fitting.into_iter().flat_map(|it| it.1)
        });
        vdc.chain(of_node).collect()
    }
}

/// Reads an answer.
fn read(fact: &Fact, value: Value) -> Result<Found, String> {
    let Some((split, node)) = &fact.nodes else {
        let Value::Object(fields) = value else {
            return Err(format!("it is {}; expected an object", shape::kind(&value)));
        };
        return Ok(Found { vdc: pairs(fact, &fields)?, nodes: Vec::new() });
    };
    let found = shape::take(value, split).map_err(|found| format!("there is no field `{split}`: {found}"))?;
    let Value::Array(elements) = found else {
        return Err(format!("`{split}` is {}; expected an array", shape::kind(&found)));
    };
    let one = |element: &Value| {
        let fields = element.as_object().ok_or_else(|| {
            format!("an element of `{split}` is {}; expected an object", shape::kind(element))
        })?;
        let name = shape::at(fields, node).and_then(text);
        let name = name.ok_or_else(|| format!("an element of `{split}` has no text or number `{node}`"))?;
        Ok((name, pairs(fact, fields)?))
    };
    // One that says less than others, as one that is down, costs its own tags.
    let (nodes, faults): (Vec<_>, Vec<_>) = elements.iter().map(one).partition(Result::is_ok);
    let nodes: Vec<_> = nodes.into_iter().flatten().collect();
    match faults.into_iter().find_map(Result::err) {
        Some(fault) if nodes.is_empty() => Err(fault),
        _ => Ok(Found { vdc: Vec::new(), nodes }),
    }
}

fn pairs(fact: &Fact, fields: &Map<String, Value>) -> Result<Pairs, String> {
    let one = |(tag, field): &(String, String)| {
        let value = shape::at(fields, field).and_then(text);
        let value =
            value.ok_or_else(|| format!("there is no text or number `{field}`, for the tag {tag}"))?;
        Ok((tag.clone(), value))
    };
    fact.tags.iter().map(one).collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fact(nodes: Option<(&str, &str)>, tags: &[(&str, &str)]) -> Fact {
        let owned = |it: &(&str, &str)| (it.0.to_owned(), it.1.to_owned());
        let tags = tags.iter().map(owned).collect();
        Fact { path: "/f".into(), nodes: nodes.as_ref().map(owned), tags }
    }

    #[test]
    fn an_answer_is_of_the_vdc_or_of_each_of_its_nodes() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let vdc = fact(None, &[("vdc_id", "id"), ("site", "where.name")]);
        let found = read(&vdc, json!({ "id": 7, "where": { "name": "x" } })).unwrap();
        assert_eq!(found, Found { vdc: vec![pair("vdc_id", "7"), pair("site", "x")], nodes: Vec::new() });
        let nodes = fact(Some(("node", "ip")), &[("version", "version")]);
        let answer = json!({ "node": [{ "ip": "10.0.0.1", "version": "3.6" }, { "ip": "10.0.0.2", "version": "3.7" }] });
        let found = read(&nodes, answer).unwrap();
        assert_eq!(found.nodes[1], ("10.0.0.2".to_owned(), vec![pair("version", "3.7")]));
        let answer = json!({ "node": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2", "version": "3.7" }] });
        assert_eq!(read(&nodes, answer).unwrap().nodes, found.nodes[1..], "one that says less costs its own");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let nodes = fact(Some(("node", "ip")), &[("version", "version")]);
        for (answer, said) in [
            (json!([]), "there is no field `node`: there is an array"),
            (json!({ "node": 3 }), "`node` is a number; expected an array"),
            (json!({ "node": [3] }), "an element of `node` is a number; expected an object"),
            (json!({ "node": [{}] }), "an element of `node` has no text or number `ip`"),
            (
                json!({ "node": [{ "ip": "a", "version": [] }] }),
                "no text or number `version`, for the tag version",
            ),
        ] {
            let told = read(&nodes, answer).unwrap_err();
            assert!(told.contains(said), "{told}");
        }
    }
}
