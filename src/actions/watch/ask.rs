//! Asking a service how it is.

use std::io;
use std::time::Duration;

use outrider_home::{Root, socket};
use outrider_peer::{Handlers, Limits, Peer};
use outrider_protocol::fault::chain;
use outrider_protocol::integration::Empty;
use outrider_protocol::local::{Health, HealthReply};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The longest answer, in bytes.
const LINE_BYTES: usize = 64 << 10;

/// Asks the service of a root. Keeps its connection: a service that hangs is not given one more at each question, until
/// its queue of them is full.
#[derive(Debug)]
pub(super) struct Asker {
    root: Root,
    link: Option<Peer>,
}

impl Asker {
    pub(super) fn new(root: Root) -> Self {
        Self { root, link: None }
    }

    /// How the service is, within this time.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub(super) async fn ask(&mut self, within: Duration) -> Result<HealthReply, String> {
        timeout(within, self.answer(within)).await.unwrap_or_else(|_| {
            Err(format!("asked for `health` on {}: none in {within:?}", self.root.socket().display()))
        })
    }

    async fn answer(&mut self, within: Duration) -> Result<HealthReply, String> {
        self.link = self.link.take().filter(|it| !it.is_closed());
        let link = match &self.link {
            Some(link) => link,
            None => {
                let failed = |err: io::Error| format!("connect to {}: {err}", self.root.socket().display());
                self.link.insert(connect(&self.root).await.map_err(failed)?)
            }
        };
        link.call_within::<Health>(Some(within), &Empty {}).await.map_err(|err| chain(&err))
    }
}

/// In a thread of its own, since it waits where the service's queue of connections is full.
async fn connect(root: &Root) -> io::Result<Peer> {
    let root = root.clone();
    let stream = spawn_blocking(move || socket::connect(&root)).await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(stream)?.into_split();
    let limits = Limits { line_bytes: LINE_BYTES, ..Limits::default() };
    Ok(outrider_peer::connect(reader, writer, Handlers::new(()), limits))
}
