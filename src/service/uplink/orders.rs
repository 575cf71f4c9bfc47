//! The backend's orders: hello, then the stream, or long poll where a proxy holds streams back; and again, for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use outrider_protocol::control::{
    Envelope, Hello, HelloParams, HelloReply, HostInfo, ORDER_EVENT, ORDERS_PATH, Ping, PingParams, Poll,
    PollParams,
};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::upgrade::Build;
use outrider_protocol::version::CONTROL;
use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Timing;
use super::backoff::Backoff;
use super::http::{CallError, Http};
use super::stream::{StreamEnd, events};
use crate::event::{Event, View};
use crate::snapshot::LinkStatus;

/// The longest event, in bytes: a command with the configurations of all its integrations.
const EVENT_BYTES: usize = 16 << 20;
/// Pings are sent no more often, whatever the backend says.
const PING_LEAST: Duration = Duration::from_secs(1);

/// So many streams in a row that ended young are reason enough to poll.
const YOUNG_MOST: u32 = 3;

/// Brings in the backend's orders.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) http: Http,
    pub(crate) timing: Timing,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) build: Option<Build>,
    pub(crate) host: HostInfo,
    pub(crate) started_at: Timestamp,
    /// Whether orders stay with the backend for now, which is told all the same that this agent is there.
    pub(crate) wait: watch::Receiver<bool>,
}

/// How orders come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the stream.
    Stream,
    /// By long poll, until it is time to try a stream again.
    Poll { until: Instant },
}

/// How listening ended.
#[derive(Debug)]
enum Went {
    /// Nothing came in, not even a sign of life, though the backend can be called: something on the way holds it back.
    HeldBack { why: String },
    /// The stream was alive and ended, after so long.
    Ended { why: String, lived: Duration },
    /// Time to try a stream again.
    PolledEnough,
    /// It failed.
    Failed(CallError),
}

/// The loop is gone: there is nobody to listen for.
#[derive(Debug)]
struct Gone;

impl Orders {
    /// Runs until the loop of the service is gone.
    pub(crate) async fn run(self) {
        let mut plan = Plan::new(&self.timing);
        loop {
            let Ok(listened) = self.connection(plan.way).await else { return };
            let went = listened.unwrap_or_else(Went::Failed);
            let pause = plan.after(&went, &self.timing);
            if self.tell(&went).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection: hello, then listening until it ends.
    async fn connection(&self, way: Way) -> Result<Result<Went, CallError>, Gone> {
        // Whatever was acknowledged by now, the backend has when it answers.
        let view = self.view().await?;
        let acknowledged = view.spool.acknowledged;
        let hello = match self.hello(view).await {
            Ok(hello) => hello,
            Err(err) => return Ok(Err(err)),
        };
        if let Some(has) = hello.files.filter(|has| *has < acknowledged) {
            self.events.send(Event::BackendHas(has)).await.map_err(|_| Gone)?;
        }
        self.events.send(Event::CheckedIn).await.map_err(|_| Gone)?;
        let polling = matches!(way, Way::Poll { .. });
        tracing::info!(agent = %hello.agent, polling, "Connected to the backend.");
        self.link(LinkStatus::Connected { since: Timestamp::now(), polling }).await?;
        let pings = self.pings(Duration::from_millis(hello.ping_every_ms).max(PING_LEAST));
        tokio::select! {
            went = self.listen(way) => went.map(Ok),
            gone = pings => Err(gone),
        }
    }

    async fn hello(&self, view: View) -> Result<HelloReply, CallError> {
        let params = HelloParams {
            protocol: CONTROL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: self.build.clone(),
            host: self.host.clone(),
            started_at: self.started_at,
            commands: view.open,
        };
        self.http.call::<Hello>(&params).await
    }

    async fn listen(&self, way: Way) -> Result<Went, Gone> {
        self.wait.clone().wait_for(|wait| !wait).await.map_err(|_| Gone)?;
        match way {
            Way::Stream => self.stream().await,
            Way::Poll { until } => self.poll(until).await,
        }
    }

    /// Signs of life, for as long as it is awaited. Whether they arrive is not what decides on the connection.
    async fn pings(&self, every: Duration) -> Gone {
        loop {
            tokio::time::sleep(every).await;
            let Ok(View { open, running, spool }) = self.view().await else { return Gone };
            let params = PingParams {
                running,
                commands: open,
                spool_files: spool.files,
                spool_bytes: spool.bytes,
                refused_files: u64::try_from(spool.refused).unwrap_or(u64::MAX),
                lost_files: spool.lost,
            };
            if let Err(err) = self.http.call::<Ping>(&params).await {
                tracing::debug!(error = chain(&err), "A ping was not answered.");
            }
        }
    }

    async fn stream(&self) -> Result<Went, Gone> {
        let request = self.http.request(Method::GET, ORDERS_PATH).header(header::ACCEPT, "text/event-stream");
        let response = match tokio::time::timeout(self.timing.stream_quiet, self.http.send(request)).await {
            Err(_) => return Ok(Went::HeldBack { why: "the request for a stream had no answer".to_owned() }),
            Ok(Err(CallError::Status { status, message, .. })) if is_no_stream(status) => {
                return Ok(Went::HeldBack {
                    why: format!("the request for a stream was answered {status}: {message}"),
                });
            }
            Ok(Err(err)) => return Ok(Went::Failed(err)),
            Ok(Ok(response)) => response,
        };
        let kind =
            response.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let why = format!("the request for a stream was answered with content of type {kind:?}");
            return Ok(Went::HeldBack { why });
        }
        let alive = Arc::new(AtomicBool::new(false));
        let on_life = {
            let alive = alive.clone();
            move || alive.store(true, Ordering::Relaxed)
        };
        let mut orders = Box::pin(events(response, self.timing.stream_quiet, EVENT_BYTES, on_life));
        let since = Instant::now();
        let end = loop {
            match orders.next().await {
                Some(Ok(event)) => {
                    if event.event.as_deref() == Some(ORDER_EVENT) {
                        self.order(event.data.as_deref().unwrap_or_default()).await?;
                    }
                }
                Some(Err(end)) => break end,
                None => break StreamEnd::Ended,
            }
        };
        let why = end.to_string();
        let lived = since.elapsed();
        Ok(if alive.load(Ordering::Relaxed) { Went::Ended { why, lived } } else { Went::HeldBack { why } })
    }

    async fn poll(&self, until: Instant) -> Result<Went, Gone> {
        let wait = self.timing.poll_wait;
        let params = PollParams { wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) };
        while Instant::now() < until {
            let reply = match self.http.call_within::<RawPoll>(wait + self.http.timeout(), &params).await {
                Ok(reply) => reply,
                Err(err) => return Ok(Went::Failed(err)),
            };
            for order in reply.orders {
                self.order(order.get()).await?;
            }
        }
        Ok(Went::PolledEnough)
    }

