//! The task of one output: takes the oldest batch, sends it, tries again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::Timing;
use super::queue::Batch;
use super::shared::Shared;
use super::supply::Supply;
use super::verdict::{Verdict, Wait};
use super::way::{Encoded, Way};
use crate::encode::Body;
use crate::reach::Gate;

/// Delivers until the supply is closed and empty.
pub(crate) async fn deliver(
    (way, gate): (Way, Option<Gate>),
    supply: Supply,
    shared: Arc<Shared>,
    timing: Timing,
) {
    let pauses = Pauses::new(timing);
    let mut delivery = Delivery { way, gate, supply, pauses, timing, shared: Arc::clone(&shared) };
    while let Some(batch) = delivery.supply.next(&shared).await {
        let fate = delivery.send(&batch).await;
        let rest = shared.count_hand(batch.points);
        match fate {
            // It waits on the disk for the next start, or in the stream for whoever takes it.
            Fate::GivenUp(GivenUp::Ended) if delivery.supply.outlives() => {
                shared.count_dropped(delivery.supply.lost(rest));
                break;
            }
            Fate::GivenUp(_) => shared.count_dropped(rest),
            Fate::Settled if rest > 0 => shared.count_refused(rest, delivery.way.unfit().to_owned()),
            Fate::Settled => {}
        }
        if !delivery.supply.settle(&shared).await {
            break;
        }
    }
    delivery.supply.release().await;
}

/// What became of a batch.
enum Fate {
    /// Each of its points was taken, or refused for good, or fits into nothing that the output takes.
    Settled,
    /// The rest of its points was not.
    GivenUp(GivenUp),
}

/// Why there is no other try.
enum GivenUp {
    /// The bound has dropped it.
    Stale,
    /// The end has come.
    Ended,
}

struct Delivery {
    way: Way,
    gate: Option<Gate>,
    supply: Supply,
    pauses: Pauses,
    timing: Timing,
    shared: Arc<Shared>,
}

/// How it went with one body.
enum Sent {
    /// It is dealt with.
    Done,
    /// The whole batch has to be put into smaller bodies.
    Smaller,
    /// It is given up.
    GivenUp(GivenUp),
}

/// How it went with a body or a part of one.
enum Piece {
    Done,
    /// These of it come next.
    Apart(Vec<Body>),
    Smaller,
    GivenUp(GivenUp),
}

/// Refusals in a row of parts of one body, all of one time, after which no more is found out about the rest: whatever is
/// refused as a whole then goes as a whole, so that a receiver that refuses everything is not asked for each point.
const REFUSALS: usize = 64;
/// The same of parts that are taken apart by their times: as many rounds as come again after a kill, at the least.
const ROUNDS: usize = 256;

/// Refusals in a row.
#[derive(Debug, Default)]
struct Refused {
    rounds: usize,
    parts: usize,
}

