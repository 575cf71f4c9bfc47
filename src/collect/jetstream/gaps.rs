//! What a consumer will never deliver, as the numbers of the stream and the consumer tell it.
//!
//! # Invariants
//! - A batch is counted as dropped when it can no longer be delivered, and once: what the stream told before a gap was seen is
//!   not counted again with the gap.
//! - With a consumer that several aggregators share, each of them counts what was dropped: none knows what the others said.
//! - A count may be too small: where another aggregator was given batches a second time, and by what was dropped while nobody
//!   was connected.
//! - What was settled is not counted where a server that was killed forgot that it had been given out: of what the stream had
//!   when a connection began, only what a full stream no longer has was dropped.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::TellDropped;

/// A delivery: its number in the stream, its number of the consumer, and how often it was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) stream: u64,
    pub(super) consumer: u64,
    pub(super) times: i64,
}

/// Of one consumer. The consumer numbers each delivery; so between two that are first ones of their batch, whatever its
/// number did not grow by is missing in the stream, repetitions apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Gaps {
    /// The highest that was delivered, and the consumer's number then.
    stream: u64,
    consumer: u64,
    /// Deliveries since that were not the first of their batch.
    repeated: u64,
    /// What is told of the gap above it.
    told: u64,
    /// Up to here, what is missing may have been settled before.
    doubtful: u64,
}

impl Gaps {
    /// The consumer says how far it is, and the stream where it ends, after a connection was made. After a crash the consumer
    /// may have gone back.
    fn begin(&mut self, stream: u64, consumer: u64, last: u64) {
        if stream > self.stream {
            self.told = 0;
        }
        self.stream = self.stream.max(stream);
        (self.consumer, self.repeated, self.doubtful) = (consumer, 0, last);
    }

    /// The stream begins at `first`, and after that was so the consumer had delivered all up to `delivered`. Answers how many
    /// more are gone.
    fn look(&mut self, first: u64, delivered: u64, is_full: bool) -> u64 {
        let from = self.stream.max(delivered).max(if is_full { 0 } else { self.doubtful });
        let gone = first.saturating_sub(from + 1);
        let more = gone.saturating_sub(self.told);
        self.told += more;
        more
    }

    /// Something was delivered. Answers how many more are gone.
    fn take(&mut self, it: Delivery) -> u64 {
        if it.times > 1 || it.stream <= self.stream {
            self.repeated += 1;
            return 0;
        }
        let passed = it.stream.saturating_sub(self.stream.max(self.doubtful));
        let delivered = it.consumer.saturating_sub(self.consumer);
        let gone = (passed + self.repeated).saturating_sub(delivered.max(1));
        let more = gone.saturating_sub(self.told);
        *self =
            Self { stream: it.stream, consumer: it.consumer, repeated: 0, told: 0, doubtful: self.doubtful };
        more
    }
}

/// Of one output.
#[derive(Debug, Default)]
struct Told {
    /// Which consumer.
    which: String,
    gaps: Gaps,
    dropped: u64,
}

