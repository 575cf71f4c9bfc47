//! What an output's task and whoever feeds it share: the queue, the counts, and how it goes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::collect::{Failing, OutputReport};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::queue::{Batch, Queue};
use super::{News, Tell};

/// Drops are told when they begin, and then this often.
const DROPS_EVERY: Duration = Duration::from_secs(60);

/// One output.
pub(crate) struct Shared {
    name: String,
    tell: Tell,
    state: Mutex<State>,
    /// There is something to take, or nothing more will come.
    more: Notify,
    closing: tokio::sync::watch::Sender<bool>,
}

struct State {
    queue: Queue,
    hand: Hand,
    report: OutputReport,
    points_dropped: Unsaid,
    batches_dropped: Unsaid,
}

/// Drops that are not told yet.
#[derive(Debug, Default)]
struct Unsaid {
    number: usize,
    said_at: Option<Instant>,
}

/// What became of the points of the batch in hand so far. It is counted once, when the batch is dealt with.
#[derive(Debug, Default)]
struct Hand {
    sent: usize,
    /// For which reasons how many were refused.
    refused: Vec<(usize, String)>,
    left_out: usize,
}

/// Reasons of one batch that are told apart.
const REASONS: usize = 8;

impl Hand {
    fn refuse(&mut self, points: usize, why: String) {
        let full = self.refused.len() >= REASONS;
        match self.refused.iter_mut().rev().find(|it| full || it.1 == why) {
            Some(known) => known.0 += points,
            None => self.refused.push((points, why)),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(name: &str, queue_points: usize, tell: Tell) -> Self {
        let report = OutputReport { name: name.to_owned(), ..OutputReport::default() };
        let (points_dropped, batches_dropped) = (Unsaid::default(), Unsaid::default());
        let state = State {
            queue: Queue::new(queue_points),
            hand: Hand::default(),
            report,
            points_dropped,
            batches_dropped,
        };
        Self {
            name: name.to_owned(),
            tell,
            state: Mutex::new(state),
            more: Notify::new(),
            closing: tokio::sync::watch::Sender::new(false),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch in. Never waits.
    pub(crate) fn push(&self, batch: Batch) {
        let dropped = self.lock().queue.push(batch);
        self.count_dropped(dropped);
        self.more.notify_one();
    }

    /// Points that will not arrive: counted, and said, but not each time.
    pub(crate) fn count_dropped(&self, points: usize) {
        if points == 0 {
            return;
        }
        let due = {
            let mut state = self.lock();
            state.report.dropped += points as u64;
            state.points_dropped.add(points)
        };
        self.say(due.map(|points| News::Dropped { points }));
    }

    /// Batches that will not arrive, of which nobody knows how many points they had.
    pub(crate) fn count_dropped_batches(&self, batches: usize) {
        let due = self.lock().batches_dropped.add(batches);
        self.say(due.map(|batches| News::DroppedBatches { batches }));
    }

    /// The oldest batch, when there is one; nothing when none will come any more.
    pub(crate) async fn next(&self) -> Option<Batch> {
        loop {
            let more = self.more.notified();
            if let Some(batch) = self.lock().queue.take() {
                return Some(batch);
            }
            if self.is_closing() {
                return None;
            }
            more.await;
        }
    }

    /// Whether the batch in hand would have been dropped by now.
    pub(crate) fn is_stale(&self) -> bool {
        self.lock().queue.is_stale()
    }

    pub(crate) fn settle(&self) {
        self.lock().queue.settle();
    }

    /// A batch is in hand, or the same one again in other bodies; there is no place in any for so many points of it.
    pub(crate) fn begin(&self, left_out: usize) {
        self.lock().hand = Hand { left_out, ..Hand::default() };
    }

    /// Points of what is in hand were taken.
    pub(crate) fn took(&self, points: usize) {
        self.lock().hand.sent += points;
    }

    /// Points of what is in hand will never be taken.
    pub(crate) fn refused(&self, points: usize, why: String) {
        self.lock().hand.refuse(points, why);
    }

    /// Counts what became of a batch of so many points, and answers of how many nothing is known.
    pub(crate) fn count_hand(&self, points: usize) -> usize {
        let (known, refused) = self.lock().count_hand();
        refused.into_iter().for_each(|(points, why)| self.say(Some(News::Refused { points, why })));
        points.saturating_sub(known)
    }

    pub(crate) fn count_refused(&self, points: usize, why: String) {
        self.lock().report.refused += points as u64;
        self.say(Some(News::Refused { points, why }));
    }

    /// It took something.
    pub(crate) fn works(&self) {
        let news = {
            let mut state = self.lock();
            let was = state.report.failing.take();
            let dropped = was.as_ref().map(|_| state.drops_to_say()).unwrap_or_default();
            (dropped, was.map(|it| News::Works { since: it.since }))
        };
        news.0.into_iter().for_each(|it| self.say(it));
        self.say(news.1);
    }

    /// It took nothing. Told when that begins, or when the reason is another one.
    pub(crate) fn fails(&self, why: String, denied: bool) {
        let news = {
            let mut state = self.lock();
            let before = state.report.failing.as_ref();
            let is_new = before.is_none_or(|it| it.error != why);
            let since = before.map_or_else(Timestamp::now, |it| it.since);
            state.report.failing = Some(Failing { since, error: why.clone() });
            is_new.then_some(News::Fails { why, denied })
        };
        self.say(news);
    }

    /// Nothing more will come: what waits is sent, as far as that works at once.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        self.more.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits, but no longer than until the end begins; not at all when it has begun.
    pub(crate) async fn pause(&self, pause: Duration) {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // An error would say that the sender is gone, which is here.
            _ = closing.wait_for(|it| *it) => {}
        }
    }

    /// Gives up what waits, and what is in hand but for that which is dealt with.
    pub(crate) fn give_up(&self) {
        let (points, refused) = {
            let mut state = self.lock();
            let (known, refused) = state.count_hand();
            (state.queue.clear().saturating_sub(known), refused)
        };
        refused.into_iter().for_each(|(points, why)| self.say(Some(News::Refused { points, why })));
        self.count_dropped(points);
        let rest = self.lock().drops_to_say();
        rest.into_iter().for_each(|it| self.say(it));
    }

    pub(crate) fn report(&self) -> OutputReport {
        let state = self.lock();
        OutputReport { waiting: state.queue.points() as u64, ..state.report.clone() }
    }

    /// Tells outside of the lock.
    fn say(&self, news: Option<News>) {
        if let Some(news) = news {
            (self.tell)(&self.name, news);
        }
    }
}

impl State {
    /// How many points of it are dealt with, and what is to be told of them.
    fn count_hand(&mut self) -> (usize, Vec<(usize, String)>) {
        let hand = std::mem::take(&mut self.hand);
        let refused: usize = hand.refused.iter().map(|it| it.0).sum();
        self.report.sent += hand.sent as u64;
        self.report.refused += refused as u64;
        self.report.left_out += hand.left_out as u64;
        (hand.sent + refused + hand.left_out, hand.refused)
    }

    fn drops_to_say(&mut self) -> [Option<News>; 2] {
        let points = self.points_dropped.take().map(|points| News::Dropped { points });
        [points, self.batches_dropped.take().map(|batches| News::DroppedBatches { batches })]
    }
}

impl Unsaid {
    /// Adds some, and answers how many are to be told now.
    fn add(&mut self, number: usize) -> Option<usize> {
        self.number += number;
        let due = self.said_at.is_none_or(|at| at.elapsed() >= DROPS_EVERY);
        due.then(|| self.take()).flatten()
    }

    fn take(&mut self) -> Option<usize> {
        let number = std::mem::take(&mut self.number);
        if number == 0 {
            return None;
        }
        self.said_at = Some(Instant::now());
        Some(number)
    }
}
