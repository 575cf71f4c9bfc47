//! Sessions as types: what may send can send, and what was not finished is rolled back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use outrider_protocol::ids::SessionId;
use outrider_protocol::integration::{
    SessionDone, SessionDoneParams, SessionKind, SessionObject, SessionProgress, SessionProgressParams,
    SessionRollback, SessionRollbackParams, SessionStart, SessionStartParams,
};
use outrider_protocol::{Call, Raw};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::batch::{Batching, Outgoing};
use crate::context::Context;
use crate::error::Error;

/// Progress of one session is told at most this often; what comes in between is kept, and the latest wins.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// The longest part of a stored value that an error shows, in characters.
const SHOWN: usize = 80;

/// The object that a session belongs to: the source's id of it, which is a part of the session's path, and a name for
/// people.
#[must_use]
pub fn object(id: impl Into<String>, name: impl Into<String>) -> SessionObject {
    SessionObject { id: id.into(), name: name.into() }
}

/// A session that nests others and reports progress.
pub type TrackingSession = Session<Tracking>;

/// A session that sends objects of its model; it may nest others as well.
pub type ModelSession = Session<Outgoing>;

/// An open session: a [`TrackingSession`] or a [`ModelSession`]. End it with [`Session::done`] or
/// [`Session::done_with`]; one that is dropped is rolled back, with everything open below it.
#[derive(Debug)]
pub struct Session<K> {
    core: Core,
    kind: K,
}

/// What makes a session a [`TrackingSession`].
#[derive(Debug)]
pub struct Tracking(pub(crate) ());

/// What became of a session's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Objects that are durable now.
    pub accepted: u64,
    /// Objects that were left out because the backend has them with the same hash.
    pub unchanged: u64,
    /// Objects that the agent did not take; the first few are in the log with the reasons.
    pub rejected: u64,
}

impl<K> Session<K> {
    pub(crate) fn new(core: Core, kind: K) -> Self {
        Self { core, kind }
    }

    /// The session's number in this export.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.core.id
    }

    /// The session's name; a model session's is its model.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// What [`Session::done_with`] stored when this same session (integration, names and object ids down from the root)
    /// ended the last time.
    ///
    /// # Errors
    /// [`Error::LastProcessed`] when the stored value does not fit `T`.
    pub fn last_processed<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let Some(raw) = &self.core.last_processed else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|err| Error::LastProcessed {
            session: self.core.name.clone(),
            found: raw.get().chars().take(SHOWN).collect(),
            err,
        })
    }

    /// Opens a tracking session below this one, for an object of it.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what the agent answered: the same path is open already.
    pub async fn tracking(&self, name: &str, object: SessionObject) -> Result<TrackingSession, Error> {
        Ok(Session::new(self.core.below(SessionKind::Tracking, name, object).await?, Tracking(())))
    }

    /// Opens a model session below this one, for an object of it.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what the agent answered: the same path is open already, or the name is no model's.
    pub async fn model(&self, model: &str, object: SessionObject) -> Result<ModelSession, Error> {
        let core = self.core.below(SessionKind::Model, model, object).await?;
        let outgoing = Outgoing::new(core.context.max_line_bytes());
        Ok(Session::new(core, outgoing))
    }

    /// Tells how far the session is, in steps of the author's choice. May be called for every step: only a few a second
    /// are sent, and the last before [`Session::done`] always is.
    ///
    /// # Errors
    /// When the agent is gone.
    pub async fn progress(&self, current: u64, total: impl Into<Option<u64>> + Send) -> Result<(), Error> {
        self.core.progress(current, total.into()).await
    }

    /// Drops what the session, and every open session below it, sent. Returns when the agent has.
    ///
    /// # Errors
    /// When the agent is gone.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.core.context.roll_back_abandoned().await?;
        self.core.open = false;
        self.core.call::<SessionRollback>(&SessionRollbackParams { session: self.core.id }).await?;
        Ok(())
    }
}

