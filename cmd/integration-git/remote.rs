//! What a repository elsewhere says, and why it does not.

use std::path::Path;

use crate::address::Address;
use crate::error::GitError;
use crate::network::Network;
use crate::process::{Place, RunError, Stop};

/// What can be told of a repository without a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The ref that its HEAD names.
    pub(crate) head: Option<String>,
    /// How many branches and tags it has.
    pub(crate) refs: u64,
    /// Its hashes are those of SHA-256.
    long_hashes: bool,
}

impl Told {
    /// `main`.
    pub(crate) fn default_branch(&self) -> Option<&str> {
        self.head.as_deref()?.strip_prefix("refs/heads/")
    }

    /// As [`crate::models::Repo::object_format`].
    pub(crate) fn object_format(&self) -> &'static str {
        if self.long_hashes { "sha256" } else { "sha1" }
    }
}

/// Asks a repository for its refs.
///
/// # Errors
/// When it cannot be reached or read.
pub(crate) fn ask(address: &Address, scratch: &Path, stop: &Stop) -> Result<Told, GitError> {
    let network = network(address, scratch)?;
    let place = Place { folder: scratch.to_owned(), stop: stop.clone() };
    let args = ["ls-remote", "--symref", "--", address.text()];
    let said = place.run_with(&args, Vec::new(), Some(&network)).map_err(|err| explain(address, err))?;
    Ok(told(&String::from_utf8_lossy(&said)))
}

/// Clones the tip of the default branch, without the contents of files, into a folder that goes at once.
///
/// # Errors
/// When it cannot be reached or read.
pub(crate) fn try_clone(address: &Address, scratch: &Path, stop: &Stop) -> Result<(), GitError> {
    let folder = tempfile::Builder::new().prefix("try-").tempdir_in(scratch);
    let folder = folder.map_err(|err| GitError::File { path: scratch.into(), err })?;
    let network = network(address, scratch)?;
    let place = Place { folder: scratch.to_owned(), stop: stop.clone() };
    let target = folder.path().join("clone.git");
    let target = target.to_string_lossy();
    let args = [
        "clone",
        "--bare",
        "--quiet",
        "--template=",
        "--depth=1",
        "--single-branch",
        "--no-tags",
        "--filter=blob:none",
        "--",
        address.text(),
        &target,
    ];
    place.run_with(&args, Vec::new(), Some(&network)).map(drop).map_err(|err| explain(address, err))
}

/// The right to use the network.
///
/// # Errors
/// When the secret's file cannot be made.
pub(crate) fn network(address: &Address, scratch: &Path) -> Result<Network, GitError> {
    Network::new(address, scratch).map_err(|err| GitError::File { path: scratch.into(), err })
}

fn told(lines: &str) -> Told {
    let mut told = Told::default();
    for line in lines.lines() {
        let Some((value, name)) = line.split_once('\t') else { continue };
        if let Some(head) = value.strip_prefix("ref: ").filter(|_| name == "HEAD") {
            told.head = Some(head.to_owned());
        }
        told.long_hashes |= value.len() == 64 && !value.starts_with("ref: ");
        let counts = name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
        told.refs += u64::from(counts && !name.ends_with("^{}"));
    }
    told
}

/// Why a repository elsewhere cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    NoHost,
    Unreachable,
    Refused,
    HostKey,
    Certificate,
    NoRepository,
    Ownership,
    Slow,
    /// None of these: it may be the clone on this machine.
    Unknown,
}

/// What git says, in the order in which it is looked for; `LC_ALL=C` keeps the words as they are.
const SAID: &[(&str, Why)] = &[
    ("dubious ownership", Why::Ownership),
    ("Host key verification failed", Why::HostKey),
    ("Could not resolve host", Why::NoHost),
    ("Name or service not known", Why::NoHost),
    ("Permission denied (", Why::Refused),
    ("Authentication failed", Why::Refused),
    ("could not read Username", Why::Refused),
    ("could not read Password", Why::Refused),
    ("terminal prompts disabled", Why::Refused),
    ("unable to get password", Why::Refused),
    ("Invalid username or", Why::Refused),
    ("returned error: 401", Why::Refused),
    ("returned error: 403", Why::Refused),
    ("SSL certificate", Why::Certificate),
    ("certificate verif", Why::Certificate),
    ("Operation too slow", Why::Slow),
    ("returned error: 404", Why::NoRepository),
    ("not valid: is this a git repository", Why::NoRepository),
    ("does not appear to be a git repository", Why::NoRepository),
    ("epository not found", Why::NoRepository),
    ("does not exist", Why::NoRepository),
    ("not a git repository", Why::NoRepository),
    ("' not found", Why::NoRepository),
    ("Connection refused", Why::Unreachable),
    ("Failed to connect", Why::Unreachable),
    ("Could not connect", Why::Unreachable),
    ("Connection timed out", Why::Unreachable),
    ("Connection reset", Why::Unreachable),
    ("No route to host", Why::Unreachable),
    ("hung up unexpectedly", Why::Unreachable),
    ("early EOF", Why::Unreachable),
    ("RPC failed", Why::Unreachable),
    ("unable to access", Why::Unreachable),
    ("Could not read from remote repository", Why::Unreachable),
];

/// A git's failure as what it means.
pub(crate) fn explain(address: &Address, err: RunError) -> GitError {
    let why = match &err {
        RunError::Failed { said, .. } => {
            SAID.iter().find(|(words, _)| said.contains(words)).map_or(Why::Unknown, |(_, why)| *why)
        }
        _ => Why::Unknown,
    };
    GitError::Remote { address: address.text().to_owned(), why, err }
}

impl Why {
    /// What it is called in a message.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NoHost => "the host is not found",
            Self::Unreachable => "the host does not answer, or breaks off",
            Self::Refused => "the credentials are refused, or there are none",
            Self::HostKey => "the host's ssh key is not known to this machine",
            Self::Certificate => "the host's certificate is not trusted",
            Self::NoRepository => "there is no git repository, or none that these credentials may see",
            Self::Ownership => "the repository belongs to another user, and git refuses to read it",
            Self::Slow => "the host sends next to nothing",
            Self::Unknown => "it cannot be fetched",
        }
    }

    /// What a person can do.
    pub(crate) fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::NoHost => "correct the address, or see whether the agent's machine can resolve it",
            Self::Unreachable | Self::Slow => {
                "see whether the agent's machine can reach it, directly or by a proxy (`http.proxy` in git's configuration)"
            }
            Self::Refused => {
                "give a `token` that may read it (and `username` where the source wants one), or, for ssh, the agent's user a key"
            }
            Self::HostKey => {
                "connect once by ssh as the user that the agent runs as, or add the host's key to known_hosts"
            }
            Self::Certificate => {
                "add the certificate to the system's, or name it with `http.sslCAInfo` in git's configuration"
            }
            Self::NoRepository => "correct the address, or give a `token` that may read it",
            Self::Ownership => {
                "run `git config --global --add safe.directory FOLDER` as the user that the agent runs as"
            }
            Self::Unknown => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_counted_once() {
        let said = "ref: refs/heads/main\tHEAD\naa\tHEAD\naa\trefs/heads/main\nbb\trefs/heads/x\ncc\trefs/tags/v1\naa\trefs/tags/v1^{}\ndd\trefs/pull/1/head\n";
        assert_eq!(told(said), Told { head: Some("refs/heads/main".into()), refs: 3, long_hashes: false });
        assert_eq!(told(""), Told::default());
    }
}
