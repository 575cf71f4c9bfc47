//! Spool files on their way to the backend: a few at once, resumed where they stopped, again and again until they are
//! acknowledged.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use futures_util::future::OptionFuture;
use outrider_home::Limits;
use outrider_protocol::action::SealedFile;
use outrider_protocol::bulk::{
    INTEGRATION, OBJECTS, RAW_BYTES, SHA256, UPLOAD_COMPLETE, UPLOAD_LENGTH, UPLOAD_OFFSET, upload_path,
};
use outrider_protocol::ids::{BadId, ExportId, IntegrationId, Model};
use outrider_spool::{Sealed, Settings, Spool, SpoolError};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::io::ReaderStream;

use super::Timing;
use super::backoff::Backoff;
use super::http::{CallError, Http, refusal};
use crate::event::Event;
use crate::task::chain;

/// A connection slower than this, in bytes a second, counts as broken.
const SLOWEST: u64 = 4 << 10;
/// Bytes read from a file at once.
const READ_BYTES: usize = 64 << 10;
/// How often one try may be sent back to another offset, or to the beginning, before it counts as failed.
const TURNS: u32 = 8;

/// The name of a file: export, model, number.
type Key = (String, String, u64);

/// Uploads files until the loop of the service is gone.
#[derive(Debug)]
pub(crate) struct Uploads {
    http: Http,
    timing: Timing,
    spool: Spool,
    at_once: usize,
    chunk: u64,
    sent_keep: Duration,
    events: mpsc::Sender<Event>,
    queue: VecDeque<Sealed>,
    /// Files that are in the queue, under way, or wait for their next try.
    known: HashSet<Key>,
    /// Files that failed for a reason of their own, each with its pauses and when it is tried again.
    resting: HashMap<Key, Resting>,
    /// Pauses of all files, for when the backend is away.
    away: Backoff,
    /// The backend is away: nothing is tried before this.
    away_until: Instant,
}

#[derive(Debug)]
struct Resting {
    file: Sealed,
    backoff: Backoff,
    until: Instant,
    active: bool,
}

