//! The task that keeps the stream usable: connects, makes what is missing, and looks how full it is.
//!
//! # Invariants
//! - Nobody is told that the stream is ready before it and the consumers of all outputs are there, on this very connection: a
//!   server may come back without what it had.
//! - It never ends by itself: whatever is wrong is tried again.
//! - What is in the stream and waits for no consumer any more is put in again: a server that is killed may forget what it had
//!   given out (seen with 2.9.10: it deletes at its start what was settled and is there again, and with that the note of all
//!   that is in hand). Then it may arrive twice, and is not lost. A stream of this kind deletes what all have settled:
//!   whatever it has below the place up to which all have settled everything was forgotten, and so was what it has below the
//!   place up to which all were given everything, where nothing is in hand of anybody.
//! - The latter is put in again before anything is taken on a connection: what is settled moves the former place, and at its
//!   next start the server deletes all that is before that.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::gaps::Seen;
use super::link::{Heard, connect};
use super::place::{Unusable, consumer, consumers, renew_consumers, stream, which};
use super::{Condition, Open, Plan, StreamFill, chain_once};

/// Between two looks, and between two tries of what did not work.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Keeper {
    plan: Arc<Plan>,
    condition: watch::Sender<Condition>,
    fill: watch::Sender<StreamFill>,
    seen: Arc<Seen>,
}

impl Keeper {
    pub(super) fn new(
        plan: Arc<Plan>,
        condition: watch::Sender<Condition>,
        fill: watch::Sender<StreamFill>,
        seen: Arc<Seen>,
    ) -> Self {
        Self { plan, condition, fill, seen }
    }

    pub(super) async fn keep(self) {
        let (hear, mut heard) = watch::channel(Heard::default());
        let client = loop {
            match connect(&self.plan, hear.clone()).await {
                Ok(client) => break client,
                Err(unusable) => self.away(unusable),
            }
            sleep(LOOK).await;
        };
        let context = ContextBuilder::new().timeout(self.plan.answer).build(client.clone());
        let mut open: Option<(u64, Arc<Open>)> = None;
        let (mut forgotten, mut put_again, mut is_first) = (None, 0, true);
        loop {
            let now = heard.borrow_and_update().clone();
            open = open.filter(|(connection, _)| *connection == now.connections);
            let usable = if client.connection_state() != State::Connected {
                Err(now.unusable())
            } else if let Some((_, open)) = &open {
                tokio::select! {
                    looked = self.look(open, &mut forgotten, &mut put_again) => looked,
                    // What was asked of a connection that is gone is not waited for.
                    _ = heard.changed() => continue,
                }
            } else {
                // Nobody puts anything in before all consumers are known to be there again.
                self.condition.send_if_modified(|now| {
                    let was_ready = matches!(now, Condition::Ready(_));
                    if was_ready {
                        let why = "the connection is a new one, and is looked at first".to_owned();
                        *now = Condition::Away { why, denied: false };
                    }
                    was_ready
                });
                let made = self.prepare(&client, &context, is_first).await;
                made.map(|(made, last)| {
                    is_first = false;
                    // The stream may be another one.
                    (put_again, forgotten) = (last, None);
                    open = Some((now.connections, made));
                })
            };
            if let Err(unusable) = usable {
                open = None;
                // A server that forbids something says it beside the answer, which does not come.
                let said = heard.borrow().trouble.clone().filter(|it| !unusable.why.contains(it));
                let why = said.map_or_else(|| unusable.why.clone(), |it| format!("{} ({it})", unusable.why));
                self.away(Unusable { why, ..unusable });
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                // The other end is in the client, which is here.
                _ = heard.changed() => {}
            }
        }
    }

    fn away(&self, Unusable { why, denied }: Unusable) {
        self.condition.send_replace(Condition::Away { why, denied });
    }

    /// Makes the stream and the consumers where they are not, and lets everybody use them.
    async fn prepare(
        &self,
        client: &Client,
        context: &Context,
        is_first: bool,
    ) -> Result<(Arc<Open>, u64), Unusable> {
        let stream = stream(context, &self.plan, is_first).await?;
        renew_consumers(&stream).await?;
        let mut consumers = HashMap::new();
        for output in &self.plan.outputs {
            consumers.insert(output.clone(), consumer(&stream, output, &self.plan).await?);
        }
        let put_again = self.recall(context, &stream).await?;
        // As it is now, without what was put in again.
        let state = stream.get_info().await.map_err(|err| Unusable::later("look at it", &err))?.state;
        for (output, consumer) in &consumers {
            let info = consumer.cached_info();
            // A server that was killed may have forgotten how far it was: what is gone by now is not counted.
            let passed = info.delivered.stream_sequence.max(state.first_sequence.saturating_sub(1));
            let at = (passed, info.delivered.consumer_sequence);
            self.seen.begin(output, which(consumer), at, state.last_sequence);
        }
        let open = Arc::new(Open { client: client.clone(), context: context.clone(), consumers });
        self.condition.send_replace(Condition::Ready(Arc::clone(&open)));
        Ok((open, put_again))
    }

