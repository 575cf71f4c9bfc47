//! Uploaded files.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use outrider_protocol::action::Compression;
use outrider_protocol::ids::{AgentId, ExportId, Model};
use tokio_util::io::ReaderStream;

use crate::admin::{File, FileFilter};
use crate::app::Shared;
use crate::data::DataError;
use crate::http_error::{ApiError, InPath, InQuery};
use crate::store::FileKey;

pub(super) async fn list(
    State(app): State<Shared>,
    InQuery(filter): InQuery<FileFilter>,
) -> Result<Json<Vec<File>>, ApiError> {
    Ok(Json(app.files(&filter).await?))
}

pub(super) async fn download(
    State(app): State<Shared>,
    InPath((agent, export, model, number)): InPath<(AgentId, ExportId, Model, u64)>,
) -> Result<Response, ApiError> {
    send(&app, FileKey { agent, export, model, number }).await
}

/// Streams an uploaded file as it lies on disk.
pub(crate) async fn send(app: &Shared, key: FileKey) -> Result<Response, ApiError> {
    let known = app.store.file(&key).await?.ok_or_else(|| {
        let FileKey { agent, export, model, number } = &key;
        ApiError::not_found(format!(
            "there is no file {number} of {model} in export {export} of agent {agent}"
        ))
    })?;
    let path = app.data.file(&key, known.compression);
    let opened = tokio::fs::File::open(&path).await;
    let file = opened.map_err(|err| ApiError::internal(&DataError::Io { what: "open", path, err }))?;
    let ending = known.compression.extension();
    let name = format!("{}-{}-{}.json.{ending}", known.export, known.model, known.number);
    let kind = match known.compression {
        Compression::Gzip => "application/gzip",
        Compression::Zstd => "application/zstd",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, known.bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
