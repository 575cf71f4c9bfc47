//! The versions of a root, and the upgrade from one to another: what the launcher, the service, the upgrade action and
//! the watcher must agree on.
//!
//! **Invariant:** at every moment `current` points to a complete version, or the next start mends it before it runs
//! anything.
//!
//! **Invariant:** a phase is written before its act, and each act may be done again; so whoever starts after a crash or a
//! power cut asks [`decide`] and goes on, with no person.
//!
//! **Invariant:** a version that is not what it was when it was armed is not switched to, not started on trial, and not gone
//! back to while there is another.
//!
//! **Invariant:** what `current` or `previous` points to is never deleted, nor what an attempt in progress may need.
//!
//! **Invariant:** a rollback is finished once it is begun. It needs no network, and no room on the disk that was not
//! reserved before the switch.
//!
//! **Invariant:** this crate uses std alone, since the launcher is built of nothing else. It knows no network, no
//! archives, no signatures and no backend.
//!
//! # Layout
//!
//! ```text
//! <root>/current, previous                -> versions/<version>, relative links; `current` is the only truth
//! <root>/versions/<version>/outrider      complete when it has this name; never changed
//! <root>/versions/.trash-<version>/       being deleted
//! <root>/versions/.trial                  the attempt that is armed or on trial, for when both slots of the journal are lost
//! <root>/upgrade/journal.a, journal.b     the latest attempt, in two slots
//! <root>/upgrade/lock                     held to change journal and links; also worker.lock, watcher.lock
//! <root>/upgrade/staging/                 downloads and unpacked trees; nothing in it is run
//! <root>/upgrade/lists/                   the files of each version in place, kept by others
//! <root>/upgrade/untold/                  how earlier attempts ended, until the backend has acknowledged it
//! <root>/upgrade/failed/<version>/        why it is not tried again (`rolled-back`), of the last 64; its diagnosis, of 4
//! <root>/upgrade/failed/journal.a.<n>     slots that could not be read, 9 of each; what lay in place of a link likewise
//! <root>/upgrade/reserve                  room for a rollback on a full disk
//! <root>/upgrade/started                  which process the version on trial was started as last, until the trial ends
//! ```
//!
//! # How an attempt goes
//!
//! [`Writer::begin`] writes `requested`. The upgrade action goes on with [`Writer::enter`] (`fetching`, `verified`,
//! `staged`), [`Writer::place`]. The service takes the [`Versions::seals`] and arms the attempt with them ([`Writer::arm`]);
//! then it stops its actions, enters `switched`, and becomes the launcher, which points the links and begins the trial;
//! where no service runs, [`Writer::switch`] does that. From then on the launcher holds the new version against its seal and
//! counts a start before each, and [`launch::prepare`] takes it back when it has changed or no start is left. The watcher
//! ends the trial with [`Writer::commit`] or [`Writer::roll_back`]. How it ended stays in the journal until
//! [`Writer::tell`] notes that the backend has acknowledged it. [`Writer::prune`] removes what is not needed any more.

mod act;
mod clock;
#[cfg(test)]
mod crash_tests;
mod decide;
mod duty;
mod error;
mod failed;
#[cfg(test)]
mod fault_tests;
mod fs;
mod journal;
pub mod launch;
mod layout;
mod links;
mod lock;
#[cfg(test)]
mod model;
mod name;
mod phase;
mod record;
mod seal;
mod sha256;
mod started;
#[cfg(test)]
mod system;
mod trial;
mod untold;
mod versions;
mod writer;

pub use act::Placed;
pub use clock::{BootId, Clock, Left, Moment, SystemClock};
pub use decide::{Act, back, decide};
pub use duty::{Duty, duties};
pub use error::{FileError, VersionsError};
pub use journal::{Journal, SlotFault};
pub use layout::{Layout, Link, PROGRAM};
pub use links::{Links, Points, Seen, Tree};
pub use lock::{Lock, Post};
pub use name::{BadName, VersionName};
pub use phase::{Phase, Reason};
pub use record::{BOUND, GREEN_FOR, OldReach, REBOOTS, Record, TRIES, Told};
pub use seal::{Condition, Seal, Seals};
pub use versions::Versions;
pub use writer::{Begun, Writer};
