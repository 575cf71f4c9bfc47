//! Access tokens for integrations, from the backend.
//!
//! **Invariant:** of one integration there is one request to the backend at a time, however many ask: whoever comes while
//! it is under way gets its answer, also when that is an error.
//!
//! **Invariant:** a token that the source has refused is not given out again: with it, all older ones are forgotten.
//!
//! **Invariant:** tokens are in memory only, and in no log or `Debug` text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jiff::{SignedDuration, Timestamp};
use outrider_protocol::action::OAuthParams;
use outrider_protocol::control::OAuthAccessToken;
use outrider_protocol::fault::{Fault, Retry, RpcError, chain};
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::integration::OAuthAccessTokenReply;

use crate::uplink::Timing;
use crate::uplink::backoff::Backoff;
use crate::uplink::http::{CallError, Http, Verdict};

/// A token that ends sooner is not worth giving out.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// How long one of which the backend does not say when it ends is given out.
const UNKNOWN_LIFE: SignedDuration = SignedDuration::from_secs(300);
/// How often one who was refused a token may wait for somebody else's request before it is told so.
const TURNS: u32 = 3;

type Answer = Result<OAuthAccessTokenReply, RpcError>;

/// The tokens of all integrations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Inner>);

struct Inner {
    http: Http,
    timing: Timing,
    slots: Mutex<HashMap<IntegrationId, Slot>>,
}

/// What is known of one integration's token.
#[derive(Default)]
struct Slot {
    token: Option<Kept>,
    flight: Option<Flight>,
}

#[derive(Clone)]
struct Kept {
    reply: OAuthAccessTokenReply,
    until: Timestamp,
}

/// A request that is under way.
type Flight = Shared<BoxFuture<'static, Answer>>;

/// What to do for one who asks.
enum Step {
    Give(OAuthAccessTokenReply),
    Wait(Flight),
}

impl std::fmt::Debug for Tokens {
    /// Without the tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(***)")
    }
}

impl Slot {
    /// The token, unless it has ended or is none younger than the refused one.
    fn usable(&self, refused: Option<u64>, now: Timestamp) -> Option<OAuthAccessTokenReply> {
        let kept = self.token.as_ref()?;
        let fresh = kept.until > now && refused.is_none_or(|it| kept.reply.generation > it);
        fresh.then(|| kept.reply.clone())
    }
}

impl Tokens {
    pub(crate) fn new(http: Http, timing: Timing) -> Self {
        Self(Arc::new(Inner { http, timing, slots: Mutex::default() }))
    }

    /// A token for an integration, younger than the one that it names as refused.
    ///
    /// # Errors
    /// The backend's own error, with whose fault it is and whether trying again may help; or that it cannot be reached.
    pub(crate) async fn get(&self, params: OAuthParams) -> Answer {
        for _ in 0..TURNS {
            let flight = match self.step(&params) {
                Step::Give(reply) => return Ok(reply),
                Step::Wait(flight) => flight,
            };
            let reply = flight.await?;
            if params.refused.is_none_or(|refused| reply.generation > refused) {
                return Ok(reply);
            }
        }
        let message = format!(
            "the backend has no token for {} that is younger than the refused one (generation {})",
            params.integration,
            params.refused.unwrap_or_default()
        );
        Err(RpcError::failed(Fault::Backend, Retry::Later, message))
    }

    fn step(&self, params: &OAuthParams) -> Step {
        let mut slots = self.slots();
        let slot = slots.entry(params.integration.clone()).or_default();
        if let Some(reply) = slot.usable(params.refused, Timestamp::now()) {
            return Step::Give(reply);
        }
        if let Some(flight) = &slot.flight {
            return Step::Wait(flight.clone());
        }
        slot.token = None;
        let (tokens, params) = (self.clone(), params.clone());
        // A task of its own, so that it goes on when whoever asked first is gone.
        let asked = tokio::spawn(async move { tokens.ask(params).await });
        let gone = || RpcError::failed(Fault::Bug, Retry::Later, "the request for a token broke off");
        let flight = asked.map(move |it| it.unwrap_or_else(|_| Err(gone()))).boxed().shared();
        slot.flight = Some(flight.clone());
        Step::Wait(flight)
    }

    /// Asks the backend, and keeps what it answers.
    async fn ask(&self, params: OAuthParams) -> Answer {
        let answer = self.call(&params).await;
        let mut slots = self.slots();
        let slot = slots.entry(params.integration).or_default();
        slot.flight = None;
        if let Ok(reply) = &answer {
            slot.token = Some(Kept { until: until(reply, Timestamp::now()), reply: reply.clone() });
        }
        answer
    }

    /// Tries for as long as whoever asks may wait, less what the way back takes.
    async fn call(&self, params: &OAuthParams) -> Answer {
        let Inner { http, timing, .. } = &*self.0;
        let (mut backoff, mut last) = (Backoff::new(timing), None);
        let tries = async {
            loop {
                match http.call::<OAuthAccessToken>(params).await {
                    Ok(reply) => return Ok(reply),
                    Err(err) if err.verdict() == Verdict::GiveUp || matches!(err, CallError::Rpc { .. }) => {
                        return Err(refused(err));
                    }
                    Err(err) => {
                        let wait = backoff.pause().max(err.retry_after().unwrap_or_default());
                        last = Some(err);
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        };
        let tried = tokio::time::timeout(http.timeout().mul_f32(0.75), tries).await;
        tried.unwrap_or_else(|_| Err(last.map_or_else(out_of_time, refused)))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<IntegrationId, Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when a token is given out.
fn until(reply: &OAuthAccessTokenReply, now: Timestamp) -> Timestamp {
    let end = match reply.expires_at {
        Some(at) => at.checked_sub(MARGIN),
        None => now.checked_add(UNKNOWN_LIFE),
    };
    end.unwrap_or(now)
}

/// The backend's error, as it came; another as one of the way to it.
fn refused(err: CallError) -> RpcError {
    match err {
        CallError::Rpc { error, .. } => error,
        err => RpcError::failed(
            Fault::Backend,
            Retry::Later,
            format!("ask the backend for a token: {}", chain(&err)),
        ),
    }
}

fn out_of_time() -> RpcError {
    RpcError::failed(Fault::Backend, Retry::Later, "ask the backend for a token: no answer came in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(generation: u64, expires_at: Option<Timestamp>) -> OAuthAccessTokenReply {
        OAuthAccessTokenReply { access_token: "very-secret".into(), generation, expires_at }
    }

    #[test]
    fn a_token_is_given_out_until_shortly_before_its_end_and_never_once_refused() {
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let end = now + SignedDuration::from_secs(100);
        let reply = reply(3, Some(end));
        let slot = Slot { token: Some(Kept { until: until(&reply, now), reply }), flight: None };
        let usable = |refused, after| slot.usable(refused, now + SignedDuration::from_secs(after)).is_some();
        assert!(usable(None, 0) && usable(Some(2), 39));
        assert!(!usable(None, 41), "too close to its end");
        assert!(!usable(Some(3), 0) && !usable(Some(4), 0), "refused");
    }

    #[test]
    fn a_token_of_unknown_life_is_asked_for_again_after_a_while() {
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        assert_eq!(until(&reply(1, None), now), now + UNKNOWN_LIFE);
    }
}
