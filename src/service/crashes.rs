//! Crashes that the backend is to hear of: each a file in the root until it has answered.
//!
//! **Invariant:** a crash that was added is on disk before anything that follows from it, and stays until the backend has
//! answered it, over restarts. Files are the owner's alone, bounded in number and size; of too many the oldest go, and
//! the log says so.
//!
//! **Invariant:** what is added was redacted before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use outrider_home::{Root, atomic};
use outrider_protocol::control::CrashedParams;
use outrider_protocol::crash::{Crash, CrashCause};
use outrider_protocol::exit::Exit;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_supervisor::{Cause, Ended, How};
use tokio::sync::Notify;

use crate::outcome::{Answer, RunEnd, Stop};

/// Crashes that may wait for the backend. More come from one fault that repeats itself.
const MOST: usize = 100;
/// Last words that are kept of a crash, in lines and in bytes a line.
const LINES: usize = 60;
const LINE_BYTES: usize = 1 << 10;
/// The longest detail, in bytes.
const DETAIL_BYTES: usize = 4 << 10;
const ENDING: &str = ".json";

/// The crashes in a root. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Crashes {
    folder: PathBuf,
    added: Arc<Notify>,
}

impl Crashes {
    /// The crashes in a root.
    pub(crate) fn of(root: &Root) -> Self {
        Self { folder: root.crashes(), added: Arc::default() }
    }

    /// Keeps a crash until the backend has answered it. When this returns, it is on disk; a disk that refuses it is said
    /// in the log.
    pub(crate) fn add(&self, crash: Crash) {
        let crash = bounded(crash);
        tracing::error!(component = crash.component, cause = %crash.cause, detail = crash.detail, "A process died.");
        // The time first, so that the names are in order.
        let id = uuid::Uuid::now_v7().to_string();
        let path = self.folder.join(format!("{id}{ENDING}"));
        let text = serde_json::to_vec(&CrashedParams { id, crash }).unwrap_or_default();
        if let Err(err) = atomic::write(&path, &text, atomic::PRIVATE) {
            tracing::error!(error = chain(&err), "A crash is not kept; the backend will not hear of it.");
            return;
        }
        self.drop_oldest();
        self.added.notify_one();
    }

    /// The oldest crash that waits, and its file. One that cannot be read is removed, and said.
    pub(crate) fn oldest(&self) -> Option<(PathBuf, CrashedParams)> {
        for path in self.files() {
            let read = std::fs::read(&path).map_err(|err| err.to_string());
            match read.and_then(|it| serde_json::from_slice(&it).map_err(|err| err.to_string())) {
                Ok(crash) => return Some((path, crash)),
                Err(error) => {
                    tracing::error!(file = %path.display(), error, "A crash cannot be read; it is removed.");
                    Self::settled(&path);
                }
            }
        }
        None
    }

    /// The backend has answered it.
    pub(crate) fn settled(path: &Path) {
        // If it stays, it is told again, which the backend takes for what it is.
        if let Err(err) = std::fs::remove_file(path) {
            tracing::warn!(file = %path.display(), %err, "A crash that was told is not removed.");
        }
    }

    /// Waits until one was added since the last wait.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.files().len()
    }

    /// In order of age.
    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_ours = |it: &PathBuf| {
            let name = it.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && name.ends_with(ENDING)
        };
        let mut files: Vec<_> = entries.map(|it| it.path()).filter(is_ours).collect();
        files.sort();
        files
    }

    fn drop_oldest(&self) {
        let files = self.files();
        for path in &files[..files.len().saturating_sub(MOST)] {
            tracing::error!(file = %path.display(), most = MOST, "Too many crashes wait for the backend; the oldest goes.");
            Self::settled(path);
        }
    }
}

/// The death of an action, if its run's end was one. One that answered may exit with what status it likes, and one that
/// was told to end with one that says so.
pub(crate) fn of_action(action: &str, command: Option<&CommandId>, end: &RunEnd) -> Option<Crash> {
    let ended = end.ended.as_ref()?;
    let answered = matches!(end.answer, Answer::Report(_) | Answer::Error(_));
    let cause = match outrider_supervisor::cause(ended) {
        Some(Cause::Exit) if answered || was_told(ended, end.stopped.as_ref()) => return None,
        None if ended.how == How::Ok && !answered && end.stopped.is_none() => CrashCause::Exit,
        cause => protocol(cause?),
    };
    let mut detail = outrider_supervisor::detail(ended);
    if let Answer::Nothing { what } = &end.answer {
        detail = format!("{detail} ({what})");
    }
    Some(Crash {
        component: format!("action/{action}"),
        cause,
        detail,
        at: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command.cloned(),
        last_lines: ended.last_stderr.clone(),
    })
}

