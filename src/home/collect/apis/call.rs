//! One API: its request, its pages and windows, and the mapping of its answer.

use outrider_protocol::Raw;
use outrider_protocol::collect::apis::{Api, Fact, History, Ids, Level, Mapping, Pages, TimeFormat, Window};

use super::super::tags;
use super::DAY_MS;
use crate::ConfigFault;
use crate::config_read::{one_line, quoted};
use crate::members::{Members, child, kind};

const FIELDS: &[&str] = &[
    "name",
    "level",
    "port",
    "any_node",
    "interval_ms",
    "path",
    "body",
    "pages",
    "window",
    "ids",
    "split",
    "split_may_miss",
    "jq",
    "drop",
    "history",
    "numbers",
    "flatten",
    "time",
];
const PAGES_FIELDS: Kinds = &[
    ("next_field", &["kind", "field"]),
    ("link_header", &["kind"]),
    ("token", &["kind", "field", "query"]),
    ("offset", &["kind", "query", "size_query", "size"]),
    ("number", &["kind", "query", "first", "size_query", "size", "last_field"]),
];
const PAGES: &str = "next_field, link_header, token, offset or number";
const FORMATS: &str = "rfc3339, unix_s, unix_ms, or a text of strftime with a %";
const FIELD: &str = "a field, as a.b";
const PARAMETER: &str = "the name of a parameter of the query";
/// The longest program or body, in bytes.
const LONGEST: usize = 64 << 10;

/// Words with the members of the objects that have them as their `kind`.
pub(super) type Kinds = &'static [(&'static str, &'static [&'static str])];

/// An object whose `kind` says which members it may have.
pub(super) fn of_kind<'m>(
    place: &str,
    raw: &Raw,
    kinds: Kinds,
    expected: &str,
    faults: &'m mut Vec<ConfigFault>,
) -> Option<(&'static str, Members<'m>)> {
    #[derive(serde::Deserialize)]
    struct Head {
        kind: Option<String>,
    }
    let word = serde_json::from_str::<Head>(raw.get()).ok().and_then(|it| it.kind);
    let Some((word, known)) = word.as_deref().and_then(|word| kinds.iter().find(|it| it.0 == word)) else {
        let found = word.map_or_else(|| "nothing, or no text".to_owned(), |it| quoted(&it));
        faults.push(ConfigFault::new(&child(place, "kind"), found, expected));
        return None;
    };
    let mut members = Members::read(place, raw.get(), known, faults)?;
    drop(members.take("kind"));
    Some((word, members))
}

/// Placeholders that only an API has something for.
const OF_AN_API: [&str; 3] = ["{node.", "{window.", "{ids}"];

/// What a VDC says of itself, or of its nodes.
pub(super) fn fact(place: &str, raw: &Raw, faults: &mut Vec<ConfigFault>) -> Option<Fact> {
    let mut members = Members::read(place, raw.get(), &["path", "split", "node", "tags"], faults)?;
    let path = members.needed("path", "a path, as /vdc/nodes.json", path);
    let split = members.text("split", FIELD, one_line);
    let node = members.text("node", "the field that is a node's host, address, id or name", one_line);
    if split.is_some() != node.is_some() {
        let place = members.place("node");
        let expected = "`split` and `node`, where the answer is of nodes, or neither";
        members.fault(ConfigFault::new(&place, "one of both", expected));
    }
    if path.as_ref().is_some_and(|it| OF_AN_API.iter().any(|word| it.contains(word))) {
        let place = members.place("path");
        let expected = "none but {vdc.name} and {system.name}: it is asked once for a VDC";
        members.fault(ConfigFault::new(&place, "another placeholder", expected));
    }
    let is_there = members.has("tags");
    let tags = tags(&mut members);
    if !is_there {
        let place = members.place("tags");
        members.fault(ConfigFault::new(&place, "none", "an object of tags, each with a field of the answer"));
    }
    Some(Fact { path: path?, nodes: split.zip(node), tags })
}

