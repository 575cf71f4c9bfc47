//! The transport of jsonrpsee's client: its messages into the outgoing queue, the answers that are for it back.

use std::sync::Arc;

use jsonrpsee::async_client::{Client, ClientBuilder, RpcService};
use jsonrpsee::core::client::{IdKind, ReceivedMessage, TransportReceiverT, TransportSenderT};
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::types::{ErrorObject, Id, Response, ResponsePayload};
use outrider_protocol::fault::code;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::message::Outcome;
use crate::outgoing::{Outgoing, Queue};
use crate::shared::{QUEUE_OF_CLIENT, Shared};

/// The method of a notification that is never sent: when it comes out of the client's queue, everything before it has.
pub(crate) const FLUSH: &str = "outrider.flush";

/// The code of an error that the other end did not send: its answer made no sense.
pub(crate) const BAD_ANSWER: i32 = i32::MIN;

/// The link is gone; [`Shared`] knows why.
#[derive(Debug, thiserror::Error)]
#[error("the link is gone")]
pub(crate) struct Gone;

/// jsonrpsee's client, which ends when dropped, and the service behind it that calls go through directly: its own
/// `request` copies each message for a log that nobody reads, and keeps time with a thread of its own.
#[derive(Debug)]
pub(crate) struct RpcClient {
    pub(crate) service: RpcService,
    _client: Client<RpcService>,
}

impl RpcClient {
    /// Starts the client's tasks on the current tokio runtime.
    pub(crate) fn start(shared: &Arc<Shared>, queue: Queue, answers: mpsc::Receiver<String>) -> Self {
        let (tap, tapped) = std::sync::mpsc::sync_channel(1);
        let layers = RpcServiceBuilder::new().layer_fn(move |service: RpcService| {
            drop(tap.try_send(service.clone()));
            service
        });
        let client = ClientBuilder::new()
            .set_rpc_middleware(layers)
            .max_concurrent_requests(QUEUE_OF_CLIENT)
            // No subscriptions pass here, and no pings.
            .max_buffer_capacity_per_subscription(1)
            .disable_ws_ping()
            .id_format(IdKind::Number)
            .request_timeout(shared.limits.request_timeout)
            .build_with_tokio(
                Sender { shared: shared.clone(), queue },
                Receiver { shared: shared.clone(), answers },
            );
        let Ok(service) = tapped.try_recv() else {
            unreachable!("the client builds its service before it returns")
        };
        Self { service, _client: client }
    }
}

/// What the client sends.
struct Sender {
    shared: Arc<Shared>,
    queue: Queue,
}

impl TransportSenderT for Sender {
    type Error = Gone;

    async fn send(&mut self, message: String) -> Result<(), Gone> {
        let head = Head::of(&message);
        if !self.shared.handed_over(head.id) {
            return Ok(());
        }
        if head.flush {
            return self.queue.put(Outgoing::End).await;
        }
        self.queue.message(message).await
    }
}

/// What must be known of a message of the client's: whose answer it waits for.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    id: Option<u64>,
    flush: bool,
}

impl Head {
    fn of(message: &str) -> Self {
        #[derive(Deserialize)]
        struct Slow<'a> {
            id: Option<u64>,
            #[serde(borrow)]
            method: &'a RawValue,
        }
        // The order in which jsonrpsee writes the members. Should a later version write another, this is slower, not
        // wrong.
        if let Some(rest) = message.strip_prefix(r#"{"jsonrpc":"2.0","id":"#) {
            let id = rest.split_once(',').and_then(|(id, _)| id.parse().ok());
            if id.is_some() {
                return Self { id, flush: false };
            }
        }
        if let Some(rest) = message.strip_prefix(r#"{"jsonrpc":"2.0","method":""#) {
            return Self {
                id: None,
                flush: rest.strip_prefix(FLUSH).is_some_and(|rest| rest.starts_with('"')),
            };
        }
        let slow = serde_json::from_str::<Slow<'_>>(message).ok();
        let flush = slow.as_ref().is_some_and(|it| it.method.get().trim_matches('"') == FLUSH);
        Self { id: slow.and_then(|it| it.id), flush }
    }
}

/// What the client receives: only answers that it waits for, since one that it does not know ends it.
struct Receiver {
    shared: Arc<Shared>,
    answers: mpsc::Receiver<String>,
}

impl TransportReceiverT for Receiver {
    type Error = Gone;

    async fn receive(&mut self) -> Result<ReceivedMessage, Gone> {
        tokio::select! {
            biased;
            // Answers that came before the link was lost are still answers.
            answer = self.answers.recv() => answer.map(ReceivedMessage::Text).ok_or(Gone),
            id = self.shared.next_given_up() => {
                Ok(ReceivedMessage::Text(error_answer(&Id::Number(id), BAD_ANSWER, "given up", None)))
            }
            _ = self.shared.until_lost() => Err(Gone),
        }
    }
}

/// The answer as jsonrpsee's client takes it, which ends on one that it cannot read; `None` where the line is one.
pub(crate) fn canonical(id: &Id<'_>, outcome: &Outcome<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Loose<'a> {
        code: i32,
        #[serde(default)]
        message: String,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let bad = |found: &str| error_answer(id, BAD_ANSWER, found, None);
    Some(match outcome {
        Outcome::AsItStands => return None,
        Outcome::Result(result) => {
            let response = Response::new(ResponsePayload::success_borrowed(result), id.clone());
            serde_json::to_string(&response).unwrap_or_else(|err| bad(&err.to_string()))
        }
        Outcome::Error(error) => match serde_json::from_str::<Loose<'_>>(error.get()) {
            Ok(error) => error_answer(id, error.code, &error.message, error.data),
            Err(err) => bad(&format!("`error` must have a code and a message: {err}")),
        },
        Outcome::Bad(found) => bad(found),
    })
}

/// An answer that is an error.
pub(crate) fn error_answer(id: &Id<'_>, code: i32, message: &str, data: Option<&RawValue>) -> String {
    let payload = ResponsePayload::<()>::error_borrowed(ErrorObject::borrowed(code, message, data));
    serde_json::to_string(&Response::new(payload, id.clone())).unwrap_or_else(|_| {
        let code = code::INTERNAL;
        format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":"not written as JSON"}}}}"#)
    })
}
