//! A package from a mirror to the disk: resumed, bounded, and verified as a whole before it counts.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use outrider_releases::{ByteStream, Target, TrustError, verify_file};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::mirror::{Mirror, ReadError};

/// The pause after the first try that failed; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries, unless a server asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a piece may take to come.
const SILENCE: Duration = Duration::from_secs(30);
/// A mirror that gives less than this in [`WINDOW`] is left, in bytes.
const LEAST: u64 = 16 << 10;
/// The time over which speed is judged.
const WINDOW: Duration = Duration::from_secs(60);
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// What is to be fetched, and how.
#[derive(Debug)]
pub struct Download<'a> {
    /// Where from, the best first.
    pub mirrors: &'a [Mirror],
    /// What.
    pub target: &'a Target,
    /// Where to. What is there already is gone on with.
    pub into: &'a Path,
    /// The most bytes a second; no bound where it is 0.
    pub rate: u64,
    /// How long it is tried.
    pub within: Duration,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// So much is there.
    Have {
        /// In bytes.
        bytes: u64,
        /// Bytes a second, of late.
        per_second: u64,
    },
    /// A try failed, and there will be another.
    Again {
        /// What went wrong.
        error: String,
        /// After which pause.
        pause: Duration,
    },
}

/// A package that was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No mirror has it.
    #[error("fetch {name}: no source has it: {why}")]
    Nowhere {
        /// Which.
        name: String,
        /// What the last one said.
        why: String,
    },
    /// The time is over.
    #[error("fetch {name}: not done within {} s; the last try failed: {why}", within.as_secs())]
    TooLong {
        /// Which.
        name: String,
        /// How long it was tried.
        within: Duration,
        /// What went wrong last.
        why: String,
    },
    /// What came is not what was signed, from every mirror.
    #[error("fetch {name}: what came is not what was signed")]
    Mismatch {
        /// Which.
        name: String,
        /// What differs.
        #[source]
        err: Box<TrustError>,
    },
    /// The disk.
    #[error("{operation} {}", path.display())]
    Disk {
        /// What was done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        err: io::Error,
    },
}

impl DownloadError {
    /// Whether the same may work later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooLong { .. } | Self::Disk { .. } => true,
            Self::Nowhere { .. } | Self::Mismatch { .. } => false,
        }
    }
}

/// How one try ended.
enum Try {
    Complete,
    Later { why: String, after: Option<Duration> },
    Gone { why: String },
    Disk(DownloadError),
}

/// Fetches a file and verifies it; tells `news` how far it is. What was fetched stays when this is dropped or fails, and is gone on
/// with the next time, but for what turned out to be something else.
///
/// # Errors
/// [`DownloadError`].
pub async fn download(what: &Download<'_>, mut news: impl FnMut(News)) -> Result<(), DownloadError> {
    let name = || what.target.name.clone();
    let until = Instant::now() + what.within;
    let mut gone: Vec<Option<String>> = vec![None; what.mirrors.len()];
    let mut wrong = 0_usize;
    let mut pause = FIRST_PAUSE;
    for turn in 0_usize.. {
        let Some(at) = (0..gone.len()).map(|it| (turn + it) % gone.len()).find(|it| gone[*it].is_none())
        else {
            let why = gone.into_iter().flatten().last().unwrap_or_else(|| "none is named".to_owned());
            return Err(DownloadError::Nowhere { name: name(), why });
        };
        let (why, after) = match one_try(what, &what.mirrors[at], until, &mut news).await {
            Try::Complete => match verify(what).await {
                Ok(()) => return Ok(()),
                Err(err) => {
                    remove(what.into).await?;
                    wrong += 1;
                    if wrong > what.mirrors.len() {
                        return Err(DownloadError::Mismatch { name: name(), err: Box::new(err) });
                    }
                    (format!("{}: {err}", what.mirrors[at].place(&what.target.path())), Some(Duration::ZERO))
                }
            },
            Try::Later { why, after } => (why, after),
            Try::Gone { why } => {
                gone[at] = Some(why.clone());
                (why, Some(Duration::ZERO))
            }
            Try::Disk(err) => return Err(err),
        };
        let wait = after.unwrap_or_else(|| jittered(pause));
        if Instant::now() + wait >= until {
            return Err(DownloadError::TooLong { name: name(), within: what.within, why });
        }
        if after.is_none() {
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        news(News::Again { error: why, pause: wait });
        sleep(wait).await;
    }
    unreachable!("the turns never end")
}

/// Up to half as long again, so that many agents do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without chance it is the pause itself.
    let _ = getrandom::fill(&mut byte);
    pause + pause.mul_f64(f64::from(byte[0]) / 512.0)
}

async fn one_try(what: &Download<'_>, mirror: &Mirror, until: Instant, news: &mut impl FnMut(News)) -> Try {
    let disk =
        |operation| move |err| Try::Disk(DownloadError::Disk { operation, path: what.into.to_owned(), err });
    let length = what.target.length;
    let have = match tokio::fs::metadata(what.into).await {
        Ok(meta) if meta.len() <= length => meta.len(),
        Ok(_) => 0,
        Err(err) if err.kind() == io::ErrorKind::NotFound => 0,
        Err(err) => return disk("look at")(err),
    };
    if have == length && length > 0 {
        return Try::Complete;
    }
    let reading = match mirror.read_from(&what.target.path(), have).await {
        Ok(reading) => reading,
        Err(ReadError::Gone { what, why }) => return Try::Gone { why: format!("{what}: {why}") },
        Err(ReadError::Later { what, after, err }) => {
            return Try::Later { why: format!("{what}: {err}"), after };
        }
    };
    // A server that begins anywhere else than asked is begun anew with.
    let have = if reading.from == have { have } else { 0 };
    if reading.from != have {
        return Try::Later { why: "the server began at another place than asked".to_owned(), after: None };
    }
    let file = match open_at(what.into, have).await {
        Ok(file) => file,
        Err(err) => return disk("open")(err),
    };
    pour(what, reading.pieces, (file, have), (mirror, until), news).await
}