pub(super) fn api(place: &str, raw: &Raw, interval_ms: u64, faults: &mut Vec<ConfigFault>) -> Option<Api> {
    let mut members = Members::read(place, raw.get(), FIELDS, faults)?;
    let name = members.needed("name", "a name of one line", one_line);
    let mut interval_ms = interval_ms;
    members.number_into("interval_ms", 100, DAY_MS, &mut interval_ms);
    let level = level(&mut members);
    let any_node = members.flag("any_node").unwrap_or_default();
    let path = match level {
        Some(Level::Dtinfo { .. }) => Some(String::new()),
        _ => members.needed("path", "a path, as /api/nodes", path),
    };
    let body = body(&mut members);
    let pages_place = members.place("pages");
    let pages = match members.take("pages") {
        Some(raw) => pages(&pages_place, &raw, members.faults()),
        None => Some(Pages::One),
    };
    let window_place = members.place("window");
    let window = members.take("window").map(|raw| window(&window_place, &raw, interval_ms, members.faults()));
    let ids_place = members.place("ids");
    let ids = members.take("ids").map(|raw| ids(&ids_place, &raw, members.faults()));
    let mapping = mapping(&mut members);
    let counts = match &pages {
        Some(Pages::Offset { .. }) => true,
        Some(Pages::Number { last_field, .. }) => last_field.is_none(),
        _ => false,
    };
    if counts && mapping.as_ref().is_some_and(|it| it.split.is_none() && it.jq.is_some()) {
        let place = members.place("split");
        members.fault(ConfigFault::new(
            &place,
            "nothing",
            "the field of the elements that pages are counted by",
        ));
    }
    let used = |word: &str| [&path, &body].into_iter().flatten().any(|it| it.contains(word));
    for (there, word, name) in
        [(window.is_some(), "{window.start}", "window"), (ids.is_some(), "{ids}", "ids")]
    {
        if there != used(word) {
            let place = members.place(name);
            let found = if there { "it" } else { "nothing" };
            let expected = format!("it where {word} is in the path or the body, and only there");
            members.fault(ConfigFault::new(&place, found, expected));
        }
    }
    let (window, ids) =
        (window.map_or(Some(None), |it| it.map(Some)), ids.map_or(Some(None), |it| it.map(Some)));
    Some(Api {
        name: name?,
        level: level?,
        any_node,
        interval_ms,
        path: path?,
        body,
        pages: pages?,
        window: window?,
        ids: ids?,
        mapping: mapping?,
    })
}

fn level(members: &mut Members<'_>) -> Option<Level> {
    let mut port: u16 = 0;
    members.number_into("port", 1, 65535, &mut port);
    let word = members.needed("level", "system, vdc, node or dtinfo", |text| match text.as_str() {
        "system" => Ok(Level::System),
        "vdc" => Ok(Level::Vdc),
        "node" => Ok(Level::Node),
        "dtinfo" => Ok(Level::Dtinfo { port: if port == 0 { 9101 } else { port } }),
        _ => Err(quoted(&text)),
    });
    if port != 0 && word.is_some_and(|it| !matches!(it, Level::Dtinfo { .. })) {
        let place = members.place("port");
        members.fault(ConfigFault::new(&place, "a port", "none where the level is not dtinfo"));
    }
    word
}

/// A path below a node's address.
pub(super) fn path(text: String) -> Result<String, String> {
    let bare = text.split_once('?').map_or(text.as_str(), |it| it.0);
    let fits = text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= 4096
        && !text.contains(|it: char| it.is_control() || it.is_whitespace() || it == '#' || it == '\\');
    let unknown = placeholders(&text).find(|it| !PLACEHOLDERS.contains(it)).map(str::to_owned);
    match unknown {
        Some(unknown) => Err(format!("the placeholder {{{unknown}}}; known are {}", PLACEHOLDERS.join(", "))),
        None if fits && !bare.split('/').any(|it| it == "..") => Ok(text),
        None => Err(quoted(&text)),
    }
}

/// What may stand in braces.
const PLACEHOLDERS: &[&str] =
    &["node.id", "node.name", "vdc.name", "system.name", "window.start", "window.end", "ids"];

fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|it| it.split_once('}').map(|it| it.0))
}

/// A body: any JSON, in which texts may hold placeholders, and the text `{ids}` alone stands for an array.
fn body(members: &mut Members<'_>) -> Option<String> {
    let place = members.place("body");
    let raw = members.take("body")?;
    if raw.get().len() > LONGEST {
        let found = format!("{} bytes", raw.get().len());
        members.fault(ConfigFault::new(&place, found, format!("at most {LONGEST}")));
    }
    Some(raw.get().to_owned())
}

fn pages(place: &str, raw: &Raw, faults: &mut Vec<ConfigFault>) -> Option<Pages> {
    let (word, mut members) = of_kind(place, raw, PAGES_FIELDS, PAGES, faults)?;
    if word == "link_header" {
        return Some(Pages::LinkHeader);
    }
    if word == "next_field" {
        return members.needed("field", FIELD, one_line).map(Pages::NextField);
    }
    let query = members.needed("query", PARAMETER, one_line);
    if word == "token" {
        let field = members.needed("field", FIELD, one_line);
        return Some(Pages::Token { field: field?, query: query? });
    }
    let size_query = members.text("size_query", PARAMETER, one_line);
    let mut size = 100;
    members.number_into("size", 1, 1_000_000, &mut size);
    if word == "offset" {
        return Some(Pages::Offset { query: query?, size_query, size });
    }
    let mut first = 1;
    members.number_into("first", 0, 1_000_000, &mut first);
    let last_field = members.text("last_field", FIELD, one_line);
    Some(Pages::Number { query: query?, first, size_query, size, last_field })
}

