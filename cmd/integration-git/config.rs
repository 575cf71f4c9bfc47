//! The configuration: which repositories, checked against the disk by `validate_config`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use crate::address::{Address, is_address};
use crate::text::without_credentials;

/// The most repositories of one configuration; above this the list itself is the mistake.
const MOST_REPOSITORIES: usize = 10_000;

/// `{"repositories": ["/srv/git/a.git", "https://host/b.git", {"path": "/srv/git/c", "name": "C"}, {"url":
/// "https://host/d.git", "token": "…"}]}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What to export.
    pub(crate) repositories: Vec<Entry>,
    /// How long git may write nothing before it is taken for stuck, in seconds.
    #[serde(default = "quiet_limit_s")]
    quiet_limit_s: u64,
    /// How large the clone of one repository may become, in MB.
    #[serde(default = "clone_limit_mb")]
    clone_limit_mb: u64,
}

/// A disk that answers at all answers sooner.
fn quiet_limit_s() -> u64 {
    600
}

/// The largest repositories of the world in full have about this.
fn clone_limit_mb() -> u64 {
    20_000
}

/// One repository: a path or an address alone, or with a name and more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) source: Source,
    /// What people call it; the folder's name where it is missing.
    name: Option<String>,
    /// The member that says where it is, for the JSON Pointer of an error; none where it is a text alone.
    member: Option<&'static str>,
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// An absolute path to the repository: its work tree, or the repository itself where it is bare.
    Path(PathBuf),
    /// Elsewhere: it is cloned.
    Address(Address),
    /// Neither.
    Wrong {
        /// What was written, without a secret.
        shown: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Source {
    fn of(written: &str, username: Option<&str>, token: Option<&str>) -> Self {
        if !is_address(written) && username.is_none() && token.is_none() {
            return Self::Path(written.into());
        }
        match Address::parse(written, username, token) {
            Ok(address) => Self::Address(address),
            Err(why) => Self::Wrong { shown: without_credentials(written), why },
        }
    }
}

impl Entry {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        match &self.source {
            Source::Path(path) => folder_name(path),
            Source::Address(address) => address.name(),
            Source::Wrong { shown, .. } => shown.clone(),
        }
    }

    /// What it is known by until it is opened.
    pub(crate) fn id(&self) -> String {
        match &self.source {
            Source::Path(path) => path.to_string_lossy().into_owned(),
            Source::Address(address) => address.text().to_owned(),
            Source::Wrong { shown, .. } => shown.clone(),
        }
    }

    /// Where in the configuration the place of the `index`th entry stands.
    pub(crate) fn pointer(&self, index: usize) -> String {
        let member = self.member.map(|it| format!("/{it}")).unwrap_or_default();
        format!("/repositories/{index}{member}")
    }

    /// What is wrong with it before the disk or the network is asked.
    fn wrong(&self) -> Option<String> {
        match &self.source {
            Source::Path(path) => path_is_wrong(path),
            Source::Address(_) => None,
            Source::Wrong { why, .. } => Some(why.clone()),
        }
    }
}

fn folder_name(path: &Path) -> String {
    let folder = match path.file_name() {
        Some(name) if name == ".git" => path.parent().and_then(Path::file_name).unwrap_or(name),
        Some(name) => name,
        None => path.as_os_str(),
    };
    let folder = folder.to_string_lossy();
    folder.strip_suffix(".git").filter(|short| !short.is_empty()).unwrap_or(&folder).to_owned()
}

/// One thing that is wrong: where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// A JSON Pointer into the configuration.
    pub(crate) pointer: String,
    /// What was found, what was expected, what to do.
    pub(crate) message: String,
}

impl Config {
    /// How long git may write nothing before it is taken for stuck.
    pub(crate) fn quiet_limit(&self) -> Duration {
        Duration::from_secs(self.quiet_limit_s)
    }

    /// How large the clone of one repository may become, in MB.
    pub(crate) fn clone_limit_mb(&self) -> u64 {
        self.clone_limit_mb
    }

