//! One try to upload one file: asks what the backend has, and sends the rest in pieces, as the answers say.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::action::{Compression, SealedFile};
use outrider_protocol::bulk::{
    COMPRESSION, INTEGRATION, OBJECTS, RAW_BYTES, SHA256, UPLOAD_COMPLETE, UPLOAD_LENGTH, UPLOAD_OFFSET,
    upload_path,
};
use outrider_protocol::ids::{BadId, ExportId, IntegrationId, Model};
use outrider_spool::{Sealed, Spool, SpoolError};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Body, Method, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::http::{CallError, Http, refusal, retry_after};

/// A connection slower than this, in bytes a second, counts as broken.
const SLOWEST: u64 = 4 << 10;
/// Bytes read from a file at once.
const READ_BYTES: usize = 64 << 10;
/// How often one try may be sent back to another offset, or to the beginning, before it counts as failed.
const TURNS: u32 = 8;

/// Why a file is not uploaded yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("read the file")]
    Read(#[source] std::io::Error),
    #[error("the file holds {found} bytes, expected {expected}: something has changed it")]
    Size { found: u64, expected: u64 },
    #[error("the file's name is none of ours")]
    Name(#[source] BadId),
    #[error("the backend does not take it: {0}")]
    Refused(String),
    #[error("the backend said where to go on {TURNS} times, and never had it all")]
    Turns,
    #[error("the backend's answer lacks the header {0}")]
    Header(&'static str),
    #[error("the upload panicked: this is a bug; the log says where")]
    Panicked,
    #[error("acknowledge it in the spool")]
    Spool(#[source] SpoolError),
}

/// What the backend's answer asks for.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It has it all.
    Done,
    /// Send what follows this offset.
    From(u64),
}

impl UploadError {
    /// How long the backend asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        if let Self::Call(err) = self { err.retry_after() } else { None }
    }
}

/// One try to upload one file.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) http: Http,
    pub(super) spool: Spool,
    /// How much of the file one request carries, in bytes.
    pub(super) chunk: u64,
}

impl Upload {
    /// Answers when the backend has the file and the spool knows.
    pub(super) async fn file(&self, file: &Sealed) -> Result<(), UploadError> {
        let path = upload_path(&described(file).map_err(UploadError::Name)?);
        // One that was found in the spool and then told of may be through already; it is not to count twice.
        tokio::fs::metadata(&file.path).await.map_err(UploadError::Read)?;
        let mut step = self.ask(file, &path).await?;
        let mut turns = 0;
        loop {
            let offset = match step {
                Step::Done => break,
                Step::From(offset) => offset,
            };
            let response = self.http.send_any(self.patch(file, &path, offset).await?).await?;
            let turned = response.status() == StatusCode::CONFLICT;
            step = match patch_step(&response) {
                Some(step) => step?,
                None => return Err(refused(refusal(response).await)),
            };
            if turned || step == Step::From(offset) {
                tracing::debug!(
                    export = file.export,
                    model = file.model,
                    number = file.number,
                    ?step,
                    "Sent back."
                );
                turns += 1;
            }
            if turns > TURNS {
                return Err(UploadError::Turns);
            }
        }
        let (spool, file) = (self.spool.clone(), file.clone());
        match tokio::task::spawn_blocking(move || spool.acknowledge(&file)).await {
            Ok(acknowledged) => acknowledged.map_err(UploadError::Spool),
            Err(err) => Err(UploadError::Read(std::io::Error::other(err))),
        }
    }

    /// Whether the backend has the whole file: this one, not another of its name.
    pub(super) async fn is_known(&self, file: &Sealed) -> Result<bool, UploadError> {
        let path = upload_path(&described(file).map_err(UploadError::Name)?);
        match self.ask(file, &path).await {
            Err(UploadError::Refused(_)) => Ok(false),
            other => Ok(other? == Step::Done),
        }
    }

    /// Asks what the backend has of a file.
    async fn ask(&self, file: &Sealed, path: &str) -> Result<Step, UploadError> {
        let head = self.http.request(Method::HEAD, path).timeout(self.http.timeout());
        let response = self.http.send_any(head).await?;
        let step = head_step(&response)?;
        if step == Step::Done { same(file, response.headers()).map(|()| step) } else { Ok(step) }
    }

