//! Where the task of an output takes its batches from: memory, a cursor of a backlog on the disk, or a stream.
//!
//! # Invariants
//! - What a batch of the disk holds is passed by its cursor only when the output has dealt with it: whatever ends the
//!   process in between, it comes again.
//! - A disk that fails is told as the output's own trouble, and tried again.

use std::time::Duration;

use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pull::Pull;
use super::queue::{Batch, Items};
use super::shared::Shared;
use crate::backlog::{Backlog, CursorFill, Entry, Fill, Most, Stored};
use crate::encode::event_points;
use crate::model::Event;
use crate::wire;
use crate::wire::generated::collect as proto;

/// The pause after an error of the disk.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// How much goes to an output at once.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// The most points, where more than one batch of a sender is joined.
    pub points: u64,
    /// The most bytes, likewise.
    pub bytes: usize,
    /// How long fewer points are waited for.
    pub wait: Duration,
}

/// Where batches come from.
#[derive(Debug)]
pub(crate) enum Supply {
    /// The queue in [`Shared`].
    Memory,
    /// A cursor, which is named as the output is.
    Disk(Cursor),
    /// The consumer of the output's name.
    Stream(Box<Pull>),
}

#[derive(Debug)]
pub(crate) struct Cursor {
    backlog: Backlog,
    name: String,
    batching: Batching,
    fill: watch::Receiver<Fill>,
    /// Where the cursor goes when what is in hand is dealt with, and in which file: places of one that was damaged and set
    /// aside meanwhile mean nothing in the next.
    passed: u64,
    file: String,
    /// What is put before the names of mini-collector's fields.
    prefix: String,
}

impl Cursor {
    pub(crate) fn new(backlog: Backlog, name: String, batching: Batching) -> Self {
        let fill = backlog.fill();
        Self { backlog, name, batching, fill, passed: 0, file: String::new(), prefix: String::new() }
    }

    pub(crate) fn with_prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }
}

impl Supply {
    /// The oldest batch, when there is one; nothing when none will come any more.
    pub(crate) async fn next(&mut self, shared: &Shared) -> Option<Batch> {
        match self {
            Self::Memory => shared.next().await,
            Self::Disk(cursor) => cursor.next(shared).await,
            Self::Stream(pull) => pull.next(shared).await,
        }
    }

    /// What was in hand is dealt with. Answers whether that is known where it waited; it comes again after the end where it is
    /// not.
    pub(crate) async fn settle(&mut self, shared: &Shared) -> bool {
        match self {
            Self::Memory => shared.settle(),
            Self::Disk(cursor) => return cursor.settle(shared).await,
            Self::Stream(pull) => pull.settle(shared).await,
        }
        true
    }

    /// Whether the bound has dropped all that is in hand: there is something newer that could go in its place.
    pub(crate) fn is_stale(&mut self, shared: &Shared) -> bool {
        match self {
            Self::Memory => shared.is_stale(),
            Self::Disk(cursor) => cursor.is_stale(),
            Self::Stream(pull) => pull.is_stale(),
        }
    }

    /// Of so many points of what is in hand, those that do not come again: the bound has dropped them.
    pub(crate) fn lost(&mut self, points: usize) -> usize {
        match self {
            Self::Memory => points,
            Self::Disk(cursor) => usize::try_from(cursor.now().uncounted).unwrap_or(points).min(points),
            Self::Stream(pull) if pull.is_stale() => points,
            Self::Stream(_) => 0,
        }
    }

