//! Spool files on their way to the backend: a few at once, resumed where they stopped, again and again until they are
//! acknowledged.

mod offer;
mod resting;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use futures_util::future::OptionFuture;
use outrider_home::{Limits, Root, unchanged};
use outrider_protocol::action::{Compression, SealedFile};
use outrider_protocol::fault::chain;
use outrider_spool::{Sealed, Settings, Spool, SpoolError};
use reqwest::StatusCode;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Timing;
use super::backoff::Backoff;
use super::http::{CallError, Http};
use super::ledger::Ledger;
use super::lost;
use super::upload::{Upload, UploadError};
use crate::event::{Event, SpoolUse};
use crate::task::guarded;
use offer::Offered;
use resting::{Resting, refused};

/// How one try to upload a file went.
type Tried = (Result<(), UploadError>, Sealed);

/// The name of a file: export, model, number.
type Key = (String, String, u64);

/// Uploads files until the loop of the service is gone.
#[derive(Debug)]
pub(crate) struct Uploads {
    http: Http,
    timing: Timing,
    spool: Spool,
    /// Exports that may be gone on with.
    open: watch::Receiver<HashSet<String>>,
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
    root: Root,
    ledger: Ledger,
}

impl Uploads {
    pub(crate) fn new(
        http: Http,
        timing: Timing,
        (root, limits, ledger): (&Root, &Limits, Ledger),
        (spool, open): (Spool, watch::Receiver<HashSet<String>>),
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            away: Backoff::new(&timing),
            away_until: Instant::now(),
            root: root.clone(),
            ledger,
            http,
            timing,
            spool,
            open,
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
        let mut offering: Option<(u64, JoinHandle<Offered>)> = None;
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
                let upload = self.upload();
                under_way.spawn(tried(file.clone(), async move { upload.file(&file).await }));
            }
            let rested =
                self.resting.values().filter(|it| !it.active && !it.is_given_up()).map(|it| it.until).min();
            let away = (!self.queue.is_empty() && self.away_until > now).then_some(self.away_until);
            let next = rested.into_iter().chain(away).min();
            tokio::select! {
                woken = sealed.recv() => match woken {
                    Some(Wake::Sealed(file)) => self.add(*file),
                    Some(Wake::Look) => self.look().await,
                    Some(Wake::Connected) => self.connected(),
                    Some(Wake::BackendHas(files)) if offering.is_none() => offering = self.compare(files),
                    Some(Wake::BackendHas(_)) => {}
                    None => return,
                },
                Some(offered) = OptionFuture::from(offering.as_mut().map(|(_, task)| task)) => {
                    let lost = offering.take().map_or(0, |(lost, _)| lost);
                    self.offered(lost, offered).await;
                }
                // A task that panicked has answered all the same, and none is aborted.
                Some(Ok(ended)) = under_way.join_next() => self.ended(ended).await,
                Some(()) = OptionFuture::from(next.map(sleep_until)) => {}
                () = sleep_until(housekeeping) => {}
            }
        }
    }

    fn upload(&self) -> Upload {
        Upload { http: self.http.clone(), spool: self.spool.clone(), chunk: self.chunk }
    }

    /// The backend is back, perhaps in another version: files that it refused are tried once more.
    fn connected(&mut self) {
        self.away_until = Instant::now();
        for it in self.resting.values_mut().filter(|it| it.is_given_up() && !it.active) {
            it.active = true;
            self.queue.push_back(it.file.clone());
        }
    }

    /// Looks for files that nobody told of, seals what dead exports left, and removes what was sent long ago.
    async fn look(&mut self) {
        let (spool, keep, mut open) = (self.spool.clone(), self.sent_keep, self.open.borrow().clone());
        let root = self.root.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let recovered = spool.recover()?;
            for (export, err) in &recovered.failed {
                tracing::error!(
                    export,
                    error = chain(err),
                    "What an export left in the spool cannot be recovered."
                );
            }
            // Whatever is wrong with what was sent, what was not has to go on its way.
            open.extend(asked_about(&root));
            expire(&spool, keep, &open);
            let pending = spool.pending()?;
            for (export, err) in &pending.failed {
                tracing::error!(
                    export,
                    error = chain(err),
                    "The files of an export in the spool cannot be read; they are tried again later."
                );
            }
            Ok::<_, SpoolError>(pending.files)
        });
        match looked.await {
            Ok(Ok(files)) => {
                self.forget_dropped();
                files.into_iter().for_each(|file| self.add(file));
            }
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
        let rested = |it: &&mut Resting| !it.active && !it.is_given_up() && it.until <= now;
        for it in self.resting.values_mut().filter(rested) {
            it.active = true;
            self.queue.push_back(it.file.clone());
        }
    }

    async fn ended(&mut self, (result, file): Tried) {
        let Sealed { export, model, number, bytes, .. } = &file;
        match result {
            Ok(()) => {
                tracing::info!(export, model, number, objects = file.records, bytes, "File uploaded.");
                self.ledger.add();
                if self.resting.get(&key(&file)).is_some_and(|it| it.refusals > 0) {
                    let taken = Event::Taken { export: export.clone(), file: (model.clone(), *number) };
                    drop(self.events.send(taken).await);
                }
                self.away.reset();
                self.forget(&file);
                self.tell_usage().await;
            }
            Err(UploadError::Read(err)) if err.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(
                    export,
                    model,
                    number,
                    "A file is gone from the spool: uploaded before, or removed."
                );
                self.forget(&file);
            }
            Err(UploadError::Call(err)) if is_away(&err) => {
                let pause = self.away.pause().max(err.retry_after().unwrap_or_default());
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
                    refusals: 0,
                });
                let is_refused = matches!(err, UploadError::Refused(_));
                resting.refusals += u32::from(is_refused);
                let given_up = resting.is_given_up();
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
                if given_up {
                    self.refuse(&file).await;
                }
                if is_refused {
                    let refused = refused(&file, &err, given_up);
                    // Without the loop nobody wants to know.
                    drop(self.events.send(refused).await);
                    self.tell_usage().await;
                }
            }
        }
    }

    fn forget(&mut self, file: &Sealed) {
        self.known.remove(&key(file));
        self.resting.remove(&key(file));
    }

    async fn tell_usage(&self) {
        let (spool, root) = (self.spool.clone(), self.root.clone());
        let looked = tokio::task::spawn_blocking(move || spool.usage().map(|it| (it, lost::files(&root))));
        if let Ok(Ok((usage, lost))) = looked.await {
            let refused = self.resting.values().filter(|it| it.is_given_up()).count();
            let (files, bytes, acknowledged) = (usage.files, usage.bytes, self.ledger.files());
            let event = Event::Spool(SpoolUse { files, bytes, acknowledged, refused, lost });
            // Without the loop nobody wants to know.
            drop(self.events.send(event).await);
        }
    }
}

