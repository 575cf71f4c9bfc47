//! Room in the spool and on its disk: where there is none, an export waits for it instead of failing.
//!
//! Before an export begins ([`admit`]), and while it runs, the spool must hold less than its bounds in bytes and age (what
//! the backend refused does not count for the age), and the disk more than is to be left free. While it runs, the keeper
//! holds what it cannot write, so that the integrations wait for its answers, and tries again; [`Room`] is where the two
//! meet. By hand nobody uploads, so nothing is waited for. Files that the backend has and that are kept for a while give way
//! first (see [`disk`]).
//!
//! **Invariant:** a wait ends: with room, with the order's cancel, after `limits.spool_wait_s`, or when nothing is there
//! that could make room.

mod disk;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use outrider_home::Limits;
use outrider_protocol::fault::{Fault, Retry, chain};
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::report::Failure;
use outrider_spool::{Oldest, Spool, SpoolError};

use self::disk::Disk;
pub(crate) use self::disk::Shed;
use super::{Export, failure};
use crate::context::Context;

/// How often room is looked for.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the free space of the disk is asked for while objects come.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often the age of what waits is asked for while objects come, for which each file that waits is looked at.
const AGE_EVERY: Duration = Duration::from_secs(1);

/// How long a spool is waited for that is full of sessions which are not done, in which nothing can be uploaded: such
/// sessions may still be finished.
const HOPELESS: Duration = Duration::from_secs(120);

/// Why there is no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The spool holds as much as it may.
    Spool { used: u64, limit: u64 },
    /// What waits is too old; of this export the oldest is.
    Age { found: Duration, limit: Duration, export: String },
    /// The disk has less than is to be left free, and no file gives way any more; `stuck` says which could not.
    Disk { free: u64, limit: u64, stuck: Option<String> },
    /// The disk refused to take more.
    DiskFull { message: String },
}

impl Shortage {
    /// The shortage behind an error of the spool; nothing when it is no such error.
    pub(crate) fn of(err: &SpoolError) -> Option<Self> {
        match err {
            SpoolError::Full { used, limit, .. } => Some(Self::Spool { used: *used, limit: *limit }),
            err if err.is_space() => Some(Self::DiskFull { message: chain(err) }),
            _ => None,
        }
    }

    /// The same behind an error of the store of values.
    pub(crate) fn of_values(err: &outrider_home::StoreError) -> Option<Self> {
        match err {
            outrider_home::StoreError::File(err) if err.is_disk_full() => {
                Some(Self::DiskFull { message: chain(err) })
            }
            _ => None,
        }
    }

    /// For the progress.
    pub(crate) fn why(&self) -> &'static str {
        match self {
            Self::Spool { .. } => "spool full, waiting for the backend",
            Self::Age { .. } => "the spool holds files that are too old, waiting for the backend",
            Self::Disk { .. } | Self::DiskFull { .. } => "disk full, waiting for room",
        }
    }

    /// What was found and what was expected.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Spool { used, limit } => format!(
                "the spool is full: it holds {used} bytes that the backend has not acknowledged, limits.spool_bytes \
                 allows {limit}"
            ),
            Self::Age { found, limit, export } => format!(
                "the oldest file in the spool, of export {export}, has waited {} s for the backend, limits.spool_age_s \
                 allows {} s",
                found.as_secs(),
                limit.as_secs()
            ),
            Self::Disk { free, limit, stuck } => {
                let stuck = stuck.as_ref().map(|it| {
                    format!(
                        "; files in sent/ that the backend has are in the way and cannot be removed: {it}"
                    )
                });
                format!(
                    "the disk of the spool is full: {free} bytes are free, limits.spool_free_bytes leaves {limit} \
                     free{}",
                    stuck.unwrap_or_default()
                )
            }
            Self::DiskFull { message } => message.clone(),
        }
    }

    /// What a person can do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Spool { .. } => {
                "start the service of an enrolled agent, which uploads what waits; or drop what nobody is to have with \
                 `outrider data drop --export ID` (`outrider data ls --waiting`); or raise limits.spool_bytes; what was \
                 acknowledged is safe"
            }
            Self::Age { .. } => {
                "start the service of an enrolled agent, which uploads what waits; or drop what nobody is to have with \
                 `outrider data drop --export ID` (`outrider data ls --waiting`); or raise limits.spool_age_s; what was \
                 acknowledged is safe"
            }
            Self::Disk { .. } | Self::DiskFull { .. } => {
                "make room on the disk of the root; what was acknowledged is safe"
            }
        }
    }

    /// The same as a failure.
    pub(crate) fn failed(&self, before: &str) -> Box<Failure> {
        let mut failed = failure(format!("{before}{}", self.told()), Fault::Host, Retry::Later);
        failed.hint = Some(self.hint().to_owned());
        failed
    }
}

