//! The section `apis` in `collect`: which APIs are polled, of whom. An array of groups; each has its systems and its APIs.

use outrider_protocol::Raw;
use outrider_protocol::collect::Output;
use outrider_protocol::collect::apis::{ApiGroup, Bounds, Level, Login, Node, System, Tls, Vdc};

use super::author::Author;
use super::outputs::{address, credential, url};
use super::{DAY_S, tags};
use crate::ConfigFault;
use crate::config_read::{one_line, quoted};
use crate::members::{Members, child, kind};

mod call;

const FIELDS: &[&str] = &[
    "name",
    "systems",
    "apis",
    "facts",
    "interval_ms",
    "timeout_ms",
    "tries",
    "block_ms",
    "requests_per_min",
    "answer_bytes",
    "pages",
    "events",
    "ca_file",
    "client_cert_file",
    "client_key_file",
    "danger_accept_any_certificate",
];
const SYSTEM_FIELDS: &[&str] = &["name", "login", "tags", "facts_interval_ms", "vdcs"];
const LOGIN_FIELDS: &[(&str, &[&str])] = &[
    ("none", &["kind"]),
    ("basic", &["kind", "user", "password", "password_file"]),
    ("bearer", &["kind", "token", "token_file"]),
    ("header", &["kind", "name", "value", "value_file"]),
    ("token", &["kind", "user", "password", "password_file", "path", "header", "logout", "expires_ms"]),
];
const LOGINS: &str = "none, basic, bearer, header or token";
pub(super) const DAY_MS: u64 = DAY_S * 1000;

/// Reads the array. Faults are noted.
pub(super) fn groups(members: &mut Members<'_>, author: Author<'_>) -> Vec<ApiGroup> {
    let place = members.place("apis");
    let Some(raw) = members.take("apis") else { return Vec::new() };
    let groups = each(&place, &raw, "an array of groups of APIs", members.faults(), |place, raw, faults| {
        group(place, raw, author, faults)
    });
    once_each(&place, groups.iter().map(|it| it.name.as_str()), members.faults());
    groups
}

/// Reads every element of an array; one that is wrong is left out.
pub(super) fn each<T>(
    place: &str,
    raw: &Raw,
    expected: &str,
    faults: &mut Vec<ConfigFault>,
    mut read: impl FnMut(&str, &Raw, &mut Vec<ConfigFault>) -> Option<T>,
) -> Vec<T> {
    let Ok(elements) = serde_json::from_str::<Vec<Raw>>(raw.get()) else {
        faults.push(ConfigFault::new(place, kind(raw.get()), expected));
        return Vec::new();
    };
    let all = elements.iter().enumerate();
    all.filter_map(|(at, raw)| read(&child(place, &at.to_string()), raw, faults)).collect()
}

/// As [`each`], of a member that must be there and have an element.
fn each_needed<T>(
    members: &mut Members<'_>,
    name: &str,
    expected: &str,
    read: impl FnMut(&str, &Raw, &mut Vec<ConfigFault>) -> Option<T>,
) -> Vec<T> {
    let place = members.place(name);
    let raw = members.take(name);
    if raw.as_ref().is_none_or(|it| serde_json::from_str::<Vec<Raw>>(it.get()).is_ok_and(|it| it.is_empty()))
    {
        members.fault(ConfigFault::new(&place, "none", expected));
        return Vec::new();
    }
    raw.map(|raw| each(&place, &raw, expected, members.faults(), read)).unwrap_or_default()
}

fn once_each<'n>(place: &str, names: impl Iterator<Item = &'n str>, faults: &mut Vec<ConfigFault>) {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            faults.push(ConfigFault::new(
                place,
                format!("{name:?} a second time"),
                "a name of its own for each",
            ));
        }
        seen.push(name);
    }
}

