//! `manifest.yaml`: what a package says of itself, and the form of packages that have none.

use outrider_home::yaml::{self, Node, YamlError};

use crate::identity::{CommitHash, Identity, IdentityError, Release, SHORTEST_HASH};
use crate::mappings::{MappingError, PathMappings};
use crate::path::{PathError, RelPath, shortened};

/// The name of the manifest in a package's top folder.
pub const MANIFEST: &str = "manifest.yaml";
/// The name of the file with the hash, in a package's top folder.
pub const ACTIVE_COMMIT: &str = ".outrider.active.commit";
/// The longest manifest, in bytes.
pub const MANIFEST_BYTES: u64 = 64 << 10;
/// The longest file with a hash, in bytes.
pub const COMMIT_BYTES: u64 = 256;

/// The value of `version` in a manifest.
const SCHEMA: &str = "outrider/v1";
/// The value of `kind` in a manifest.
const KIND: &str = "PackageManifest";

/// A manifest, or a file with a hash, that is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is too long.
    #[error("the manifest has {bytes} bytes: expected at most {MANIFEST_BYTES}")]
    TooLong {
        /// Its size.
        bytes: u64,
    },
    /// It is no UTF-8.
    #[error("the manifest is not UTF-8 from byte {at} on")]
    NotUtf8 {
        /// From 0.
        at: usize,
    },
    /// It is no YAML, or of a kind that is not taken.
    #[error("the manifest cannot be read")]
    Yaml {
        /// Why.
        #[source]
        err: YamlError,
    },
    /// It has no members.
    #[error("the manifest is {found}: expected a mapping")]
    NoMapping {
        /// What it is.
        found: &'static str,
    },
    /// A member is missing, or is something else.
    #[error("`{field}` of the manifest is {found}: expected {expected}")]
    Field {
        /// Which, with dots: `package.hash`.
        field: &'static str,
        /// What is there.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
    /// It names no build.
    #[error("the manifest's `{field}` cannot be used")]
    Identity {
        /// Which member.
        field: &'static str,
        /// Why.
        #[source]
        err: IdentityError,
    },
    /// `versioned-home` is empty: the version would be put over the whole root.
    #[error("the manifest's `package.versioned-home` is empty: expected the version's folder")]
    EmptyHome,
    /// `versioned-home` is no path within the package.
    #[error("the manifest's `package.versioned-home` leaves the package")]
    Home {
        /// Why.
        #[source]
        err: PathError,
    },
    /// The path mappings cannot be followed.
    #[error("the manifest's `package.path-mappings` cannot be followed")]
    Mappings {
        /// Why.
        #[source]
        err: MappingError,
    },
    /// The file with the hash holds something else.
    #[error("{ACTIVE_COMMIT} holds no hash")]
    Commit {
        /// Why.
        #[source]
        err: IdentityError,
    },
}

/// What a package says of itself. Members of the file that are not known here are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Which build it is.
    pub identity: Identity,
    /// The folder of the version in the package, below the top folder.
    pub home: RelPath,
    /// Where the package's files go.
    pub mappings: PathMappings,
}

impl Manifest {
    /// Reads a `manifest.yaml`. `running` is the folder of the running version, relative to the root: nothing may be
    /// mapped to it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(bytes: &[u8], running: Option<&RelPath>) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MANIFEST_BYTES {
            return Err(ManifestError::TooLong { bytes: bytes.len() as u64 });
        }
        let text =
            std::str::from_utf8(bytes).map_err(|err| ManifestError::NotUtf8 { at: err.valid_up_to() })?;
        let document = yaml::parse(text).map_err(|err| ManifestError::Yaml { err })?;
        let Node::Map(members) = &document else {
            return Err(ManifestError::NoMapping { found: document.kind() });
        };
        let top = Members(members);
        top.is("version", "version", SCHEMA)?;
        top.is("kind", "kind", KIND)?;
        let package = match top.get("package") {
            Some(Node::Map(members)) => Members(members),
            other => return Err(wrong("package", other, "a mapping")),
        };
        Ok(Self {
            identity: identity(&package)?,
            home: home(&package)?,
            mappings: mappings(&package, running)?,
        })
    }

    /// What holds for a package without a manifest: the release is the one that was ordered, the hash that of
    /// [`ACTIVE_COMMIT`], the version's folder is named by it, and every file stays where it stands.
    ///
    /// # Errors
    /// Never for a hash that was parsed; its digits make a folder's name.
    pub fn older(release: Release, hash: CommitHash) -> Result<Self, ManifestError> {
        let home = RelPath::parse(&older_home(&hash)).map_err(|err| ManifestError::Home { err })?;
        Ok(Self { identity: Identity::new(release, hash), home, mappings: PathMappings::default() })
    }

    /// Where the version's folder goes, relative to the root.
    ///
    /// # Errors
    /// When that is too long or too deep.
    pub fn target_home(&self) -> Result<RelPath, ManifestError> {
        self.mappings.apply(&self.home).map_err(|err| ManifestError::Home { err })
    }

    /// The text of the file.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let Identity { version, snapshot, hash } = &self.identity;
        let quoted = |path: &RelPath| format!("'{}'", path.as_str().replace('\'', "''"));
        let home = quoted(&self.home);
        let pairs: Vec<_> =
            self.mappings.iter().map(|(from, to)| format!("{}: {}", quoted(from), quoted(to))).collect();
        let mappings =
            if pairs.is_empty() { " []".to_owned() } else { format!("\n    - {}", pairs.join("\n      ")) };
        format!(
            "version: {SCHEMA}\nkind: {KIND}\npackage:\n  version: {version}\n  snapshot: {snapshot}\n  hash: {hash}\n  \
             versioned-home: {home}\n  path-mappings:{mappings}\n"
        )
    }
}

