//! Where an output's batches come from a stream: what is taken out is joined, and settled when the output has dealt with it.
//!
//! # Invariants
//! - A batch is settled only when the output has dealt with it: whatever ends the process in between, it comes again.
//! - A stream that fails is told as the output's own trouble, and tried again.
//! - What an output hands on is numbered anew in each run, so that a batch that comes again late is not taken for an old one.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Subject;
use prost::Message;
use tokio::time::Instant;

use super::queue::Batch;
use super::shared::Shared;
use super::supply::Batching;
use crate::jetstream::{Jetstream, JetstreamError, Taken, Taker};
use crate::wire;
use crate::wire::generated::collect as proto;

/// How long a stream without a batch is asked for one; the end waits for that.
const ASKED: Duration = Duration::from_secs(1);
/// The most that are asked for at once.
const AT_ONCE: usize = 64;
/// The pause after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// How often settling is tried where the stream is there and gives no answer; then the batches come again.
const TRIES: usize = 5;

/// One output's end of a stream.
#[derive(Debug)]
pub(crate) struct Pull {
    taker: Taker,
    batching: Batching,
    /// What is put before the names of mini-collector's fields.
    prefix: String,
    /// Who hands on, and how much was handed on.
    run: String,
    number: u64,
    waiting: VecDeque<Read>,
    in_hand: Vec<Subject>,
    /// The highest number in the stream of what is in hand.
    last: u64,
    is_troubled: bool,
}

/// What was taken and not handed on.
#[derive(Debug)]
struct Read {
    contents: wire::Contents,
    points: u64,
    bytes: usize,
    number: u64,
    reply: Subject,
    at: Instant,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing waits: one is waited for.
    First,
    /// There may be more.
    More,
    /// There was no more, and something else may come within this.
    Wait(Duration),
    HandOn,
}

impl Pull {
    pub(crate) fn new(jetstream: &Jetstream, output: &str, batching: Batching, prefix: &str) -> Self {
        Self {
            taker: Taker::new(jetstream.clone(), output.to_owned()),
            batching,
            prefix: prefix.to_owned(),
            run: uuid::Uuid::new_v4().to_string(),
            number: 0,
            waiting: VecDeque::new(),
            in_hand: Vec::new(),
            last: 0,
            is_troubled: false,
        }
    }

    pub(crate) async fn next(&mut self, shared: &Shared) -> Option<Batch> {
        let mut is_drained = false;
        loop {
            if shared.is_closing() && self.waiting.is_empty() {
                return None;
            }
            let asked = match self.decide(shared.is_closing(), is_drained) {
                Next::HandOn => return Some(self.batch()),
                Next::First => self.taker.take(Some(ASKED), 1, 0).await,
                Next::Wait(left) => self.taker.take(Some(left.min(ASKED)), 1, 0).await,
                Next::More => {
                    let taken = self.taker.take(None, AT_ONCE, self.batching.bytes).await;
                    is_drained = taken.as_ref().is_ok_and(|it| it.len() < AT_ONCE);
                    self.add(taken, shared).await;
                    continue;
                }
            };
            is_drained = asked.as_ref().is_ok_and(Vec::is_empty);
            self.add(asked, shared).await;
        }
    }

    fn decide(&self, is_closing: bool, is_drained: bool) -> Next {
        let Some(oldest) = self.waiting.front() else { return Next::First };
        let points: u64 = self.waiting.iter().map(|it| it.points).sum();
        let bytes: usize = self.waiting.iter().map(|it| it.bytes).sum();
        decide(self.batching, points, bytes, oldest.at.elapsed(), is_drained, is_closing)
    }

    async fn add(&mut self, taken: Result<Vec<Taken>, JetstreamError>, shared: &Shared) {
        match taken {
            Ok(taken) => {
                if std::mem::take(&mut self.is_troubled) {
                    shared.works();
                }
                for one in taken {
                    self.read(one, shared);
                }
                // What cannot be read goes by itself: the next good one may be long in coming.
                if self.waiting.is_empty() && !self.in_hand.is_empty() {
                    self.settle(shared).await;
                }
            }
            Err(err) => {
                self.is_troubled = true;
                shared.fails(err.to_string(), err.is_denied());
                shared.pause(PAUSE).await;
            }
        }
    }