fn group(place: &str, raw: &Raw, author: Author<'_>, faults: &mut Vec<ConfigFault>) -> Option<ApiGroup> {
    let mut members = Members::read(place, raw.get(), FIELDS, faults)?;
    let name = members.needed("name", "a name of one line", one_line);
    let mut interval_ms = 60_000;
    members.number_into("interval_ms", 100, DAY_MS, &mut interval_ms);
    let bounds = bounds(&mut members);
    let tls = tls(&mut members, author);
    let systems = each_needed(&mut members, "systems", "an array of systems", |place, raw, faults| {
        system(place, raw, author, faults)
    });
    let apis = each_needed(&mut members, "apis", "an array of APIs", |place, raw, faults| {
        call::api(place, raw, interval_ms, faults)
    });
    let facts_place = members.place("facts");
    let facts = members.take("facts").map_or_else(Vec::new, |raw| {
        each(&facts_place, &raw, "an array of requests whose answers are tags", members.faults(), call::fact)
    });
    once_each(&members.place("systems"), systems.iter().map(|it| it.name.as_str()), members.faults());
    once_each(&members.place("apis"), apis.iter().map(|it| it.name.as_str()), members.faults());
    let needs_id = apis.iter().find(|it| it.level == Level::Node && it.path.contains("{node.id}"));
    let nodes = systems.iter().flat_map(|it| &it.vdcs).flat_map(|it| &it.nodes);
    if let (Some(api), Some(node)) = (needs_id, nodes.into_iter().find(|it| it.id.is_none())) {
        let found = format!("no `id` of the node {}", node.url);
        let expected = format!("one for each node, since the API {:?} has {{node.id}} in its path", api.name);
        let place = members.place("systems");
        members.fault(ConfigFault::new(&place, found, expected));
    }
    let (name, tls) = (name?, tls?);
    Some(ApiGroup { name, systems, apis, facts, interval_ms, bounds, tls, reach: author.reach() })
}

fn bounds(members: &mut Members<'_>) -> Bounds {
    let mut it = Bounds::default();
    members.number_into("timeout_ms", 100, DAY_MS, &mut it.timeout_ms);
    members.number_into("tries", 1, 20, &mut it.tries);
    members.number_into("block_ms", 0, DAY_MS, &mut it.block_ms);
    members.number_into("requests_per_min", 0, 1_000_000, &mut it.requests_per_min);
    members.number_into("answer_bytes", 1024, 1 << 30, &mut it.answer_bytes);
    members.number_into("pages", 1, 1_000_000, &mut it.pages);
    members.number_into("events", 1, 10_000_000, &mut it.events);
    it
}

fn tls(members: &mut Members<'_>, author: Author<'_>) -> Option<Tls> {
    let file = "the path of a file in PEM";
    let ca_file = author.path(members, "ca_file", file);
    let cert = author.path(members, "client_cert_file", file);
    let key = author.path(members, "client_key_file", file);
    let danger = members.flag("danger_accept_any_certificate").unwrap_or_default();
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            let place = members.place("client_cert_file");
            let expected = "both `client_cert_file` and `client_key_file`";
            members.fault(ConfigFault::new(&place, "one file", expected));
            return None;
        }
    };
    Some(Tls { ca_file, client, danger_accept_any_certificate: danger })
}

fn system(place: &str, raw: &Raw, author: Author<'_>, faults: &mut Vec<ConfigFault>) -> Option<System> {
    let mut members = Members::read(place, raw.get(), SYSTEM_FIELDS, faults)?;
    let name = members.needed("name", "a name of one line", one_line);
    let login_place = members.place("login");
    let login = match members.take("login") {
        Some(raw) => login(&login_place, &raw, author, members.faults()),
        None => Some(Login::None),
    };
    let tags = tags(&mut members);
    let mut facts_interval_ms = 3_600_000;
    members.number_into("facts_interval_ms", 1000, DAY_MS, &mut facts_interval_ms);
    let vdcs = each_needed(&mut members, "vdcs", "an array of VDCs, of which each has nodes", vdc);
    once_each(&members.place("vdcs"), vdcs.iter().map(|it| it.name.as_str()), members.faults());
    Some(System { name: name?, login: login?, tags, facts_interval_ms, vdcs })
}