impl Session<Tracking> {
    /// Finishes the session; its children must be finished. The stored last-processed value stays as it is.
    ///
    /// # Errors
    /// What the agent answered: a child is still open.
    pub async fn done(self) -> Result<(), Error> {
        self.core.finish(None, None).await.map(drop)
    }

    /// The same, and stores a value for the next run.
    ///
    /// # Errors
    /// What the agent answered: a child is still open.
    pub async fn done_with(self, last_processed: &(impl Serialize + Sync + ?Sized)) -> Result<(), Error> {
        let value = self.core.written(last_processed)?;
        self.core.finish(None, Some(value)).await.map(drop)
    }
}

impl Session<Outgoing> {
    /// Sends an object. It is serialized at once and goes out with its batch; waits while too many batches are unanswered.
    ///
    /// # Errors
    /// [`Error::Serialize`] and [`Error::TooLarge`] concern this object alone: the session may go on without it.
    /// [`Error::Cancelled`], or what the agent answered to an earlier batch.
    pub fn send<T: Serialize + ?Sized>(
        &mut self,
        object: &T,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        // Serialized before the future is made, so that `object` need not be `Sync`.
        let added = self.kind.add(&self.core, object);
        async move {
            added?;
            self.kind.send_full(&self.core).await
        }
    }

    /// Sends an object that is JSON already.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub async fn send_raw(&mut self, object: Raw) -> Result<(), Error> {
        self.kind.add_text(&self.core, object.get())?;
        self.kind.send_full(&self.core).await
    }

    /// The same for text, which is checked: for objects that are rendered in a faster way than by serialization.
    ///
    /// # Errors
    /// As [`Session::send`]; [`Error::Serialize`] when the text is not one JSON value.
    pub async fn send_json(&mut self, object: &str) -> Result<(), Error> {
        serde_json::from_str::<serde::de::IgnoredAny>(object)
            .map_err(|err| Error::Serialize { what: self.core.name.clone(), err })?;
        self.kind.add_text(&self.core, object)?;
        self.kind.send_full(&self.core).await
    }

    /// The same for text that was made by a writer of JSON and is not checked here, but by the agent alone: a text that is not
    /// one JSON value makes the agent refuse its whole batch, which fails this call or a later one.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub async fn send_unchecked(&mut self, object: &str) -> Result<(), Error> {
        self.kind.add_text(&self.core, object)?;
        self.kind.send_full(&self.core).await
    }

    /// Sends what waits for its batch to become full, and waits until the agent has answered for everything.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what the agent answered.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.kind.flush(&self.core).await
    }

    /// Sets how this session batches; the default suits almost everybody.
    pub fn set_batching(&mut self, batching: Batching) {
        self.kind.set_batching(batching);
    }

    /// Objects given to [`Session::send`] so far that the agent did not refuse.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.kind.objects()
    }

    /// Finishes the session: returns when everything it sent is durable. The stored last-processed value stays as it is.
    ///
    /// # Errors
    /// What the agent answered to a batch or to the end (a child is still open, the disk is full), or [`Error::Count`].
    pub async fn done(self) -> Result<Sent, Error> {
        self.finish(None).await
    }

    /// The same, and stores a value that [`Session::last_processed`] gives back in the next run.
    ///
    /// # Errors
    /// As [`Session::done`].
    pub async fn done_with(self, last_processed: &(impl Serialize + Sync + ?Sized)) -> Result<Sent, Error> {
        let value = self.core.written(last_processed)?;
        self.finish(Some(value)).await
    }

    async fn finish(mut self, last_processed: Option<Raw>) -> Result<Sent, Error> {
        let sent = self.kind.settle(&self.core).await?;
        let (session, name) = (self.core.id, self.core.name.clone());
        let counted = self.core.finish(Some(sent.accepted), last_processed).await?;
        if counted == sent.accepted {
            return Ok(sent);
        }
        Err(Error::Count { session, name, counted, accepted: sent.accepted })
    }
}