/// Of all consumers.
pub(super) struct Seen {
    all: Mutex<HashMap<String, Told>>,
    tell: TellDropped,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl Seen {
    pub(super) fn new(tell: TellDropped) -> Self {
        Self { all: Mutex::default(), tell }
    }

    /// Another consumer than the one before counts from its own beginning.
    pub(super) fn begin(&self, output: &str, which: &str, (stream, consumer): (u64, u64), last: u64) {
        self.with(output, |told| {
            if told.which != which {
                (told.which, told.gaps) = (which.to_owned(), Gaps::default());
            }
            told.gaps.begin(stream, consumer, last);
            0
        });
    }

    pub(super) fn look(&self, output: &str, first: u64, delivered: u64, is_full: bool) {
        self.with(output, |told| told.gaps.look(first, delivered, is_full));
    }

    pub(super) fn take(&self, output: &str, delivery: Delivery) {
        self.with(output, |told| told.gaps.take(delivery));
    }

    pub(super) fn dropped(&self, output: &str) -> u64 {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(output).map_or(0, |it| it.dropped)
    }

    fn with(&self, output: &str, change: impl FnOnce(&mut Told) -> u64) {
        let more = {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            let told = all.entry(output.to_owned()).or_default();
            let more = change(told);
            told.dropped += more;
            more
        };
        if more > 0 {
            (self.tell)(output, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(stream: u64, consumer: u64) -> Delivery {
        Delivery { stream, consumer, times: 1 }
    }

    fn again(stream: u64, consumer: u64) -> Delivery {
        Delivery { stream, consumer, times: 2 }
    }

    fn begun(stream: u64, consumer: u64) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.begin(stream, consumer, 0);
        gaps
    }

    #[test]
    fn nothing_is_missing_where_all_is_delivered_also_twice_or_to_another() {
        let mut gaps = begun(10, 14);
        assert_eq!(gaps.take(first(11, 15)), 0);
        assert_eq!(gaps.take(again(11, 16)), 0);
        assert_eq!(gaps.take(again(9, 17)), 0);
        assert_eq!(gaps.take(first(12, 18)), 0);
        assert_eq!(gaps.take(first(15, 21)), 0, "two went to another aggregator");
        assert_eq!(gaps.look(16, 15, true), 0, "the stream is empty");
    }

    #[test]
    fn what_the_stream_dropped_is_counted_once_however_it_is_seen() {
        let mut gaps = begun(10, 10);
        assert_eq!(gaps.look(11, 10, true), 0);
        assert_eq!(gaps.look(14, 10, true), 3);
        assert_eq!(gaps.look(14, 10, true), 0);
        assert_eq!(gaps.look(16, 10, true), 2);
        assert_eq!(gaps.take(first(18, 11)), 2, "two more since the last look");
        assert_eq!(gaps.take(first(19, 12)), 0);
        assert_eq!(gaps.take(first(25, 15)), 3, "and two to another");
    }

    #[test]
    fn a_consumer_that_went_back_in_a_crash_drops_nothing() {
        let mut gaps = begun(0, 0);
        for at in 1..=100 {
            assert_eq!(gaps.take(first(at, at)), 0);
        }
        gaps.begin(90, 90, 0);
        assert_eq!(gaps.look(101, 90, true), 0, "they were settled");
        assert_eq!(gaps.take(first(101, 91)), 0);

        gaps.begin(95, 85, 0);
        for at in 96..=101 {
            assert_eq!(gaps.take(first(at, at - 10)), 0, "not settled, and as if new");
        }
        assert_eq!(gaps.take(first(102, 92)), 0);
        assert_eq!(gaps.take(first(105, 93)), 2);
    }

    #[test]
    fn what_another_delivered_in_between_is_not_missing_after_a_new_connection() {
        let mut gaps = begun(10, 10);
        assert_eq!(gaps.look(13, 10, true), 2);
        gaps.begin(20, 18, 0);
        assert_eq!(gaps.look(22, 20, true), 1);
        assert_eq!(gaps.take(first(22, 19)), 0);
    }

    #[test]
    fn what_was_settled_before_a_crash_that_forgot_it_is_not_dropped() {
        let mut gaps = Gaps::default();
        // 30 was in hand, 37 to 42 were settled, and the consumer knows of neither.
        gaps.begin(36, 36, 45);
        assert_eq!(gaps.look(43, 36, false), 0, "and 30 is settled");
        assert_eq!(gaps.take(first(43, 37)), 0);
        assert_eq!(gaps.take(first(45, 38)), 0);
        assert_eq!(gaps.take(first(46, 39)), 0);
        assert_eq!(gaps.take(first(49, 40)), 2);
    }

    #[test]
    fn what_a_full_stream_no_longer_has_is_dropped_also_if_it_was_there_at_the_beginning() {
        let mut gaps = Gaps::default();
        gaps.begin(10, 10, 100);
        assert_eq!(gaps.look(31, 10, true), 20);
        assert_eq!(gaps.take(first(32, 11)), 0, "one more, of which nobody knows");
        assert_eq!(gaps.look(40, 32, true), 7);
    }

    #[test]
    fn what_is_dropped_is_told_and_summed() {
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let into = std::sync::Arc::clone(&told);
        let seen = Seen::new(std::sync::Arc::new(move |output, count| {
            into.lock().unwrap().push((output.to_owned(), count));
        }));
        seen.begin("a", "one", (5, 5), 0);
        seen.look("a", 9, 5, true);
        seen.take("a", first(10, 6));
        assert_eq!((seen.dropped("a"), seen.dropped("b")), (4, 0));
        assert_eq!(*told.lock().unwrap(), [("a".to_owned(), 3), ("a".to_owned(), 1)]);

        // A server that counts anew: what it drops is below what was seen of the one before.
        seen.begin("a", "another", (0, 0), 0);
        seen.take("a", first(3, 1));
        assert_eq!(seen.dropped("a"), 6);
    }
}