    /// Passes an order on. One that this version cannot read is passed on as such, if its id can be read.
    async fn order(&self, text: &str) -> Result<(), Gone> {
        let event = match serde_json::from_str::<Envelope>(text) {
            Ok(order) => Event::Ordered(Box::new(order)),
            Err(err) => match serde_json::from_str::<Head>(text) {
                Ok(Head { kind, id: Some(command) }) if kind == "run" => {
                    Event::Unreadable { command, why: err.to_string() }
                }
                _ => {
                    tracing::warn!(%err, bytes = text.len(), "The backend sent an order that cannot be read.");
                    return Ok(());
                }
            },
        };
        self.events.send(event).await.map_err(|_| Gone)
    }

    /// What the loop has taken. It answers after every order that was passed on before.
    async fn view(&self) -> Result<View, Gone> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Asked(answer)).await.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }

    async fn link(&self, status: LinkStatus) -> Result<(), Gone> {
        self.events.send(Event::Link(status)).await.map_err(|_| Gone)
    }

    async fn tell(&self, went: &Went) -> Result<(), Gone> {
        let since = Timestamp::now();
        let (error, refused, busy) = match went {
            Went::PolledEnough => return Ok(()),
            Went::HeldBack { why } => {
                tracing::info!(why, "Orders do not come by stream here; polling for them.");
                return Ok(());
            }
            Went::Ended { why, .. } => (why.clone(), false, false),
            Went::Failed(err) => (chain(err), err.is_token(), err.is_busy()),
        };
        let status = if refused {
            LinkStatus::Refused { since, error }
        } else {
            LinkStatus::Away { since, error, busy }
        };
        self.link(status).await
    }
}

/// `orders.poll`, with the orders left as they came, so that one that cannot be read does not hide the others.
enum RawPoll {}

#[derive(serde::Serialize, Deserialize)]
struct RawPollReply {
    orders: Vec<outrider_protocol::Raw>,
}

impl outrider_protocol::Call for RawPoll {
    const NAME: &'static str = <Poll as outrider_protocol::Call>::NAME;
    type Params = PollParams;
    type Reply = RawPollReply;
}

/// What an order says first, in any version.
#[derive(Deserialize)]
struct Head {
    kind: String,
    id: Option<CommandId>,
}

