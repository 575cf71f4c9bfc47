//! Receivers that take bodies by POST.
//!
//! # Invariants
//! - No secret is part of an address, and none is in a message: where an answer repeats it, as it is or encoded, stars stand
//!   in its place.
//! - Of an answer only the beginning is read. Redirects are not followed, since they would carry the key elsewhere.

use std::time::Duration;

use outrider_protocol::collect::{Access, Credential, InfluxStore};
use outrider_protocol::fault::chain;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url};

use super::SetupError;
use super::login::{Login, Secrets};
use super::verdict::{Answer, Verdict, judge, judge_bulk, judge_datadog, judge_otlp, page};
use crate::encode::Body;

/// How much of an answer is read, in bytes.
const ANSWER_BYTES: usize = 16 << 10;
/// The same where it says something of each of thousands of documents, or of what it refuses of its points.
const LONG_ANSWER_BYTES: usize = 4 << 20;

/// A place that bodies are sent to.
#[derive(Debug)]
pub(crate) struct Post {
    client: Client,
    url: Url,
    login: Login,
    headers: &'static [(HeaderName, &'static str)],
    protocol: Protocol,
}

/// Who says more in an answer than its status does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Plain,
    Otlp,
    Bulk,
    Datadog,
}

const PROTOBUF: &str = "application/x-protobuf";
/// The version of remote write.
const WRITE_VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

impl Post {
    /// An InfluxDB of either version.
    pub(crate) fn influx(client: Client, url: &str, store: &InfluxStore) -> Result<Self, SetupError> {
        let (path, query, login) = match store {
            InfluxStore::V1 { database, retention, login } => {
                let mut query = vec![("db", database)];
                query.extend(retention.as_ref().map(|it| ("rp", it)));
                let login = login.clone().map_or(Login::None, |(name, it)| Login::Basic(name, it));
                ("write", query, login)
            }
            InfluxStore::V2 { org, bucket, token } => {
                let login = Login::Header("authorization", "Token ", token.clone());
                ("api/v2/write", vec![("org", org), ("bucket", bucket)], login)
            }
        };
        let mut url = below(url, path)?;
        url.query_pairs_mut().extend_pairs(query).append_pair("precision", "ns");
        Ok(Self {
            client,
            url,
            login,
            headers: &[(CONTENT_TYPE, "text/plain; charset=utf-8")],
            protocol: Protocol::Plain,
        })
    }

    /// Prometheus' remote write.
    pub(crate) fn remote_write(client: Client, url: &str, access: &Access) -> Result<Self, SetupError> {
        static HEADERS: [(HeaderName, &str); 3] =
            [(CONTENT_TYPE, PROTOBUF), (CONTENT_ENCODING, "snappy"), (WRITE_VERSION, "0.1.0")];
        let url = Url::parse(url)
            .map_err(|err| SetupError::Address { found: url.to_owned(), why: err.to_string() })?;
        Ok(Self { client, url, login: Login::of(access), headers: &HEADERS, protocol: Protocol::Plain })
    }

    /// OpenTelemetry's metrics.
    pub(crate) fn otlp(client: Client, url: &str, access: &Access) -> Result<Self, SetupError> {
        let headers = &[(CONTENT_TYPE, PROTOBUF), (CONTENT_ENCODING, "gzip")];
        let url = below(url, "v1/metrics")?;
        Ok(Self { client, url, login: Login::of(access), headers, protocol: Protocol::Otlp })
    }

    /// Documents of Elasticsearch.
    pub(crate) fn bulk(client: Client, url: &str, access: &Access) -> Result<Self, SetupError> {
        let headers = &[(CONTENT_TYPE, "application/x-ndjson")];
        let mut url = below(url, "_bulk")?;
        // Of documents that are taken nothing more is said than that.
        url.query_pairs_mut().append_pair("filter_path", "errors,items.*.status,items.*.error");
        Ok(Self { client, url, login: Login::of(access), headers, protocol: Protocol::Bulk })
    }

    /// Datadog's series.
    pub(crate) fn datadog(client: Client, url: &str, key: &Credential) -> Result<Self, SetupError> {
        let login = Login::Header("dd-api-key", "", key.clone());
        let headers = &[(CONTENT_TYPE, "application/json"), (CONTENT_ENCODING, "deflate")];
        Ok(Self { client, url: below(url, "api/v2/series")?, login, headers, protocol: Protocol::Datadog })
    }

    /// Sends a body and reads the answer.
    pub(crate) async fn send(&self, body: &Body, within: Duration) -> Verdict {
        let mut request = self.client.post(self.url.clone()).timeout(within).body(body.bytes.clone());
        for (name, value) in self.headers {
            request = request.header(name, *value);
        }
        let secrets = match self.login.header() {
            Ok(None) => Secrets::default(),
            Ok(Some((name, value, secrets))) => {
                let Ok(value) = sensitive(&value) else {
                    let why = "the secret has characters that no header can carry".to_owned();
                    return Verdict::Denied { why };
                };
                request = request.header(name, value);
                secrets
            }
            Err(why) => return Verdict::Denied { why },
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(err) => return Verdict::Later { why: chain(&err.without_url()), after: None },
        };
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let (after, content_type) = (header(RETRY_AFTER), header(CONTENT_TYPE));
        let most = if self.protocol == Protocol::Plain { ANSWER_BYTES } else { LONG_ANSWER_BYTES };
        let (bytes, cut) = beginning(response, most).await;
        let answer = Answer { status, content_type: content_type.as_deref(), bytes: &bytes, cut };
        let verdict = page(&answer).unwrap_or_else(|| match (self.protocol, status) {
            (Protocol::Otlp, 200..=299) => judge_otlp(&answer),
            (Protocol::Bulk, 200..=299) => judge_bulk(&answer, body),
            (Protocol::Datadog, 200..=299) => judge_datadog(&answer),
            _ => judge(status, after.as_deref(), &String::from_utf8_lossy(&bytes)),
        });
        verdict.said(|why| secrets.starred(why))
    }
}

/// A value that is in no dump of headers.
fn sensitive(value: &str) -> Result<HeaderValue, reqwest::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// An address with a path added to its own.
fn below(url: &str, path: &str) -> Result<Url, SetupError> {
    let text = format!("{}/{path}", url.trim_end_matches('/'));
    Url::parse(&text).map_err(|err| SetupError::Address { found: url.to_owned(), why: err.to_string() })
}

/// The first bytes of an answer, and whether there are more.
async fn beginning(mut response: Response, most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, false),
            // The status has been said; the rest is for people.
            Err(_) => return (bytes, true),
        }
        if bytes.len() > most {
            bytes.truncate(most);
            return (bytes, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        Client::new()
    }

    #[test]
    fn addresses_are_those_of_each_api() {
        let store = InfluxStore::V1 { database: "a b".into(), retention: Some("r".into()), login: None };
        let post = Post::influx(client(), "http://h:1/base/", &store).unwrap();
        assert_eq!(post.url.as_str(), "http://h:1/base/write?db=a+b&rp=r&precision=ns");
        let store =
            InfluxStore::V2 { org: "o".into(), bucket: "b".into(), token: Credential::Given("t".into()) };
        let post = Post::influx(client(), "https://h", &store).unwrap();
        assert_eq!(post.url.as_str(), "https://h/api/v2/write?org=o&bucket=b&precision=ns");
        assert!(!format!("{post:?}").contains("\"t\""));
        let post = Post::datadog(client(), "https://api.x.eu", &Credential::Given("k".into())).unwrap();
        assert_eq!(post.url.as_str(), "https://api.x.eu/api/v2/series");
    }
}
