//! One call of a token server: a refresh token in, an access token out.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{StatusCode, Url, redirect};
use serde::Deserialize;

use crate::store::Registration;

/// The longest time to get a connection, and for the whole call. An integration waits for it.
const CONNECT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 256 * 1024;
/// The longest text of a token server that is repeated, in bytes.
const LONGEST_TEXT: usize = 300;

/// What a token server gave. Holds secrets: it cannot be written out.
pub(crate) struct Grant {
    pub(super) access_token: String,
    pub(super) expires_in: Option<Duration>,
    /// The refresh token that stands in place of the one that was sent.
    pub(super) refresh_token: Option<String>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").finish_non_exhaustive()
    }
}

/// Why a token server gave nothing. No text here holds a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantFault {
    /// The refresh token is no longer good.
    #[error("the token server refuses the refresh token: {0}")]
    InvalidGrant(String),
    /// Something else of the registration is wrong.
    #[error("the token server refuses the request: {0}")]
    Refused(String),
    /// It cannot be reached, is broken or busy.
    #[error("the token server cannot answer now: {0}")]
    Away(String),
    /// Its answer is none.
    #[error("the token server's answer is not what RFC 6749 says: {0}")]
    Answer(String),
}

/// Why a token URL cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlFault {
    #[error("`token_url` is no URL")]
    NoUrl,
    #[error(
        "`token_url` must begin with https:// (http:// is taken for this machine only): a refresh token goes there"
    )]
    NotPrivate,
    #[error("`token_url` holds a user name or password; put the client's id and secret into their members")]
    HoldsUser,
}

/// Checks where a refresh token may be sent.
pub(crate) fn check_url(text: &str) -> Result<Url, UrlFault> {
    let url: Url = text.parse().map_err(|_| UrlFault::NoUrl)?;
    let is_local = match url.host() {
        None => return Err(UrlFault::NoUrl),
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlFault::HoldsUser);
    }
    if url.scheme() == "https" || (url.scheme() == "http" && is_local) {
        Ok(url)
    } else {
        Err(UrlFault::NotPrivate)
    }
}

/// A token URL without its query, which may hold anything.
pub(crate) fn shown_url(text: &str) -> String {
    match check_url(text) {
        Ok(mut url) => {
            url.set_query(None);
            url.set_fragment(None);
            url.into()
        }
        Err(_) => "(not a token URL)".into(),
    }
}

/// Talks to token servers. Its client is made at the first call.
#[derive(Debug, Default)]
pub(crate) struct TokenServer {
    http: OnceLock<reqwest::Client>,
}