    /// Whether what is given up now comes again: with the next start, or elsewhere.
    pub(crate) fn outlives(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// Nothing more is taken: what was not dealt with is given back, where somebody else may have it.
    pub(crate) async fn release(&mut self) {
        if let Self::Stream(pull) = self {
            pull.release().await;
        }
    }
}

impl Cursor {
    async fn next(&mut self, shared: &Shared) -> Option<Batch> {
        let most = Most { points: self.batching.points, bytes: self.batching.bytes };
        loop {
            self.until_due(shared).await?;
            match self.backlog.read(&self.name, most).await {
                Ok(stored) if stored.is_empty() => shared.pause(DISK_PAUSE).await,
                Ok(stored) => return Some(self.batch(stored, shared)),
                Err(err) => {
                    shared.fails(err.to_string(), false);
                    if shared.is_closing() {
                        return None;
                    }
                    shared.pause(DISK_PAUSE).await;
                }
            }
        }
    }

    fn now(&mut self) -> CursorFill {
        self.fill.borrow_and_update().cursors.get(&self.name).copied().unwrap_or_default()
    }

    fn is_stale(&mut self) -> bool {
        self.file == self.backlog.id() && self.now().at >= self.passed
    }

    /// Waits until enough waits, or something has waited for long enough.
    async fn until_due(&mut self, shared: &Shared) -> Option<()> {
        let mut since = None;
        loop {
            let waiting = self.now().waiting;
            if waiting > 0 {
                since.get_or_insert_with(Instant::now);
            }
            let waited = since.map_or(Duration::ZERO, |it: Instant| it.elapsed());
            let left = match due(self.batching, waiting, waited, shared.is_closing()) {
                Due::Now => return Some(()),
                Due::Never => return None,
                Due::Within(left) => left,
            };
            tokio::select! {
                // The thread is gone with its backlog: reading says so.
                changed = self.fill.changed() => if changed.is_err() { return Some(()) },
                () = shared.pause(left) => {}
            }
        }
    }

    fn batch(&mut self, stored: Vec<Stored>, shared: &Shared) -> Batch {
        let mut all = wire::Contents::default();
        let (mut last, mut sender) = (0, String::new());
        for one in stored {
            last = one.place;
            sender.replace_range(.., &one.sender);
            let decoded =
                proto::Batch::decode(&*one.bytes).map_err(|err| wire::WireError::Broken(err.to_string()));
            match decoded.map(|it| wire::publish::renamed(it, &self.prefix)).and_then(wire::read) {
                Ok(contents) => {
                    all.samples.extend(contents.samples);
                    all.events.extend(contents.events);
                }
                // Written by another version: it would stand in the way for ever.
                Err(err) => shared.count_refused(usize::try_from(one.points).unwrap_or(0), err.to_string()),
            }
        }
        self.passed = last + 1;
        self.file = self.backlog.id();
        Batch::stored(all, sender, last)
    }

    async fn settle(&mut self, shared: &Shared) -> bool {
        if self.file != self.backlog.id() {
            return true;
        }
        while let Err(err) = self.backlog.advance(&self.name, self.passed).await {
            shared.fails(err.to_string(), false);
            if shared.is_closing() {
                return false;
            }
            shared.pause(DISK_PAUSE).await;
        }
        true
    }
}

/// When what waits goes.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Now,
    /// Nothing waits, and nothing will.
    Never,
    /// Unless something changes before.
    Within(Duration),
}

/// Decides by how many points wait, and for how long.
fn due(batching: Batching, waiting: u64, waited: Duration, is_closing: bool) -> Due {
    match (waiting, is_closing) {
        (0, true) => Due::Never,
        (0, false) => Due::Within(Duration::MAX),
        (_, true) => Due::Now,
        (_, false) if waiting >= batching.points || waited >= batching.wait => Due::Now,
        (_, false) => Due::Within(batching.wait.saturating_sub(waited)),
    }
}

/// The most points of one entry, and with that of one message of link D.
const ENTRY_POINTS: usize = 10_000;

