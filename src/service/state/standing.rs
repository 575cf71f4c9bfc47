//! Whose the state is: a pure function of what the versions' journal and links say, and of which version asks.
//!
//! | version | `current` | journal | the state |
//! | --- | --- | --- | --- |
//! | of the root | it | no attempt, ended, or not switched | settled; what is kept goes |
//! | | | switched, or unreadable | settled; what is kept stays |
//! | | another | | left alone: that one is gone over to |
//! | | another, which cannot be started | | looked at |
//! | | nothing complete | | looked at |
//! | | unknown | unknown | looked at |
//! | none of the root's, as a build | | switched, or unknown | settled; what is kept stays |
//! | | | else | settled; what is kept goes |

use std::path::Path;

use outrider_versions::{Journal, Phase, Points, Seen, VersionName, Versions};

/// What this process may do with the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Bring it to its schema.
    Settles {
        /// Whether the version before may be needed again.
        keep: bool,
    },
    /// Nothing: it is to become the version that is current.
    GoesOver,
    /// Work with it as it is.
    Looks,
}

/// What the version `own` of the root may do, or a program that is none of them. `stands_in` says that what `current` points
/// to could not be started.
pub(super) fn standing(seen: Option<&Seen>, own: Option<&VersionName>, stands_in: bool) -> Standing {
    let is_switched = |seen: &Seen| seen.journal.record().is_some_and(|it| seen.is_switched(it));
    match (seen, own) {
        (None, None) => Standing::Settles { keep: true },
        (Some(seen), None) => Standing::Settles { keep: is_switched(seen) },
        (None, Some(_)) => Standing::Looks,
        (Some(seen), Some(own)) => match seen.tree.whole(&seen.links.current) {
            Some(current) if current == own => Standing::Settles { keep: !stays(seen, Some(own)) },
            Some(_) if !stands_in => Standing::GoesOver,
            Some(_) | None => Standing::Looks,
        },
    }
}

/// Whether nothing goes back from this version by itself, so that the state before may go.
pub(crate) fn stays(seen: &Seen, own: Option<&VersionName>) -> bool {
    let points_to = |version: &VersionName| seen.links.current == Points::To(version.clone());
    match (&seen.journal, own) {
        (Journal::Unreadable, _) => false,
        (Journal::Absent, own) => own.is_none_or(points_to),
        (Journal::Attempt(record), Some(own)) => points_to(own) && !seen.is_switched(record),
        // Where an attempt failed after the switch, there is nothing to go back to, or somebody else interfered.
        (Journal::Attempt(record), None) => {
            matches!(record.phase, Phase::Committed | Phase::Failed) && points_to(&record.to)
        }
    }
}

/// The version of this root that a program belongs to, also when that is being deleted meanwhile.
pub(crate) fn own_version(versions: &Versions, program: &Path) -> Option<VersionName> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = real(program.parent()?);
    if folder.parent()? != real(&versions.layout().versions()) {
        return None;
    }
    let name = folder.file_name()?.to_str()?;
    name.strip_prefix(".trash-").unwrap_or(name).parse().ok()
}
