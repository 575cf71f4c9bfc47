//! Every number of the service and the actions that a person can set, under `limits` in config.json.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

/// What `limits` may hold, for messages and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitField {
    /// Its name in config.json.
    pub name: &'static str,
    /// What it bounds, and its unit.
    pub about: &'static str,
    /// Its value when nothing is said.
    pub default: u64,
    /// The smallest value that works.
    pub min: u64,
    /// The largest value that makes sense.
    pub max: u64,
}

/// Declares the fields: `numbers { name: type = default, min..=max, "about"; } seconds { name / method = …; }`.
macro_rules! limits {
    (
        numbers { $($number:ident: $type:ty = $default:expr, $min:literal..=$max:expr, $about:literal;)* }
        seconds { $($seconds:ident / $method:ident = $sdefault:expr, $smin:literal..=$smax:expr, $sabout:literal;)* }
    ) => {
        /// Every bound that can be set. A name ends in its unit; one without a unit counts things.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct Limits {
            $(#[doc = $about] pub $number: $type,)*
            $(#[doc = $sabout] pub $seconds: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($number: $default,)* $($seconds: $sdefault,)* }
            }
        }

        impl Limits {
            /// Every field, in order.
            pub const FIELDS: &[LimitField] = &[
                $(LimitField { name: stringify!($number), about: $about, default: $default, min: $min, max: $max },)*
                $(LimitField { name: stringify!($seconds), about: $sabout, default: $sdefault, min: $smin, max: $smax },)*
            ];

            /// Sets a field to a value that was checked against its bounds. `None` when the name is not known or this
            /// machine's numbers are too small for the value.
            pub(crate) fn set(&mut self, name: &str, value: u64) -> Option<()> {
                match name {
                    $(stringify!($number) => self.$number = <$type>::try_from(value).ok()?,)*
                    $(stringify!($seconds) => self.$seconds = value,)*
                    _ => return None,
                }
                Some(())
            }

            $(
                #[doc = $sabout]
                #[must_use]
                pub fn $method(&self) -> Duration {
                    Duration::from_secs(self.$seconds)
                }
            )*
        }
    };
}

const HOUR: u64 = 3600;
const WEEK: u64 = 7 * 24 * HOUR;