    /// Puts in again what was given out and forgotten, all of it where nothing is in hand. Answers with the last number of it.
    async fn recall(&self, context: &Context, stream: &Stream) -> Result<u64, Unusable> {
        let infos = consumers(stream).await?;
        let mut done = 0;
        let is_idle = infos.iter().all(|it| it.num_ack_pending == 0);
        let given = infos.iter().map(|it| it.delivered.stream_sequence).min();
        if let (true, Some(given)) = (is_idle, given) {
            let put = self.again(context, stream, 1..=given, &mut done).await;
            put.map_err(|why| Unusable {
                why: format!("put in again what it forgot: {why}"),
                denied: false,
            })?;
        }
        Ok(done)
    }

    /// How full it is, and whether it is there at all. The stream is looked at first: what it has dropped by then, and a
    /// consumer has not delivered afterwards, is not delivered any more.
    async fn look(
        &self,
        open: &Open,
        forgotten: &mut Option<(u64, u64)>,
        put_again: &mut u64,
    ) -> Result<(), Unusable> {
        let cannot = |what: String, err: &dyn std::error::Error| Unusable {
            why: format!("{what}: {}", chain_once(err)),
            denied: false,
        };
        let stream = open.context.get_stream(&self.plan.settings.stream).await;
        let stream = stream.map_err(|err| cannot("look at it".to_owned(), &err))?;
        let state = &stream.cached_info().state;
        let config = &stream.cached_info().config;
        let mut fill = StreamFill::of(state, config.max_bytes, open.client.max_payload());
        let mut settled = u64::MAX;
        for (output, consumer) in &open.consumers {
            let info = consumer.get_info().await;
            let info = info.map_err(|err| cannot(format!("look at the consumer of {output:?}"), &err))?;
            self.seen.look(output, state.first_sequence, info.delivered.stream_sequence, fill.is_full);
            fill.waiting.insert(output.clone(), info.num_pending + info.num_ack_pending as u64);
            settled = settled.min(info.ack_floor.stream_sequence);
        }
        // Where others take as well, what is there may wait for them.
        let is_ours = state.consumer_count == open.consumers.len();
        let is_idle = fill.waiting.values().all(|it| *it == 0);
        let up_to = if is_idle { state.last_sequence } else { settled };
        self.fill.send_replace(fill);
        let is_left = state.messages > 0 && state.first_sequence <= up_to;
        let now = (is_ours && is_left).then_some((state.first_sequence, up_to));
        // What is on its way at one look is gone, or waits for somebody, at the next.
        if let (Some(before), Some(now)) = (*forgotten, now)
            && before.0 == now.0
        {
            let first = before.0.max(put_again.saturating_add(1));
            // What fails is tried with the next look.
            drop(self.again(&open.context, &stream, first..=before.1.min(now.1), put_again).await);
        }
        *forgotten = now;
        Ok(())
    }

    /// Puts in again what the stream has in this range, each once in the life of a connection: one that cannot be deleted would
    /// come again and again. The id keeps two aggregators from doing it both.
    async fn again(
        &self,
        context: &Context,
        stream: &Stream,
        range: RangeInclusive<u64>,
        done: &mut u64,
    ) -> Result<(), String> {
        let subject = self.plan.subject();
        let created = stream.cached_info().created;
        let mut at = *range.start();
        while at <= *range.end() {
            let found = match stream.get_first_raw_message_by_subject(&subject, at).await {
                Ok(found) if found.sequence <= *range.end() => found,
                Ok(_) => return Ok(()),
                Err(err) if err.kind() == RawMessageErrorKind::NoMessageFound => return Ok(()),
                Err(err) => return Err(chain_once(&err)),
            };
            // Its time, since a server that begins to count anew gives its number to another one.
            let id = format!("again:{created}:{}:{}", found.sequence, found.time);
            let message = PublishMessage::build().payload(found.payload).message_id(id);
            let sent = context.send_publish(subject.clone(), message).await;
            sent.map_err(|err| chain_once(&err))?.await.map_err(|err| chain_once(&err))?;
            *done = found.sequence;
            // Whoever had it in hand after all may have settled it meanwhile; one that stays is dropped by the bound.
            drop(stream.delete_message(found.sequence).await);
            at = found.sequence.saturating_add(1);
        }
        Ok(())
    }
}
