//! The section `collect`, of config.json or of the backend: what is measured on this host, and where it is delivered.

mod apis;
mod author;
mod ordered;
pub(crate) mod outputs;
mod shown;

pub(crate) use author::Author;
pub use ordered::{OrderedCollect, OrderedError};

use std::fmt;

use outrider_protocol::Raw;
use outrider_protocol::collect::apis::ApiGroup;
use outrider_protocol::collect::{Intervals, Output, Settings, Target};

use crate::config_read::{one_line, quoted};
use crate::members::{Members, child, kind};
use crate::yaml::{self, YamlError};
use crate::{ConfigFault, Root};

/// What is measured, and where it is delivered.
#[derive(Clone)]
pub struct CollectConfig {
    /// What is measured.
    pub settings: Settings,
    /// Whether this host is measured: not where APIs are polled and no target is named.
    pub host: bool,
    /// Which APIs are polled.
    pub apis: Vec<ApiGroup>,
    /// Where it is delivered; none is no mistake, and delivers nothing.
    pub outputs: Vec<Output>,
    /// The section as it stands in the file.
    raw: Raw,
}

impl fmt::Debug for CollectConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What stands in the file holds secrets, and so may the bodies of requests.
        f.debug_struct("CollectConfig")
            .field("settings", &self.settings)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

impl CollectConfig {
    /// Reads a section by itself, as it would stand in config.json. Relative paths in it begin at the root.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(text: &str, root: &Root) -> Result<Self, Vec<ConfigFault>> {
        Self::read_of(text, Author::Operator(root))
    }

    /// The same of a text in YAML.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read_yaml(text: &str, root: &Root) -> Result<Self, Vec<ConfigFault>> {
        let broken = |err: YamlError| {
            let expected = "one YAML document without anchors, aliases and tags";
            vec![ConfigFault::new("", format!("broken YAML ({err})"), expected)]
        };
        Self::read(&yaml::to_json(text).map_err(broken)?.to_string(), root)
    }

    /// Reads a section that the backend orders: as it would stand in config.json, but that it may name no file of the host.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read_ordered(text: &str) -> Result<Self, Vec<ConfigFault>> {
        Self::read_of(text, Author::Backend)
    }

    fn read_of(text: &str, author: Author<'_>) -> Result<Self, Vec<ConfigFault>> {
        let raw = serde_json::from_str::<Raw>(text)
            .map_err(|err| vec![ConfigFault::new("", format!("broken JSON ({err})"), "a JSON object")])?;
        let mut faults = Vec::new();
        match section("", raw, author, &mut faults) {
            Some(section) if faults.is_empty() => Ok(section),
            _ => Err(faults),
        }
    }

    /// Of a host alone, where something else than a file says so.
    #[must_use]
    pub fn of_host(settings: Settings, outputs: Vec<Output>) -> Self {
        Self { settings, host: true, apis: Vec::new(), outputs, raw: Raw::default() }
    }

    /// The section as it stands in the file. It holds secrets.
    #[must_use]
    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// The secrets that stand in it.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        apis::secrets(&self.outputs, &self.apis)
    }
}

const FIELDS: &[&str] = &[
    "target",
    "cgroup_path",
    "proc_path",
    "mount_path",
    "interval_ms",
    "intervals",
    "rescan_s",
    "max_cgroups",
    "tags",
    "apis",
    "outputs",
];
const DAY_S: u64 = 24 * 3600;

