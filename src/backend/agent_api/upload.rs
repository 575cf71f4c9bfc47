//! `HEAD` and `PATCH` of `/agent/v1/uploads/EXPORT/MODEL/NUMBER`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use outrider_protocol::action::{Compression, SealedFile};
use outrider_protocol::bulk::{
    COMPRESSION, INTEGRATION, OBJECTS, RAW_BYTES, SHA256, UPLOAD_COMPLETE, UPLOAD_LENGTH, UPLOAD_OFFSET,
};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::{ExportId, IntegrationId, Model};

use super::CallingAgent;
use crate::app::Shared;
use crate::http_error::{ApiError, InPath};
use crate::hub::Change;
use crate::store::FileKey;
use crate::uploads::{self, Have, UploadError};

type FilePath = InPath<(ExportId, Model, u64)>;

pub(super) async fn head(
    State(app): State<Shared>,
    CallingAgent(agent): CallingAgent,
    InPath((export, model, number)): FilePath,
) -> Result<Response, ApiError> {
    let key = FileKey { agent, export, model, number };
    Ok(match uploads::have(&app, &key).await.map_err(|err| failed(&err))? {
        Have::Nothing => (StatusCode::NOT_FOUND, progress(0, false)).into_response(),
        Have::Part(bytes) => (StatusCode::OK, progress(bytes, false)).into_response(),
        Have::All { bytes, sha256 } => {
            (StatusCode::OK, progress(bytes, true), [(SHA256, sha256)]).into_response()
        }
    })
}

pub(super) async fn patch(
    State(app): State<Shared>,
    CallingAgent(agent): CallingAgent,
    InPath((export, model, number)): FilePath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let offset = number_in(&headers, UPLOAD_OFFSET)?;
    let file = sealed_file(&headers, export, model, number)?;
    if file.bytes > app.limits.file_bytes {
        let limit = app.limits.file_bytes;
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the file has {} bytes; at most {limit} are taken", file.bytes),
        ));
    }
    let key = FileKey { agent, export: file.export.clone(), model: file.model.clone(), number };
    // A task of its own goes on to a defined end when the connection breaks and this request is dropped.
    let task = tokio::spawn(async move {
        let outcome = uploads::append(&app, &key, &file, offset, body).await;
        if matches!(outcome, Ok(Have::All { .. }))
            && let Ok(command) = file.export.as_str().parse()
        {
            app.hub.changed(Change::Command(command));
        }
        outcome
    });
    let outcome = task.await.map_err(|err| ApiError::internal(&err))?;
    match outcome {
        Ok(Have::All { bytes, .. }) => Ok((StatusCode::OK, progress(bytes, true)).into_response()),
        Ok(Have::Part(bytes)) => Ok((StatusCode::OK, progress(bytes, false)).into_response()),
        Ok(Have::Nothing) => Ok((StatusCode::OK, progress(0, false)).into_response()),
        Err(err) => {
            let have = if let UploadError::Offset { have, .. } = err { Some(have) } else { None };
            let response = failed(&err);
            Ok(match have {
                Some(have) => (progress(have, false), response).into_response(),
                None => response.into_response(),
            })
        }
    }
}

fn progress(offset: u64, complete: bool) -> [(&'static str, String); 2] {
    [(UPLOAD_OFFSET, offset.to_string()), (UPLOAD_COMPLETE, if complete { "?1".into() } else { "?0".into() })]
}

fn failed(err: &UploadError) -> ApiError {
    let status = match err {
        UploadError::Store(_) => return ApiError::internal(err),
        UploadError::Disk { err: io, .. } if io.kind() == std::io::ErrorKind::StorageFull => {
            tracing::error!(error = chain(err), "The disk is full: a file cannot be taken.");
            return ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "the backend's disk is full")
                .hint("it is tried again; make room on the backend");
        }
        UploadError::Disk { .. } => return ApiError::internal(err),
        UploadError::Offset { .. } => StatusCode::CONFLICT,
        UploadError::Fault(_) | UploadError::Taken { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        UploadError::Quiet(_) => StatusCode::REQUEST_TIMEOUT,
        UploadError::TooMuch { .. } | UploadError::Cut(_) => StatusCode::BAD_REQUEST,
    };
    tracing::warn!(error = chain(err), "An upload was not taken.");
    ApiError::new(status, err.to_string())
}

fn sealed_file(
    headers: &HeaderMap,
    export: ExportId,
    model: Model,
    number: u64,
) -> Result<SealedFile, ApiError> {
    let sha256 = text_in(headers, SHA256)?;
    if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(ApiError::bad_request(format!(
            "header {SHA256} is {sha256:?}; expected 64 lower-case hex digits"
        )));
    }
    let integration = text_in(headers, INTEGRATION)?;
    let integration = IntegrationId::new(integration)
        .map_err(|err| ApiError::bad_request(format!("header {INTEGRATION}: {err}")))?;
    Ok(SealedFile {
        export,
        integration,
        model,
        number,
        objects: number_in(headers, OBJECTS)?,
        raw_bytes: number_in(headers, RAW_BYTES)?,
        bytes: number_in(headers, UPLOAD_LENGTH)?,
        sha256: sha256.into(),
        compression: compression_in(headers)?,
    })
}

fn compression_in(headers: &HeaderMap) -> Result<Compression, ApiError> {
    if !headers.contains_key(COMPRESSION) {
        return Ok(Compression::Gzip);
    }
    match text_in(headers, COMPRESSION)? {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        other => {
            Err(ApiError::bad_request(format!("header {COMPRESSION} is {other:?}; expected gzip or zstd")))
        }
    }
}

fn text_in<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, ApiError> {
    let value =
        headers.get(name).ok_or_else(|| ApiError::bad_request(format!("header {name} is missing")))?;
    value.to_str().map_err(|_| ApiError::bad_request(format!("header {name} is no plain text")))
}

fn number_in(headers: &HeaderMap, name: &str) -> Result<u64, ApiError> {
    let text = text_in(headers, name)?;
    text.parse().map_err(|_| {
        ApiError::bad_request(format!("header {name} is {text:?}; expected a number of bytes or objects"))
    })
}
