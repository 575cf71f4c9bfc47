//! From the bytes of config.json to a [`Config`], noting every fault on the way.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use outrider_protocol::Raw;
use outrider_protocol::action::IntegrationConfig;
use outrider_protocol::ids::{self, AgentId, IntegrationId, IntegrationName};
use serde::de::IgnoredAny;
use serde_json::error::Category;

use crate::collect::Author;
use crate::config::CONFIG_VERSION;
use crate::limits::LimitFault;
use crate::members::{Members, child, kind};
use crate::{Config, ConfigFault, Limits, Root, Secret};

const FIELDS: &[&str] = &[
    "version",
    "agent",
    "customer_id",
    "backend",
    "token",
    "channel",
    "integrations_dir",
    "ca_file",
    "extra_integrations",
    "collect",
    "backend_collect",
    "share_last_processed",
    "limits",
];
const RESTORE: &str = "put a copy of it back, or run `outrider unenroll` and enroll again";
/// The longest token or customer id, in bytes; a token travels in a header.
const LONGEST_TEXT: usize = 4096;
/// The longest id of an integration, in bytes: in exports something stands before it.
const LONGEST_ID: usize = ids::LONGEST - IntegrationId::EXTRA.len();

/// What is read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) bytes: &'a [u8],
    /// Relative paths begin here.
    pub(crate) root: &'a Root,
}

/// Reads a configuration. What comes back is usable only when no fault was added.
pub(crate) fn read(source: Source<'_>, faults: &mut Vec<ConfigFault>) -> Option<Config> {
    let text = whole_json(source.bytes).map_err(|broken| faults.push(broken.into())).ok()?;
    // Of a version that this program does not know, nothing else can be said.
    if let Some(fault) = newer(text) {
        faults.push(fault);
        return None;
    }
    let mut members = Members::read("", text, FIELDS, faults)?;
    version(&mut members);
    let agent = members.needed("agent", "the agent's id from the backend", |text| {
        AgentId::new(text).map_err(|bad| format!("{:?}, which is no id", bad.found))
    });
    let customer_id = members.text("customer_id", "a customer's id, or no such field", one_line);
    let backend =
        members.needed("backend", "the backend's address, as https://backend.example:8443", |text| {
            origin(&text)
        });
    let token = members.needed("token", "the agent's token from the backend", plain).map(Secret::new);
    let channel = members.text("channel", "the name of a channel: stable, edge, dev", word);
    let integrations_dir =
        members.text("integrations_dir", "the path of a folder", |text| inside(source.root, &text));
    let ca_file = members.text("ca_file", "the path of a file with certificates in PEM", |text| {
        let path = inside(source.root, &text)?;
        if path.is_file() { Ok(path) } else { Err(format!("{text:?}, where no file is")) }
    });
    let extra_integrations = extra_integrations(&mut members);
    let collect = members.place("collect");
    let collect = members.take("collect").and_then(|raw| {
        crate::collect::section(&collect, raw, Author::Operator(source.root), members.faults())
    });
    let backend_collect = members.flag("backend_collect").unwrap_or(true);
    let share_last_processed = members.flag("share_last_processed").unwrap_or(false);
    let limits = limits(&mut members);
    Some(Config {
        version: CONFIG_VERSION,
        agent: agent?,
        customer_id,
        backend: backend?,
        token: token?,
        channel: channel.unwrap_or_else(|| "stable".to_owned()),
        integrations_dir,
        ca_file,
        extra_integrations,
        collect,
        backend_collect,
        share_last_processed,
        limits,
    })
}

/// Why bytes are no JSON.
enum Broken {
    /// Only the beginning of it is there, or nothing.
    Half(String),
    Other(ConfigFault),
}

impl From<Broken> for ConfigFault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Half(found) => Self::new("", found, "a whole JSON object").advise(RESTORE),
            Broken::Other(fault) => fault,
        }
    }
}

/// Whether the bytes are the beginning of a file, or nothing, and not all of it.
pub(crate) fn is_half(bytes: &[u8]) -> bool {
    matches!(whole_json(bytes), Err(Broken::Half(_)))
}

/// The file's text, if it is one whole JSON value.
fn whole_json(bytes: &[u8]) -> Result<&str, Broken> {
    if bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace()) {
        let found = if bytes.is_empty() {
            "nothing in it".to_owned()
        } else {
            format!("{} empty bytes", bytes.len())
        };
        return Err(Broken::Half(found));
    }
    // Editors on Windows like to begin a file with this mark.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|err| {
        let line = 1 + bytes[..err.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        let found = format!("a byte in line {line} that is not UTF-8");
        Broken::Other(ConfigFault::new("", found, "JSON in UTF-8"))
    })?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| text).map_err(|err| {
        let place = format!("line {}, column {}", err.line(), err.column());
        // A number or word that is cut in two is a syntax error to the parser.
        let cut = err.classify() == Category::Eof || !text.trim_end().ends_with(['}', ']']);
        if cut {
            return Broken::Half(format!("only a part of it: it breaks off at {place}"));
        }
        let what = err.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Broken::Other(ConfigFault::new("", format!("broken JSON at {place} ({what})"), "a JSON object"))
    })
}

