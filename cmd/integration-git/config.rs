//! The configuration: which repositories, checked against the disk by `validate_config`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

/// The most repositories of one configuration; above this the list itself is the mistake.
const MOST_REPOSITORIES: usize = 10_000;

/// `{"repositories": ["/srv/git/a.git", {"path": "/srv/git/b", "name": "B"}]}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What to export.
    pub(crate) repositories: Vec<Entry>,
    /// How long git may write nothing before it is taken for stuck, in seconds.
    #[serde(default = "quiet_limit_s")]
    quiet_limit_s: u64,
}

/// A disk that answers at all answers sooner.
fn quiet_limit_s() -> u64 {
    600
}

/// One repository: a path alone, or a path with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// An absolute path to the repository: its work tree, or the repository itself where it is bare.
    pub(crate) path: PathBuf,
    /// What people call it; the folder's name where it is missing.
    name: Option<String>,
    /// Whether it was written as an object, for the JSON Pointer of an error.
    object: bool,
}

impl Entry {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let folder = match self.path.file_name() {
            Some(name) if name == ".git" => self.path.parent().and_then(Path::file_name).unwrap_or(name),
            Some(name) => name,
            None => self.path.as_os_str(),
        };
        let folder = folder.to_string_lossy();
        folder.strip_suffix(".git").filter(|short| !short.is_empty()).unwrap_or(&folder).to_owned()
    }

    /// Where in the configuration the path of the `index`th entry stands.
    pub(crate) fn pointer(&self, index: usize) -> String {
        format!("/repositories/{index}{}", if self.object { "/path" } else { "" })
    }
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

    /// Everything that is wrong with the configuration as a text, before any repository is looked at.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let count = self.repositories.len();
        if count == 0 || count > MOST_REPOSITORIES {
            let message = format!(
                "found {count} repositories, expected 1 to {MOST_REPOSITORIES}: list the absolute path of each repository to export"
            );
            return vec![Wrong { pointer: "/repositories".into(), message }];
        }
        let paths = self.repositories.iter().enumerate().filter_map(|(index, entry)| {
            Some(Wrong { pointer: entry.pointer(index), message: path_is_wrong(&entry.path)? })
        });
        let limit = (self.quiet_limit_s == 0).then(|| {
            let message = "found 0, expected the seconds that git may write nothing, such as 600".to_owned();
            Wrong { pointer: "/quiet_limit_s".into(), message }
        });
        paths.chain(limit).collect()
    }

    /// Entries whose real path (the value at the entry's index, where it is known) another entry has already.
    pub(crate) fn doubles(&self, real: &[Option<PathBuf>]) -> Vec<Wrong> {
        let mut first = HashMap::new();
        let mut wrong = Vec::new();
        for (index, (entry, real)) in self.repositories.iter().zip(real).enumerate() {
            let Some(real) = real else { continue };
            let before = *first.entry(real).or_insert(index);
            if before != index {
                let message = format!(
                    "{} is the same repository as /repositories/{before}; expected each repository once: remove one of the two",
                    entry.path.display()
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
            "found an empty path, expected the absolute path of a repository on this machine".into(),
        );
    }
    if is_url(&text) {
        return Some(format!(
            "found the address {}, expected an absolute path: this integration reads repositories on this machine; clone it there and name the path of the clone",
            crate::text::without_credentials(&text)
        ));
    }
    (!path.is_absolute()).then(|| {
        format!("found the relative path {text}, expected an absolute one, such as /srv/git/project.git")
    })
}

fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    // The short form of ssh, `user@host:path`; a path on this machine begins with a separator or a drive.
    let short =
        text.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains(['/', '\\']));
    scheme || short
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
        f.write_str("the path of a repository, or an object with `path` and, if wanted, `name`")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<Entry, E> {
        Ok(Entry { path: path.into(), name: None, object: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            path: PathBuf,
            name: Option<String>,
        }
        let Named { path, name } = Named::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Entry { path, name: name.filter(|it| !it.trim().is_empty()), object: true })
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
            "repositories": {
                "description": "The repositories to export: absolute paths on the agent's machine.",
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_REPOSITORIES,
                "items": {
                    "oneOf": [
                        { "type": "string", "minLength": 1, "description": "A work tree or a bare repository." },
                        {
                            "type": "object",
                            "additionalProperties": false,
                            "required": ["path"],
                            "properties": {
                                "path": { "type": "string", "minLength": 1, "description": "A work tree or a bare repository." },
                                "name": { "type": "string", "description": "What people call it; the folder's name where it is missing." }
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
            (r#"{"repositories": [7]}"#, "the path of a repository, or an object with `path`"),
            (r#"{"repositories": [{"name": "x"}]}"#, "missing field `path`"),
            (r#"{"repositories": [{"path": "/x", "nme": "x"}]}"#, "unknown field `nme`"),
            (r#"{"repos": []}"#, "unknown field `repos`, expected `repositories`"),
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
            r#"{"repositories": ["", "a/b", {"path": "https://me:s3cret@example.org/x.git?token=s3cret"}, "git@example.org:x.git", "/fine"]}"#,
        )
        .unwrap();
        let wrong = config.wrong();
        let pointers: Vec<_> = wrong.iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/repositories/0", "/repositories/1", "/repositories/2/path", "/repositories/3"]
        );
        assert!(wrong[1].message.contains("relative path a/b"), "{}", wrong[1].message);
        assert!(wrong[2].message.contains("https://example.org/x.git,"), "{}", wrong[2].message);
        assert!(!wrong.iter().any(|it| it.message.contains("s3cret")));
        assert_eq!(read(r#"{"repositories": []}"#).unwrap().wrong()[0].pointer, "/repositories");
    }

    #[test]
    fn one_repository_named_twice_is_found() {
        let config = read(r#"{"repositories": ["/srv/a", "/srv/a/", "/srv/b"]}"#).unwrap();
        let real = [Some("/srv/a".into()), Some("/srv/a".into()), None];
        let doubles = config.doubles(&real);
        assert_eq!(doubles.len(), 1);
        assert_eq!(doubles[0].pointer, "/repositories/1");
    }
}