    fn read(&mut self, one: Taken, shared: &Shared) {
        let bytes = one.bytes.len();
        let decoded =
            proto::Batch::decode(&*one.bytes).map_err(|err| wire::WireError::Broken(err.to_string()));
        match decoded.map(|it| wire::publish::renamed(it, &self.prefix)).and_then(wire::read) {
            Ok(contents) => {
                let points = contents.count() as u64;
                let at = Instant::now();
                self.waiting.push_back(Read {
                    contents,
                    points,
                    bytes,
                    number: one.number,
                    reply: one.reply,
                    at,
                });
            }
            // Another version's, or a stranger's: it would stand in the way for ever. Nobody knows its points.
            Err(err) => {
                shared.count_refused(1, err.to_string());
                self.in_hand.push(one.reply);
            }
        }
    }

    /// The oldest, as many as go at once.
    fn batch(&mut self) -> Batch {
        let mut all = wire::Contents::default();
        let (mut points, mut bytes) = (0, 0);
        self.last = 0;
        while let Some(one) = self.waiting.pop_front() {
            let fits =
                points + one.points <= self.batching.points && bytes + one.bytes <= self.batching.bytes;
            if points > 0 && !fits {
                self.waiting.push_front(one);
                break;
            }
            points += one.points;
            bytes += one.bytes;
            all.samples.extend(one.contents.samples);
            all.events.extend(one.contents.events);
            self.last = self.last.max(one.number);
            self.in_hand.push(one.reply);
        }
        self.number += 1;
        Batch::stored(all, self.run.clone(), self.number)
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.taker.has_dropped(self.last)
    }

    pub(crate) async fn settle(&mut self, shared: &Shared) {
        let mut tries = 0;
        while let Err(err) = self.taker.settle(&mut self.in_hand).await {
            self.is_troubled = true;
            shared.fails(err.to_string(), err.is_denied());
            tries += usize::from(!matches!(err, JetstreamError::Away { .. }));
            if shared.is_closing() || tries >= TRIES {
                break;
            }
            shared.pause(PAUSE).await;
        }
        // What nobody confirmed comes again.
        self.taker.forget(&self.in_hand);
        self.in_hand.clear();
    }

    /// Gives back what was not dealt with.
    pub(crate) async fn release(&mut self) {
        self.waiting.clear();
        self.in_hand.clear();
        self.taker.release().await;
    }
}

/// What is next where something waits, the oldest of it for so long.
fn decide(
    batching: Batching,
    points: u64,
    bytes: usize,
    waited: Duration,
    is_drained: bool,
    is_closing: bool,
) -> Next {
    if is_closing || points >= batching.points || bytes >= batching.bytes {
        return Next::HandOn;
    }
    if !is_drained {
        return Next::More;
    }
    match batching.wait.saturating_sub(waited) {
        Duration::ZERO => Next::HandOn,
        left => Next::Wait(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_when_it_is_full_or_has_waited_or_the_end_comes() {
        let wait = Duration::from_secs(1);
        let batching = Batching { points: 100, bytes: 1000, wait };
        let half = wait / 2;
        for (points, bytes, waited, is_drained, is_closing, expected) in [
            (100, 10, half, false, false, Next::HandOn),
            (1, 1000, half, false, false, Next::HandOn),
            (1, 10, half, false, false, Next::More),
            (1, 10, 2 * wait, false, false, Next::More),
            (1, 10, half, true, false, Next::Wait(half)),
            (1, 10, wait, true, false, Next::HandOn),
            (1, 10, half, true, true, Next::HandOn),
        ] {
            let found = decide(batching, points, bytes, waited, is_drained, is_closing);
            assert_eq!(found, expected, "{points} {bytes} {waited:?} {is_drained} {is_closing}");
        }
    }
}