fn newer(text: &str) -> Option<ConfigFault> {
    #[derive(serde::Deserialize)]
    struct Head {
        version: u64,
    }
    let Head { version } = serde_json::from_str(text).ok()?;
    let fault = || {
        ConfigFault::new(
            "/version",
            format!("{version}, of a newer Outrider"),
            format!("at most {CONFIG_VERSION}"),
        )
        .advise("update this Outrider")
    };
    (version > u64::from(CONFIG_VERSION)).then(fault)
}

fn version(members: &mut Members<'_>) {
    let place = members.place("version");
    let found = match members.take("version") {
        Some(raw) if raw.get() == CONFIG_VERSION.to_string() => return,
        Some(raw) if kind(raw.get()) == "a number" => raw.get().chars().take(40).collect(),
        Some(raw) => kind(raw.get()).to_owned(),
        None => "nothing".to_owned(),
    };
    members.fault(ConfigFault::new(&place, found, CONFIG_VERSION.to_string()));
}

/// A text that may stand in a header: visible ASCII without spaces. The text itself is not repeated.
fn plain(text: String) -> Result<String, String> {
    if text.is_empty() {
        return Err("an empty text".to_owned());
    }
    if text.len() > LONGEST_TEXT {
        return Err(format!("a text of {} bytes", text.len()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a text with a space, a control character or a letter beyond ASCII".to_owned());
    }
    Ok(text)
}

/// A text for people and integrations.
pub(crate) fn one_line(text: String) -> Result<String, String> {
    if text.is_empty() {
        return Err("an empty text".to_owned());
    }
    let fits = text.len() <= LONGEST_TEXT && !text.contains(char::is_control);
    if fits { Ok(text) } else { Err(format!("{} in {} bytes", quoted(&text), text.len())) }
}

fn word(text: String) -> Result<String, String> {
    let is_word = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_word { Ok(text) } else { Err(quoted(&text)) }
}

pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// A path as it stands in the file, seen from the root.
pub(crate) fn inside(root: &Root, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("an empty text".to_owned()) } else { Ok(root.path().join(Path::new(text))) }
}

/// The address of a backend: scheme, host and port.
fn origin(text: &str) -> Result<String, String> {
    if text.contains('@') {
        // Not repeated: what stands before the @ is a password.
        return Err("an address with a user name or password in it".to_owned());
    }
    let url =
        url::Url::parse(text).map_err(|err| format!("{}, which is no address ({err})", quoted(text)))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{}, whose scheme is {:?}", quoted(text), url.scheme()));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{}, with something after the host and port", quoted(text)));
    }
    Ok(url.origin().ascii_serialization())
}

fn extra_integrations(members: &mut Members<'_>) -> Vec<IntegrationConfig> {
    let place = members.place("extra_integrations");
    let Some(raw) = members.take("extra_integrations") else { return Vec::new() };
    let Ok(elements) = serde_json::from_str::<Vec<Raw>>(raw.get()) else {
        members.fault(ConfigFault::new(&place, kind(raw.get()), "an array of integrations"));
        return Vec::new();
    };
    let faults = members.faults();
    let mut ids = HashSet::new();
    elements
        .iter()
        .enumerate()
        .filter_map(|(i, raw)| {
            let place = child(&place, &i.to_string());
            let integration = integration(&place, raw, faults)?;
            if !ids.insert(integration.id()) {
                let found = format!("{:?}, which is that of an earlier one", integration.id().as_str());
                faults.push(ConfigFault::new(&child(&place, "id"), found, "an id of its own"));
            }
            Some(integration)
        })
        .collect()
}

fn integration(place: &str, raw: &Raw, faults: &mut Vec<ConfigFault>) -> Option<IntegrationConfig> {
    let mut members = Members::read(place, raw.get(), &["name", "id", "config"], faults)?;
    let id = "letters, digits, - and _, beginning with a letter or digit";
    let name = members.needed("name", "an integration's name: lower-case letters, digits, - and _", |text| {
        IntegrationName::new(text).map_err(|bad| format!("{:?}", bad.found))
    });
    let id = members.text("id", id, |text| {
        let whole = IntegrationId::new(format!("{}{text}", IntegrationId::EXTRA));
        let id = IntegrationId::new(text).map_err(|bad| format!("{:?}", bad.found))?;
        whole.map(|_| id).map_err(|_| format!("more than {LONGEST_ID} characters"))
    });
    let config = match members.take("config") {
        Some(config) => config,
        None => Raw::from(serde_json::value::to_raw_value(&serde_json::Map::new()).ok()?),
    };
    Some(IntegrationConfig { name: name?, id, config, secrets: None })
}

fn limits(members: &mut Members<'_>) -> Limits {
    let mut limits = Limits::default();
    let place = members.place("limits");
    let Some(raw) = members.take("limits") else { return limits };
    let known: Vec<_> = Limits::FIELDS.iter().map(|field| field.name).collect();
    let Some(mut members) = Members::read(&place, raw.get(), &known, members.faults()) else { return limits };
    for name in &known {
        let Some(value) = members.take(name) else { continue };
        let value = serde_json::from_str(value.get()).unwrap_or_default();
        if let Err(LimitFault::OutOfBounds { found, min, max, .. }) = limits.take(name, &value) {
            let place = members.place(name);
            members.fault(ConfigFault::new(&place, found, format!("a whole number from {min} to {max}")));
        }
    }
    limits
}
