//! The table of an export's open sessions: who may do what, and how far each is. Pure: no I/O, no clock.
//!
//! **Invariant:** a session's path is open at most once at a time.
//!
//! **Invariant:** the table's size is bounded by the sessions that are open, not by those that ever were.

use std::collections::{HashMap, HashSet};

use outrider_home::SessionPath;
use outrider_protocol::fault::{RpcError, code};
use outrider_protocol::ids::{IntegrationId, Model, SessionId};
use outrider_protocol::integration::{SessionKind, SessionObject, SessionProgressParams, SessionStartParams};
use outrider_protocol::progress::{SessionProgress, SessionState};

/// Finished sessions below one parent that are shown one by one; the parent's `children_done` counts the others.
const SHOWN_CHILDREN: u64 = 100;

/// A session was used in a way that it does not allow: the integration's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    #[error("session {0} is not open: it was never started, or is done or rolled back already")]
    NotOpen(SessionId),
    #[error("session {0} belongs to another integration")]
    NotYours(SessionId),
    #[error(
        "session {session} ({name}) is a tracking session, which carries no objects: open a model session"
    )]
    Tracking { session: SessionId, name: String },
    #[error("a session below session {0} needs the object it belongs to: set `object`")]
    NoObject(SessionId),
    #[error("{0}; a model session is named by its model")]
    NoModel(String),
    #[error(
        "a session at {path} is open already as session {open}: finish it first, or tell them apart by `object`"
    )]
    OpenTwice { path: String, open: SessionId },
    #[error("session {session} ({name}) still has {open} open sessions below it: finish them first")]
    OpenChildren { session: SessionId, name: String, open: usize },
    #[error(
        "session {session} ({name}) still has {waiting} unanswered session.send calls: await their answers first"
    )]
    StillSending { session: SessionId, name: String, waiting: usize },
    #[error("session {session} ({name}) is being finished: session.done was called already")]
    Finishing { session: SessionId, name: String },
    #[error("session {session}: {why}")]
    TooLong { session: SessionId, why: String },
}

impl From<Misuse> for RpcError {
    fn from(misuse: Misuse) -> Self {
        Self::new(code::SESSION, misuse.to_string())
    }
}

/// An open session.
#[derive(Debug)]
struct Open {
    parent: Option<SessionId>,
    integration: IntegrationId,
    kind: SessionKind,
    name: String,
    object: Option<SessionObject>,
    path: SessionPath,
    open_children: usize,
    children_done: u64,
    /// `session.send` calls that are not answered.
    sending: usize,
    finishing: bool,
    objects: u64,
    unchanged: u64,
    rejected: u64,
    current: u64,
    total: Option<u64>,
    /// Whether somebody was told of it, who must then be told of its end as well.
    shown: bool,
}

/// What a session is at its end.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) path: SessionPath,
    /// The model and how many objects were taken; nothing for a tracking session.
    pub(crate) model: Option<(Model, u64)>,
    /// Objects that were left out because the backend has them.
    pub(crate) unchanged: u64,
    /// Objects that could not be taken.
    pub(crate) rejected: u64,
}

/// What a session, or several, carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) unchanged: u64,
    pub(crate) rejected: u64,
}

impl std::ops::AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.unchanged += other.unchanged;
        self.rejected += other.rejected;
    }
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    last: u64,
    open: HashMap<SessionId, Open>,
    paths: HashMap<SessionPath, SessionId>,
    changed: HashSet<SessionId>,
    ended: Vec<SessionProgress>,
}

impl Sessions {
    /// Opens a session. What is shown of its name and object went through `shown`; its path stays as it is.
    pub(crate) fn start(
        &mut self,
        integration: &IntegrationId,
        params: SessionStartParams,
        shown: &dyn Fn(&str) -> String,
    ) -> Result<(SessionId, SessionPath), Misuse> {
        if params.kind == SessionKind::Model {
            Model::new(params.name.as_str()).map_err(|err| Misuse::NoModel(err.to_string()))?;
        }
        let mut path = match params.parent {
            Some(parent) => {
                let parent_path = self.owned(integration, parent)?.path.clone();
                if params.object.is_none() {
                    return Err(Misuse::NoObject(parent));
                }
                parent_path
            }
            None => SessionPath { integration: integration.clone(), parts: Vec::new() },
        };
        path.parts.push((params.name.clone(), params.object.as_ref().map(|object| object.id.clone())));
        if let Some(open) = self.paths.get(&path) {
            return Err(Misuse::OpenTwice { path: path.to_string(), open: *open });
        }
        self.last += 1;
        let id = SessionId(self.last);
        if let Some(parent) = params.parent.and_then(|id| self.open.get_mut(&id)) {
            parent.open_children += 1;
        }
        self.paths.insert(path.clone(), id);
        self.changed.insert(id);
        let session = Open {
            parent: params.parent,
            integration: integration.clone(),
            kind: params.kind,
            name: shown(&params.name),
            object: params.object.map(|it| SessionObject { id: shown(&it.id), name: shown(&it.name) }),
            path: path.clone(),
            open_children: 0,
            children_done: 0,
            sending: 0,
            finishing: false,
            objects: 0,
            unchanged: 0,
            rejected: 0,
            current: 0,
            total: None,
            shown: false,
        };
        self.open.insert(id, session);
        Ok((id, path))
    }

    /// A batch for a model session has come in; [`Sessions::sent`] must follow.
    pub(crate) fn sending(&mut self, integration: &IntegrationId, id: SessionId) -> Result<Model, Misuse> {
        let session = self.owned(integration, id)?;
        let tracking = || Misuse::Tracking { session: id, name: session.name.clone() };
        if session.kind == SessionKind::Tracking {
            return Err(tracking());
        }
        if session.finishing {
            return Err(Misuse::Finishing { session: id, name: session.name.clone() });
        }
        let model = Model::new(session.name.as_str()).map_err(|_| tracking())?;
        session.sending += 1;
        Ok(model)
    }