/// One try to upload a file. A panic is one that failed, so that the file is tried again.
async fn tried(file: Sealed, upload: impl Future<Output = Result<(), UploadError>>) -> Tried {
    let result = guarded("upload", upload).await;
    (result.unwrap_or(Err(UploadError::Panicked)), file)
}

/// The exports of which the next one asks what became of their objects.
fn asked_about(root: &Root) -> HashSet<String> {
    unchanged::waiting_exports(root).unwrap_or_else(|err| {
        tracing::error!(
            error = chain(&err),
            "The store of unchanged objects cannot be read; some may be sent again."
        );
        HashSet::new()
    })
}

/// Removes what was sent long ago. Of an export that is `open` the manifest stays: its next life has to know what the one
/// before left, and the next export that what it left was acknowledged.
fn expire(spool: &Spool, keep: Duration, open: &HashSet<String>) {
    let removed = match spool.expire_sent(keep, SystemTime::now(), open) {
        Ok(removed) => removed,
        Err(err) => {
            tracing::error!(error = chain(&err), "Files that were sent cannot be removed.");
            return;
        }
    };
    for (export, err) in &removed.failed {
        tracing::error!(export, error = chain(err), "Files of an export that were sent cannot be removed.");
    }
    if removed.files > 0 {
        tracing::debug!(files = removed.files, bytes = removed.bytes, "Removed files that were sent.");
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
    /// The backend has so many complete files, fewer than it had acknowledged before it was asked.
    BackendHas(u64),
}

/// Opens the spool as the service uses it: it never writes to an export.
pub(crate) fn open(dir: std::path::PathBuf) -> Result<Spool, SpoolError> {
    Spool::open(dir, Settings::default())
}

/// The spool's own description of a file that an action told of.
pub(crate) fn sealed(spool: &Spool, file: SealedFile) -> Sealed {
    let SealedFile { export, integration, model, number, objects, raw_bytes, bytes, sha256, compression } =
        file;
    let name = format!("{number}.json.{}", compression.extension());
    let path = spool.dir().join(export.as_str()).join(model.as_str()).join(name);
    let compression = match compression {
        Compression::Gzip => outrider_spool::Compression::Gzip,
        Compression::Zstd => outrider_spool::Compression::Zstd,
    };
    Sealed {
        export: export.into(),
        origin: integration.into(),
        model: model.into(),
        number,
        records: objects,
        raw_bytes,
        bytes,
        sha256,
        compression,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Sealed {
        Sealed {
            export: "e1".into(),
            origin: "git".into(),
            model: "m".into(),
            number: 0,
            records: 1,
            raw_bytes: 1,
            bytes: 1,
            sha256: String::new(),
            compression: outrider_spool::Compression::Gzip,
            path: "0.json.gz".into(),
        }
    }

    #[tokio::test]
    async fn a_file_whose_upload_panicked_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        let http = Http::anonymous("http://127.0.0.1:1", None, &limits).unwrap();
        let (events, _happened) = mpsc::channel(8);
        let root = Root::at(dir.path());
        let spool = (open(root.spool()).unwrap(), watch::channel(HashSet::new()).1);
        let ledger = Ledger::open(&root, &"a1".parse().unwrap());
        let mut uploads = Uploads::new(http, Timing::new(&limits), (&root, &limits, ledger), spool, events);
        uploads.add(file());
        let taken = uploads.queue.pop_front().unwrap();
        uploads.ended(tried(taken, async { panic!("a bug") }).await).await;
        assert!(uploads.queue.is_empty());
        uploads.resting.values_mut().for_each(|it| it.until = Instant::now());
        uploads.wake_rested();
        assert_eq!(uploads.queue.len(), 1);
    }
}