/// Samples or events as entries of a backlog, none too large for a message.
pub(crate) fn entries(items: &Items) -> Vec<Entry> {
    let mut all = Vec::new();
    let (samples, events) = items.parts();
    for part in parts(samples, |it| it.points.len()) {
        split(part, &|part| wire::batch("", 0, part, &[]), &crate::encode::points, &mut all);
    }
    for part in parts(events, event_points) {
        let points = |part: &[Event]| part.iter().map(event_points).sum();
        split(part, &|part| wire::batch("", 0, &[], part), &points, &mut all);
    }
    all
}

/// Cut so that each part has no more points than an entry may, as far as one thing has no more.
fn parts<T>(all: &[T], points: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let (mut begin, mut sum) = (0, 0);
    for (at, one) in all.iter().enumerate() {
        let more = points(one);
        if at > begin && sum + more > ENTRY_POINTS {
            parts.push(&all[begin..at]);
            (begin, sum) = (at, 0);
        }
        sum += more;
    }
    parts.push(&all[begin..]);
    parts
}

/// Halves what is too large in bytes; what is too large alone is left out by whoever receives it.
fn split<T>(
    part: &[T],
    message: &impl Fn(&[T]) -> proto::Batch,
    points: &impl Fn(&[T]) -> usize,
    all: &mut Vec<Entry>,
) {
    let bytes = message(part).encode_to_vec();
    if bytes.len() + ORIGIN_BYTES > wire::MESSAGE_BYTES && part.len() > 1 {
        let (first, second) = part.split_at(part.len() / 2);
        split(first, message, points, all);
        return split(second, message, points, all);
    }
    let points = u32::try_from(points(part)).unwrap_or(u32::MAX);
    if points > 0 {
        all.push(Entry { origin: None, points, bytes });
    }
}

/// What the sender's name and the sequence add to a message.
const ORIGIN_BYTES: usize = 600;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalogue::PIDS;
    use crate::model::{MetricRef, Number, Point, Sample, Source, Tags, Time};

    fn sample(points: usize, text: usize) -> Sample {
        let tags = Tags::new([("t", "x".repeat(text))]);
        let one = Point { metric: MetricRef::Known(&PIDS), tags, number: Number::Unsigned(1), start: None };
        let source = Arc::new(Source { key: "k".into(), tags: Tags::default() });
        Sample { source, time: Time::from_unix_nanos(1), points: vec![one; points] }
    }

    #[test]
    fn what_waits_goes_when_it_is_enough_or_has_waited_or_the_end_comes() {
        let wait = Duration::from_secs(1);
        let batching = Batching { points: 100, bytes: 1, wait };
        for (waiting, waited, is_closing, expected) in [
            (0, Duration::ZERO, false, Due::Within(Duration::MAX)),
            (0, Duration::ZERO, true, Due::Never),
            (1, wait / 4, false, Due::Within(wait * 3 / 4)),
            (99, wait / 4, true, Due::Now),
            (100, Duration::ZERO, false, Due::Now),
            (1, wait, false, Due::Now),
        ] {
            assert_eq!(
                due(batching, waiting, waited, is_closing),
                expected,
                "{waiting} {waited:?} {is_closing}"
            );
        }
    }

    #[test]
    fn a_round_of_any_size_is_kept_whole_in_entries_that_fit() {
        for (samples, points, text) in [(0, 0, 0), (1, 30_000, 0), (25_000, 3, 5), (3000, 1, 4000)] {
            let all: Vec<_> = (0..samples).map(|_| sample(points, text)).collect();
            let entries = entries(&Items::Samples(all.into()));
            let kept: usize = entries.iter().map(|it| it.points as usize).sum();
            assert_eq!(kept, samples * points);
            for entry in entries {
                let alone = entry.points as usize == points;
                assert!(alone || entry.points as usize <= ENTRY_POINTS, "{} points", entry.points);
                assert!(entry.bytes.len() < wire::MESSAGE_BYTES, "{} bytes", entry.bytes.len());
                let read = wire::read(proto::Batch::decode(&*entry.bytes).unwrap()).unwrap();
                assert_eq!(read.count(), entry.points as usize);
            }
        }
    }
}