    /// Everything that is wrong with the configuration as a text, before any repository is looked at.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let count = self.repositories.len();
        if count == 0 || count > MOST_REPOSITORIES {
            let message = format!(
                "found {count} repositories, expected 1 to {MOST_REPOSITORIES}: list the absolute path or the address of each repository to export"
            );
            return vec![Wrong { pointer: "/repositories".into(), message }];
        }
        let paths = self.repositories.iter().enumerate().filter_map(|(index, entry)| {
            Some(Wrong { pointer: entry.pointer(index), message: entry.wrong()? })
        });
        let limit = (self.quiet_limit_s == 0).then(|| {
            let message = "found 0, expected the seconds that git may write nothing, such as 600".to_owned();
            Wrong { pointer: "/quiet_limit_s".into(), message }
        });
        let size = (self.clone_limit_mb == 0).then(|| {
            let message = "found 0, expected how large a clone may become in MB, such as 20000".to_owned();
            Wrong { pointer: "/clone_limit_mb".into(), message }
        });
        paths.chain(limit).chain(size).collect()
    }

    /// Entries whose real path or address (the value at the entry's index, where it is known) another entry has already.
    pub(crate) fn doubles(&self, real: &[Option<String>]) -> Vec<Wrong> {
        let mut first = HashMap::new();
        let mut wrong = Vec::new();
        for (index, (entry, real)) in self.repositories.iter().zip(real).enumerate() {
            let Some(real) = real else { continue };
            let before = *first.entry(real).or_insert(index);
            if before != index {
                let message = format!(
                    "{} is the same repository as /repositories/{before}; expected each repository once: remove one of the two",
                    entry.id()
                );
                wrong.push(Wrong { pointer: entry.pointer(index), message });
            }
        }
        wrong
    }
}

/// What is wrong with a path before the disk is asked.
pub(crate) fn path_is_wrong(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return Some(
            "found an empty path, expected the absolute path of a repository on this machine, or an address"
                .into(),
        );
    }
    (!path.is_absolute()).then(|| {
        format!("found the relative path {text}, expected an absolute one such as /srv/git/project.git, or an address such as https://host/project.git")
    })
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the path or address of a repository, or an object with `path` or `url` and, if wanted, `name`",
        )
    }

    fn visit_str<E: de::Error>(self, written: &str) -> Result<Entry, E> {
        Ok(Entry { source: Source::of(written, None, None), name: None, member: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            path: Option<String>,
            url: Option<String>,
            name: Option<String>,
            username: Option<String>,
            token: Option<String>,
        }
        let Named { path, url, name, username, token } = Named::deserialize(MapAccessDeserializer::new(map))?;
        let name = name.filter(|it| !it.trim().is_empty());
        let (username, token) = (username.filter(|it| !it.is_empty()), token.filter(|it| !it.is_empty()));
        let (source, member) = match (path, url) {
            (Some(path), None) => (Source::of(&path, username.as_deref(), token.as_deref()), "path"),
            (None, Some(url)) if is_address(&url) => {
                (Source::of(&url, username.as_deref(), token.as_deref()), "url")
            }
            (None, Some(url)) => {
                let shown = without_credentials(&url);
                let why =
                    format!("found {shown}, expected an address such as https://host/project.git, or `path`");
                (Source::Wrong { shown, why }, "url")
            }
            (Some(_), Some(_)) => {
                return Err(de::Error::custom("found both `path` and `url`, expected one of them"));
            }
            (None, None) => return Err(de::Error::custom("missing field `path` or `url`")),
        };
        Ok(Entry { source, name, member: Some(member) })
    }
}

