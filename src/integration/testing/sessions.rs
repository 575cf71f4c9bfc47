//! The rules of sessions, as the real agent holds an integration to them.

use std::collections::{BTreeMap, HashMap};

use outrider_protocol::Raw;
use outrider_protocol::fault::{RpcError, code};
use outrider_protocol::ids::{Model, SessionId};
use outrider_protocol::integration::{
    Empty, Rejected, SessionBatch, SessionDoneParams, SessionDoneReply, SessionKind, SessionSendReply,
    SessionStartParams, SessionStartReply,
};

type Path = Vec<(String, Option<String>)>;

/// Open sessions, durable objects and checkpoints.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    last: u64,
    open: HashMap<SessionId, Open>,
    durable: BTreeMap<String, Vec<String>>,
    checkpoints: BTreeMap<Path, Raw>,
}

#[derive(Debug)]
struct Open {
    path: Path,
    parent: Option<SessionId>,
    kind: SessionKind,
    objects: Vec<String>,
}

impl Sessions {
    pub(super) fn start(&mut self, params: SessionStartParams) -> Result<SessionStartReply, RpcError> {
        if params.kind == SessionKind::Model {
            Model::new(params.name.as_str()).map_err(|err| misuse(err.to_string()))?;
        }
        let mut path = match params.parent {
            None => Path::new(),
            Some(_) if params.object.is_none() => {
                return Err(misuse("a session with a parent needs an object"));
            }
            Some(parent) => self.get(parent)?.path.clone(),
        };
        path.push((params.name, params.object.map(|object| object.id)));
        if self.open.values().any(|it| it.path == path) {
            return Err(misuse(format!("a session at {path:?} is open already")));
        }
        self.last += 1;
        let session = SessionId(self.last);
        let last_processed = self.checkpoints.get(&path).cloned();
        self.open
            .insert(session, Open { path, parent: params.parent, kind: params.kind, objects: Vec::new() });
        Ok(SessionStartReply { session, last_processed })
    }

    pub(super) fn send(&mut self, batch: &SessionBatch<'_>) -> Result<SessionSendReply, RpcError> {
        let found = batch.objects.len() as u64;
        let session = self.get(batch.session)?;
        if let Some(count) = batch.count.filter(|count| *count != found) {
            return Err(misuse(format!("the batch counts {count} objects and holds {found}")));
        }
        if session.kind == SessionKind::Tracking {
            return Err(misuse("a tracking session carries no objects"));
        }
        let mut reply = SessionSendReply::default();
        for (index, object) in (0..).zip(&batch.objects) {
            let id = serde_json::from_str::<serde_json::Value>(object.get())
                .ok()
                .and_then(|it| it.get("id").and_then(|id| id.as_str().map(str::to_owned)));
            if id.is_some() {
                session.objects.push(object.get().to_owned());
                reply.accepted += 1;
            } else {
                let reason = "found no text member `id`".to_owned();
                reply.rejected.push(Rejected { index, id: None, reason });
            }
        }
        Ok(reply)
    }

    pub(super) fn done(&mut self, params: SessionDoneParams) -> Result<SessionDoneReply, RpcError> {
        let id = params.session;
        self.get(id)?;
        if self.open.values().any(|it| it.parent == Some(id)) {
            return Err(misuse(format!("session {id} still has open sessions below it")));
        }
        let Some(session) = self.open.remove(&id) else { return Err(not_open(id)) };
        let objects = session.objects.len() as u64;
        if let Some(count) = params.objects.filter(|count| *count != objects) {
            return Err(misuse(format!("session {id} counts {count} objects, and {objects} were accepted")));
        }
        if let (SessionKind::Model, Some((model, _))) = (session.kind, session.path.last()) {
            self.durable.entry(model.clone()).or_default().extend(session.objects);
        }
        if let Some(value) = params.last_processed {
            self.checkpoints.insert(session.path, value);
        }
        Ok(SessionDoneReply { objects })
    }

    pub(super) fn rollback(&mut self, id: SessionId) -> Result<Empty, RpcError> {
        self.get(id)?;
        self.forget(id);
        Ok(Empty {})
    }

    fn forget(&mut self, id: SessionId) {
        self.open.remove(&id);
        let below: Vec<_> =
            self.open.iter().filter(|(_, it)| it.parent == Some(id)).map(|(id, _)| *id).collect();
        for child in below {
            self.forget(child);
        }
    }

    /// The export is over: what is open is dropped.
    pub(super) fn end(&mut self) {
        self.open.clear();
    }

    pub(super) fn durable(&self, model: &str) -> &[String] {
        self.durable.get(model).map_or(&[], Vec::as_slice)
    }

    pub(super) fn forget_durable(&mut self) {
        self.durable.clear();
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn checkpoint(&self, path: &[(&str, Option<&str>)]) -> Option<&Raw> {
        let path: Path = path.iter().map(|(name, id)| ((*name).to_owned(), id.map(str::to_owned))).collect();
        self.checkpoints.get(&path)
    }

    fn get(&mut self, id: SessionId) -> Result<&mut Open, RpcError> {
        self.open.get_mut(&id).ok_or_else(|| not_open(id))
    }
}

fn not_open(id: SessionId) -> RpcError {
    misuse(format!("session {id} is not open"))
}

fn misuse(message: impl Into<String>) -> RpcError {
    RpcError::new(code::SESSION, message)
}