/// Why a file is not uploaded yet.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("read the file")]
    Read(#[source] std::io::Error),
    #[error("the file holds {found} bytes, expected {expected}: something has changed it")]
    Size { found: u64, expected: u64 },
    #[error("the file's name is none of ours")]
    Name(#[source] BadId),
    #[error("the backend said where to go on {TURNS} times, and never had it all")]
    Turns,
    #[error("the backend's answer lacks the header {0}")]
    Header(&'static str),
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
    /// It has forgotten the file, since the hash was wrong.
    Again,
}

impl Uploads {
    pub(crate) fn new(
        http: Http,
        timing: Timing,
        limits: &Limits,
        spool: Spool,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            away: Backoff::new(&timing),
            away_until: Instant::now(),
            http,
            timing,
            spool,
            at_once: limits.uploads_at_once,
            chunk: limits.upload_chunk_bytes as u64,
            sent_keep: limits.sent_keep(),
            events,
            queue: VecDeque::new(),
            known: HashSet::new(),
            resting: HashMap::new(),
        }
    }

    /// `sealed` brings files that are new; a closed channel ends this.
    pub(crate) async fn run(mut self, mut sealed: mpsc::Receiver<Wake>) {
        let mut under_way = JoinSet::new();
        let mut housekeeping = Instant::now();
        loop {
            if housekeeping <= Instant::now() {
                self.look().await;
                housekeeping = Instant::now() + self.timing.spool_every;
            }
            self.wake_rested();
            let now = Instant::now();
            while under_way.len() < self.at_once
                && self.away_until <= now
                && let Some(file) = self.queue.pop_front()
            {
                let upload = Upload { http: self.http.clone(), spool: self.spool.clone(), chunk: self.chunk };
                under_way.spawn(async move { (upload.file(&file).await, file) });
            }
            let rested = self.resting.values().filter(|it| !it.active).map(|it| it.until).min();
            let away = (!self.queue.is_empty() && self.away_until > now).then_some(self.away_until);
            let next = rested.into_iter().chain(away).min();
            tokio::select! {
                woken = sealed.recv() => match woken {
                    Some(Wake::Sealed(file)) => self.add(*file),
                    Some(Wake::Look) => self.look().await,
                    Some(Wake::Connected) => self.away_until = Instant::now(),
                    None => return,
                },
                Some(ended) = under_way.join_next() => self.ended(ended).await,
                Some(()) = OptionFuture::from(next.map(sleep_until)) => {}
                () = sleep_until(housekeeping) => {}
            }
        }
    }

    /// Looks for files that nobody told of, seals what dead exports left, and removes what was sent long ago.
    async fn look(&mut self) {
        let (spool, keep) = (self.spool.clone(), self.sent_keep);
        let looked = tokio::task::spawn_blocking(move || {
            let recovered = spool.recover()?;
            for (export, err) in &recovered.failed {
                tracing::error!(
                    export,
                    error = chain(err),
                    "What an export left in the spool cannot be recovered."
                );
            }
            let removed = spool.expire_sent(keep, SystemTime::now())?;
            if removed.files > 0 {
                tracing::debug!(
                    files = removed.files,
                    bytes = removed.bytes,
                    "Removed files that were sent."
                );
            }
            spool.pending()
        });
        match looked.await {
            Ok(Ok(files)) => files.into_iter().for_each(|file| self.add(file)),
            Ok(Err(err)) => {
                tracing::error!(error = chain(&err), "The spool cannot be read; it is tried again later.");
            }
            Err(err) => tracing::error!(error = chain(&err), "Reading the spool panicked: this is a bug."),
        }
        self.tell_usage().await;
    }

    fn add(&mut self, file: Sealed) {
        if self.known.insert(key(&file)) {
            self.queue.push_back(file);
        }
    }

    fn wake_rested(&mut self) {
        let now = Instant::now();
        for it in self.resting.values_mut().filter(|it| !it.active && it.until <= now) {
            it.active = true;
            self.queue.push_back(it.file.clone());
        }
    }

    async fn ended(&mut self, ended: Result<(Result<(), UploadError>, Sealed), tokio::task::JoinError>) {
        let (result, file) = match ended {
            Ok(ended) => ended,
            Err(err) => {
                // The file stays in the spool, and is found by the next start.
                tracing::error!(error = chain(&err), "An upload panicked: this is a bug.");
                return;
            }
        };
        let Sealed { export, model, number, bytes, .. } = &file;
        match result {
            Ok(()) => {
                tracing::info!(export, model, number, objects = file.records, bytes, "File uploaded.");
                self.away.reset();
                self.forget(&file);
                self.tell_usage().await;
            }
            Err(UploadError::Read(err)) if err.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(export, model, number, "A file is gone from the spool; it is not uploaded.");
                self.forget(&file);
            }
            Err(UploadError::Call(err)) if is_away(&err) => {
                let pause = self.away.pause();
                tracing::debug!(export, model, number, error = chain(&err), "A file waits for the backend.");
                self.away_until = Instant::now() + pause;
                self.queue.push_front(file);
            }
            Err(err) => {
                let resting = self.resting.entry(key(&file)).or_insert_with(|| Resting {
                    file: file.clone(),
                    backoff: Backoff::new(&self.timing),
                    until: Instant::now(),
                    active: true,
                });
                let pause = resting.backoff.pause();
                resting.until = Instant::now() + pause;
                resting.active = false;
                let again_s = pause.as_secs();
                tracing::warn!(
                    export,
                    model,
                    number,
                    error = chain(&err),
                    again_s,
                    "A file was not uploaded."
                );
            }
        }
    }

    fn forget(&mut self, file: &Sealed) {
        self.known.remove(&key(file));
        self.resting.remove(&key(file));
    }

    async fn tell_usage(&self) {
        let spool = self.spool.clone();
        if let Ok(Ok(usage)) = tokio::task::spawn_blocking(move || spool.usage()).await {
            let event = Event::Spool { files: usage.files, bytes: usage.bytes };
            // Without the loop nobody wants to know.
            drop(self.events.send(event).await);
        }
    }
}

