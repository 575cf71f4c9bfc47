//! What the process of `collect` may take of its host: a jq program, an answer or a queue can grow without end, and none of
//! them is worth another program's life.

use outrider_home::{Config, Limits, Root};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of two processes the kernel ends the one that has more of these first, where memory is short: from -1000 to 1000.
const FIRST_TO_GO: &str = "500";

/// The process could not be confined.
#[derive(Debug, thiserror::Error)]
#[error("bound the memory of this process to {bytes} bytes (`limits.collect_memory_bytes`)")]
pub struct ConfineError {
    bytes: u64,
    #[source]
    err: std::io::Error,
}

/// Bounds the memory of this process, and lets the kernel end it before others. Holds for all that it does afterwards.
///
/// # Errors
/// When the system refuses the bound.
pub fn confine(root: &Root) -> Result<(), ConfineError> {
    // What is wrong with the configuration is said by whoever uses all of it.
    let limits = Config::load(root).map_or_else(|_| Limits::default(), |it| it.limits);
    let bytes = limits.collect_memory_bytes;
    // A bound from outside that is smaller stays.
    let bytes = getrlimit(Resource::Data).maximum.map_or(bytes, |it| it.min(bytes));
    let bound = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Data, bound).map_err(|err| ConfineError { bytes, err: err.into() })?;
    // A system may forbid it; then the bound is all there is.
    drop(std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO));
    Ok(())
}
