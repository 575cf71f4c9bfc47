//! What this end writes: a bounded queue of lines, and the task that writes them.

use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::shared::Shared;
use crate::transport::Gone;
use crate::{GRACE, Lost};

/// Short lines are gathered up to this, so that a write to the pipe carries many. A longer one is written as it is.
const GATHERED_BYTES: usize = 32 * 1024;

/// Bytes of lines that wait to be written. Above this the reader is slow, and callers wait; one line may be longer.
const OUTGOING_BYTES: usize = 8 * 1024 * 1024;

/// Something for the writer.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message with its line feed.
    Line { text: String, _room: OwnedSemaphorePermit },
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
}

impl Queue {
    /// A queue of so many lines, and its receiving side.
    pub(crate) fn new(lines: usize) -> (Self, mpsc::Receiver<Outgoing>) {
        let (lines, taken) = mpsc::channel(lines.max(1));
        (Self { lines, room: Arc::new(Semaphore::new(OUTGOING_BYTES)) }, taken)
    }

    /// Waits for room, and queues a message, which is a line from now on.
    pub(crate) async fn line(&self, message: String) -> Result<(), Gone> {
        let text = into_line(message);
        let bytes = u32::try_from(text.len().min(OUTGOING_BYTES)).map_err(|_| Gone)?;
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(bytes) => room.map_err(|_| Gone)?,
            () = self.lines.closed() => return Err(Gone),
        };
        self.put(Outgoing::Line { text, _room: room }).await
    }

    /// Queues anything else. Fails when the writer has ended.
    pub(crate) async fn put(&self, outgoing: Outgoing) -> Result<(), Gone> {
        self.lines.send(outgoing).await.map_err(|_| Gone)
    }
}

/// A message as one line. Raw values may hold line feeds between their tokens, where a space means the same; inside of
/// a string JSON has none.
fn into_line(mut message: String) -> String {
    if message.contains('\n') {
        message = message.replace('\n', " ");
    }
    message.push('\n');
    message
}

/// Writes until the queue's end, the link's loss, or an error of the system.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Outgoing>,
    shared: Arc<Shared>,
) {
    let ended = tokio::select! {
        ended = write_all(&mut writer, &mut queue) => ended,
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
) -> std::io::Result<()> {
    let mut gathered = Vec::with_capacity(GATHERED_BYTES);
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Line { text, _room } if gathered.len() + text.len() <= GATHERED_BYTES => {
                    gathered.extend_from_slice(text.as_bytes());
                }
                Outgoing::Line { text, _room } => {
                    write_gathered(writer, &mut gathered).await?;
                    writer.write_all(text.as_bytes()).await?;
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

async fn write_gathered<W: AsyncWrite + Unpin>(
    writer: &mut W,
    gathered: &mut Vec<u8>,
) -> std::io::Result<()> {
    writer.write_all(gathered).await?;
    gathered.clear();
    Ok(())
}