fn vdc(place: &str, raw: &Raw, faults: &mut Vec<ConfigFault>) -> Option<Vdc> {
    let mut members = Members::read(place, raw.get(), &["name", "tags", "nodes"], faults)?;
    let name = members.needed("name", "a name of one line", one_line);
    let tags = tags(&mut members);
    let nodes = each_needed(&mut members, "nodes", "an array of addresses, as https://10.0.0.1:4443", node);
    once_each(&members.place("nodes"), nodes.iter().map(|it| it.url.as_str()), members.faults());
    Some(Vdc { name: name?, tags, nodes })
}

/// An address by itself, or an object with it.
fn node(place: &str, raw: &Raw, faults: &mut Vec<ConfigFault>) -> Option<Node> {
    let expected = "an address, as https://10.0.0.1:4443, or host:port, which is https";
    if let Ok(text) = serde_json::from_str::<String>(raw.get()) {
        return match node_url(text) {
            Ok(url) => Some(Node { url, id: None, name: None }),
            Err(found) => {
                faults.push(ConfigFault::new(place, found, expected));
                None
            }
        };
    }
    let mut members = Members::read(place, raw.get(), &["url", "id", "name"], faults)?;
    let url = members.needed("url", expected, node_url);
    let id = members.text("id", "an id of one line", one_line);
    let name = members.text("name", "a name of one line", one_line);
    Some(Node { url: url?, id, name })
}

fn node_url(text: String) -> Result<String, String> {
    let text = if text.contains("://") { text } else { format!("https://{}", address(text)?) };
    url(text).map(|it| it.trim_end_matches('/').to_owned())
}

fn login(place: &str, raw: &Raw, author: Author<'_>, faults: &mut Vec<ConfigFault>) -> Option<Login> {
    let (word, mut members) = call::of_kind(place, raw, LOGIN_FIELDS, LOGINS, faults)?;
    let user = |members: &mut Members<'_>| members.needed("user", "a user's name", one_line);
    match word {
        "basic" => {
            let user = user(&mut members);
            let password = needed(&mut members, "password", "password_file", author);
            Some(Login::Basic { user: user?, password: password? })
        }
        "bearer" => needed(&mut members, "token", "token_file", author).map(Login::Bearer),
        "header" => {
            let name = members.needed("name", "a header's name", header);
            let value = needed(&mut members, "value", "value_file", author);
            Some(Login::Header { name: name?, value: value? })
        }
        "token" => {
            let user = user(&mut members);
            let password = needed(&mut members, "password", "password_file", author);
            let path = members.needed("path", "the path where a token is fetched, as /login", call::path);
            let header = members.needed("header", "a header's name, as X-SDS-AUTH-TOKEN", header);
            let logout = members.text("logout", "the path where a token is given back", call::path);
            let mut expires_ms = 3_500_000;
            members.number_into("expires_ms", 1000, 365 * DAY_MS, &mut expires_ms);
            let (user, password) = (user?, password?);
            Some(Login::Token { user, password, path: path?, header: header?, logout, expires_ms })
        }
        _ => Some(Login::None),
    }
}

fn needed(
    members: &mut Members<'_>,
    name: &str,
    file: &str,
    author: Author<'_>,
) -> Option<outrider_protocol::collect::Credential> {
    let before = members.faults().len();
    let found = credential(members, name, file, author);
    // One that is there and wrong was told.
    if found.is_none() && members.faults().len() == before {
        let place = members.place(name);
        members.fault(ConfigFault::new(&place, "nothing", format!("a secret here, or in the file `{file}`")));
    }
    found
}

fn header(text: String) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    if fits { Ok(text) } else { Err(quoted(&text)) }
}

/// All secrets that stand in a section.
pub(super) fn secrets<'s>(outputs: &'s [Output], apis: &'s [ApiGroup]) -> impl Iterator<Item = &'s str> {
    outputs.iter().flat_map(Output::secrets).chain(apis.iter().flat_map(ApiGroup::secrets))
}