/// Whether a status says that there is no stream to be had, though the backend is there.
fn is_no_stream(status: StatusCode) -> bool {
    [
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::NOT_ACCEPTABLE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UPGRADE_REQUIRED,
        StatusCode::NOT_IMPLEMENTED,
    ]
    .contains(&status)
}

/// How to listen next.
#[derive(Debug)]
struct Plan {
    way: Way,
    backoff: Backoff,
    /// Streams in a row that ended young.
    young: u32,
}

impl Plan {
    fn new(timing: &Timing) -> Self {
        Self { way: Way::Stream, backoff: Backoff::new(timing), young: 0 }
    }

    /// Sets how to listen next. Answers after which pause.
    fn after(&mut self, went: &Went, timing: &Timing) -> Duration {
        match (self.way, went) {
            (Way::Stream, Went::HeldBack { .. }) => self.poll(timing),
            (_, Went::PolledEnough) => {
                self.backoff.reset();
                self.way = Way::Stream;
                Duration::ZERO
            }
            // One that ends sooner than a poll may: a proxy cuts streams, or an order on it is too long for us.
            (Way::Stream, Went::Ended { why, lived }) if *lived < timing.poll_wait => {
                self.young += 1;
                if self.young < YOUNG_MOST {
                    return self.backoff.pause();
                }
                tracing::warn!(
                    why,
                    streams = self.young,
                    "Streams of orders end early here; polling for orders."
                );
                self.poll(timing)
            }
            (_, Went::Ended { .. }) => {
                self.young = 0;
                self.backoff.reset();
                self.backoff.pause()
            }
            // A token that is refused is not tried in a hurry.
            (_, Went::Failed(err)) if err.is_token() => timing.retry_most,
            (_, Went::Failed(err)) => self.backoff.pause().max(err.retry_after().unwrap_or_default()),
            (_, Went::HeldBack { .. }) => self.backoff.pause(),
        }
    }

    fn poll(&mut self, timing: &Timing) -> Duration {
        self.backoff.reset();
        self.way = Way::Poll { until: Instant::now() + timing.stream_again };
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use outrider_home::Limits;

    use super::*;

    fn failed(status: StatusCode) -> Went {
        Went::Failed(match status {
            StatusCode::UNAUTHORIZED => CallError::Token { status, message: String::new() },
            status => CallError::Status { status, message: String::new(), retry_after: None },
        })
    }

    fn ended(lived_s: u64) -> Went {
        Went::Ended { why: String::new(), lived: Duration::from_secs(lived_s) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_held_back_is_replaced_by_polling_for_a_while() {
        let timing = Timing::new(&Limits::default());
        let mut plan = Plan::new(&timing);
        let until = Instant::now() + timing.stream_again;
        assert_eq!(plan.after(&Went::HeldBack { why: String::new() }, &timing), Duration::ZERO);
        assert_eq!(plan.way, Way::Poll { until });
        assert_eq!(plan.after(&Went::PolledEnough, &timing), Duration::ZERO);
        assert_eq!(plan.way, Way::Stream);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_is_away_is_tried_more_and_more_rarely_in_the_same_way() {
        let timing = Timing::new(&Limits::default());
        let mut plan = Plan::new(&timing);
        let went = failed(StatusCode::BAD_GATEWAY);
        let pauses: Vec<_> = (0..12).map(|_| plan.after(&went, &timing)).collect();
        assert_eq!(plan.way, Way::Stream);
        assert!(pauses[11] >= Duration::from_secs(30));
        assert!(plan.after(&ended(60), &timing) <= Duration::from_secs(1));
        assert_eq!(plan.way, Way::Stream);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_end_young_are_tried_more_rarely_and_then_replaced_by_polling() {
        let timing = Timing::new(&Limits::default());
        let mut plan = Plan::new(&timing);
        // One that lived long is as good as the first.
        plan.after(&ended(0), &timing);
        plan.after(&ended(60), &timing);
        for _ in 1..YOUNG_MOST {
            plan.after(&ended(0), &timing);
            assert_eq!(plan.way, Way::Stream);
        }
        plan.after(&ended(0), &timing);
        assert_eq!(plan.way, Way::Poll { until: Instant::now() + timing.stream_again });
        // When the next stream is no better, one is enough.
        plan.after(&Went::PolledEnough, &timing);
        plan.after(&ended(0), &timing);
        assert!(matches!(plan.way, Way::Poll { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_tried_rarely_from_the_start() {
        let timing = Timing::new(&Limits::default());
        let mut plan = Plan::new(&timing);
        assert_eq!(plan.after(&failed(StatusCode::UNAUTHORIZED), &timing), timing.retry_most);
    }
}
