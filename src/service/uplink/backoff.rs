//! Pauses between tries: doubling, with jitter, so that a thousand agents do not come back in the same instant.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::Timing;

/// The pauses of one thing that is tried again and again.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    pauses: <ExponentialBuilder as BackoffBuilder>::Backoff,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(timing: &Timing) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(timing.retry_first)
            // The jitter adds up to as much again.
            .with_max_delay(timing.retry_most / 2)
            .without_max_times()
            .with_jitter();
        Self { builder, pauses: builder.build(), most: timing.retry_most }
    }

    /// The pause before the next try.
    pub(crate) fn pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.most).min(self.most)
    }

    /// It worked: the next failure is a first one again.
    pub(crate) fn reset(&mut self) {
        self.pauses = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use outrider_home::Limits;

    use super::*;

    #[test]
    fn pauses_grow_from_half_a_second_to_the_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(&Timing::new(&Limits::default()));
        let first = backoff.pause();
        assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&first), "{first:?}");
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses.iter().all(|it| *it <= Duration::from_secs(60)), "{pauses:?}");
        assert!(pauses[19] >= Duration::from_secs(30), "{pauses:?}");
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }
}
