//! The connection to NATS: with which secrets and certificates, and what is heard of it.
//!
//! # Invariants
//! - Secrets come from the configuration or a file that is read for each connection, and go to the server alone.
//! - A connection that is lost is made again by the client, for as long as it lives; its number says that it is another one.

use async_nats::{Auth, AuthError, Client, ClientError, ConnectErrorKind, ConnectOptions, Event};
use outrider_protocol::aggregator::Jetstream;
use outrider_protocol::collect::Access;
use tokio::sync::watch;

use super::place::Unusable;
use super::{Plan, chain_once};
use crate::secret;

/// What was heard of the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// How many were made.
    pub(super) connections: u64,
    /// What went wrong since.
    pub(super) trouble: Option<String>,
}

impl Heard {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Connected => *self = Self { connections: self.connections + 1, trouble: None },
            // What went wrong before says more.
            Event::Disconnected | Event::Closed => {
                self.trouble.get_or_insert_with(|| "the connection is gone".to_owned());
            }
            Event::ServerError(err) => self.trouble = Some(format!("it says: {err}")),
            Event::ClientError(ClientError::Other(why)) => {
                self.trouble = Some(format!("connect: {}", known(why)));
            }
            Event::ClientError(err) => self.trouble = Some(err.to_string()),
            Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {}
        }
    }

    /// Why it is not there.
    pub(super) fn unusable(&self) -> Unusable {
        let why = self.trouble.clone().unwrap_or_else(|| "the connection is gone".to_owned());
        let denied = why.contains(REFUSED);
        Unusable { why, denied }
    }
}

const REFUSED: &str = "it refuses the name, the password or the token";

/// The client's own words, where they say too little.
fn known(text: &str) -> String {
    if text.to_lowercase().contains("authorization violation") { REFUSED.to_owned() } else { text.to_owned() }
}

/// Connects, or says why not.
pub(super) async fn connect(plan: &Plan, heard: watch::Sender<Heard>) -> Result<Client, Unusable> {
    // The client says less about a file that is missing.
    credentials(&plan.settings.access).map_err(|why| Unusable { why, denied: true })?;
    let hear = move |event: Event| {
        heard.send_modify(|it| it.hear(&event));
        std::future::ready(())
    };
    let options = options(&plan.settings)
        .name("outrider-aggregator")
        .connection_timeout(plan.connect)
        .request_timeout(Some(plan.answer))
        .event_callback(hear);
    options.connect(plan.settings.servers.as_slice()).await.map_err(|err| {
        let denied =
            matches!(err.kind(), ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication);
        Unusable { why: format!("connect: {}", known(&chain_once(&err))), denied }
    })
}

fn options(settings: &Jetstream) -> ConnectOptions {
    let access = settings.access.clone();
    let mut options = if access == Access::Open {
        ConnectOptions::new()
    } else {
        ConnectOptions::with_auth_callback(move |_| {
            std::future::ready(credentials(&access).map_err(AuthError::new))
        })
    };
    if let Some(tls) = &settings.tls {
        options = options.require_tls(true);
        if let Some(ca) = &tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &tls.identity {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
    }
    options
}

fn credentials(access: &Access) -> Result<Auth, String> {
    let mut auth = Auth::new();
    match access {
        Access::Open => {}
        Access::Basic(user, password) => {
            auth.username = Some(user.clone());
            auth.password = Some(secret::read(password)?);
        }
        Access::Bearer(token) | Access::ApiKey(token) => auth.token = Some(secret::read(token)?),
    }
    Ok(auth)
}

#[cfg(test)]
mod tests {
    use async_nats::ServerError;
    use outrider_protocol::collect::Credential;

    use super::*;

    #[test]
    fn what_is_heard_says_why_and_whether_a_person_is_needed() {
        let mut heard = Heard::default();
        heard.hear(&Event::Connected);
        assert_eq!(heard, Heard { connections: 1, trouble: None });
        heard.hear(&Event::Disconnected);
        assert_eq!(heard.unusable(), Unusable { why: "the connection is gone".into(), denied: false });
        heard.hear(&Event::ClientError(ClientError::Other("IO error".into())));
        assert_eq!(heard.unusable().why, "connect: IO error");
        heard.hear(&Event::ClientError(ClientError::Other("authorization violation".into())));
        assert!(heard.unusable().denied);
        heard.hear(&Event::ServerError(ServerError::Other("Permissions Violation".into())));
        heard.hear(&Event::Disconnected);
        assert!(heard.unusable().why.contains("Permissions Violation"));
        heard.hear(&Event::Connected);
        assert_eq!(heard, Heard { connections: 2, trouble: None });
    }

    #[test]
    fn a_secret_is_read_when_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let access = Access::Bearer(Credential::File(path.clone()));
        assert!(credentials(&access).is_err_and(|it| it.contains("token: No such file")));
        std::fs::write(&path, "hunter22\n").unwrap();
        assert_eq!(credentials(&access).ok().and_then(|it| it.token).as_deref(), Some("hunter22"));
        let basic = Access::Basic("u".into(), Credential::Given("p".into()));
        let auth = credentials(&basic).unwrap_or_default();
        assert_eq!((auth.username.as_deref(), auth.password.as_deref()), (Some("u"), Some("p")));
    }
}
