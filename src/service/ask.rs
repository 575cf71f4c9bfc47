//! Asking the service of a root, from another process of its host: what `outrider upgrade` does.

use std::time::Duration;

use outrider_home::Root;
use outrider_peer::{CallError, Handlers, Limits, Peer};
use outrider_protocol::Call;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A service could not be asked, or did not answer as wanted.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no service, or it does not take questions.
    #[error("reach the service of {}: is it running?", root.path().display())]
    Away {
        /// Of which root.
        root: Root,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// It did not answer in time.
    #[error("ask the service of {}: no answer within {} s", root.path().display(), within.as_secs_f64())]
    Silent {
        /// Of which root.
        root: Root,
        /// How long was waited.
        within: Duration,
    },
    /// It answered with an error.
    #[error(transparent)]
    Refused(CallError),
}

/// Asks one question of the service of a root, and waits for the answer so long.
///
/// # Errors
/// [`AskError`].
pub async fn ask<M: Call>(root: &Root, params: &M::Params, within: Duration) -> Result<M::Reply, AskError> {
    let asked = async {
        let peer = connect(root).await.map_err(|err| AskError::Away { root: root.clone(), err })?;
        let reply = peer.call_within::<M>(None, params).await.map_err(AskError::Refused);
        peer.close().await;
        reply
    };
    match timeout(within, asked).await {
        Ok(reply) => reply,
        Err(_) => Err(AskError::Silent { root: root.clone(), within }),
    }
}

async fn connect(root: &Root) -> std::io::Result<Peer> {
    let stream = outrider_home::socket::connect(root)?;
    stream.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(stream)?.into_split();
    Ok(outrider_peer::connect(reader, writer, Handlers::new(()), Limits::default()))
}