/// Reads the section. What comes back is usable only when no fault was added.
pub(crate) fn section(
    place: &str,
    raw: Raw,
    author: Author<'_>,
    faults: &mut Vec<ConfigFault>,
) -> Option<CollectConfig> {
    let mut members = Members::read(place, raw.get(), FIELDS, faults)?;
    let mut settings = Settings::of(Target::Below("/".into()));
    let target = target(&mut members);
    let names_target = target.is_some();
    if let Some(target) = target {
        settings.target = target;
    }
    let path = "the path of a folder";
    if let Some(path) = author.path(&mut members, "cgroup_path", path) {
        settings.cgroup_path = path;
    }
    if let Some(path) = author.path(&mut members, "proc_path", path) {
        settings.proc_path = path;
    }
    settings.mount_path = author.path(&mut members, "mount_path", path);
    if let (Some(path), Target::Below(_)) = (&settings.mount_path, &settings.target) {
        let found = format!("{} with many cgroups", quoted(&path.display().to_string()));
        let place = members.place("mount_path");
        let expected = "it with a `target` that is one `path` or `container`, whose disk it is";
        members.fault(ConfigFault::new(&place, found, expected));
    }
    members.number_into("interval_ms", 100, DAY_S * 1000, &mut settings.interval_ms);
    members.number_into("rescan_s", 1, DAY_S, &mut settings.rescan_s);
    members.number_into("max_cgroups", 1, 1_000_000, &mut settings.max_cgroups);
    intervals(&mut members, &mut settings.intervals);
    settings.tags = tags(&mut members);
    let apis = apis::groups(&mut members, author);
    let outputs = outputs::outputs(&mut members, author);
    let host = names_target || apis.is_empty();
    author.confine(&mut members, &apis, &outputs);
    Some(CollectConfig { settings, host, apis, outputs, raw })
}

fn target(members: &mut Members<'_>) -> Option<Target> {
    let place = members.place("target");
    let raw = members.take("target")?;
    let expected = "one of {\"below\": PATH}, {\"path\": PATH} and {\"container\": ID}";
    let mut inner = Members::read(&place, raw.get(), &["below", "path", "container"], members.faults())?;
    let found: Vec<_> = [
        inner.text("below", "a path of cgroups, as /system.slice", cgroup).map(Target::Below),
        inner.text("path", "the path of a cgroup, as /system.slice/ssh.service", cgroup).map(Target::Path),
        inner.text("container", "a container's id", one_line).map(Target::Container),
    ]
    .into_iter()
    .flatten()
    .collect();
    match <[Target; 1]>::try_from(found) {
        Ok([target]) => Some(target),
        Err(found) => {
            let found = format!("{} targets that can be used", found.len());
            inner.fault(ConfigFault::new(&place, found, expected));
            None
        }
    }
}

/// A path below the hierarchies' roots, and nowhere else: what is found there leaves the host.
fn cgroup(text: String) -> Result<String, String> {
    let text = one_line(text)?;
    if text.split('/').any(|it| it == "..") { Err(quoted(&text)) } else { Ok(text) }
}

fn intervals(members: &mut Members<'_>, intervals: &mut Intervals) {
    let place = members.place("intervals");
    let Some(raw) = members.take("intervals") else { return };
    let names = &["pressure_s", "details_s", "limits_s", "network_s"];
    let Some(mut inner) = Members::read(&place, raw.get(), names, members.faults()) else { return };
    inner.number_into("pressure_s", 0, DAY_S, &mut intervals.pressure_s);
    inner.number_into("details_s", 0, DAY_S, &mut intervals.details_s);
    inner.number_into("limits_s", 0, DAY_S, &mut intervals.limits_s);
    inner.number_into("network_s", 0, DAY_S, &mut intervals.network_s);
}

fn tags(members: &mut Members<'_>) -> Vec<(String, String)> {
    let place = members.place("tags");
    let Some(raw) = members.take("tags") else { return Vec::new() };
    let Ok(tags) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(raw.get()) else {
        members.fault(ConfigFault::new(&place, kind(raw.get()), "an object of names with texts"));
        return Vec::new();
    };
    let mut taken = Vec::new();
    for (name, value) in tags {
        let text = value.as_str().map(str::to_owned).ok_or_else(|| kind(&value.to_string()).to_owned());
        match text.and_then(one_line) {
            Ok(text) if !name.is_empty() && !name.contains(char::is_control) => taken.push((name, text)),
            Ok(_) => members.fault(ConfigFault::new(&place, quoted(&name), "a name in each place")),
            Err(found) => members.fault(ConfigFault::new(&child(&place, &name), found, "a text")),
        }
    }
    taken
}
