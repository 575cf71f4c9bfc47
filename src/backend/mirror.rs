//! `/releases/…`: a folder of signed releases as any web server could serve it, to anybody who asks. Whoever downloads
//! verifies the signatures; this server adds no trust, and has no secret to keep here.
//!
//! **Invariant:** files only, and only those in the folder: no listing, no name that begins with a dot, nothing that a path
//! or a link leads out to. **Invariant:** what is sent is one state of one file, byte for byte: a part goes with an `ETag`
//! that is another one as soon as the file is, and `If-Range` holds the next part against it.

use std::ops::RangeInclusive;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use outrider_protocol::bulk::RELEASES_PATH;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::app::Shared;
use crate::http_error::{ApiError, InPath};

mod asked;
mod place;

use asked::Asked;
pub(crate) use place::guard;

/// Bytes that are read from disk at once, and so the memory that a download takes.
const AT_ONCE: usize = 64 * 1024;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route(&format!("{RELEASES_PATH}{{*path}}"), get(file))
}

async fn file(
    State(app): State<Shared>,
    InPath(path): InPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (folder, wanted) = (app.releases.clone(), path.clone());
    let opened = tokio::task::spawn_blocking(move || place::open(&folder, &wanted)).await;
    let opened = opened.map_err(|err| ApiError::internal(&err))?.map_err(|err| ApiError::internal(&err))?;
    let found = opened.ok_or_else(|| ApiError::not_found(format!("there is no release file {path:?}")))?;
    let about = [
        (header::ETAG, found.tag.clone()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_TYPE, kind(&path).to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        // Metadata change under their names, so a copy is asked for each time; nobody on the way may encode anew.
        (header::CACHE_CONTROL, "no-cache, no-transform".to_owned()),
    ];
    let is_get = method == Method::GET;
    Ok(match asked::of(&headers, is_get, &found.tag, found.length) {
        Asked::Nothing => (StatusCode::NOT_MODIFIED, about).into_response(),
        Asked::Unsatisfiable => {
            let message = format!("the file has {} bytes, and none of them was asked for", found.length);
            let range = [(header::CONTENT_RANGE, format!("bytes */{}", found.length))];
            (about, range, ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, message)).into_response()
        }
        Asked::All => {
            let length = [(header::CONTENT_LENGTH, found.length.to_string())];
            (about, length, Body::from_stream(stream(found.file, found.length))).into_response()
        }
        Asked::Part(part) => {
            let (first, last) = (*part.start(), *part.end());
            let range = [
                (header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", found.length)),
                (header::CONTENT_LENGTH, length_of(&part).to_string()),
            ];
            let mut file = tokio::fs::File::from_std(found.file);
            file.seek(std::io::SeekFrom::Start(first)).await.map_err(|err| ApiError::internal(&err))?;
            let body = Body::from_stream(ReaderStream::with_capacity(file.take(length_of(&part)), AT_ONCE));
            (StatusCode::PARTIAL_CONTENT, about, range, body).into_response()
        }
    })
}

fn stream(file: std::fs::File, length: u64) -> ReaderStream<tokio::io::Take<tokio::fs::File>> {
    // No more than was announced, should the file grow meanwhile.
    ReaderStream::with_capacity(tokio::fs::File::from_std(file).take(length), AT_ONCE)
}

fn length_of(part: &RangeInclusive<u64>) -> u64 {
    part.end() - part.start() + 1
}

fn kind(path: &str) -> &'static str {
    if path.ends_with(".json") { "application/json" } else { "application/octet-stream" }
}