limits! {
    numbers {
        line_bytes: usize = 32 << 20, 65_536..=1 << 30, "The longest message between two processes, in bytes.";
        object_bytes: usize = 16 << 20, 1_024..=1 << 30, "The longest object of an export, as JSON in bytes; longer ones are rejected.";
        integrations_at_once: usize = 4, 1..=64, "Integrations of one export that run at once.";
        commands_at_once: usize = 8, 1..=64, "Commands that run at once; of exports only one.";
        integration_attempts: u32 = 3, 1..=20, "How often an integration whose failure may pass is started in one export.";
        command_attempts: u32 = 3, 1..=100, "How often a command is started that takes the agent down with it.";
        spool_bytes: u64 = 20 << 30, 67_108_864..=1 << 50, "Export files that wait for the backend, in bytes; above it an export pauses.";
        spool_free_bytes: u64 = 256 << 20, 0..=1 << 50, "Space that an export leaves free on the disk of the spool, in bytes; below it an export pauses.";
        spool_file_bytes: u64 = 16 << 20, 65_536..=1 << 32, "The size at which an export file is completed and the next begun, in bytes after compression.";
        session_buffer_bytes: usize = 1 << 20, 4_096..=1 << 28, "Objects of an open session that stay in memory, in bytes; further ones go to a file.";
        gzip_level: u32 = 1, 0..=9, "Compression of export files: 0 stores them as they are, 1 is fast, 9 is small.";
        zstd_level: u32 = 0, 0..=19, "Compression of export files by Zstandard in place of gzip: 1 is fast, 19 is small; 0 leaves it at gzip.";
        sent_keep_hours: u64 = 24, 0..=87_600, "How long an export file is kept after the backend has it, in hours; less long where an export needs its room on the disk.";
        upload_chunk_bytes: usize = 8 << 20, 65_536..=1 << 30, "How much of a file one upload request carries, in bytes.";
        uploads_at_once: usize = 2, 1..=16, "Files that are uploaded at once.";
        upgrade_rate_bytes: u64 = 0, 0..=1 << 40, "The most bytes a second that the fetching of a new version takes; 0 for no bound.";
        log_file_bytes: u64 = 64 << 20, 65_536..=1 << 40, "The size of a log file, in bytes. A log of one run ends there, that of the service goes on in the next file.";
        log_files_kept: usize = 5, 1..=100, "Files of the service's log that are kept.";
        log_batch_lines: usize = 500, 1..=100_000, "Log lines in one request to the backend.";
        log_batch_bytes: usize = 1 << 20, 4_096..=1 << 26, "The size of the log lines in one request to the backend, in bytes.";
        log_queue_lines: usize = 10_000, 100..=10_000_000, "Log lines of a command that wait for the backend; above it the oldest are dropped and counted.";
        log_queue_bytes: usize = 8 << 20, 65_536..=1 << 32, "The size of the log lines of a command that wait for the backend, in bytes.";
        collect_memory_bytes: u64 = 2 << 30, 134_217_728..=1 << 40, "The memory that the process of `collect` may take, in bytes; above it that process dies and is started again.";
    }
    seconds {
        request_timeout_s / request_timeout = 60, 1..=HOUR, "How long a request between processes, or to the backend, may wait for its answer, in seconds.";
        connect_timeout_s / connect_timeout = 15, 1..=HOUR, "How long a connection to the backend may take, in seconds.";
        reconnect_max_s / reconnect_max = 60, 1..=HOUR, "The longest pause between two tries to reach the backend, in seconds.";
        start_timeout_s / start_timeout = 30, 1..=HOUR, "How long a process may take until it answers its first call, in seconds.";
        integration_idle_s / integration_idle = 1_800, 1..=WEEK, "How long an integration may be silent during a call before it counts as hanging, in seconds.";
        cancel_grace_s / cancel_grace = 10, 0..=HOUR, "How long a process may take to end after it was asked to, in seconds.";
        term_grace_s / term_grace = 5, 0..=HOUR, "How long a process may take to end after SIGTERM, in seconds; then it is killed.";
        kill_grace_s / kill_grace = 5, 1..=HOUR, "How long to wait for the end of a killed process, in seconds.";
        stop_timeout_s / stop_timeout = 30, 1..=HOUR, "How long the service may take to stop its commands and tell the backend, in seconds.";
        spool_age_s / spool_age = 30 * 24 * HOUR, 60..=365 * 24 * HOUR, "How old the oldest export file that waits for the backend may be, in seconds; above it an export pauses.";
        spool_wait_s / spool_wait = 24 * HOUR, 1..=30 * 24 * HOUR, "How long an export waits for room in the spool, in seconds; then it ends with an error, and what was done is kept.";
        retry_first_s / retry_first = 5, 1..=HOUR, "The pause before an integration that failed is started again, in seconds; it doubles each time.";
        upgrade_green_s / upgrade_green = 60, 1..=HOUR, "How long a new version must be well without a break until it stays, in seconds.";
        upgrade_bound_s / upgrade_bound = 600, 1..=WEEK, "How long a new version may take until it stays, in seconds; then the version before is run again.";
        upgrade_hang_s / upgrade_hang = 20, 1..=HOUR, "How long a new version may give no answer until the version before is run again, in seconds.";
        upgrade_fetch_s / upgrade_fetch = 2 * HOUR, 1..=WEEK, "How long the package of a new version is tried to be fetched, in seconds.";
        spool_file_age_s / spool_file_age = 60, 1..=WEEK, "The age at which an export file is completed although it is small, in seconds.";
    }
}

impl Limits {
    /// See [`Limits::sent_keep_hours`].
    #[must_use]
    pub fn sent_keep(&self) -> Duration {
        Duration::from_secs(self.sent_keep_hours.saturating_mul(HOUR))
    }

    /// These limits with those of an order in their place.
    ///
    /// # Errors
    /// What is wrong with the order's, all in one line: unknown names, values out of bounds.
    pub fn with(mut self, order: &Map<String, Value>) -> Result<Self, String> {
        let faults: Vec<_> = order
            .iter()
            .filter_map(|(name, value)| self.take(name, value).err())
            .map(|it| it.to_string())
            .collect();
        if faults.is_empty() { Ok(self) } else { Err(faults.join("; ")) }
    }

    /// Takes one value under its name.
    pub(crate) fn take(&mut self, name: &str, value: &Value) -> Result<(), LimitFault> {
        let Some(field) = Self::FIELDS.iter().find(|field| field.name == name) else {
            return Err(LimitFault::Unknown { name: name.to_owned() });
        };
        let taken = value.as_u64().filter(|value| (field.min..=field.max).contains(value));
        taken.and_then(|value| self.set(name, value)).ok_or_else(|| {
            let found = value.to_string().chars().take(40).collect();
            LimitFault::OutOfBounds { name: field.name, found, min: field.min, max: field.max }
        })
    }

    /// The members that differ from the defaults: what config.json needs to say.
    pub(crate) fn changed(&self) -> Map<String, Value> {
        let json = |limits: &Self| match serde_json::to_value(limits) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let defaults = json(&Self::default());
        json(self).into_iter().filter(|(name, value)| defaults.get(name) != Some(value)).collect()
    }
}

/// What is wrong with one limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitFault {
    #[error("{name} is not known")]
    Unknown { name: String },
    #[error("{name}: found {found}, expected a whole number from {min} to {max}")]
    OutOfBounds { name: &'static str, found: String, min: u64, max: u64 },
}
