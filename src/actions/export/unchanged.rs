//! Leaving out the objects that the backend has already: the export's side of [`outrider_home::unchanged`].
//!
//! While a session is open the marks of its accepted objects are held here; the keeper says when its objects are in the
//! spool, and only then are the marks written down. Which of them the backend has acknowledged is read off the spool at
//! the start of the next export: a folder of an export and a model that holds no file is acknowledged as a whole. Where the
//! spool no longer knows the export, nobody can say, and its objects are sent again.
//!
//! **Invariant:** nothing here fails an export.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrider_home::unchanged::{Delivery, Known, Mark, Scope, SessionMarks};
use outrider_home::{Checkpoints, Unchanged};
use outrider_protocol::ids::{IntegrationId, Model, SessionId};
use outrider_protocol::integration::ModelInfo;
use outrider_protocol::log::{Fields, Level};
use outrider_spool::{Left, Settings, Spool};

use super::object::Identity;
use crate::context::Context;

/// The models of an integration of which unchanged objects may be left out.
pub(crate) type Scopes = HashMap<Model, Scope>;

pub(crate) fn scopes(integration: &IntegrationId, models: &[ModelInfo]) -> Scopes {
    let may = models.iter().filter(|it| it.skip_unchanged);
    may.map(|it| (it.model.clone(), Scope::new(integration, &it.model))).collect()
}

/// What the backend has, and the marks of the sessions that are open.
#[derive(Debug)]
pub(crate) struct Backend {
    store: Unchanged,
    /// Nothing is left out in this run.
    send_all: bool,
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    model: Model,
    marks: Mutex<SessionMarks>,
}

impl Backend {
    /// Opens the store, under the lock of the checkpoints, which takes some seconds when millions of objects were acknowledged since the last export.
    pub(crate) async fn open(
        context: &Context,
        checkpoints: Checkpoints,
        send_all: bool,
    ) -> (Self, Checkpoints) {
        let (root, run) = (context.root().clone(), context.run_id().clone());
        let open = move || {
            let spool = Spool::open(root.spool(), Settings::default());
            let delivery = |export: &str, model: &str| match &spool {
                Ok(spool) => delivery(spool, export, model),
                Err(_) => Delivery::Waits,
            };
            (Unchanged::open(&root, &checkpoints, &run, &delivery), checkpoints)
        };
        let ((store, warnings), checkpoints) = match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        for warning in warnings {
            context.log(Level::Warn, warning, Fields::new());
        }
        (Self { store, send_all, sessions: Mutex::default() }, checkpoints)
    }

    /// With a store that is open already.
    #[cfg(test)]
    pub(crate) fn over(store: Unchanged) -> Self {
        Self { store, send_all: false, sessions: Mutex::default() }
    }

    /// Tells whether objects of a session are to be taken.
    pub(crate) fn sieve<'a>(&'a self, session: SessionId, model: &Model, scope: &'a Scope) -> Sieve<'a> {
        let fresh = || Arc::new(Session { model: model.clone(), marks: Mutex::default() });
        let session = self.sessions().entry(session).or_insert_with(fresh).clone();
        Sieve { backend: self, scope, session }
    }

    /// These sessions are about to be put into the spool.
    pub(crate) fn before_commit(&self, sessions: impl Iterator<Item = SessionId>) {
        for id in sessions {
            let session = self.sessions().get(&id).cloned();
            if let Some(session) = session {
                self.store.doubt(&session.model, &mut session.marks());
            }
        }
        self.store.sync_doubts();
    }

    /// These sessions are in the spool.
    pub(crate) fn committed(&self, sessions: impl Iterator<Item = SessionId>) {
        for id in sessions {
            let session = self.sessions().remove(&id);
            if let Some(session) = session {
                self.store.committed(&session.model, std::mem::take(&mut *session.marks()));
            }
        }
    }

    /// These sessions will never be in the spool.
    pub(crate) fn forget(&self, sessions: impl IntoIterator<Item = SessionId>) {
        let mut open = self.sessions();
        for id in sessions {
            open.remove(&id);
        }
    }

    /// Says so when the store turned out to be unreadable or not writable in this run.
    pub(crate) fn tell_distrust(&self, context: &Context) {
        if let Some(why) = self.store.distrusted() {
            let message = format!(
                "the store of unchanged objects failed: {why}; from then on everything was sent, and the next export \
                 begins with an empty store"
            );
            context.log(Level::Warn, message, Fields::new());
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn marks(&self) -> MutexGuard<'_, SessionMarks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of the objects of a model, by what the spool has of their export. Its folder stays until the marks are merged
/// (see `expire` of the service): one that is gone was removed by somebody, or the root came back without it. What the backend
/// refused does not wait for ever.
fn delivery(spool: &Spool, export: &str, model: &str) -> Delivery {
    if !spool.dir().join(export).is_dir() {
        return Delivery::Unknown;
    }
    match spool.left(export, model) {
        Ok(Left::Nothing) => Delivery::Acknowledged,
        Ok(Left::Refused) => Delivery::Unknown,
        Ok(Left::Waiting) | Err(_) => Delivery::Waits,
    }
}

/// Sifts the objects of one session.
pub(crate) struct Sieve<'a> {
    backend: &'a Backend,
    scope: &'a Scope,
    session: Arc<Session>,
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sifted {
    /// It is to be sent.
    Take,
    /// The backend has it.
    LeaveOut,
    /// It says not which one it is, so nothing is known of it.
    NoId,
}

impl Sieve<'_> {
    pub(crate) fn sift(&self, object: &str) -> Sifted {
        let Some(mark) = self.mark(object) else { return Sifted::NoId };
        let known = self.backend.store.look_up(mark);
        if known == Known::Unchanged && !self.backend.send_all {
            return Sifted::LeaveOut;
        }
        self.backend.store.accept(mark, known, &mut self.session.marks());
        Sifted::Take
    }

    fn mark(&self, object: &str) -> Option<Mark> {
        let Identity { id, hash } = Identity::of(object);
        Some(self.scope.mark(&id?, hash))
    }
}
