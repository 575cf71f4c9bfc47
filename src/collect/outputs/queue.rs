//! What waits for one output: batches in the order in which they were measured, bounded in points.
//!
//! # Invariants
//! - Above the bound the oldest goes first: what is being tried, then what waits longest. The newest batch always stays, so
//!   that one round larger than the bound still arrives.
//! - What was taken is in hand until [`Queue::settle`]; it counts until it is stale.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::encode::event_points;
use crate::model::{Event, Sample};
use crate::wire::Contents;

/// What was measured in one round, or found by one poll; shared by all outputs.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) items: Items,
    pub(crate) points: usize,
    /// The name of the backlog that it comes from, and its place there.
    pub(crate) origin: Option<(String, u64)>,
}

/// What a batch is of.
#[derive(Debug, Clone)]
pub(crate) enum Items {
    Samples(Arc<[Sample]>),
    Events(Arc<[Event]>),
    /// From a backlog, where batches are joined.
    Both(Arc<[Sample]>, Arc<[Event]>),
}

impl Items {
    /// All samples and all events.
    pub(crate) fn parts(&self) -> (&[Sample], &[Event]) {
        match self {
            Self::Samples(samples) => (samples, &[]),
            Self::Events(events) => (&[], events),
            Self::Both(samples, events) => (samples, events),
        }
    }
}

impl Batch {
    pub(crate) fn new(samples: Vec<Sample>) -> Self {
        let points = crate::encode::points(&samples);
        Self { items: Items::Samples(samples.into()), points, origin: None }
    }

    /// What a backlog gave out.
    pub(crate) fn stored(contents: Contents, name: String, place: u64) -> Self {
        let points = contents.count();
        let items = Items::Both(contents.samples.into(), contents.events.into());
        Self { items, points, origin: Some((name, place)) }
    }

    pub(crate) fn of_events(events: Vec<Event>) -> Self {
        let points = events.iter().map(event_points).sum();
        Self { items: Items::Events(events.into()), points, origin: None }
    }
}

/// Batches that wait.
#[derive(Debug)]
pub(crate) struct Queue {
    most: usize,
    waiting: VecDeque<Batch>,
    in_hand: Option<InHand>,
}

#[derive(Debug, Clone, Copy)]
struct InHand {
    points: usize,
    stale: bool,
}

impl Queue {
    /// Of so many points at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, waiting: VecDeque::new(), in_hand: None }
    }

    /// Takes a batch in, and answers how many points of older ones were dropped for it.
    pub(crate) fn push(&mut self, batch: Batch) -> usize {
        self.waiting.push_back(batch);
        let mut dropped = 0;
        while self.counted() > self.most {
            match &mut self.in_hand {
                // Whoever has it in hand counts it, when it turns out that it did not arrive.
                Some(in_hand) if !in_hand.stale => in_hand.stale = true,
                _ if self.waiting.len() > 1 => {
                    dropped += self.waiting.pop_front().map_or(0, |it| it.points);
                }
                _ => break,
            }
        }
        dropped
    }

    /// The oldest batch, which is in hand from now on.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let batch = self.waiting.pop_front()?;
        self.in_hand = Some(InHand { points: batch.points, stale: false });
        Some(batch)
    }

    /// Whether what is in hand would have to go if it were still in the queue.
    pub(crate) fn is_stale(&self) -> bool {
        self.in_hand.is_some_and(|it| it.stale)
    }

    /// What was in hand has arrived, or is given up.
    pub(crate) fn settle(&mut self) {
        self.in_hand = None;
    }

    /// Points that wait, those in hand included.
    pub(crate) fn points(&self) -> usize {
        self.waiting_points() + self.in_hand.map_or(0, |it| it.points)
    }

    /// Gives all up, and answers how many points that were.
    pub(crate) fn clear(&mut self) -> usize {
        let points = self.points();
        self.waiting.clear();
        self.in_hand = None;
        points
    }

    fn waiting_points(&self) -> usize {
        self.waiting.iter().map(|it| it.points).sum()
    }

    fn counted(&self) -> usize {
        self.waiting_points() + self.in_hand.filter(|it| !it.stale).map_or(0, |it| it.points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(points: usize) -> Batch {
        Batch { items: Items::Samples(Arc::new([])), points, origin: None }
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_in_hand_is_older_than_what_waits() {
        let mut queue = Queue::new(10);
        assert_eq!([queue.push(batch(4)), queue.push(batch(3))], [0, 0]);
        assert_eq!(queue.take().unwrap().points, 4);
        assert_eq!(queue.push(batch(3)), 0, "exactly full");
        assert!(!queue.is_stale());
        assert_eq!(queue.push(batch(2)), 0, "what is in hand makes room");
        assert!(queue.is_stale());
        assert_eq!(queue.points(), 12, "it may still arrive");
        assert_eq!(queue.push(batch(4)), 3, "then what waits longest");
        queue.settle();
        assert_eq!((queue.points(), queue.is_stale()), (9, false));
        assert_eq!(queue.take().unwrap().points, 3);
    }

    #[test]
    fn one_round_above_the_bound_is_kept_alone() {
        let mut queue = Queue::new(10);
        queue.push(batch(5));
        assert_eq!(queue.push(batch(50)), 5);
        assert_eq!(queue.push(batch(60)), 50);
        assert_eq!(queue.clear(), 60);
        assert!(queue.take().is_none());
    }
}
