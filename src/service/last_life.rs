//! How the service itself died, found out at its next start.
//!
//! **Invariant:** while a service runs there is a marker in the root; it is durable before the first command starts and
//! is removed only at a stop in good order. A marker that is found was left by a service that died.
//!
//! A panic writes what is known of it into the root before the process goes down ([`watch_panics`]), also one that the
//! service survives, since that is a bug as well. A death without such a record was none of the program's own doing.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use outrider_home::{FileError, Root, atomic};
use outrider_protocol::crash::{Crash, CrashCause};
use outrider_protocol::fault::chain;
use serde::{Deserialize, Serialize};

use crate::crashes::{Crashes, last_lines};

/// The component that a crash of the service names.
const SERVICE: &str = "service";
/// Lines of a backtrace that are kept.
const FRAMES: usize = 50;

/// What a running service leaves in the root.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    version: String,
    pid: u32,
    started_at: Timestamp,
    /// Tells one life of the machine from the next, where the system says so.
    boot: Option<String>,
    /// How many processes of its control group the system had killed for memory.
    oom_kills: Option<u64>,
}

/// The marker of the service that runs.
#[derive(Debug)]
pub(crate) struct Life {
    path: PathBuf,
}

fn marker_path(root: &Root) -> PathBuf {
    root.state().join("running.json")
}

fn panic_path(root: &Root) -> PathBuf {
    root.state().join("panic.json")
}

impl Life {
    /// Begins a life: adds the death of the last service, if it died, to the crashes, and puts the marker. `log` is the end of
    /// what the last service wrote.
    pub(crate) fn begin(
        root: &Root,
        crashes: &Crashes,
        now: Timestamp,
        log: Vec<String>,
    ) -> Result<Self, FileError> {
        let path = marker_path(root);
        let left = std::fs::read(&path).ok();
        let panicked = collect_panic(root, crashes);
        if let (Some(left), false) = (left, panicked) {
            crashes.add(silent_death(serde_json::from_slice(&left).ok(), log, now));
        }
        let marker = Marker {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: now,
            boot: boot(),
            oom_kills: outrider_supervisor::oom_kills(),
        };
        atomic::write(&path, &serde_json::to_vec(&marker).unwrap_or_default(), atomic::PRIVATE)?;
        Ok(Self { path })
    }

    /// The service has stopped in good order.
    pub(crate) fn end(self) {
        if let Err(err) = std::fs::remove_file(&self.path) {
            tracing::warn!(%err, "The next start will take this stop for a death of the service.");
        }
    }
}

/// Adds a panic that was written down to the crashes. Whether there was one.
pub(crate) fn collect_panic(root: &Root, crashes: &Crashes) -> bool {
    let path = panic_path(root);
    let Ok(bytes) = std::fs::read(&path) else { return false };
    // Half of a record, of a disk that was full, still says that there was a panic.
    let crash = serde_json::from_slice(&bytes).unwrap_or_else(|_| Crash {
        component: SERVICE.to_owned(),
        cause: CrashCause::Panic,
        detail: "the service panicked; what it said of it cannot be read".to_owned(),
        at: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: None,
        last_lines: last_lines(&root.log_file("service-run")),
    });
    crashes.add(crash);
    Crashes::settled(&path);
    true
}

/// The death of a service that said nothing of it.
fn silent_death(marker: Option<Marker>, last_lines: Vec<String>, now: Timestamp) -> Crash {
    let (version, detail) = match marker {
        Some(it) => {
            let detail = told(&it, boot().as_deref(), outrider_supervisor::oom_kills());
            (it.version, detail)
        }
        None => (env!("CARGO_PKG_VERSION").to_owned(), told_of_nothing()),
    };
    let component = SERVICE.to_owned();
    Crash { component, cause: CrashCause::Signal, detail, at: now, version, command: None, last_lines }
}

fn told_of_nothing() -> String {
    "the service ended without stopping, and left nothing that says when it was started".to_owned()
}

/// What is known of the death, in words.
fn told(marker: &Marker, boot: Option<&str>, oom_kills: Option<u64>) -> String {
    let life = format!("the service (process {}, started at {:.0})", marker.pid, marker.started_at);
    if let (Some(before), Some(now)) = (marker.boot.as_deref(), boot)
        && before != now
    {
        return format!("{life} was running when the machine went down");
    }
    let oom = match (marker.oom_kills, oom_kills) {
        (Some(before), Some(now)) if now > before => format!(
            "; since it started, the system has killed {} of the processes in its control group for memory, perhaps it",
            now - before
        ),
        _ => String::new(),
    };
    format!(
        "{life} ended without stopping and without a panic: it was killed (SIGKILL, a second Ctrl-C){oom}"
    )
}

