//! Who wrote a section `collect`, and so what it may name.
//!
//! **Invariant:** a section of the backend's names no file and no folder of the host, neither to be read nor to be written:
//! whoever takes a backend over gets no further than to the addresses that the host can reach.

use std::path::PathBuf;

use crate::config_read::inside;
use crate::members::Members;
use crate::{ConfigFault, Root};

/// What may wait on the disk for an aggregator, at most, where the operator says; in bytes.
const QUEUE_MOST: u64 = 1 << 40;
/// The same where the backend does: it cannot see the disk.
const QUEUE_MOST_ORDERED: u64 = 1 << 30;

/// Who wrote a section.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Author<'a> {
    /// Whoever may write files on the host. Relative paths begin at this root.
    Operator(&'a Root),
    /// The backend, by an order.
    Backend,
}

impl Author<'_> {
    /// Takes the path of a file or folder out of a section.
    pub(super) fn path(self, members: &mut Members<'_>, name: &str, expected: &str) -> Option<PathBuf> {
        match self {
            Self::Operator(root) => members.text(name, expected, |text| inside(root, &text)),
            Self::Backend => {
                let place = members.place(name);
                if members.take(name).is_some() {
                    let found = "a path on the host";
                    let expected = "none, since a section that the backend orders names no file of the host";
                    let advice = "give a secret itself, by the field without `_file`; what needs a file belongs into the \
                                  section of the host's config.json";
                    members.fault(ConfigFault::new(&place, found, expected).advise(advice));
                }
                None
            }
        }
    }

    /// Why a kind of output is not for this author.
    pub(super) fn refuses(self, kind: &str) -> Option<&'static str> {
        match (self, kind) {
            (Self::Backend, "json_lines") => Some("json_lines, which writes a file of the host"),
            (Self::Backend, "stdout") => Some("stdout, which is for a run by hand"),
            _ => None,
        }
    }

    /// What may wait on the disk for an aggregator, in bytes.
    pub(super) fn queue_most(self) -> u64 {
        match self {
            Self::Operator(_) => QUEUE_MOST,
            Self::Backend => QUEUE_MOST_ORDERED,
        }
    }
}