impl Delivery {
    /// Sends a batch, or gives it up when it is the oldest of too many.
    async fn send(&mut self, batch: &Batch) -> Fate {
        'encoded: loop {
            let Encoded { bodies, left_out } = self.way.encode(batch);
            self.shared.begin(left_out);
            for body in &bodies {
                match self.send_body(body).await {
                    Sent::Done => {}
                    // What was sent of it comes again, which changes nothing: it is the same points.
                    Sent::Smaller => continue 'encoded,
                    Sent::GivenUp(why) => return Fate::GivenUp(why),
                }
            }
            return Fate::Settled;
        }
    }

    /// Sends a body, and what is left of it by itself where its receiver takes it apart.
    async fn send_body(&mut self, whole: &Body) -> Sent {
        let mut waiting = vec![Cow::Borrowed(whole)];
        let mut refusals = Refused::default();
        while let Some(body) = waiting.pop() {
            match self.send_one(&body, &mut refusals).await {
                Piece::Done => {}
                Piece::Apart(left) => waiting.extend(left.into_iter().rev().map(Cow::Owned)),
                Piece::Smaller => return Sent::Smaller,
                Piece::GivenUp(why) => return Sent::GivenUp(why),
            }
        }
        Sent::Done
    }

    async fn send_one(&mut self, body: &Body, refusals: &mut Refused) -> Piece {
        loop {
            let is_open = match self.gate.as_ref() {
                Some(gate) => gate.check().await,
                None => Ok(()),
            };
            let verdict = match is_open {
                Ok(()) => self.way.send(body, self.timing.answer).await,
                Err(why) => Verdict::Denied { why },
            };
            let (why, denied, after) = match verdict {
                Verdict::Taken => {
                    self.works();
                    self.way.grow();
                    self.shared.took(body.points);
                    *refusals = Refused::default();
                    return Piece::Done;
                }
                Verdict::Partly { refused, why } => {
                    self.works();
                    let refused = refused.unwrap_or(1).min(body.points);
                    self.shared.refused(refused, why);
                    self.shared.took(body.points - refused);
                    return Piece::Done;
                }
                Verdict::Apart { left, refused, later } => {
                    if let Some(piece) = self.apart(body, left, refused, later).await {
                        return piece;
                    }
                    continue;
                }
                Verdict::Refused { why } => {
                    self.works();
                    if let Some(halves) = self.way.rounds(body) {
                        // Many rounds come again after a kill, and what follows them is new.
                        refusals.rounds += 1;
                        if refusals.rounds <= ROUNDS {
                            return Piece::Apart(halves.into());
                        }
                    } else {
                        refusals.parts += 1;
                    }
                    let is_worth_it = refusals.rounds <= ROUNDS && refusals.parts <= REFUSALS;
                    if let Some(halves) = self.way.halves(body).filter(|_| is_worth_it) {
                        return Piece::Apart(halves.into());
                    }
                    self.shared.refused(body.points, why);
                    return Piece::Done;
                }
                Verdict::TooLarge { why } => {
                    self.works();
                    if self.way.shrink(body) {
                        return Piece::Smaller;
                    }
                    self.shared.refused(body.points, why);
                    return Piece::Done;
                }
                Verdict::Later { why, after } => (why, false, after),
                Verdict::Denied { why } => (why, true, None),
            };
            if let Some(given_up) = self.fails(why, denied, after).await {
                return Piece::GivenUp(given_up);
            }
        }
    }

    /// Some parts are done with, and some are to be sent again; nothing where that is the body as it was.
    async fn apart(
        &mut self,
        body: &Body,
        left: Vec<Body>,
        refused: Option<(usize, String)>,
        later: Option<Wait>,
    ) -> Option<Piece> {
        let waiting: usize = left.iter().map(|it| it.points).sum();
        let mut taken = body.points.saturating_sub(waiting);
        if let Some((points, why)) = refused {
            taken = taken.saturating_sub(points);
            self.shared.refused(points, why);
        }
        self.shared.took(taken);
        match later {
            None => self.works(),
            Some(Wait { why, denied }) => {
                let given_up = self.fails(why, denied, None).await;
                if let Some(given_up) = given_up.filter(|_| waiting == body.points) {
                    return Some(Piece::GivenUp(given_up));
                }
            }
        }
        (waiting < body.points || left.len() > 1).then_some(Piece::Apart(left))
    }

    /// Tells of a failure and waits until the next try, if there is one.
    async fn fails(&mut self, why: String, denied: bool, after: Option<Duration>) -> Option<GivenUp> {
        self.shared.fails(why, denied);
        if self.shared.is_closing() {
            return Some(GivenUp::Ended);
        }
        let pause = self.pauses.next(denied, after);
        self.shared.pause(pause).await;
        self.supply.is_stale(&self.shared).then_some(GivenUp::Stale)
    }

    fn works(&mut self) {
        self.pauses.reset();
        self.shared.works();
    }
}

/// Pauses between tries: doubling, with jitter, so that many hosts do not come back in the same instant.
#[derive(Debug)]
struct Pauses {
    builder: ExponentialBuilder,
    next: <ExponentialBuilder as BackoffBuilder>::Backoff,
    most: Duration,
}

/// The longest that an output may ask to be left alone.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

impl Pauses {
    fn new(timing: Timing) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(timing.retry_first)
            // The jitter adds up to as much again.
            .with_max_delay(timing.retry_most / 2)
            .without_max_times()
            .with_jitter();
        Self { next: builder.build(), builder, most: timing.retry_most }
    }

    /// The pause before the next try. Where the output asks for a longer one, it gets it.
    fn next(&mut self, denied: bool, asked: Option<Duration>) -> Duration {
        let pause = if denied { self.most } else { self.next.next().unwrap_or(self.most).min(self.most) };
        asked.unwrap_or_default().min(LONGEST_ASKED).max(pause)
    }

    fn reset(&mut self) {
        self.next = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_an_output_that_asks_for_longer_gets_it() {
        let second = Duration::from_secs(1);
        let timing = Timing { connect: second, answer: second, retry_first: second, retry_most: 60 * second };
        let mut pauses = Pauses::new(timing);
        assert!((second..=2 * second).contains(&pauses.next(false, None)));
        assert_eq!(pauses.next(false, Some(90 * second)), 90 * second);
        let later: Vec<_> = (0..20).map(|_| pauses.next(false, Some(second))).collect();
        assert!(later.iter().all(|it| (second..=60 * second).contains(it)), "{later:?}");
        assert!(later[19] >= 30 * second, "{later:?}");
        assert_eq!(pauses.next(true, None), 60 * second, "a person has to do something");
        assert_eq!(pauses.next(false, Some(Duration::MAX)), LONGEST_ASKED);
        pauses.reset();
        assert!(pauses.next(false, None) <= 2 * second);
    }
}
