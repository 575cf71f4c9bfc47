//! Who wrote a section `collect`, and so what it may name.
//!
//! **Invariant:** a section of the backend's names no file and no folder of the host, neither to be read nor to be written:
//! whoever takes a backend over gets no further than to the addresses that the host can reach, this host's own among them,
//! and not to those where a cloud tells its machines their secrets.
//!
//! **Invariant:** what a section of the backend's takes of disk and memory has bounds that an operator's need not have: it is
//! not the backend's host.

use std::net::IpAddr;
use std::path::PathBuf;

use outrider_protocol::collect::apis::ApiGroup;
use outrider_protocol::collect::{Output, Reach};

use crate::config_read::inside;
use crate::members::Members;
use crate::{ConfigFault, Root};

/// What may wait on the disk for an output, at most, where the operator says; in bytes.
const QUEUE_MOST: u64 = 1 << 40;
/// The same where the backend does: it cannot see the disk. A gibibyte for as many outputs as it may name.
const QUEUE_MOST_ORDERED: u64 = 64 << 20;
const OUTPUTS_ORDERED: usize = 16;
/// Points that wait in memory, of all outputs.
const POINTS_ORDERED: usize = 4_000_000;
/// What is polled by itself: an API of a system, a VDC or a node counts once for each node.
const POLLED_ORDERED: usize = 5_000;
/// Of one API's answers.
const ANSWER_BYTES_ORDERED: u64 = 64 << 20;
const EVENTS_ORDERED: u64 = 100_000;

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

    /// Tells what of a section is more than its author may ask of the host.
    pub(super) fn confine(self, members: &mut Members<'_>, apis: &[ApiGroup], outputs: &[Output]) {
        let Self::Backend = self else { return };
        let mut bound = |place: &str, found: u64, what: &str, most: u64| {
            if found > most {
                let place = members.place(place);
                let expected = format!("at most {most} in a section that the backend orders");
                members.fault(ConfigFault::new(&place, format!("{found} {what}"), expected));
            }
        };
        bound("outputs", outputs.len() as u64, "outputs", OUTPUTS_ORDERED as u64);
        let points: usize = outputs.iter().map(|it| it.queue_points).fold(0, usize::saturating_add);
        bound("outputs", points as u64, "points that may wait in memory", POINTS_ORDERED as u64);
        let nodes =
            |it: &ApiGroup| it.systems.iter().flat_map(|it| &it.vdcs).map(|it| it.nodes.len()).sum::<usize>();
        let polled: usize =
            apis.iter().map(|it| it.apis.len().saturating_mul(nodes(it))).fold(0, usize::saturating_add);
        bound("apis", polled as u64, "APIs of nodes", POLLED_ORDERED as u64);
        let nodes = apis.iter().flat_map(|it| &it.systems).flat_map(|it| &it.vdcs).flat_map(|it| &it.nodes);
        let mut reach = |place: &str, text: &str| {
            // A name is looked up when it is asked, and judged then.
            if literal(text).is_none_or(|it| it.is_some_and(|it| !Reach::NoMetadata.allows(it))) {
                let place = members.place(place);
                let expected = "none that is link-local or that of a cloud's metadata, in a section that the backend orders";
                members.fault(ConfigFault::new(&place, format!("the address {text:?}"), expected));
            }
        };
        nodes.for_each(|it| reach("apis", &it.url));
        outputs.iter().filter_map(|it| it.to.place()).for_each(|it| reach("outputs", it));
        let mut bound = |place: &str, found: u64, what: &str, most: u64| {
            if found > most {
                let place = members.place(place);
                let expected = format!("at most {most} in a section that the backend orders");
                members.fault(ConfigFault::new(&place, format!("{found} {what}"), expected));
            }
        };
        for group in apis {
            bound("apis", group.bounds.answer_bytes as u64, "bytes of an answer", ANSWER_BYTES_ORDERED);
            bound("apis", group.bounds.events as u64, "events of a poll", EVENTS_ORDERED);
        }
    }

    /// Which addresses may be asked.
    pub(super) fn reach(self) -> Reach {
        match self {
            Self::Operator(_) => Reach::Anywhere,
            Self::Backend => Reach::NoMetadata,
        }
    }

    /// What may wait on the disk for an output, in bytes.
    pub(super) fn queue_most(self) -> u64 {
        match self {
            Self::Operator(_) => QUEUE_MOST,
            Self::Backend => QUEUE_MOST_ORDERED,
        }
    }
}

/// The address in an URL, or in `host:port`, where that is none of a name. Nothing where it cannot be read: others may read it.
fn literal(text: &str) -> Option<Option<IpAddr>> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match url::Url::parse(&text).ok()?.host()? {
        url::Host::Ipv4(it) => Some(Some(it.into())),
        url::Host::Ipv6(it) => Some(Some(it.into())),
        url::Host::Domain(_) => Some(None),
    }
}