/// Writes what comes behind the `have` bytes that are there.
async fn pour(
    what: &Download<'_>,
    mut pieces: ByteStream,
    (mut file, have): (File, u64),
    (mirror, until): (&Mirror, Instant),
    news: &mut impl FnMut(News),
) -> Try {
    let disk =
        |operation| move |err| Try::Disk(DownloadError::Disk { operation, path: what.into.to_owned(), err });
    let length = what.target.length;
    let mut meter = Meter::new(have);
    let mut bytes = have;
    let ended = loop {
        let piece = match timeout(SILENCE.min(until.saturating_duration_since(Instant::now())), pieces.next())
            .await
        {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(err))) => break Err(outrider_protocol::fault::chain(&err)),
            Ok(None) if bytes == length => break Ok(()),
            Ok(None) => break Err(format!("the connection ended after {bytes} of {length} bytes")),
            Err(_) => {
                break Err(format!(
                    "nothing came for {} s, after {bytes} of {length} bytes",
                    SILENCE.as_secs()
                ));
            }
        };
        bytes += piece.len() as u64;
        if bytes > length {
            // More than was signed is something else, whatever it is.
            drop(file);
            return match remove(what.into).await {
                Ok(()) => Try::Gone {
                    why: format!(
                        "{}: more than the {length} bytes that were signed",
                        mirror.place(&what.target.path())
                    ),
                },
                Err(err) => Try::Disk(err),
            };
        }
        if let Err(err) = file.write_all(&piece).await {
            return disk("write")(err);
        }
        if let Some(per_second) = meter.at(bytes) {
            news(News::Have { bytes, per_second });
        }
        if meter.is_slow(bytes) {
            break Err(format!("it gives less than {LEAST} bytes in {} s", WINDOW.as_secs()));
        }
        if what.rate > 0 {
            sleep(meter.ahead(bytes, what.rate)).await;
        }
    };
    let written = match &ended {
        // It is verified by reading all of it, also after a power cut; to wait for the disk here would only take longer.
        Ok(()) => file.flush().await,
        Err(_) => file.sync_all().await,
    };
    if let Err(err) = written {
        return disk("sync")(err);
    }
    match ended {
        Ok(()) => {
            news(News::Have { bytes, per_second: meter.speed(bytes) });
            Try::Complete
        }
        Err(why) => Try::Later { why: format!("{}: {why}", mirror.place(&what.target.path())), after: None },
    }
}

/// A file to go on with behind so many bytes.
async fn open_at(path: &Path, at: u64) -> io::Result<File> {
    use tokio::io::AsyncSeekExt as _;
    let mut file = File::options().create(true).write(true).truncate(false).open(path).await?;
    file.set_len(at).await?;
    file.seek(io::SeekFrom::Start(at)).await?;
    Ok(file)
}

async fn verify(what: &Download<'_>) -> Result<(), TrustError> {
    let (path, target) = (what.into.to_owned(), what.target.clone());
    match tokio::task::spawn_blocking(move || verify_file(&path, &target)).await {
        Ok(verified) => verified,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

async fn remove(path: &Path) -> Result<(), DownloadError> {
    match tokio::fs::remove_file(path).await {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(DownloadError::Disk { operation: "remove", path: path.to_owned(), err })
        }
        _ => Ok(()),
    }
}

/// Measures the speed of one try.
#[derive(Debug)]
struct Meter {
    began: Instant,
    first: u64,
    told: Instant,
    window: (Instant, u64),
}

impl Meter {
    fn new(have: u64) -> Self {
        let now = Instant::now();
        Self { began: now, first: have, told: now, window: (now, have) }
    }

    fn speed(&self, bytes: u64) -> u64 {
        let ms = self.began.elapsed().as_millis().max(1);
        u64::try_from(u128::from(bytes - self.first) * 1000 / ms).unwrap_or(u64::MAX)
    }

    /// The speed, when it is time to tell.
    fn at(&mut self, bytes: u64) -> Option<u64> {
        if self.told.elapsed() < TOLD_EVERY {
            return None;
        }
        self.told = Instant::now();
        Some(self.speed(bytes))
    }

    fn is_slow(&mut self, bytes: u64) -> bool {
        let (since, had) = self.window;
        if since.elapsed() < WINDOW {
            return false;
        }
        self.window = (Instant::now(), bytes);
        bytes - had < LEAST
    }

    /// How long to wait so that no more than `rate` bytes a second come.
    fn ahead(&self, bytes: u64, rate: u64) -> Duration {
        let due_ms = u128::from(bytes - self.first) * 1000 / u128::from(rate.max(1));
        let due = Duration::from_millis(u64::try_from(due_ms).unwrap_or(u64::MAX));
        due.saturating_sub(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests;
