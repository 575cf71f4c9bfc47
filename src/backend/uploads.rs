//! Takes the files of agents: resumable, synced, hashed, each once. The contract is in [`outrider_protocol::bulk`].
//!
//! **Invariant:** a file is entered in the store only after all its bytes were synced, read back and compared with the
//! hash and the counts that the agent told. **Invariant:** one request at a time writes to a file, to its own end: a request whose
//! connection broke does not go on writing beside the next one.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use outrider_protocol::action::{Compression, SealedFile};
use tokio::io::AsyncWriteExt as _;

use crate::app::App;
use crate::file_check::{self, FileFault};
use crate::store::{FileKey, StoreError};

/// Bytes gathered before they are written: frames from the network are smaller.
const WRITE_BYTES: usize = 256 * 1024;

/// The files that are being written right now.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    busy: Mutex<HashMap<FileKey, Arc<tokio::sync::Mutex<()>>>>,
}

/// How much of a file is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Have {
    Nothing,
    Part(u64),
    /// All of a file of this name. Whether it is the one that was asked for, its hash tells.
    All {
        bytes: u64,
        sha256: String,
    },
}

/// Why bytes of a file were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the backend has {have} bytes of this file, but the upload begins at {offset}")]
    Offset { have: u64, offset: u64 },
    #[error(transparent)]
    Fault(FileFault),
    #[error("the upload has more bytes than the {length} of its upload-length header")]
    TooMuch { length: u64 },
    #[error("another file of this name, with SHA-256 {have}, is complete already")]
    Taken { have: String },
    #[error("no byte came for {0:?}")]
    Quiet(Duration),
    #[error("the connection broke while the file was uploaded")]
    Cut(#[source] axum::Error),
    #[error("{what} {path}")]
    Disk {
        what: &'static str,
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Uploads {
    fn lock_of(&self, key: &FileKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(busy.entry(key.clone()).or_default())
    }
}

/// How much of a file the backend has.
pub(crate) async fn have(app: &App, key: &FileKey) -> Result<Have, UploadError> {
    if let Some(file) = app.store.file(key).await? {
        return Ok(Have::All { bytes: file.bytes, sha256: file.sha256 });
    }
    for compression in [Compression::Gzip, Compression::Zstd] {
        let path = part_of(&app.data.file(key, compression));
        match tokio::fs::metadata(&path).await {
            Ok(meta) => return Ok(Have::Part(meta.len())),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(UploadError::Disk { what: "look at", path, err }),
        }
    }
    Ok(Have::Nothing)
}

/// Appends a body to a file at an offset. Answers how much is here now.
pub(crate) async fn append(
    app: &App,
    key: &FileKey,
    file: &SealedFile,
    offset: u64,
    body: Body,
) -> Result<Have, UploadError> {
    let lock = app.uploads.lock_of(key);
    let _alone = lock.lock().await;
    if let Some(known) = app.store.file(key).await? {
        return if known.sha256 == file.sha256 {
            Ok(Have::All { bytes: known.bytes, sha256: known.sha256 })
        } else {
            Err(UploadError::Taken { have: known.sha256 })
        };
    }
    let path = app.data.file(key, file.compression);
    let part = part_of(&path);
    let have = write_body(&part, file.bytes, offset, body, app.limits.upload_quiet).await?;
    if have < file.bytes {
        return Ok(Have::Part(have));
    }
    finish(&path, &part, file).await?;
    app.store.add_file(&key.agent, file, Timestamp::now()).await?;
    tracing::info!(agent = %key.agent, export = %key.export, model = %key.model, number = key.number,
        objects = file.objects, bytes = file.bytes, "File received.");
    Ok(Have::All { bytes: have, sha256: file.sha256.clone() })
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

async fn write_body(
    part: &Path,
    length: u64,
    offset: u64,
    body: Body,
    quiet: Duration,
) -> Result<u64, UploadError> {
    let disk = |what| move |err| UploadError::Disk { what, path: part.into(), err };
    if let Some(folder) = part.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(disk("make the folder of"))?;
    }
    let file = tokio::fs::File::options().create(true).append(true).open(part).await.map_err(disk("open"))?;
    let mut have = file.metadata().await.map_err(disk("look at"))?.len();
    if have != offset {
        return Err(UploadError::Offset { have, offset });
    }
    let mut out = tokio::io::BufWriter::with_capacity(WRITE_BYTES, file);
    let mut frames = body.into_data_stream();
    let outcome = loop {
        let frame = match tokio::time::timeout(quiet, frames.next()).await {
            Err(_) => break Err(UploadError::Quiet(quiet)),
            Ok(None) => break Ok(()),
            Ok(Some(Err(err))) => break Err(UploadError::Cut(err)),
            Ok(Some(Ok(frame))) => frame,
        };
        if have + frame.len() as u64 > length {
            break Err(UploadError::TooMuch { length });
        }
        out.write_all(&frame).await.map_err(disk("write"))?;
        have += frame.len() as u64;
    };
    // What came before a cut is kept: the agent goes on from there.
    out.flush().await.map_err(disk("write"))?;
    if outcome.is_ok() && have == length {
        out.get_ref().sync_all().await.map_err(disk("sync"))?;
    }
    outcome.map(|()| have)
}

/// Compares what is on disk with what the agent said, and gives the file its name.
async fn finish(path: &Path, part: &Path, said: &SealedFile) -> Result<(), UploadError> {
    let (path, part, said) = (path.to_owned(), part.to_owned(), said.clone());
    let work = move || -> Result<(), UploadError> {
        let disk = |what| {
            let path = part.clone();
            move |err| UploadError::Disk { what, path, err }
        };
        match file_check::check(&part, &said) {
            Ok(()) => {}
            Err(FileFault::Read(err)) => return Err(disk("read")(err)),
            Err(fault) => {
                std::fs::remove_file(&part).map_err(disk("remove"))?;
                return Err(UploadError::Fault(fault));
            }
        }
        std::fs::rename(&part, &path).map_err(disk("rename"))?;
        // The names of the file and of folders that may be new are durable when their folders are synced.
        for folder in path.ancestors().skip(1).take(4) {
            sync_folder(folder).map_err(disk("sync the folder of"))?;
        }
        Ok(())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(err) => {
            Err(UploadError::Disk { what: "finish", path: PathBuf::new(), err: io::Error::other(err) })
        }
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// Windows keeps names durable by itself and does not open folders as files.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