#[cfg(target_os = "linux")]
fn boot() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|it| it.trim().to_owned())
}

#[cfg(not(target_os = "linux"))]
fn boot() -> Option<String> {
    None
}

/// From now on each panic of this process is written into the root, before what the process does of it.
pub(crate) fn watch_panics(root: &Root) {
    let path = panic_path(root);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        write_panic(&path, info);
        before(info);
    }));
}

fn write_panic(path: &Path, info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let text = info.payload_as_str().unwrap_or("(no text)");
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let backtrace = Backtrace::force_capture().to_string();
    let crash = Crash {
        component: SERVICE.to_owned(),
        cause: CrashCause::Panic,
        detail: format!("thread '{thread}' panicked at {place}: {text}"),
        at: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: None,
        last_lines: backtrace.lines().take(FRAMES).map(|it| it.trim_end().to_owned()).collect(),
    };
    // The first panic of several is the one that tells; a panicking process reports no further errors.
    if !path.exists()
        && let Err(err) =
            atomic::write(path, &serde_json::to_vec(&crash).unwrap_or_default(), atomic::PRIVATE)
    {
        tracing::error!(error = chain(&err), "A panic of the service was not written down.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker {
            version: "0.9".into(),
            pid: 7,
            started_at: Timestamp::UNIX_EPOCH,
            boot: Some("b1".into()),
            oom_kills: Some(2),
        }
    }

    fn fresh() -> (tempfile::TempDir, Root, Crashes) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        let crashes = Crashes::of(&root);
        (dir, root, crashes)
    }

    #[test]
    fn a_stop_in_good_order_is_no_death_and_any_other_end_is_one() {
        let (_dir, root, crashes) = fresh();
        Life::begin(&root, &crashes, Timestamp::now(), last_lines(&root.log_file("service-run")))
            .unwrap()
            .end();
        drop(
            Life::begin(&root, &crashes, Timestamp::now(), last_lines(&root.log_file("service-run")))
                .unwrap(),
        );
        assert_eq!(crashes.waiting(), 0);
        std::fs::write(root.log_file("service-run"), "one\ntwo\n").unwrap();
        drop(
            Life::begin(&root, &crashes, Timestamp::now(), last_lines(&root.log_file("service-run")))
                .unwrap(),
        );
        let (_, found) = crashes.oldest().unwrap();
        assert_eq!((found.crash.component.as_str(), found.crash.cause), ("service", CrashCause::Signal));
        assert_eq!(found.crash.last_lines, ["one", "two"]);
        assert!(found.crash.detail.contains("without a panic"), "{}", found.crash.detail);
    }

    #[test]
    fn what_the_system_says_is_told() {
        assert!(told(&marker(), Some("b2"), Some(2)).ends_with("was running when the machine went down"));
        assert!(told(&marker(), Some("b1"), Some(3)).contains("has killed 1 of the processes"));
        assert!(!told(&marker(), None, None).contains("memory"));
    }

    #[test]
    fn a_panic_is_written_down_before_the_process_dies_of_it() {
        let (_dir, root, crashes) = fresh();
        watch_panics(&root);
        let panicked = std::thread::Builder::new().name("worker".into()).spawn(|| panic!("number {}", 5));
        assert!(panicked.unwrap().join().is_err());
        drop(std::panic::take_hook());
        drop(
            Life::begin(&root, &crashes, Timestamp::now(), last_lines(&root.log_file("service-run")))
                .unwrap(),
        );
        let (_, found) = crashes.oldest().unwrap();
        assert_eq!(found.crash.cause, CrashCause::Panic);
        assert!(found.crash.detail.starts_with("thread 'worker' panicked at "), "{}", found.crash.detail);
        assert!(found.crash.detail.ends_with("number 5"), "{}", found.crash.detail);
        assert!(!found.crash.last_lines.is_empty());
        assert_eq!(crashes.waiting(), 1, "the marker tells of the same death");
        assert!(!collect_panic(&root, &crashes));
    }
}