    /// The next piece of the file, as a request that reads it while it is sent.
    async fn patch(
        &self,
        file: &Sealed,
        path: &str,
        offset: u64,
    ) -> Result<reqwest::RequestBuilder, UploadError> {
        let mut from = tokio::fs::File::open(&file.path).await.map_err(UploadError::Read)?;
        let found = from.metadata().await.map_err(UploadError::Read)?.len();
        if found != file.bytes || offset > found {
            return Err(UploadError::Size { found, expected: file.bytes.max(offset) });
        }
        from.seek(std::io::SeekFrom::Start(offset)).await.map_err(UploadError::Read)?;
        let size = self.chunk.min(file.bytes - offset);
        let body = Body::wrap_stream(ReaderStream::with_capacity(from.take(size), READ_BYTES));
        let within = self.http.timeout() + Duration::from_secs(size / SLOWEST);
        Ok(self
            .http
            .request(Method::PATCH, path)
            .timeout(within)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .header(UPLOAD_OFFSET, offset)
            .header(UPLOAD_LENGTH, file.bytes)
            .header(SHA256, &file.sha256)
            .header(OBJECTS, file.records)
            .header(RAW_BYTES, file.raw_bytes)
            .header(INTEGRATION, &file.origin)
            .header(COMPRESSION, in_header(file.compression))
            .body(body))
    }
}

fn described(file: &Sealed) -> Result<SealedFile, BadId> {
    let Sealed { number, records, raw_bytes, bytes, sha256, compression, .. } = file;
    Ok(SealedFile {
        export: ExportId::new(&file.export)?,
        integration: IntegrationId::new(&file.origin)?,
        model: Model::new(&file.model)?,
        number: *number,
        objects: *records,
        raw_bytes: *raw_bytes,
        bytes: *bytes,
        sha256: sha256.clone(),
        compression: told_compression(*compression),
    })
}

/// As the links say it.
fn told_compression(found: outrider_spool::Compression) -> Compression {
    match found {
        outrider_spool::Compression::Gzip => Compression::Gzip,
        outrider_spool::Compression::Zstd => Compression::Zstd,
    }
}

fn in_header(compression: outrider_spool::Compression) -> &'static str {
    match compression {
        outrider_spool::Compression::Gzip => "gzip",
        outrider_spool::Compression::Zstd => "zstd",
    }
}

/// 422 says that what came is not what the file's description says (its hash, its count of objects; the backend has
/// forgotten it then), or that the backend has another file of this name.
fn refused(err: CallError) -> UploadError {
    match err {
        CallError::Status { status: StatusCode::UNPROCESSABLE_ENTITY, message, .. } => {
            UploadError::Refused(message)
        }
        err => err.into(),
    }
}

/// Refuses to take another file that the backend has under this name for the one that is here. A root that was restored
/// from a copy may use a name again.
fn same(file: &Sealed, answer: &HeaderMap) -> Result<(), UploadError> {
    let text = |name| answer.get(name).and_then(|it| it.to_str().ok());
    let has = (text(UPLOAD_OFFSET), text(SHA256));
    // Older backends tell no hash.
    let same_hash = has.1.is_none_or(|it| it == file.sha256);
    if same_hash && has.0.is_none_or(|it| it == file.bytes.to_string()) {
        return Ok(());
    }
    let (bytes, sha256) = (has.0.unwrap_or("?"), has.1.unwrap_or("?"));
    Err(UploadError::Refused(format!(
        "it has another file of this name already, of {bytes} bytes with the SHA-256 {sha256}"
    )))
}

/// What the answer to `HEAD` asks for.
fn head_step(response: &Response) -> Result<Step, UploadError> {
    match response.status() {
        StatusCode::NOT_FOUND => Ok(Step::From(0)),
        status if status.is_success() => told(response),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(CallError::Token { status, message: "asked for a file".to_owned() }.into())
        }
        status => {
            let (message, retry_after) =
                ("asked for a file".to_owned(), retry_after(response.headers(), Timestamp::now()));
            Err(CallError::Status { status, message, retry_after }.into())
        }
    }
}

/// What the answer to `PATCH` asks for; `None` when it is a refusal.
fn patch_step(response: &Response) -> Option<Result<Step, UploadError>> {
    match response.status() {
        StatusCode::CONFLICT => Some(told(response)),
        status if status.is_success() => Some(told(response)),
        _ => None,
    }
}

fn told(response: &Response) -> Result<Step, UploadError> {
    let text = |name| response.headers().get(name).and_then(|it| it.to_str().ok());
    if text(UPLOAD_COMPLETE) == Some("?1") {
        return Ok(Step::Done);
    }
    let offset = text(UPLOAD_OFFSET).and_then(|it| it.parse().ok());
    offset.map(Step::From).ok_or(UploadError::Header(UPLOAD_OFFSET))
}