fn window(place: &str, raw: &Raw, interval_ms: u64, faults: &mut Vec<ConfigFault>) -> Option<Window> {
    let fields = &["format", "step_ms", "lag_ms", "first_ms", "longest_ms"];
    let mut members = Members::read(place, raw.get(), fields, faults)?;
    let format = match members.text("format", FORMATS, format) {
        Some(format) => format,
        None => TimeFormat::Rfc3339,
    };
    let mut it = Window { format, step_ms: 1000, lag_ms: 0, first_ms: interval_ms, longest_ms: DAY_MS };
    members.number_into("step_ms", 1, DAY_MS, &mut it.step_ms);
    members.number_into("lag_ms", 0, DAY_MS, &mut it.lag_ms);
    members.number_into("first_ms", 1, 365 * DAY_MS, &mut it.first_ms);
    members.number_into("longest_ms", 1, 365 * DAY_MS, &mut it.longest_ms);
    // A window is a number of steps.
    it.first_ms = it.first_ms.max(it.step_ms);
    it.longest_ms = it.longest_ms.max(it.step_ms);
    Some(it)
}

fn ids(place: &str, raw: &Raw, faults: &mut Vec<ConfigFault>) -> Option<Ids> {
    let fields = &["path", "pages", "split", "field", "at_a_time"];
    let mut members = Members::read(place, raw.get(), fields, faults)?;
    let path = members.needed("path", "a path, as /object/namespaces.json", path);
    let split = members.needed("split", FIELD, one_line);
    let field = members.text("field", FIELD, one_line);
    let mut at_a_time = 100;
    members.number_into("at_a_time", 1, 10_000, &mut at_a_time);
    let place = members.place("pages");
    let pages = match members.take("pages") {
        Some(raw) => pages(&place, &raw, members.faults()),
        None => Some(Pages::One),
    };
    Some(Ids { path: path?, pages: pages?, split: split?, field, at_a_time })
}

fn mapping(members: &mut Members<'_>) -> Option<Mapping> {
    let split = members.text("split", FIELD, one_line);
    let split_may_miss = members.flag("split_may_miss").unwrap_or_default();
    let jq = members.text("jq", "a program of jq", |text| {
        let fits = !text.trim().is_empty() && text.len() <= LONGEST;
        if fits { Ok(text) } else { Err(format!("a text of {} bytes", text.len())) }
    });
    let drop = texts(members, "drop");
    let numbers = texts(members, "numbers");
    let flatten = members.flag("flatten").unwrap_or_default();
    let place = members.place("time");
    let time = members.take("time").map(|raw| {
        let mut inner = Members::read(&place, raw.get(), &["field", "format"], members.faults())?;
        let field = inner.needed("field", FIELD, one_line);
        let format = inner.text("format", FORMATS, format).unwrap_or(TimeFormat::Rfc3339);
        Some((field?, format))
    });
    let place = members.place("history");
    let history = members.take("history").map(|raw| {
        let mut inner = Members::read(&place, raw.get(), &["fields", "time", "format"], members.faults())?;
        let fields = texts(&mut inner, "fields");
        let time = inner.needed("time", FIELD, one_line);
        let format = inner.text("format", FORMATS, format).unwrap_or(TimeFormat::UnixSeconds);
        Some(History { fields, time: time?, format })
    });
    let (time, history) =
        (time.map_or(Some(None), |it| it.map(Some)), history.map_or(Some(None), |it| it.map(Some)));
    Some(Mapping { split, split_may_miss, jq, drop, history: history?, numbers, flatten, time: time? })
}

fn format(text: String) -> Result<TimeFormat, String> {
    match text.as_str() {
        "rfc3339" => Ok(TimeFormat::Rfc3339),
        "unix_s" => Ok(TimeFormat::UnixSeconds),
        "unix_ms" => Ok(TimeFormat::UnixMillis),
        _ if text.contains('%') && text.len() <= 100 => {
            match jiff::fmt::strtime::format(&text, jiff::Timestamp::UNIX_EPOCH) {
                Ok(_) => Ok(TimeFormat::Strftime(text)),
                Err(err) => Err(format!("{}, which is no such text ({err})", quoted(&text))),
            }
        }
        _ => Err(quoted(&text)),
    }
}

fn texts(members: &mut Members<'_>, name: &str) -> Vec<String> {
    let place = members.place(name);
    let Some(raw) = members.take(name) else { return Vec::new() };
    serde_json::from_str::<Vec<String>>(raw.get()).unwrap_or_else(|_| {
        members.fault(ConfigFault::new(&place, kind(raw.get()), "an array of texts"));
        Vec::new()
    })
}
