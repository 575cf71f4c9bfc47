//! What this end writes: a bounded queue of lines, and the task that writes them.

use std::io::IoSlice;
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memchr;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::shared::Shared;
use crate::transport::Gone;
use crate::{GRACE, Lost};

/// Short lines are gathered up to this, so that a write to the pipe carries many. A longer one is written as it is.
const GATHERED_BYTES: usize = 32 * 1024;

/// Bytes of lines that wait to be written. Above this the reader is slow, and callers wait; one line may be longer.
const OUTGOING_BYTES: usize = 8 * 1024 * 1024;

/// Written texts whose memory is kept for the next ones, and the largest of these: a stream of batches is written without
/// asking the system for memory again and again.
const SPARE_TEXTS: usize = 4;
const SPARE_BYTES: usize = 1024 * 1024;

/// A message as the three parts of its line. Only the one in the middle may be large, and is never copied.
#[derive(Debug)]
pub(crate) struct Line {
    head: String,
    text: String,
    end: &'static str,
}

impl Line {
    /// Of a whole message.
    fn of(message: String) -> Self {
        Self { head: String::new(), text: one_line(message), end: "\n" }
    }

    /// Of a call, from what comes before its parameters on.
    pub(crate) fn call(head: String, params: String) -> Self {
        Self { head, text: one_line(params), end: "}\n" }
    }

    fn len(&self) -> usize {
        self.head.len() + self.text.len() + self.end.len()
    }

    fn parts(&self) -> [&str; 3] {
        [&self.head, &self.text, self.end]
    }
}

/// Something for the writer.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message.
    Line { line: Line, _room: OwnedSemaphorePermit },
    /// Tell when everything before this is written.
    Flush(oneshot::Sender<()>),
    /// Write what is gathered and end the writing side.
    End,
}

/// The sending side of the outgoing queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    lines: mpsc::Sender<Outgoing>,
    room: Arc<Semaphore>,
    spare: Spare,
}

/// Memory of texts that were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<String>>>);

impl Spare {
    /// An empty text, with the memory of one that was written where there is such a one.
    pub(crate) fn take(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn keep(&self, mut text: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < SPARE_TEXTS && (GATHERED_BYTES..=SPARE_BYTES).contains(&text.capacity()) {
            text.clear();
            kept.push(text);
        }
    }
}

impl Queue {
    /// A queue of so many lines, and its receiving side.
    pub(crate) fn new(lines: usize) -> (Self, mpsc::Receiver<Outgoing>) {
        let (lines, taken) = mpsc::channel(lines.max(1));
        (Self { lines, room: Arc::new(Semaphore::new(OUTGOING_BYTES)), spare: Spare::default() }, taken)
    }

    /// Where the memory of written texts is.
    pub(crate) fn spare(&self) -> &Spare {
        &self.spare
    }

    /// Waits for room, and queues a message, which is a line from now on.
    pub(crate) async fn message(&self, message: String) -> Result<(), Gone> {
        self.line(Line::of(message)).await
    }

    /// Waits for room, and queues a line.
    pub(crate) async fn line(&self, line: Line) -> Result<(), Gone> {
        let bytes = u32::try_from(line.len().min(OUTGOING_BYTES)).map_err(|_| Gone)?;
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(bytes) => room.map_err(|_| Gone)?,
            () = self.lines.closed() => return Err(Gone),
        };
        self.put(Outgoing::Line { line, _room: room }).await
    }

    /// Queues anything else. Fails when the writer has ended.
    pub(crate) async fn put(&self, outgoing: Outgoing) -> Result<(), Gone> {
        self.lines.send(outgoing).await.map_err(|_| Gone)
    }
}

/// JSON without a line feed. Raw values may hold some between their tokens, where a space means the same; inside of a string
/// JSON has none.
fn one_line(text: String) -> String {
    if memchr(b'\n', text.as_bytes()).is_some() { text.replace('\n', " ") } else { text }
}

/// Writes until the queue's end, the link's loss, or an error of the system.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Outgoing>,
    spare: Spare,
    shared: Arc<Shared>,
) {
    let ended = tokio::select! {
        ended = write_all(&mut writer, &mut queue, &spare) => ended,
        _ = shared.until_lost() => return,
        () = shared.until_stopped() => return,
    };
    match ended {
        Ok(()) => shared.lose(Lost::Closed),
        // The other end most likely died. Its last words, and how they end, say more than our broken pipe: the reader
        // gets a moment to come to them while nothing can be written any more.
        Err(error) => {
            let swallow = async { while queue.recv().await.is_some() {} };
            let until = async { tokio::time::timeout(GRACE, shared.until_lost()).await };
            tokio::select! {
                _ = until => {}
                () = swallow => {}
            }
            shared.lose(Lost::Io { doing: "write to", error: Arc::new(error) });
        }
    }
}

async fn write_all<W: AsyncWrite + Unpin>(
    writer: &mut W,
    queue: &mut mpsc::Receiver<Outgoing>,
    spare: &Spare,
) -> std::io::Result<()> {
    let mut gathered = Vec::with_capacity(GATHERED_BYTES);
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Line { line, _room } if gathered.len() + line.len() <= GATHERED_BYTES => {
                    line.parts().iter().for_each(|it| gathered.extend_from_slice(it.as_bytes()));
                }
                Outgoing::Line { line, _room } => {
                    write_gathered(writer, &mut gathered).await?;
                    write_parts(writer, &line).await?;
                    spare.keep(line.text);
                }
                Outgoing::Flush(written) => {
                    write_gathered(writer, &mut gathered).await?;
                    writer.flush().await?;
                    // Whoever asked may have given up by now.
                    let _ = written.send(());
                }
                Outgoing::End => {
                    write_gathered(writer, &mut gathered).await?;
                    writer.flush().await?;
                    return writer.shutdown().await;
                }
            }
            next = queue.try_recv().ok();
        }
        write_gathered(writer, &mut gathered).await?;
        writer.flush().await?;
    }
    Ok(())
}

/// Writes a line with as few calls of the system as there can be.
async fn write_parts<W: AsyncWrite + Unpin>(writer: &mut W, line: &Line) -> std::io::Result<()> {
    let mut parts = line.parts().map(|it| IoSlice::new(it.as_bytes()));
    let mut left = parts.as_mut_slice();
    // Empty ones at the beginning would look like a writer that takes nothing.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written = writer.write_vectored(left).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

async fn write_gathered<W: AsyncWrite + Unpin>(
    writer: &mut W,
    gathered: &mut Vec<u8>,
) -> std::io::Result<()> {
    writer.write_all(gathered).await?;
    gathered.clear();
    Ok(())
}
