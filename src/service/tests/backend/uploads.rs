//! The scripted backend's files: resumed by offset, checked by hash.

use std::collections::VecDeque;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use outrider_protocol::bulk::{SHA256, UPLOAD_COMPLETE, UPLOAD_LENGTH, UPLOAD_OFFSET};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Backend, File, refused};

pub(super) async fn missing() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

fn hash(file: &File) -> String {
    Sha256::digest(&file.bytes).iter().map(|it| format!("{it:02x}")).collect()
}

fn progress(file: &File) -> [(&'static str, String); 2] {
    let complete = if file.complete { "?1" } else { "?0" };
    [(UPLOAD_OFFSET, file.bytes.len().to_string()), (UPLOAD_COMPLETE, complete.to_owned())]
}

pub(super) async fn head(State(backend): State<Backend>, request: Request) -> Response {
    backend.look(|it| match it.files.get(request.uri().path()) {
        Some(file) if file.complete && !it.tells_no_hash => {
            (progress(file), [(SHA256, hash(file))]).into_response()
        }
        Some(file) => progress(file).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

pub(super) async fn patch(State(backend): State<Backend>, headers: HeaderMap, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let number = |name: &str| headers[name].to_str().unwrap().parse::<usize>().unwrap();
    let (offset, length) = (number(UPLOAD_OFFSET), number(UPLOAD_LENGTH));
    let trouble = backend.change(|it| it.troubles.get_mut("upload").and_then(VecDeque::pop_front));
    if let Some(refused) = refused(trouble).await {
        return refused;
    }
    let cut = backend.change(|it| {
        it.patches += 1;
        it.cut_after.take()
    });
    let conflict = backend.change(|it| {
        let file = it.files.entry(path.clone()).or_default();
        (file.bytes.len() != offset).then(|| (StatusCode::CONFLICT, progress(file)).into_response())
    });
    if let Some(conflict) = conflict {
        return conflict;
    }
    let mut body = request.into_body().into_data_stream();
    let mut taken = 0;
    while let Some(Ok(piece)) = body.next().await {
        let room = cut.map_or(piece.len(), |cut| piece.len().min(cut - taken));
        backend
            .change(|it| it.files.entry(path.clone()).or_default().bytes.extend_from_slice(&piece[..room]));
        taken += room;
        if cut == Some(taken) {
            // As a proxy that gives up: the rest is not read.
            return StatusCode::BAD_GATEWAY.into_response();
        }
    }
    backend.change(|it| {
        let wrong = it.wrong_hash > 0;
        let file = it.files.entry(path.clone()).or_default();
        if file.bytes.len() < length {
            return progress(file).into_response();
        }
        let found = hash(file);
        if wrong || found != headers[SHA256].to_str().unwrap() {
            it.wrong_hash = it.wrong_hash.saturating_sub(1);
            it.files.remove(&path);
            let error = json!({"message": "found 9 objects, expected 10"});
            return (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response();
        }
        file.complete = true;
        progress(file).into_response()
    })
}