/// How the keeper waits for room, and what it waits for now.
#[derive(Debug)]
pub(crate) struct Room {
    spool: Spool,
    pub(crate) disk: Disk,
    /// How old the oldest file that waits may be.
    age: Duration,
    /// How long it may wait; not at all where nobody uploads.
    pub(crate) patience: Option<Duration>,
    /// How long a spool that is full of nothing that can be uploaded is waited for.
    pub(crate) hopeless: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waits: Option<Shortage>,
    /// Why nothing is waited for any longer.
    given_up: Option<String>,
    /// When the disk's free space was asked for.
    asked: Option<Instant>,
    /// When the age of what waits was.
    asked_age: Option<Instant>,
}

impl Room {
    pub(crate) fn new(spool: Spool, limits: &Limits, linked: bool) -> Self {
        let patience = linked.then(|| limits.spool_wait());
        let (disk, age) = (Disk::new(spool.clone(), limits), limits.spool_age());
        Self { spool, disk, age, patience, hopeless: HOPELESS, state: Mutex::default() }
    }

    /// Whether something in the spool waits for the backend. What cannot be read may.
    pub(crate) fn is_awaited(&self) -> bool {
        self.spool.pending().is_ok_and(|it| !it.files.is_empty() || !it.failed.is_empty())
    }

    /// Whether the disk has less room than is to be left, or what waits is too old; asks the system a few times a second.
    /// (Whether the spool holds too much, it says itself.)
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let (asks_disk, asks_age) = {
            let mut state = self.state();
            (is_due(&mut state.asked, ASK_EVERY), is_due(&mut state.asked_age, AGE_EVERY))
        };
        let on_disk = || if asks_disk { self.disk.shortage() } else { None };
        // What cannot be read now is read the next time.
        let of_age = || if asks_age { too_old(self.spool.oldest().ok()?, self.age) } else { None };
        on_disk().or_else(of_age)
    }

    /// Why an export cannot begin now, which may fill the spool up to `limit` bytes.
    fn before(&self, limit: u64) -> Result<Option<Shortage>, SpoolError> {
        let usage = self.spool.usage()?;
        if usage.bytes >= limit {
            return Ok(Some(Shortage::Spool { used: usage.bytes, limit }));
        }
        Ok(too_old(usage.oldest, self.age).or_else(|| self.disk.shortage()))
    }

    /// Something waits for room, or nothing does any more.
    pub(crate) fn set(&self, waits: Option<Shortage>) {
        self.state().waits = waits;
    }

    /// The next [`Room::shortage`] asks the system.
    pub(crate) fn ask_anew(&self) {
        let mut state = self.state();
        (state.asked, state.asked_age) = (None, None);
    }

    /// What is waited for.
    pub(crate) fn waits(&self) -> Option<Shortage> {
        self.state().waits.clone()
    }

    /// The order ends: nothing is waited for any longer.
    pub(crate) fn give_up(&self, why: &str) {
        self.state().given_up.get_or_insert_with(|| why.to_owned());
    }

    pub(crate) fn given_up(&self) -> Option<String> {
        self.state().given_up.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the spool has room for an export.
///
/// # Errors
/// When there is none in time, or the order was cancelled; by hand at once.
pub(crate) async fn admit(context: &Context, export: &Export) -> Result<(), Box<Failure>> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let shortage = export.keeper.room().before(context.limits().spool_bytes).map_err(|err| {
            failure(format!("look into the spool: {}", chain(&err)), Fault::Host, Retry::Later)
        })?;
        let Some(shortage) = shortage else {
            export.board().hold(None);
            return Ok(());
        };
        if !context.outlet().is_linked() {
            return Err(shortage.failed(""));
        }
        if started.elapsed() >= context.limits().spool_wait() {
            let waited = format!("waited {} s for room: ", started.elapsed().as_secs());
            return Err(shortage.failed(&waited));
        }
        export.board().hold(Some(shortage.why().to_owned()));
        if !std::mem::replace(&mut told, true) {
            let message = format!("export paused before it began: {}", shortage.told());
            context.log(Level::Warn, message, Fields::new());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            reason = context.cancel().cancelled() => {
                let message = format!("cancelled while it waited for room: {reason}");
                return Err(failure(message, Fault::Caller, Retry::Later));
            }
        }
    }
}

/// Says that `sent/` is not kept for as long as it should be.
pub(crate) fn tell_shed(context: &Context, shed: Shed, what: &str) {
    if shed == Shed::default() {
        return;
    }
    let Shed { files, bytes } = shed;
    let message = format!(
        "the disk of the spool has little room: {what} (sent/, limits.sent_keep_hours): {files} files, {bytes} bytes so far"
    );
    context.log(Level::Warn, message, Fields::new());
}

/// Whether it is time to ask again; then it counts as asked.
fn is_due(asked: &mut Option<Instant>, every: Duration) -> bool {
    let due = asked.is_none_or(|it| it.elapsed() >= every);
    if due {
        *asked = Some(Instant::now());
    }
    due
}

/// Whether what waits is too old.
fn too_old(oldest: Option<Oldest>, limit: Duration) -> Option<Shortage> {
    let Oldest { written, export } = oldest?;
    let found = SystemTime::now().duration_since(written).ok()?;
    (found > limit).then_some(Shortage::Age { found, limit, export })
}