/// The JSON Schema of [`Config`].
pub(crate) fn schema() -> serde_json::Value {
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the git integration",
        "type": "object",
        "additionalProperties": false,
        "required": ["repositories"],
        "properties": {
            "quiet_limit_s": {
                "description": "How long git may write nothing before it is taken for stuck, in seconds.",
                "type": "integer",
                "minimum": 1,
                "default": quiet_limit_s()
            },
            "clone_limit_mb": {
                "description": "How large the clone of one repository may become, in MB.",
                "type": "integer",
                "minimum": 1,
                "default": clone_limit_mb()
            },
            "repositories": {
                "description": "The repositories to export: absolute paths on the agent's machine, or addresses (https, ssh, file, user@host:path), which are cloned into the agent's cache.",
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_REPOSITORIES,
                "items": {
                    "oneOf": [
                        { "type": "string", "minLength": 1, "description": "A path or an address. One with a password in it is better written as an object." },
                        {
                            "type": "object",
                            "additionalProperties": false,
                            "required": ["path"],
                            "properties": {
                                "path": { "type": "string", "minLength": 1, "description": "A work tree or a bare repository on the agent's machine." },
                                "name": { "type": "string", "description": "What people call it; the folder's name where it is missing." }
                            }
                        },
                        {
                            "type": "object",
                            "additionalProperties": false,
                            "required": ["url"],
                            "properties": {
                                "url": { "type": "string", "minLength": 1, "description": "https://host/project.git, ssh://git@host/project.git, git@host:project.git or file:///srv/project.git." },
                                "name": { "type": "string", "description": "What people call it; the last part of the address where it is missing." },
                                "username": { "type": "string", "description": "The name that belongs to the token, where the source wants one." },
                                "token": { "type": "string", "writeOnly": true, "description": "An access token or password that may read the repository. For https only." }
                            }
                        }
                    ]
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config, String> {
        serde_json::from_str(json).map_err(|err| err.to_string())
    }

    #[test]
    fn a_repository_is_a_path_or_an_object() {
        let config =
            read(r#"{"repositories": ["/srv/a.git", {"path": "/srv/b", "name": "Bee"}, "/srv/c/.git"]}"#)
                .unwrap();
        let names: Vec<_> = config.repositories.iter().map(Entry::name).collect();
        assert_eq!(names, ["a", "Bee", "c"]);
        assert_eq!(config.repositories[0].pointer(0), "/repositories/0");
        assert_eq!(config.repositories[1].pointer(1), "/repositories/1/path");
        assert!(config.wrong().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (json, said) in [
            (r#"{"repositories": [7]}"#, "the path or address of a repository, or an object with `path`"),
            (r#"{"repositories": [{"path": "/x", "url": "https://h/x"}]}"#, "found both `path` and `url`"),
            (r#"{"repositories": [{"name": "x"}]}"#, "missing field `path`"),
            (r#"{"repositories": [{"path": "/x", "nme": "x"}]}"#, "unknown field `nme`"),
            (r#"{"repos": []}"#, "unknown field `repos`, expected one of `repositories`"),
            (r#"{"repositories": ["/x"], "quiet_limit_s": -1}"#, "invalid value"),
            (r"{}", "missing field `repositories`"),
        ] {
            let err = read(json).unwrap_err();
            assert!(err.contains(said), "{json}: {err}");
        }
    }

    #[test]
    fn each_wrong_path_is_named_by_its_pointer_and_no_secret_is_repeated() {
        let config = read(
            r#"{"repositories": ["", "a/b", {"path": "https://me:s3cret@example.org/x.git?token=s3cret"}, "git@example.org:x.git", "/fine",
            {"url": "/srv/x"}, {"url": "https://example.org/x", "token": "s3cret"}, {"url": "git@example.org:x.git", "token": "s3cret"}]}"#,
        )
        .unwrap();
        let wrong = config.wrong();
        let pointers: Vec<_> = wrong.iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/repositories/0",
                "/repositories/1",
                "/repositories/2/path",
                "/repositories/5/url",
                "/repositories/7/url"
            ]
        );
        assert!(wrong[1].message.contains("relative path a/b"), "{}", wrong[1].message);
        assert!(wrong[2].message.contains("https://example.org/x.git)"), "{}", wrong[2].message);
        assert!(!wrong.iter().any(|it| it.message.contains("s3cret")));
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
        assert_eq!(read(r#"{"repositories": []}"#).unwrap().wrong()[0].pointer, "/repositories");
    }

    #[test]
    fn one_repository_named_twice_is_found() {
        let config = read(r#"{"repositories": ["/srv/a", "/srv/a/", "/srv/b"]}"#).unwrap();
        let real = [Some("/srv/a".to_owned()), Some("/srv/a".to_owned()), None];
        let doubles = config.doubles(&real);
        assert_eq!(doubles.len(), 1);
        assert_eq!(doubles[0].pointer, "/repositories/1");
    }
}