/// A token server's answer, good or bad: some say `error` with status 200.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
    refresh_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl TokenServer {
    fn client(&self) -> Result<&reqwest::Client, GrantFault> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        // Whoever came first has chosen the provider; there is only one in this program.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(CALL)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("outrider-backend/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|err| {
                GrantFault::Away(format!("prepare HTTP: {}", outrider_protocol::fault::chain(&err)))
            })?;
        Ok(self.http.get_or_init(|| client))
    }

    /// Asks for a new access token.
    pub(crate) async fn refresh(&self, registration: &Registration) -> Result<Grant, GrantFault> {
        let url = check_url(&registration.token_url).map_err(|err| GrantFault::Refused(err.to_string()))?;
        let place = shown_url(&registration.token_url);
        let away = |err: reqwest::Error| {
            GrantFault::Away(format!("call {place}: {}", outrider_protocol::fault::chain(&err.without_url())))
        };
        let request = self
            .client()?
            .post(url)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body(registration));
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(away)? {
            if bytes.len() + piece.len() > LONGEST_ANSWER {
                return Err(GrantFault::Answer(format!("{place} gave more than {LONGEST_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        read(status, &bytes, &place, registration)
    }
}

fn body(registration: &Registration) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("refresh_token", &registration.refresh_token);
    form.append_pair("client_id", &registration.client_id);
    if let Some(secret) = &registration.client_secret {
        form.append_pair("client_secret", secret);
    }
    if !registration.scopes.is_empty() {
        form.append_pair("scope", &registration.scopes.join(" "));
    }
    form.finish()
}

/// What an answer means.
fn read(
    status: StatusCode,
    bytes: &[u8],
    place: &str,
    registration: &Registration,
) -> Result<Grant, GrantFault> {
    if status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    {
        return Err(GrantFault::Away(format!("{place} answers with status {status}")));
    }
    // What serde says of an answer may repeat a part of it.
    let answer: Option<Answer> = serde_json::from_slice(bytes).ok();
    match answer {
        Some(Answer { error: Some(error), error_description, .. }) => {
            let said = said(&error, error_description.as_deref(), registration);
            // The second is GitHub's word for it.
            Err(if matches!(error.as_str(), "invalid_grant" | "bad_refresh_token") {
                GrantFault::InvalidGrant(said)
            } else if matches!(error.as_str(), "temporarily_unavailable" | "server_error" | "slow_down") {
                GrantFault::Away(said)
            } else {
                GrantFault::Refused(said)
            })
        }
        Some(Answer { access_token: Some(access_token), expires_in, refresh_token, .. })
            if status.is_success() && !access_token.is_empty() =>
        {
            let refresh_token =
                refresh_token.filter(|new| !new.is_empty() && *new != registration.refresh_token);
            Ok(Grant { access_token, expires_in: seconds(expires_in.as_ref()), refresh_token })
        }
        _ if status.is_redirection() => Err(GrantFault::Refused(format!(
            "{place} answers with status {status}: give the URL that it leads to"
        ))),
        _ if status.is_client_error() => {
            Err(GrantFault::Refused(format!("{place} answers with status {status}")))
        }
        _ => Err(GrantFault::Answer(format!(
            "{place} gave {} bytes with status {status}; expected a JSON object with an access_token",
            bytes.len()
        ))),
    }
}

/// Some servers write the number as a text.
fn seconds(value: Option<&serde_json::Value>) -> Option<Duration> {
    let value = value?;
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    Some(Duration::from_secs(seconds))
}

/// What the server said of an error. It may repeat what it was sent, and then is not repeated here.
fn said(error: &str, description: Option<&str>, registration: &Registration) -> String {
    let secrets = [Some(&registration.refresh_token), registration.client_secret.as_ref()];
    let encoded =
        |secret: &String| url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
    let is_harmless = |text: &&str| {
        text.len() <= LONGEST_TEXT
            && !secrets
                .iter()
                .flatten()
                .any(|secret| text.contains(secret.as_str()) || text.contains(&encoded(secret)))
    };
    let code = Some(error).filter(is_harmless).unwrap_or("an error that is not shown");
    match description.filter(is_harmless) {
        Some(description) => format!("{code} ({description})"),
        None => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration {
            revision: 1,
            token_url: "https://id.example/token?tenant=t".into(),
            client_id: "client".into(),
            client_secret: Some("s3cr&t".into()),
            refresh_token: "refresh me".into(),
            scopes: vec!["read".into(), "offline".into()],
            generation: 0,
            refused: None,
        }
    }

    fn fault(status: u16, answer: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        let fault = read(status, answer.as_bytes(), "P", &registration()).unwrap_err();
        let kind = match &fault {
            GrantFault::InvalidGrant(_) => "grant",
            GrantFault::Refused(_) => "refused",
            GrantFault::Away(_) => "away",
            GrantFault::Answer(_) => "answer",
        };
        format!("{kind}: {fault}")
    }

    #[test]
    fn errors_are_told_apart() {
        assert!(fault(400, r#"{"error":"invalid_grant"}"#).starts_with("grant: "));
        assert!(fault(200, r#"{"error":"bad_refresh_token"}"#).starts_with("grant: "));
        assert!(fault(401, r#"{"error":"invalid_client"}"#).starts_with("refused: "));
        assert!(fault(404, "<html>").starts_with("refused: "));
        assert!(fault(302, "").starts_with("refused: "));
        assert!(fault(503, r#"{"error":"invalid_grant"}"#).starts_with("away: "));
        assert!(fault(429, "").starts_with("away: "));
        for answer in ["<html>", "{}", r#"{"access_token":""}"#, r#"{"access_token":7}"#, ""] {
            assert!(fault(200, answer).starts_with("answer: "), "{answer}");
        }
    }

    #[test]
    fn a_server_that_repeats_what_it_was_sent_is_not_repeated() {
        for secret in ["refresh me", "refresh+me", "s3cr&t", "s3cr%26t"] {
            let answer = format!(r#"{{"error":"invalid_grant","error_description":"no {secret} here"}}"#);
            let said = fault(400, &answer);
            assert!(!said.contains(secret) && said.ends_with("invalid_grant"), "{said}");
        }
        assert!(
            fault(400, r#"{"error":"invalid_grant","error_description":"revoked"}"#).ends_with("(revoked)")
        );
        assert_eq!(shown_url("https://id.example/token?tenant=t"), "https://id.example/token");
        assert!(!format!("{:?}", registration()).contains("refresh me"));
    }

    #[test]
    fn a_refresh_token_goes_to_private_places_only() {
        for url in
            ["https://id.example/token", "http://127.0.0.1:1/token", "http://[::1]/t", "http://localhost/t"]
        {
            assert!(check_url(url).is_ok(), "{url}");
        }
        assert_eq!(check_url("http://id.example/token"), Err(UrlFault::NotPrivate));
        assert_eq!(check_url("https://me:x@id.example/"), Err(UrlFault::HoldsUser));
        assert_eq!(check_url("token"), Err(UrlFault::NoUrl));
        let sent = body(&registration());
        assert!(
            sent.contains("refresh_token=refresh+me") && sent.contains("client_secret=s3cr%26t"),
            "{sent}"
        );
        assert!(sent.contains("scope=read+offline"), "{sent}");
    }
}
