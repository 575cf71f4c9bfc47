//! `collect`: measures this host at an interval and delivers the samples to outputs, until it is stopped.
//!
//! *Linked*, it reads its section, of config.json or of the backend's order, when the service calls `collect`, tells how it goes, and ends by a `cancel`
//! or with the link. *By hand* it does the same until a signal, with the log on a stream of the caller's. The log is also in
//! `logs/collect`, which holds the last run.
//!
//! *Check* polls each API once and prints the events.
//!
//! **Invariant:** its end is bounded: outputs get `FLUSH` to take what waits, or `FLUSH_ORPHANED` when the service is
//! gone; the rest is counted as dropped, and told.
//!
//! **Invariant:** a part of it that breaks ends all of it with an error, so that whoever started it starts it anew: it
//! never measures without delivering, or delivers without measuring.
//!
//! **Invariant:** its memory is bounded, and of the host's processes it is among the first to go where memory is short.
//!
//! **Invariant:** no secret of an output or an API is in a line of the log.

mod by_hand;
mod check;
mod confine;
mod linked;
mod log;
mod work;

use std::time::Duration;

pub use by_hand::{Once, once, run_by_hand};
pub use check::{Checked, check};
pub use confine::{ConfineError, confine};
pub use linked::run_linked;
pub use work::CollectError;

/// The action's name.
const NAME: &str = "collect";
/// How long outputs may take at the end to take what waits.
const FLUSH: Duration = Duration::from_secs(4);
/// The same when the service is gone: a child is to exit within a second.
const FLUSH_ORPHANED: Duration = Duration::from_millis(500);
