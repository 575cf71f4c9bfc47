//! Why a repository cannot be read, told so that a person can do something about it.

use std::path::{Path, PathBuf};

use outrider_integration::Error;

use crate::process::RunError;
use crate::remote::Why;
use crate::tokens::ParseError;

/// The oldest git whose options are used here (Debian 11's).
pub(crate) const OLDEST_GIT: (u32, u32) = (2, 30);
/// A repository cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// Git is too old.
    #[error("found git {found}, expected {}.{} or newer", OLDEST_GIT.0, OLDEST_GIT.1)]
    TooOld {
        /// The version that it says.
        found: String,
    },
    /// There is no such folder.
    #[error("found no folder {}, expected a git repository", path.display())]
    NoFolder {
        /// The path as it is configured.
        path: PathBuf,
        /// What the system says.
        #[source]
        err: std::io::Error,
    },
    /// There is something else.
    #[error("{} is a file, expected the folder of a git repository", path.display())]
    NotAFolder {
        /// The path as it is configured.
        path: PathBuf,
    },
    /// The folder holds no repository.
    #[error("{} is a folder but no git repository", path.display())]
    NotARepository {
        /// The path.
        path: PathBuf,
        /// The repository that the folder is a part of.
        within: Option<PathBuf>,
    },
    /// Git refuses the repository, since another user owns it.
    #[error("{} belongs to another user than the one the agent runs as, and git refuses to read it", path.display())]
    Ownership {
        /// The path.
        path: PathBuf,
    },
    /// Some contents are left out of the clone.
    #[error("{} is a partial clone, and contents that the export needs are missing in it", path.display())]
    Partial {
        /// The path.
        path: PathBuf,
    },
    /// Git answered something else than it was asked.
    #[error("read {} of {}: git answered {found:?}", what, path.display())]
    Answer {
        /// What was asked for.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The answer.
        found: String,
    },
    /// Git wrote something else than its documentation says.
    #[error("read what git writes of {}", path.display())]
    Unread {
        /// The path.
        path: PathBuf,
        /// What it wrote.
        #[source]
        err: ParseError,
    },
    /// Git lists commits that it does not show.
    #[error("git listed {listed} commits and showed {shown}")]
    Count {
        /// As `git rev-list` says.
        listed: u64,
        /// As `git diff-tree` shows.
        shown: u64,
    },
    /// A file of the repository cannot be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        err: std::io::Error,
    },
    /// A repository elsewhere cannot be read.
    #[error("{address}: {}", why.text())]
    Remote {
        /// Where, without a secret.
        address: String,
        /// Why.
        why: Why,
        /// What git says.
        #[source]
        err: RunError,
    },
    /// It has nothing in it.
    #[error("{address} is an empty repository: found no branch and no tag, expected at least one")]
    EmptyRemote {
        /// Where, without a secret.
        address: String,
    },
    /// Another run has the clones.
    #[error("another run of this integration uses the clones ({} is locked)", path.display())]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// A clone grew too large.
    #[error("the clone of {address} is larger than {limit_mb} MB, and was stopped")]
    TooLarge {
        /// Where, without a secret.
        address: String,
        /// `clone_limit_mb`.
        limit_mb: u64,
    },
    /// Git cannot be run, or failed.
    #[error("read the repository {}", path.display())]
    Run {
        /// The path.
        path: PathBuf,
        /// How.
        #[source]
        err: RunError,
    },
}

impl GitError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooOld { .. } | Self::Run { err: RunError::NoGit, .. } => format!(
                "install git {}.{} or newer on the agent's machine, in the PATH of the agent's service",
                OLDEST_GIT.0, OLDEST_GIT.1
            ),
            Self::NoFolder { .. } => {
                "correct the path, or give the user that the agent runs as access to it".into()
            }
            Self::NotAFolder { .. } => "name the folder of a work tree or of a bare repository".into(),
            Self::NotARepository { within: Some(root), .. } => {
                format!("it lies within the repository {}: name that", root.display())
            }
            Self::NotARepository { within: None, .. } => {
                "name the root of a work tree, or a bare repository such as /srv/git/project.git".into()
            }
            Self::Ownership { path } => format!(
                "run `git config --global --add safe.directory {}` as the user that the agent runs as, or give that user the repository",
                path.display()
            ),
            Self::Partial { .. } => {
                "fetch everything with `git fetch --refetch --no-filter`, or name a full clone".into()
            }
            Self::Remote { why, .. } => why.hint()?.into(),
            Self::InUse { .. } => "try again when it is over".into(),
            Self::EmptyRemote { .. } => "push something to it first, or leave it out".into(),
            Self::TooLarge { .. } => {
                "raise `clone_limit_mb` in the configuration, if the disk has room".into()
            }
            _ => return None,
        })
    }

    /// The message with those of its causes and what a person can do.
    pub(crate) fn full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(err) = cause {
            text = format!("{text}: {err}");
            cause = err.source();
        }
        match self.hint() {
            Some(hint) => format!("{text}; {hint}"),
            None => text,
        }
    }
}

impl From<GitError> for Error {
    fn from(err: GitError) -> Self {
        Self::source(err.full())
    }
}

/// A git's failure as what it means.
pub(crate) fn explain(folder: &Path, err: RunError) -> GitError {
    let path = folder.to_owned();
    if let RunError::Failed { said, .. } = &err {
        if said.contains("dubious ownership") {
            return GitError::Ownership { path };
        }
        if said.contains("not a git repository") {
            let within = folder.ancestors().skip(1).find(|it| it.join(".git").exists()).map(Path::to_owned);
            return GitError::NotARepository { path, within };
        }
        if said.contains("lazy fetching disabled") || said.contains("promisor") {
            return GitError::Partial { path };
        }
    }
    GitError::Run { path, err }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_git_complains_of_becomes_what_to_do() {
        use std::os::unix::process::ExitStatusExt as _;
        let status = std::process::ExitStatus::from_raw(128 << 8);
        let said = |text: &str| RunError::Failed { what: "rev-list".into(), status, said: text.into() };
        for (text, told) in [
            (
                "fatal: detected dubious ownership in repository at '/srv/a'\nTo add an exception …",
                "/srv/a belongs to another user than the one the agent runs as, and git refuses to read it; run `git \
                 config --global --add safe.directory /srv/a` as the user that the agent runs as, or give that user \
                 the repository",
            ),
            (
                "fatal: not a git repository (or any of the parent directories): .git",
                "/srv/a is a folder but no git repository; name the root of a work tree, or a bare repository such as \
                 /srv/git/project.git",
            ),
            (
                "warning: lazy fetching disabled; some objects may not be available",
                "/srv/a is a partial clone, and contents that the export needs are missing in it; fetch everything \
                 with `git fetch --refetch --no-filter`, or name a full clone",
            ),
            (
                "fatal: bad object HEAD",
                "read the repository /srv/a: git rev-list ended with exit status: 128: fatal: bad object HEAD",
            ),
        ] {
            assert_eq!(explain(Path::new("/srv/a"), said(text)).full(), told);
        }
        let none = GitError::Run { path: "/srv/a".into(), err: RunError::NoGit };
        assert!(none.full().contains("git is not in PATH; install git 2.30 or newer"), "{}", none.full());
    }
}