/// Reads the file [`ACTIVE_COMMIT`]: one hash, with white space around it.
///
/// # Errors
/// When it holds something else.
pub fn parse_commit(bytes: &[u8]) -> Result<CommitHash, ManifestError> {
    let kept = &bytes[..bytes.len().min(256)];
    CommitHash::parse(String::from_utf8_lossy(kept).trim()).map_err(|err| ManifestError::Commit { err })
}

/// The version's folder in packages that name it by the hash only.
pub(crate) fn older_home(hash: &CommitHash) -> String {
    format!("data/outrider-{}", hash.first(SHORTEST_HASH))
}

fn identity(package: &Members<'_>) -> Result<Identity, ManifestError> {
    let version = package.text("version", "package.version")?;
    let snapshot = match package.get("snapshot") {
        None => false,
        Some(Node::Text { text, plain: true }) if text == "true" => true,
        Some(Node::Text { text, plain: true }) if text == "false" => false,
        Some(other) => return Err(wrong("package.snapshot", Some(other), "true or false, without quotes")),
    };
    let release = Release::from_fields(version, snapshot)
        .map_err(|err| ManifestError::Identity { field: "package.version", err })?;
    let hash = CommitHash::parse(package.text("hash", "package.hash")?)
        .map_err(|err| ManifestError::Identity { field: "package.hash", err })?;
    Ok(Identity::new(release, hash))
}

fn home(package: &Members<'_>) -> Result<RelPath, ManifestError> {
    let home = package.text("versioned-home", "package.versioned-home")?;
    if home.trim().is_empty() {
        return Err(ManifestError::EmptyHome);
    }
    RelPath::parse(home).map_err(|err| ManifestError::Home { err })
}

fn mappings(package: &Members<'_>, running: Option<&RelPath>) -> Result<PathMappings, ManifestError> {
    const FIELD: &str = "package.path-mappings";
    const EXPECTED: &str = "a list of mappings from a path to a path";
    let lists = match package.get("path-mappings") {
        None => &[][..],
        Some(Node::List(lists)) => lists,
        Some(other) => return Err(wrong(FIELD, Some(other), EXPECTED)),
    };
    let mut pairs = Vec::new();
    for list in lists {
        let Node::Map(members) = list else { return Err(wrong(FIELD, Some(list), EXPECTED)) };
        for (from, to) in members {
            let Node::Text { text: to, .. } = to else { return Err(wrong(FIELD, Some(to), EXPECTED)) };
            pairs.push((from.as_str(), to.as_str()));
        }
    }
    PathMappings::new(pairs, running).map_err(|err| ManifestError::Mappings { err })
}

/// The members of a mapping.
struct Members<'a>(&'a [(String, Node)]);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a Node> {
        self.0.iter().find_map(|(known, node)| (known == name).then_some(node))
    }

    fn text(&self, name: &str, field: &'static str) -> Result<&'a str, ManifestError> {
        match self.get(name) {
            Some(Node::Text { text, .. }) => Ok(text),
            other => Err(wrong(field, other, "a text")),
        }
    }

    fn is(&self, name: &str, field: &'static str, expected: &'static str) -> Result<(), ManifestError> {
        match self.get(name) {
            Some(Node::Text { text, .. }) if text == expected => Ok(()),
            other => Err(wrong(field, other, expected)),
        }
    }
}

fn wrong(field: &'static str, found: Option<&Node>, expected: &'static str) -> ManifestError {
    let found = match found {
        None => "missing".to_owned(),
        Some(Node::Text { text, .. }) => format!("{:?}", shortened(text)),
        Some(other) => other.kind().to_owned(),
    };
    ManifestError::Field { field, found, expected }
}

#[cfg(test)]
mod tests;
