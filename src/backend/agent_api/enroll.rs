//! `POST /agent/v1/enroll`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use outrider_protocol::bulk::{EnrollReply, EnrollRequest};

use crate::app::Shared;
use crate::http_error::{ApiError, InBody, json_body};
use crate::hub::Change;
use crate::store::EnrollFault;

/// The longest text that an agent may say of itself, in bytes.
const LONGEST_TEXT: usize = 256;
/// The shortest id of a request: it must not be guessed.
const SHORTEST_REQUEST: usize = 16;

pub(super) async fn enroll(
    State(app): State<Shared>,
    InBody(body): InBody,
) -> Result<Json<EnrollReply>, ApiError> {
    let request: EnrollRequest = json_body(&body)?;
    check(&request)?;
    let granted = app.store.enroll(&request, Timestamp::now()).await.map_err(refused)?;
    tracing::info!(agent = %granted.reply.agent, host = request.host.hostname, again = granted.again, "Agent enrolled.");
    app.hub.changed(Change::Agents);
    Ok(Json(granted.reply))
}

fn check(request: &EnrollRequest) -> Result<(), ApiError> {
    let host = &request.host;
    let texts = [
        ("version", &request.version),
        ("channel", &request.channel),
        ("request", &request.request),
        ("host.hostname", &host.hostname),
        ("host.os", &host.os),
        ("host.arch", &host.arch),
    ];
    for (name, text) in texts {
        if text.len() > LONGEST_TEXT {
            let found = text.len();
            return Err(ApiError::bad_request(format!(
                "`{name}` has {found} bytes; at most {LONGEST_TEXT} are taken"
            )));
        }
    }
    if request.request.len() < SHORTEST_REQUEST {
        return Err(ApiError::bad_request(format!(
            "`request` is too short: expected at least {SHORTEST_REQUEST} random characters"
        )));
    }
    Ok(())
}

fn refused(fault: EnrollFault) -> ApiError {
    let status = match fault {
        EnrollFault::Store(err) => return err.into(),
        EnrollFault::InUse { .. } => StatusCode::CONFLICT,
        _ => StatusCode::FORBIDDEN,
    };
    tracing::warn!(reason = %fault, "Enrollment refused.");
    let hint = match fault {
        EnrollFault::UnknownCode => {
            "check the code for typing errors, and that this is the backend that made it"
        }
        _ => "ask for a new code (`outrider-backend code create`)",
    };
    ApiError::new(status, fault.to_string()).hint(hint)
}
