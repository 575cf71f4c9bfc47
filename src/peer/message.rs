//! A line into a message: only the small envelope is parsed, parameters and results stay text.

use std::ops::Range;

use jsonrpsee::types::Id;
use outrider_protocol::fault::code;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// The members of a JSON-RPC object, each as it stands in the line. `None` is a member that is not there; one that is
/// `null` is there.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// What a line is.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    /// Asks for something. `id` is missing for a notification.
    Request {
        id: Option<Id<'static>>,
        method: String,
        /// Where the parameters stand in the line.
        params: Option<Range<usize>>,
    },
    /// Answers a call of ours.
    Answer { id: Id<'static>, outcome: Outcome<'a> },
    /// No message of JSON-RPC 2.0.
    Invalid(Invalid),
}

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// The line as it stands is an answer that jsonrpsee takes.
    AsItStands,
    /// A result, in an envelope with more than it should have.
    Result(&'a RawValue),
    /// An error, in whatever shape.
    Error(&'a RawValue),
    /// Both or neither.
    Bad(&'static str),
}

/// Why a line is no message, and how to say so.
#[derive(Debug)]
pub(crate) struct Invalid {
    /// [`code::PARSE`] or [`code::INVALID_REQUEST`].
    pub(crate) code: i32,
    /// What was found and what was expected.
    pub(crate) found: String,
    /// The id to answer with.
    pub(crate) id: Id<'static>,
    /// Whether to answer at all: an answer is never answered.
    pub(crate) answer: bool,
}

impl Invalid {
    fn new(code: i32, found: impl Into<String>) -> Self {
        Self { code, found: found.into(), id: Id::Null, answer: true }
    }

    fn request<'a>(found: &str, id: Id<'static>) -> Message<'a> {
        Message::Invalid(Self { id, ..Self::new(code::INVALID_REQUEST, found) })
    }
}

/// Tells what `line` is.
pub(crate) fn read(line: &str) -> Message<'_> {
    if line.trim_start().starts_with('[') && is_json(line) {
        let found = "found an array, expected one object: batches are not taken, send a message a line";
        return Message::Invalid(Invalid::new(code::INVALID_REQUEST, found));
    }
    match serde_json::from_str::<Envelope<'_>>(line) {
        Ok(envelope) => sort(line, &envelope),
        Err(err) if err.classify() == Category::Data && is_json(line) => Message::Invalid(Invalid::new(
            code::INVALID_REQUEST,
            format!("expected an object with each member once: {err}"),
        )),
        Err(err) => Message::Invalid(Invalid::new(code::PARSE, format!("the line is not JSON: {err}"))),
    }
}

/// Below this a line is read as a whole first: it costs nothing.
const LARGE_BYTES: usize = 4 << 10;

/// A request that `is_unread` knows, of a large line that begins as jsonrpsee and [`crate::Peer::call_text`] write it. What
/// follows the beginning is not looked at, and nothing may be done before it was: [`crate::RawParams`] sees to it.
pub(crate) fn read_head(line: &str, is_unread: impl Fn(&str) -> bool) -> Option<Message<'_>> {
    if line.len() < LARGE_BYTES {
        return None;
    }
    let (id, rest) = line.strip_prefix(r#"{"jsonrpc":"2.0","id":"#)?.split_once(',')?;
    let (method, rest) = rest.strip_prefix(r#""method":""#)?.split_once('"')?;
    let params = rest.strip_prefix(r#","params":"#)?.strip_suffix('}')?;
    if !is_unread(method) || !id.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let id = Some(Id::Number(id.parse().ok()?));
    Some(Message::Request { id, method: method.to_owned(), params: Some(within(line, params)) })
}

fn is_json(line: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok()
}

fn sort<'a>(line: &str, envelope: &Envelope<'a>) -> Message<'a> {
    let id = match envelope.id.map(|id| serde_json::from_str::<Id<'_>>(id.get())) {
        None => None,
        Some(Ok(id)) => Some(id.into_owned()),
        Some(Err(_)) if envelope.method.is_none() => Some(Id::Null),
        Some(Err(_)) => {
            return Invalid::request("`id` must be text, a whole number from 0, or null", Id::Null);
        }
    };
    let versioned = envelope.jsonrpc.map(|version| version.get() == "\"2.0\"");
    let Some(method) = envelope.method else { return sort_answer(envelope, id, versioned) };
    if versioned != Some(true) {
        return Invalid::request("`jsonrpc` must be \"2.0\"", id.unwrap_or(Id::Null));
    }
    let Ok(method) = serde_json::from_str::<String>(method.get()) else {
        return Invalid::request("`method` must be text", id.unwrap_or(Id::Null));
    };
    let params =
        envelope.params.filter(|params| params.get() != "null").map(|params| within(line, params.get()));
    Message::Request { id, method, params }
}

/// Sorts what has no `method`. Answers need not say their version, since some do not; a wrong one is as good as none.
fn sort_answer<'a>(envelope: &Envelope<'a>, id: Option<Id<'static>>, versioned: Option<bool>) -> Message<'a> {
    let error = envelope.error.filter(|error| error.get() != "null");
    let outcome = match (envelope.result, error) {
        (Some(_), None) if envelope.error.is_none() && versioned != Some(false) => Outcome::AsItStands,
        (Some(result), None) => Outcome::Result(result),
        // `"result": null` beside an error is how JSON-RPC 1 says it.
        (Some(result), Some(error)) if result.get() == "null" => Outcome::Error(error),
        (None, Some(error)) => Outcome::Error(error),
        (Some(_), Some(_)) => Outcome::Bad("it has both `result` and `error`"),
        (None, None) if envelope.error.is_some() => Outcome::Bad("it has neither `result` nor `error`"),
        (None, None) => {
            return Invalid::request("neither `method` nor `result` nor `error`", id.unwrap_or(Id::Null));
        }
    };
    match id {
        Some(id) => Message::Answer { id, outcome },
        None => Message::Invalid(Invalid {
            answer: false,
            ..Invalid::new(code::INVALID_REQUEST, "an answer without `id`")
        }),
    }
}

/// Where `part`, a slice of `line`, stands in it.
fn within(line: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - line.as_ptr().addr();
    start..start + part.len()
}

/// The beginning of a line for the log: enough to recognise it, in one line, without control characters.
pub(crate) fn shortened(line: &[u8]) -> String {
    /// What a person needs to recognise a stray print.
    const SHOWN: usize = 160;
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
    let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > SHOWN {
        shown.push_str(&format!("… ({} bytes)", line.len()));
    }
    shown
}