    /// The batch was taken (or, with 0, refused), but for `unchanged` objects that were left out.
    pub(crate) fn sent(&mut self, id: SessionId, objects: u64, unchanged: u64) {
        if let Some(session) = self.open.get_mut(&id) {
            session.sending = session.sending.saturating_sub(1);
            session.objects += objects;
            session.unchanged += unchanged;
            self.changed.insert(id);
        }
    }

    /// Objects of the batch could not be taken.
    pub(crate) fn rejected(&mut self, id: SessionId, rejected: u64) {
        if let Some(session) = self.open.get_mut(&id) {
            session.rejected += rejected;
        }
    }

    /// The path of an open session.
    pub(crate) fn path(&self, id: SessionId) -> Option<&SessionPath> {
        self.open.get(&id).map(|it| &it.path)
    }

    /// The integration counts its own steps.
    pub(crate) fn progress(
        &mut self,
        integration: &IntegrationId,
        params: SessionProgressParams,
    ) -> Result<(), Misuse> {
        let session = self.owned(integration, params.session)?;
        session.current = params.current;
        session.total = params.total;
        self.changed.insert(params.session);
        Ok(())
    }

    /// `session.done` has come in: from now on the session takes nothing more. [`Sessions::close`] must follow.
    pub(crate) fn finish(&mut self, integration: &IntegrationId, id: SessionId) -> Result<Closing, Misuse> {
        let session = self.owned(integration, id)?;
        let name = || session.name.clone();
        if session.finishing {
            return Err(Misuse::Finishing { session: id, name: name() });
        }
        if session.open_children > 0 {
            return Err(Misuse::OpenChildren { session: id, name: name(), open: session.open_children });
        }
        if session.sending > 0 {
            return Err(Misuse::StillSending { session: id, name: name(), waiting: session.sending });
        }
        session.finishing = true;
        let model = match session.kind {
            SessionKind::Model => {
                let model =
                    Model::new(session.name.as_str()).map_err(|err| Misuse::NoModel(err.to_string()))?;
                Some((model, session.objects))
            }
            SessionKind::Tracking => None,
        };
        let (unchanged, rejected) = (session.unchanged, session.rejected);
        Ok(Closing { path: session.path.clone(), model, unchanged, rejected })
    }

    /// The session and all open ones below it, the deepest first: what a rollback has to drop.
    pub(crate) fn subtree(
        &mut self,
        integration: &IntegrationId,
        id: SessionId,
    ) -> Result<Vec<SessionId>, Misuse> {
        self.owned(integration, id)?;
        let mut found = vec![id];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            if let Some(it) = self.open.get(&parent).filter(|it| it.finishing) {
                return Err(Misuse::Finishing { session: parent, name: it.name.clone() });
            }
            found.extend(self.open.iter().filter(|(_, it)| it.parent == Some(parent)).map(|(id, _)| *id));
            at += 1;
        }
        found.reverse();
        Ok(found)
    }

    /// Every open session of an integration, the deepest first: what is dropped when it ends without finishing them.
    pub(crate) fn of(&self, integration: &IntegrationId) -> Vec<SessionId> {
        let mut found: Vec<_> =
            self.open.iter().filter(|(_, it)| it.integration == *integration).map(|(id, _)| *id).collect();
        // A child is opened after its parent, so its number is greater.
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// Whether a session of an integration is being made durable.
    pub(crate) fn any_finishing(&self, integration: &IntegrationId) -> bool {
        self.open.values().any(|it| it.finishing && it.integration == *integration)
    }

    /// The session is over.
    pub(crate) fn close(&mut self, id: SessionId, state: SessionState) {
        let Some(session) = self.open.remove(&id) else { return };
        self.paths.remove(&session.path);
        self.changed.remove(&id);
        let mut earlier = 0;
        if let Some((parent_id, parent)) =
            session.parent.and_then(|id| self.open.get_mut(&id).map(|it| (id, it)))
        {
            parent.open_children = parent.open_children.saturating_sub(1);
            earlier = parent.children_done;
            parent.children_done += 1;
            self.changed.insert(parent_id);
        }
        if session.shown || earlier < SHOWN_CHILDREN {
            self.ended.push(node(id, &session, state));
        }
    }

    /// What changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<SessionProgress> {
        let mut nodes = Vec::with_capacity(self.changed.len() + self.ended.len());
        for id in self.changed.drain() {
            if let Some(session) = self.open.get_mut(&id) {
                session.shown = true;
                nodes.push(node(id, session, SessionState::Open));
            }
        }
        nodes.append(&mut self.ended);
        nodes.sort_unstable_by_key(|node| node.session);
        nodes
    }

    fn owned(&mut self, integration: &IntegrationId, id: SessionId) -> Result<&mut Open, Misuse> {
        let session = self.open.get_mut(&id).ok_or(Misuse::NotOpen(id))?;
        if session.integration == *integration { Ok(session) } else { Err(Misuse::NotYours(id)) }
    }
}

fn node(id: SessionId, session: &Open, state: SessionState) -> SessionProgress {
    SessionProgress {
        session: id,
        parent: session.parent,
        integration: session.integration.clone(),
        kind: session.kind,
        name: session.name.clone(),
        object: session.object.clone(),
        state,
        current: session.current,
        total: session.total,
        objects: session.objects,
        children_done: session.children_done,
    }
}

#[cfg(test)]
mod tests;
