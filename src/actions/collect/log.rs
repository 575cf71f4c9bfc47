//! The log of `collect`: a file in the root, and the service or a person.
//!
//! **Invariant:** a file is written by one process: another that begins meanwhile leaves it alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use outrider_collect::outputs::News;
use outrider_collect::poller::{Again, PollNews};
use outrider_home::{CollectLock, FileError, Root};
use outrider_logs::{Redactor, RunLog};
use outrider_protocol::log::{Fields, Level, LogLine};
use tokio::sync::Notify;

use super::NAME;
use super::work::{CollectError, Wanted};
use crate::Outlet;

/// The variable that says how much is logged, as for the service. It wins over mini-collector's `DEBUG`.
const LEVEL_VARIABLE: &str = "OUTRIDER_LOG";
/// Between two tries to have the files.
const PAUSE: Duration = Duration::from_millis(20);

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None where another process has it.
    file: Option<(RunLog, CollectLock)>,
    outlet: Outlet,
    redactor: Redactor,
    changed: Notify,
}

impl Log {
    /// Begins the file anew, unless another process writes to it for longer than `patience`. Secrets become stars in every line.
    pub(super) fn open(
        root: &Root,
        outlet: Outlet,
        wanted: &Wanted,
        patience: Duration,
    ) -> Result<Self, CollectError> {
        root.create().map_err(|err| CollectError::Log { path: root.path().to_owned(), err })?;
        let path = root.log_file(NAME);
        let create = |lock| RunLog::create(&path, wanted.limits.log_file_bytes).map(|file| (file, lock));
        let file = locked(root, patience)?.map(create).transpose();
        let file = file.map_err(|err| CollectError::Log { path: path.clone(), err })?;
        let redactor = Redactor::new(wanted.collect.secrets().map(str::to_owned));
        let log = Self(Arc::new(Inner { file, outlet, redactor, changed: Notify::new() }));
        let what = std::env::var(LEVEL_VARIABLE)
            .unwrap_or_else(|_| if wanted.debug { "debug" } else { "info" }.into());
        let sink = log.clone();
        // Only a process that does several things, as a test does, has a log of events already.
        drop(outrider_logs::init_action(NAME, &what, move |line: &LogLine| sink.write(line.clone())));
        if !log.is_alone() {
            log.say(
                Level::Warn,
                "Another `outrider collect` runs in this root: what this one says is not in its log file, and where time \
                 windows of its APIs end is not remembered.",
                Fields::new(),
            );
        }
        Ok(log)
    }

    /// Whether no other process collects in this root, so that its files are this one's.
    pub(super) fn is_alone(&self) -> bool {
        self.0.file.is_some()
    }

    pub(super) fn say(&self, level: Level, message: impl Into<String>, fields: Fields) {
        let (time, source) = (Timestamp::now(), NAME.to_owned());
        self.write(LogLine { time, level, source, message: message.into(), fields });
        self.0.changed.notify_one();
    }

    /// Waits until something was said since the last wait.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What an output has to tell.
    pub(super) fn news(&self, output: &str, news: News) {
        let (level, message, fields) = line(news);
        let fields = std::iter::once(("output".to_owned(), output.into())).chain(fields);
        self.say(level, message, fields.collect());
    }

    /// What the polling of APIs has to tell.
    pub(super) fn polls(&self, news: PollNews) {
        let text = |name: &str, it: String| (name.to_owned(), it.into());
        let (level, message, fields) = match news {
            PollNews::Fails { what, error, again } => {
                let message = match again {
                    Again::AtInterval => "An API cannot be polled; it is tried again at its interval.",
                    Again::AfterProgram => {
                        "An API cannot be polled; it is tried again some time after its program has ended, if that ever ends."
                    }
                };
                (Level::Warn, message, vec![text("api", what), text("why", error.to_string())])
            }
            PollNews::LoginRefused { what, error } => (
                Level::Warn,
                "A node refuses the login, and none of its APIs is polled; it is tried again with another password at once, with \
                 the same one after pauses that grow to half an hour.",
                vec![text("node", what), text("why", error.to_string())],
            ),
            PollNews::LoginTaken { what } => {
                (Level::Info, "A node takes the login again.", vec![text("node", what)])
            }
            PollNews::Works { what } => (Level::Info, "An API can be polled again.", vec![text("api", what)]),
            PollNews::Beyond { what, events } => (
                Level::Warn,
                "An API has more events than the bound `events`; the rest was left out.",
                vec![text("api", what), ("left_out".to_owned(), events.into())],
            ),
            PollNews::Ahead { what, seconds } => (
                Level::Warn,
                "The last time window of an API ended ahead of this host's clock, which was wrong then or is now; windows \
                 begin anew, and some events may come twice.",
                vec![text("api", what), ("ahead_s".to_owned(), seconds.into())],
            ),
            PollNews::Cursors(why) => (
                Level::Warn,
                "It is not known where the time windows of APIs ended; they begin anew.",
                vec![text("why", why)],
            ),
        };
        self.say(level, message, fields.into_iter().collect());
    }

    fn write(&self, mut line: LogLine) {
        line.message = self.0.redactor.redact(&line.message).into_owned();
        let redact = |text: &str| self.0.redactor.redact(text).into_owned();
        let fields = std::mem::take(&mut line.fields).into_iter();
        line.fields = fields.map(|(name, it)| (name, crate::context::redact_value(it, &redact))).collect();
        if let Some((file, _)) = &self.0.file {
            file.write_line(&line);
        }
        self.0.outlet.log(&line);
    }

    /// Puts every line into the file.
    pub(super) fn flush(&self) {
        if let Some((file, _)) = &self.0.file {
            file.close();
        }
    }
}

/// The right to the files of this root. Whoever has it may be about to end.
fn locked(root: &Root, patience: Duration) -> Result<Option<CollectLock>, FileError> {
    let started = Instant::now();
    loop {
        let lock = root.lock_collect()?;
        if lock.is_some() || started.elapsed() >= patience {
            return Ok(lock);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Each fact as a line.
fn line(news: News) -> (Level, &'static str, Vec<(String, serde_json::Value)>) {
    let field = |name: &str, value: serde_json::Value| (name.to_owned(), value);
    match news {
        News::Fails { why, denied: true } => (
            Level::Error,
            "An output refuses the key or the address; what is measured waits, and it is tried again now and then.",
            vec![field("why", why.into())],
        ),
        News::Fails { why, denied: false } => (
            Level::Warn,
            "An output takes nothing; what is measured waits, and it is tried again.",
            vec![field("why", why.into())],
        ),
        News::Works { since } => {
            (Level::Info, "An output works again.", vec![field("failed_since", since.to_string().into())])
        }
        News::Refused { points, why } => (
            Level::Warn,
            "An output refuses points for what they are; they are not sent again.",
            vec![field("points", points.into()), field("why", why.into())],
        ),
        News::SetAside { to, why } => (
            Level::Error,
            "The file of what waited was damaged; it is set aside, and an empty one begun.",
            vec![field("to", to.display().to_string().into()), field("why", why.into())],
        ),
        News::Damaged { batches } => (
            Level::Error,
            "Batches on the disk are not what was written; they are left out.",
            vec![field("batches", batches.into())],
        ),
        News::DroppedBatches { batches } => (
            Level::Warn,
            "Batches were dropped, the oldest first: a stream held more than it may.",
            vec![field("batches", batches.into())],
        ),
        News::Dropped { points } => (
            Level::Warn,
            "Points were dropped, the oldest first: more waited for an output than its queue holds, or the end came.",
            vec![field("points", points.into())],
        ),
    }
}
