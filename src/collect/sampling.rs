//! Measuring at an interval, on a thread of its own.
//!
//! # Invariants
//! - Rounds begin at multiples of the interval after the first one, by the monotonic clock: a clock that is set moves the
//!   samples' times and nothing else. Rounds never overlap; what is missed is left out and counted.
//! - It waits for nobody: samples are given to queues that drop what they cannot hold.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use outrider_protocol::collect::Reading;
use tokio::sync::oneshot;

use crate::collector::{Event, Trouble};
use crate::latest::latest;
use crate::model::{Moment, Sample, Time};
use crate::outputs::Inlet;
use crate::sampler::Sampler;

/// How often the latest samples are put in short: nobody looks more often, and it costs a little.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What was measured so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Rounds.
    pub cycles: u64,
    /// Rounds that were left out, since the one before took too long.
    pub late: u64,
    /// Samples.
    pub samples: u64,
    /// Samples of the last round.
    pub sources: u64,
    /// What could not be measured.
    pub troubles: u64,
    /// The last of it.
    pub trouble: Option<String>,
    /// What was measured last, in short.
    pub latest: Vec<Reading>,
}

/// The thread that measures.
#[derive(Debug)]
pub struct Sampling {
    stop: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
    measured: Arc<Mutex<Measured>>,
    ended: oneshot::Receiver<()>,
}

impl Sampling {
    /// Begins. `trouble` is told what could not be measured; it must not wait.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        mut sampler: Sampler,
        interval: Duration,
        inlet: Inlet,
        trouble: impl Fn(&Trouble) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let (gone, ended) = oneshot::channel();
        let measured = Arc::new(Mutex::new(Measured::default()));
        let counts = Arc::clone(&measured);
        let thread = std::thread::Builder::new().name("sampling".into()).spawn(move || {
            // Dropped with the thread, however it ends.
            let _gone = gone;
            let begun = Instant::now();
            let (mut number, mut left_out) = (0, 0);
            let mut looked = None;
            loop {
                let (samples, troubles) = round(&mut sampler, begun.elapsed(), &trouble);
                count(&counts, &samples, troubles, left_out);
                // The first round knows no rates yet.
                if number > 0 && looked.is_none_or(|it: Instant| it.elapsed() >= LOOK_EVERY) {
                    looked = Some(Instant::now());
                    let latest = latest(&samples);
                    counts.lock().unwrap_or_else(PoisonError::into_inner).latest = latest;
                }
                inlet.push(samples);
                let now = begun.elapsed();
                (number, left_out) = next(interval, now, number);
                match stopped.recv_timeout(begins(interval, number).saturating_sub(now)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread), measured, ended })
    }

    /// What was measured so far.
    #[must_use]
    pub fn measured(&self) -> Measured {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the thread is gone, which is a bug before [`Sampling::stop`]. May be dropped.
    pub async fn broken(&mut self) {
        // Nothing is ever sent: the other end goes with the thread.
        drop((&mut self.ended).await);
    }

    /// Ends after the round that is under way, for which it waits so long at most.
    pub async fn stop(&mut self, within: Duration) {
        // Full is a stop that was said before, closed a thread that is gone.
        let _said = self.stop.try_send(());
        if self.thread.take().is_some() {
            drop(tokio::time::timeout(within, &mut self.ended).await);
        }
    }
}

/// One look at everything that is due.
pub fn round(
    sampler: &mut Sampler,
    monotonic: Duration,
    trouble: &dyn Fn(&Trouble),
) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut troubles) = (Vec::new(), Vec::new());
    sampler.cycle(Moment { wall: Time::now(), monotonic }, &mut |event| match event {
        Event::Sample(sample) => samples.push(sample.clone()),
        Event::Trouble(it) => {
            trouble(&it);
            troubles.push(it.to_string());
        }
    });
    (samples, troubles)
}

fn count(counts: &Mutex<Measured>, samples: &[Sample], mut troubles: Vec<String>, left_out: u64) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.cycles += 1;
    counts.late += left_out;
    counts.samples += samples.len() as u64;
    counts.sources = samples.len() as u64;
    counts.troubles += troubles.len() as u64;
    if let Some(last) = troubles.pop() {
        counts.trouble = Some(last);
    }
}

/// When a round begins, after the first one did.
pub(crate) fn begins(interval: Duration, number: u64) -> Duration {
    Duration::from_nanos_u128(interval.as_nanos().saturating_mul(number.into()))
}

/// The number of the next round, counted in intervals since the first, and how many were missed before it.
pub(crate) fn next(interval: Duration, now: Duration, last: u64) -> (u64, u64) {
    let passed = now.as_nanos() / interval.as_nanos().max(1);
    let next = u64::try_from(passed).unwrap_or(u64::MAX).max(last).saturating_add(1);
    (next, next - last - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_keep_their_times_and_missed_ones_are_counted() {
        let millis = Duration::from_millis;
        let interval = millis(100);
        assert_eq!(next(interval, millis(3), 0), (1, 0));
        assert_eq!(next(interval, millis(99), 0), (1, 0));
        assert_eq!(next(interval, millis(100), 0), (2, 1), "the time of the next one has come already");
        assert_eq!(next(interval, millis(950), 3), (10, 6));
        assert_eq!(next(interval, millis(299), 3), (4, 0), "one that was woken too early");
    }
}
