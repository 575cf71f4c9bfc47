//! Access tokens for integrations: made by the backend of a refresh token that never comes here.
//!
//! **Invariant:** a token is a secret of this run before the integration has it: no log and no report shows it.

use outrider_peer::CallError;
use outrider_protocol::action::OAuthParams;
use outrider_protocol::fault::{Fault, Retry, RpcError, chain, code};
use outrider_protocol::integration::{OAuthAccessTokenParams, OAuthAccessTokenReply};
use outrider_protocol::log::{Fields, Level};

use crate::integration_log::IntegrationLog;

/// Asks the service for an access token. One call of an integration at a time: a second one waits for the first.
///
/// # Errors
/// By hand, where there is nobody to ask; and what the service or the backend answered.
pub(crate) async fn access_token(
    log: &IntegrationLog,
    params: OAuthAccessTokenParams,
) -> Result<OAuthAccessTokenReply, RpcError> {
    let _answering = log.answering();
    let _turn = log.asking().await;
    let params = OAuthParams { integration: log.id().clone(), refused: params.refused };
    let Some(answer) = log.context().outlet().access_token(&params).await else {
        let message = "no backend to ask for an access token: this run was started by hand";
        let hint =
            "order it from the backend, or put a token of its own into the integration's configuration";
        let data = RpcError::failed(Fault::Caller, Retry::No, message).hint(hint);
        return Err(RpcError { code: code::NOT_SUPPORTED, ..data });
    };
    let reply = answer.map_err(|err| match err {
        CallError::Rpc(error) => error,
        err => {
            RpcError::failed(err.fault(), err.retry(), format!("ask for an access token: {}", chain(&err)))
        }
    })?;
    log.context().learn_secret(&reply.access_token);
    let fields = Fields::from_iter([("generation".to_owned(), reply.generation.into())]);
    log.note(Level::Debug, "got an access token from the backend", fields);
    Ok(reply)
}
