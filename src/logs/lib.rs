//! Log files, lines for the backend, and secrets kept out of both.
//!
//! | type | for |
//! | --- | --- |
//! | [`RunLog`] | the file of an action or an integration: the last run only |
//! | [`RotatingFile`] | the file of the service: rotated by size |
//! | [`Outbox`] | lines that wait for the service or the backend |
//! | [`Redactor`] | stars in the place of an integration's secrets |
//! | [`init_service`], [`init_action`] | where this process's `tracing` events go |
//! | [`relay`] | lines of an action, repeated in the log of the service |
//!
//! Every line is a [`LogLine`](outrider_protocol::log::LogLine) and looks the same wherever it is read: in a file, on
//! a terminal, or at the backend. Events of `tracing` become such lines too; spans are not used.
//!
//! **Invariant:** writing a line never waits for a disk, a terminal, or a network. Where the other side is slower,
//! lines are dropped, counted, and the count stands in the log in their place.
//!
//! **Invariant:** every file and every queue here has a bound, in bytes or lines.
//!
//! **Invariant:** a log file is readable by its owner only.
//!
//! **Invariant:** nothing here exits, prints to stderr, or fails the work that is being logged: a disk that cannot be
//! written costs lines, which are counted, and nothing else.
//!
//! Files are written by a thread each (`tracing-appender`'s), fed by a queue of [`QUEUE_LINES`] lines.

mod events;
mod filter;
mod outbox;
mod redact;
mod rotate;
mod run_log;
mod secrets;

pub use events::{Guard, InitError, ServiceLog, init_action, init_service, relay};
pub use filter::BadFilter;
pub use outbox::Outbox;
pub use redact::Redactor;
pub use rotate::RotatingFile;
pub use run_log::RunLog;
pub use secrets::secret_members;

/// Lines that may wait for one file's thread. Enough for a burst; a disk that is behind by more is stuck.
pub const QUEUE_LINES: usize = 1024;

/// Opens a file for its owner only, also when it was there with wider permissions.
fn open_private(
    path: &std::path::Path,
    options: &mut std::fs::OpenOptions,
) -> std::io::Result<std::fs::File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}
