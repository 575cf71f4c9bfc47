//! OpenTelemetry's metrics over gRPC: one call a body, each until it is answered.
//!
//! # Invariants
//! - A body goes out as it was encoded; nothing takes it apart and puts it together again.
//! - What comes later is as OTLP says of each status, but for those with which libraries also tell of a lost connection; a
//!   key that is refused keeps what waits.
//! - After a failure of the connection the next try connects anew, and reads the secret's and the authority's file anew.
//! - No message holds a secret.

use std::path::PathBuf;
use std::time::Duration;

use outrider_protocol::collect::Access;
use outrider_protocol::fault::chain;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use tokio::time::timeout;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::login::{Login, Secrets};
use super::verdict::{Answer, Verdict, judge_otlp, quoted};
use crate::encode::Body;

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// A connection that says nothing is asked this often whether it is there.
const ALIVE: Duration = Duration::from_secs(20);

/// A place that takes metrics.
#[derive(Debug)]
pub(crate) struct OtlpGrpc {
    url: String,
    login: Login,
    ca_file: Option<PathBuf>,
    connect: Duration,
    open: Option<Channel>,
}

impl OtlpGrpc {
    pub(crate) fn new(url: &str, access: &Access, ca_file: Option<PathBuf>, connect: Duration) -> Self {
        Self { url: url.to_owned(), login: Login::of(access), ca_file, connect, open: None }
    }

    pub(crate) async fn send(&mut self, body: &Body, within: Duration) -> Verdict {
        match timeout(within, self.call(body)).await {
            Ok(verdict) => verdict,
            Err(_) => {
                self.open = None;
                Verdict::Later { why: format!("{} did not answer within {within:?}", self.url), after: None }
            }
        }
    }

    async fn call(&mut self, body: &Body) -> Verdict {
        let mut request = Request::new(body.bytes.clone());
        let secrets = match self.login.header() {
            Ok(None) => Secrets::default(),
            Ok(Some((name, value, secrets))) => {
                let Ok(mut value) = MetadataValue::try_from(value) else {
                    return Verdict::Denied {
                        why: "the secret has characters that no header can carry".to_owned(),
                    };
                };
                value.set_sensitive(true);
                request.metadata_mut().insert(name, value);
                secrets
            }
            Err(why) => return Verdict::Denied { why },
        };
        let channel = match self.open.take() {
            Some(open) => open,
            None => match self.connected().await {
                Ok(new) => new,
                Err(verdict) => return verdict,
            },
        };
        let mut client = tonic::client::Grpc::new(channel.clone());
        if let Err(err) = client.ready().await {
            return Verdict::Later { why: format!("{}: {}", self.url, chain(&err)), after: None };
        }
        let verdict = match client.unary(request, PathAndQuery::from_static(EXPORT), AsItIs).await {
            Ok(answer) => {
                let bytes = answer.into_inner();
                judge_otlp(&Answer { status: 200, content_type: None, bytes: &bytes, cut: false })
            }
            Err(status) => judge(&self.url, &status),
        };
        if !matches!(verdict, Verdict::Later { .. }) {
            self.open = Some(channel);
        }
        verdict.said(|why| secrets.starred(why))
    }

    async fn connected(&self) -> Result<Channel, Verdict> {
        let denied = |why: String| Verdict::Denied { why: format!("{}: {why}", self.url) };
        let wrong = |err: tonic::transport::Error| denied(chain(&err));
        let mut endpoint = Endpoint::from_shared(self.url.clone())
            .map_err(wrong)?
            .connect_timeout(self.connect)
            .user_agent(concat!("outrider/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong)?
            .http2_keep_alive_interval(ALIVE)
            .keep_alive_timeout(self.connect)
            .tcp_nodelay(true);
        if self.url.starts_with("https:") {
            let mut tls = ClientTlsConfig::new().with_native_roots();
            if let Some(path) = &self.ca_file {
                let pem = tokio::fs::read(path).await;
                let pem = pem.map_err(|err| denied(format!("read {}: {err}", path.display())))?;
                tls = tls.ca_certificate(Certificate::from_pem(pem));
            }
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        let later =
            |why: String| Verdict::Later { why: format!("connect to {}: {why}", self.url), after: None };
        // The bound of connecting does not cover the handshake of TLS.
        match timeout(self.connect * 2, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(err)) => Err(later(chain(&err))),
            Err(_) => Err(later(format!("no answer within {:?}", self.connect * 2))),
        }
    }
}

fn judge(url: &str, status: &Status) -> Verdict {
    let why = format!("{url} answers {:?}: {}", status.code(), quoted(status.message()));
    match status.code() {
        // The servers of Go, Rust, Java and .NET say so of a message above their bound.
        Code::ResourceExhausted | Code::OutOfRange
            if ["larger than max", "too large", "exceeds maximum", "exceeds the maximum"]
                .iter()
                .any(|it| status.message().contains(it)) =>
        {
            Verdict::TooLarge { why }
        }
        Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => Verdict::Refused { why },
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented | Code::NotFound => {
            Verdict::Denied { why }
        }
        _ => Verdict::Later { why, after: retry_after(status.details()) },
    }
}

/// How long a status asks to be left alone: a `google.rpc.RetryInfo` among its details.
fn retry_after(details: &[u8]) -> Option<Duration> {
    let details = RichStatus::decode(details).ok()?.details;
    let info = details.iter().find(|it| it.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.delay?;
    let seconds = Duration::from_secs(u64::try_from(delay.seconds).ok()?);
    Some(seconds + Duration::from_nanos(u64::try_from(delay.nanos).ok()?))
}

#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Messages that are bytes already.
#[derive(Debug, Clone, Copy)]
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for AsItIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_their_verdicts() {
        let judged = |code, message: &str| judge("u", &Status::new(code, message));
        assert!(matches!(judged(Code::Unavailable, "no"), Verdict::Later { after: None, .. }));
        assert!(matches!(judged(Code::InvalidArgument, "no"), Verdict::Refused { .. }));
        assert!(matches!(judged(Code::Unauthenticated, "no"), Verdict::Denied { .. }));
        assert!(matches!(judged(Code::ResourceExhausted, "busy"), Verdict::Later { .. }));
        let large = judged(Code::ResourceExhausted, "grpc: received message larger than max (5 vs. 4)");
        assert!(
            matches!(large, Verdict::TooLarge { why } if why == "u answers ResourceExhausted: grpc: received message larger than max (5 vs. 4)")
        );
    }

    #[test]
    fn a_status_may_say_how_long_to_wait() {
        let delay = RetryInfo { delay: Some(Delay { seconds: 7, nanos: 500_000_000 }) };
        let any =
            Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: delay.encode_to_vec() };
        let details = RichStatus { details: vec![any] }.encode_to_vec();
        let status = Status::with_details(Code::Unavailable, "busy", details.into());
        let Verdict::Later { after, .. } = judge("u", &status) else { panic!() };
        assert_eq!(after, Some(Duration::from_millis(7500)));
        assert_eq!(retry_after(b"nothing"), None);
    }
}