/// Something for the uploads to do.
#[derive(Debug)]
pub(crate) enum Wake {
    /// This file is complete.
    Sealed(Box<Sealed>),
    /// Look what is in the spool: an export is over.
    Look,
    /// The backend is back.
    Connected,
}

/// Opens the spool as the service uses it: it never writes to an export.
pub(crate) fn open(dir: std::path::PathBuf) -> Result<Spool, SpoolError> {
    Spool::open(dir, Settings::default())
}

/// The spool's own description of a file that an action told of.
pub(crate) fn sealed(spool: &Spool, file: SealedFile) -> Sealed {
    let SealedFile { export, integration, model, number, objects, raw_bytes, bytes, sha256 } = file;
    let path = spool.dir().join(export.as_str()).join(model.as_str()).join(format!("{number}.json.gz"));
    Sealed {
        export: export.into(),
        origin: integration.into(),
        model: model.into(),
        number,
        records: objects,
        raw_bytes,
        bytes,
        sha256,
        path,
    }
}

/// Whether the fault is not the file's: all of them have to wait.
fn is_away(err: &CallError) -> bool {
    match err {
        CallError::Unreachable { .. } | CallError::Token { .. } => true,
        CallError::Status { status, .. } => {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        }
        CallError::Rpc { .. } | CallError::BadReply { .. } => false,
    }
}

fn key(file: &Sealed) -> Key {
    (file.export.clone(), file.model.clone(), file.number)
}

/// One try to upload one file.
struct Upload {
    http: Http,
    spool: Spool,
    chunk: u64,
}

impl Upload {
    async fn file(&self, file: &Sealed) -> Result<(), UploadError> {
        let path = upload_path(&described(file).map_err(UploadError::Name)?);
        let head = self.http.request(Method::HEAD, &path).timeout(self.http.timeout());
        let mut step = head_step(&self.http.send_any(head).await?)?;
        let mut turns = 0;
        loop {
            let offset = match step {
                Step::Done => break,
                Step::From(offset) => offset,
                Step::Again => 0,
            };
            let response = self.http.send_any(self.patch(file, &path, offset).await?).await?;
            let turned = response.status() == StatusCode::CONFLICT;
            step = match patch_step(&response) {
                Some(step) => step?,
                None => return Err(refusal(response).await.into()),
            };
            if turned || step == Step::Again || step == Step::From(offset) {
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
            .body(body))
    }
}

fn described(file: &Sealed) -> Result<SealedFile, BadId> {
    let Sealed { number, records, raw_bytes, bytes, sha256, .. } = file;
    Ok(SealedFile {
        export: ExportId::new(&file.export)?,
        integration: IntegrationId::new(&file.origin)?,
        model: Model::new(&file.model)?,
        number: *number,
        objects: *records,
        raw_bytes: *raw_bytes,
        bytes: *bytes,
        sha256: sha256.clone(),
    })
}

/// What the answer to `HEAD` asks for.
fn head_step(response: &Response) -> Result<Step, UploadError> {
    match response.status() {
        StatusCode::NOT_FOUND => Ok(Step::From(0)),
        status if status.is_success() => told(response),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(CallError::Token { status, message: "asked for a file".to_owned() }.into())
        }
        status => Err(CallError::Status { status, message: "asked for a file".to_owned() }.into()),
    }
}

/// What the answer to `PATCH` asks for; `None` when it is a refusal.
fn patch_step(response: &Response) -> Option<Result<Step, UploadError>> {
    match response.status() {
        StatusCode::UNPROCESSABLE_ENTITY => Some(Ok(Step::Again)),
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