/// What both kinds of session have.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) context: Context,
    pub(crate) id: SessionId,
    pub(crate) name: String,
    last_processed: Option<Raw>,
    progress: Mutex<Gate>,
    /// Whether the agent still holds it open, as far as we know.
    open: bool,
}

/// Holds progress back that comes too often.
#[derive(Debug, Default)]
struct Gate {
    told: Option<Instant>,
    waiting: Option<(u64, Option<u64>)>,
}

impl Core {
    pub(crate) async fn start(
        context: &Context,
        kind: SessionKind,
        name: &str,
        parent: Option<SessionId>,
        object: Option<SessionObject>,
    ) -> Result<Self, Error> {
        context.check()?;
        context.roll_back_abandoned().await?;
        let params = SessionStartParams { kind, name: name.to_owned(), parent, object };
        let reply = context.peer().call::<SessionStart>(&params).await.map_err(|err| Error::Session {
            method: SessionStart::NAME,
            session: shown(name, params.object.as_ref()),
            err: Box::new(err),
        })?;
        Ok(Self {
            context: context.clone(),
            id: reply.session,
            name: params.name,
            last_processed: reply.last_processed,
            progress: Mutex::default(),
            open: true,
        })
    }

    /// Opens a session below this one.
    async fn below(&self, kind: SessionKind, name: &str, object: SessionObject) -> Result<Self, Error> {
        Self::start(&self.context, kind, name, Some(self.id), Some(object)).await
    }

    async fn progress(&self, current: u64, total: Option<u64>) -> Result<(), Error> {
        {
            let mut gate = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if gate.told.is_some_and(|told| now - told < PROGRESS_EVERY) {
                gate.waiting = Some((current, total));
                return Ok(());
            }
            gate.told = Some(now);
            gate.waiting = None;
        }
        self.tell_progress(current, total).await
    }

    async fn tell_progress(&self, current: u64, total: Option<u64>) -> Result<(), Error> {
        let params = SessionProgressParams { session: self.id, current, total };
        let told = self.context.peer().notify::<SessionProgress>(&params).await;
        told.map_err(|err| self.failed("session.progress", err))
    }

    async fn finish(mut self, objects: Option<u64>, last_processed: Option<Raw>) -> Result<u64, Error> {
        self.context.roll_back_abandoned().await?;
        let waiting = self.progress.lock().unwrap_or_else(PoisonError::into_inner).waiting.take();
        if let Some((current, total)) = waiting {
            self.tell_progress(current, total).await?;
        }
        let params = SessionDoneParams { session: self.id, objects, last_processed };
        // Without a bound of our own: while the spool is full the agent holds its answer, for as long as its operator
        // lets it.
        let done = self.context.peer().call_within::<SessionDone>(None, &params).await;
        let reply = done.map_err(|err| self.failed(SessionDone::NAME, err))?;
        self.open = false;
        Ok(reply.objects)
    }

    pub(crate) async fn call<M: Call>(&self, params: &M::Params) -> Result<M::Reply, Error> {
        self.context.peer().call::<M>(params).await.map_err(|err| self.failed(M::NAME, err))
    }

    pub(crate) fn failed(&self, method: &'static str, err: outrider_peer::CallError) -> Error {
        Error::Session { method, session: format!("{} ({})", self.id, self.name), err: Box::new(err) }
    }

    fn written(&self, value: &(impl Serialize + ?Sized)) -> Result<Raw, Error> {
        let what = || format!("the last-processed value of {}", self.name);
        serde_json::value::to_raw_value(value).map_err(|err| Error::Serialize { what: what(), err })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.open {
            self.context.abandon(self.id);
        }
    }
}

fn shown(name: &str, object: Option<&SessionObject>) -> String {
    object.map_or_else(|| name.to_owned(), |object| format!("{name} of {}", object.name))
}