/// Whether an exit is what follows from the end of its stdin or from a cancel.
fn was_told(ended: &Ended, stopped: Option<&Stop>) -> bool {
    let told = |it: Exit| ended.how == How::Failed { code: it.code().into() };
    told(Exit::Orphaned) || (stopped.is_some() && told(Exit::Cancelled))
}

fn protocol(cause: Cause) -> CrashCause {
    match cause {
        Cause::Panic { .. } => CrashCause::Panic,
        Cause::Exit => CrashCause::Exit,
        Cause::Signal => CrashCause::Signal,
        Cause::OutOfMemory => CrashCause::OutOfMemory,
        Cause::KilledForTime => CrashCause::KilledForTime,
    }
}

/// A crash within the bounds; of its lines the last are kept.
fn bounded(mut crash: Crash) -> Crash {
    let from = crash.last_lines.len().saturating_sub(LINES);
    crash.last_lines.drain(..from);
    crash.last_lines.iter_mut().for_each(|it| shorten(it, LINE_BYTES));
    shorten(&mut crash.detail, DETAIL_BYTES);
    crash
}

fn shorten(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
        text.push('…');
    }
}

/// The last lines of a text file, as far as they lie in its last 64 KiB.
pub(crate) fn last_lines(path: &Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    const TAIL: u64 = 64 << 10;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrider_protocol::fault::RpcError;
    use outrider_supervisor::KilledFor;

    use super::*;

    fn crash(detail: &str) -> Crash {
        Crash {
            component: "service".into(),
            cause: CrashCause::Signal,
            detail: detail.into(),
            at: Timestamp::UNIX_EPOCH,
            version: "1".into(),
            command: None,
            last_lines: vec!["x".repeat(5000); 200],
        }
    }

    #[test]
    fn crashes_wait_in_order_within_bounds_and_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        let crashes = Crashes::of(&root);
        for number in 0..MOST + 5 {
            crashes.add(crash(&format!("{number}")));
        }
        assert_eq!(crashes.waiting(), MOST);
        let (path, oldest) = Crashes::of(&root).oldest().unwrap();
        assert_eq!(oldest.crash.detail, "5");
        assert!(path.metadata().unwrap().len() < 128 << 10);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        Crashes::settled(&path);
        std::fs::write(crashes.files()[0].clone(), "{").unwrap();
        assert_eq!(crashes.oldest().unwrap().1.crash.detail, "7", "one that cannot be read hides no other");
    }

    fn end(answer: Answer, stopped: Option<Stop>, how: How, stderr: &str) -> RunEnd {
        let last_stderr = stderr.lines().map(str::to_owned).collect();
        RunEnd { answer, stopped, ended: Some(Ended { how, after: Duration::from_secs(2), last_stderr }) }
    }

    #[test]
    fn a_death_is_told_from_an_end() {
        let nothing = || Answer::Nothing { what: "the link ended".into() };
        let error = || Answer::Error(RpcError::new(1, "no"));
        let cancelled = || Some(Stop::Cancelled { reason: String::new() });
        let (exit, signal) = (|code| How::Failed { code }, How::Signalled { signal: 9, core: false });
        let killed = |for_| How::Killed { for_, signal: 9 };
        let rows = [
            (end(nothing(), None, How::Panicked, ""), "panic"),
            (end(nothing(), None, exit(1), "Traceback (most recent call last):\nValueError: no"), "panic"),
            (end(nothing(), None, exit(7), ""), "early exit"),
            (end(nothing(), None, How::Ok, ""), "early exit"),
            (end(nothing(), None, signal.clone(), ""), "signal"),
            (end(nothing(), cancelled(), signal, ""), "signal"),
            (end(nothing(), None, How::OutOfMemory, ""), "out of memory"),
            (
                end(nothing(), Some(Stop::TimeLimit(Duration::ZERO)), killed(KilledFor::Time), ""),
                "killed for time",
            ),
            (end(nothing(), cancelled(), killed(KilledFor::Cancel), ""), "-"),
            (end(nothing(), cancelled(), exit(5), ""), "-"),
            (end(nothing(), None, exit(3), ""), "-"),
            (end(error(), None, exit(1), ""), "-"),
            (end(error(), None, How::Ok, ""), "-"),
            (end(error(), None, How::Panicked, ""), "panic"),
        ];
        for (end, expected) in rows {
            let found = of_action("export", None, &end).map_or("-".to_owned(), |it| it.cause.to_string());
            assert_eq!(found, expected, "{end:?}");
        }
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(last_lines(&path).is_empty());
        std::fs::write(&path, (0..100_000).map(|it| format!("{it}\n")).collect::<String>()).unwrap();
        let lines = last_lines(&path);
        assert_eq!((lines.len(), lines[LINES - 1].as_str()), (LINES, "99999"));
    }
}
