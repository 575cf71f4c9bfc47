//! `tracing` events as log lines.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::Timestamp;
use outrider_protocol::log::{Fields, Level, LogLine};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::filter::{BadFilter, filter};
use crate::{QUEUE_LINES, RotatingFile};

/// What the service's own lines give as their source.
const SERVICE: &str = "service";

/// Where [`relay`] writes.
static SERVICE_LINES: OnceLock<Sinks> = OnceLock::new();

/// Keeps the writing threads of this process's log. When it is dropped, every line is on disk (it waits a second at
/// most).
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct Guard {
    workers: Vec<WorkerGuard>,
}

impl Guard {
    /// How many threads write.
    #[must_use]
    pub fn writers(&self) -> usize {
        self.workers.len()
    }
}

/// A log that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter is not valid.
    #[error(transparent)]
    Filter(BadFilter),
    /// The log file cannot be opened.
    #[error("open the log file {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        err: io::Error,
    },
    /// This process has a log already.
    #[error("this process has set up its log already: it can do so once only")]
    Twice(#[source] TryInitError),
}

/// Where the log of the service goes, and what is in it.
#[derive(Debug, Clone)]
pub struct ServiceLog<'a> {
    /// The file.
    pub file: &'a Path,
    /// The size at which it is rotated, in bytes.
    pub file_bytes: u64,
    /// How many older files are kept beside it.
    pub files_kept: u32,
    /// Whether every line is also written to stdout.
    pub also_stdout: bool,
    /// A level, or a list as `info,outrider_peer=debug`. Lines given to [`relay`] are not filtered.
    pub what: &'a str,
}

/// Sets up the log of the service: its `tracing` events, and what is given to [`relay`].
///
/// # Errors
/// When [`ServiceLog::what`] is not valid, the file cannot be opened, or the process has a log already.
pub fn init_service(log: &ServiceLog<'_>) -> Result<Guard, InitError> {
    let targets = filter(log.what).map_err(InitError::Filter)?;
    let opened = RotatingFile::open(log.file, log.file_bytes, log.files_kept)
        .map_err(|err| InitError::File { path: log.file.to_owned(), err })?;
    let mut sinks = Sinks(Vec::new());
    let mut workers = Vec::new();
    let mut add = |(sink, worker)| {
        sinks.0.push(sink);
        workers.push(worker);
    };
    add(queue("service-log", opened));
    if log.also_stdout {
        add(queue("stdout-log", io::stdout()));
    }
    let relayed = sinks.clone();
    let layer = Lines { source: SERVICE, sink: move |line: &LogLine| sinks.write(line) };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().map_err(InitError::Twice)?;
    // Cannot be set twice: the line above would have failed.
    drop(SERVICE_LINES.set(relayed));
    Ok(Guard { workers })
}

/// The log of an action: its `tracing` events become lines with `source`, given to `sink`, which must neither wait nor
/// log itself.
///
/// # Errors
/// When `what` is not valid, or the process has a log already.
pub fn init_action(
    source: &'static str,
    what: &str,
    sink: impl Fn(&LogLine) + Send + Sync + 'static,
) -> Result<(), InitError> {
    let layer = Lines { source, sink };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter(what).map_err(InitError::Filter)?))
        .try_init()
        .map_err(InitError::Twice)
}

/// Repeats a line of an action in the log of the service. Does nothing where [`init_service`] was not called.
pub fn relay(line: &LogLine) {
    if let Some(sinks) = SERVICE_LINES.get() {
        sinks.write(line);
    }
}

fn queue(thread: &str, writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name(thread)
        .finish(Counting::new(writer))
}

/// Queues of writing threads.
#[derive(Debug, Clone)]
struct Sinks(Vec<NonBlocking>);

impl Sinks {
    fn write(&self, line: &LogLine) {
        let text = format!("{line}\n");
        for sink in &self.0 {
            // The queue takes every line or counts it; it has no error to tell.
            drop(sink.clone().write_all(text.as_bytes()));
        }
    }
}

/// A writer that says, once it can write again, how many lines it could not write.
struct Counting<W> {
    writer: W,
    failed: u64,
}

impl<W: Write> Counting<W> {
    fn new(writer: W) -> Self {
        Self { writer, failed: 0 }
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.failed > 0 {
            writeln!(self.writer, "… {} lines dropped here: they could not be written", self.failed)
                .inspect_err(|_| self.failed += 1)?;
            self.failed = 0;
        }
        self.writer.write_all(line).inspect_err(|_| self.failed += 1)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Turns events into lines.
struct Lines<F> {
    source: &'static str,
    sink: F,
}

impl<S: Subscriber, F: Fn(&LogLine) + 'static> Layer<S> for Lines<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut facts = Facts::default();
        event.record(&mut facts);
        // A library's line is told by the library's name.
        let ours = metadata.target().starts_with("outrider");
        let source = if ours { self.source } else { metadata.target() };
        (self.sink)(&LogLine {
            time: Timestamp::now(),
            level: level_of(*metadata.level()),
            source: source.to_owned(),
            message: facts.message,
            fields: facts.fields,
        });
    }
}

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

/// The fields of an event.
#[derive(Default)]
struct Facts {
    message: String,
    fields: Fields,
}

impl Facts {
    fn put(&mut self, field: &Field, value: impl Into<serde_json::Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Facts {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(err) = source {
            text.push_str(": ");
            text.push_str(&err.to_string());
            source = err.source();
        }
        self.put(field, text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("send the file")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_event_becomes_a_line_with_its_facts_and_its_errors_chain() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = lines.clone();
        let layer =
            Lines { source: SERVICE, sink: move |line: &LogLine| heard.lock().unwrap().push(line.clone()) };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let err = Outer(io::Error::other("no route"));
            let err: &(dyn std::error::Error + 'static) = &err;
            tracing::warn!(err, command = %"c1", tries = 3, late = true, "Upload failed.");
            tracing::info!(target: "hyper_util::client", "connected");
        });
        let lines = lines.lock().unwrap();
        let text = lines[0].to_string();
        assert!(
            text.ends_with(
                "WARN  service: Upload failed. command=c1 err=\"send the file: no route\" late=true tries=3"
            ),
            "{text}"
        );
        assert_eq!(lines[1].source, "hyper_util::client");
    }

    #[test]
    fn a_writer_that_works_again_says_what_it_could_not_write() {
        struct Flaky(Vec<u8>, bool);
        impl Write for Flaky {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.1 {
                    Err(io::Error::other("full"))
                } else {
                    self.0.write_all(bytes).map(|()| bytes.len())
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Counting::new(Flaky(Vec::new(), true));
        assert!(writer.write_all(b"one\n").is_err());
        writer.writer.1 = false;
        writer.write_all(b"two\n").unwrap();
        let text = String::from_utf8(writer.writer.0).unwrap();
        assert_eq!(text, "… 1 lines dropped here: they could not be written\ntwo\n");
    }
}
