//! The socket in the root, on which the commands that people type and the watcher of an upgrade ask the service.
//!
//! Whoever may open it has the rights of the agent's own user. Every question goes through the service's loop, so that an
//! answer says that the loop turns.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use outrider_home::Root;
use outrider_peer::{Handlers, Limits};
use outrider_protocol::fault::{RpcError, code};
use outrider_protocol::local::{Health, HealthReply, Rollback, TakenReply, Upgrade};
use outrider_protocol::upgrade::UpgradeOrder;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::event::Event;

/// Askers at once; more wait.
const AT_ONCE: usize = 16;
/// The longest question and answer, in bytes.
const LINE_BYTES: usize = 64 << 10;

/// Something that is asked, with where the answer goes.
#[derive(Debug)]
pub(crate) enum Asked {
    /// How the service is.
    Health(oneshot::Sender<HealthReply>),
    /// An upgrade, by a person on the host.
    Upgrade(Box<UpgradeOrder>, oneshot::Sender<Result<TakenReply, RpcError>>),
    /// Back to the version before.
    Rollback(oneshot::Sender<Result<TakenReply, RpcError>>),
}

/// The socket of a root.
#[derive(Debug)]
pub(crate) struct Local {
    listener: UnixListener,
    path: PathBuf,
}

impl Local {
    /// Opens the socket of a root that this process holds the lock of, so that one that is there was left behind.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(root: &Root) -> io::Result<Self> {
        let listener = outrider_home::socket::listen(root)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: root.socket() })
    }

    /// Answers until the loop is gone.
    pub(crate) async fn run(self, events: mpsc::Sender<Event>) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(room) = room.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(err) => {
                        tracing::warn!(%err, "A question on the service's socket was not taken.");
                        // Such as too many open files, which passes.
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = events.closed() => return,
            };
            let (reader, writer) = stream.into_split();
            let limits = Limits { line_bytes: LINE_BYTES, concurrent_requests: 4, ..Limits::default() };
            let peer = outrider_peer::connect(reader, writer, handlers(events.clone()), limits);
            tokio::spawn(async move {
                peer.closed().await;
                drop(room);
            });
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        drop(std::fs::remove_file(&self.path));
    }
}

fn handlers(events: mpsc::Sender<Event>) -> Handlers<mpsc::Sender<Event>> {
    type Events = Arc<mpsc::Sender<Event>>;
    let mut on = Handlers::new(events);
    on.on::<Health, _, _>(|events: Events, _| async move { ask(&events, Asked::Health).await });
    on.on::<Upgrade, _, _>(|events: Events, order| async move {
        ask(&events, |answer| Asked::Upgrade(Box::new(order), answer)).await?
    });
    on.on::<Rollback, _, _>(|events: Events, _| async move { ask(&events, Asked::Rollback).await? });
    on
}

async fn ask<T>(
    events: &mpsc::Sender<Event>,
    question: impl FnOnce(oneshot::Sender<T>) -> Asked,
) -> Result<T, RpcError> {
    let gone = || RpcError::new(code::CANCELLED, "the service stops");
    let (answer, answered) = oneshot::channel();
    events.send(Event::Local(question(answer))).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())
}
