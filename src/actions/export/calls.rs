//! What an integration may call while it exports.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use outrider_home::{StoreError, VALUE_BYTES};
use outrider_peer::{Handlers, RawParams};
use outrider_protocol::fault::{Fault, Retry, RpcError, chain, code};
use outrider_protocol::ids::{IntegrationId, Model, SessionId};
use outrider_protocol::integration::{
    Empty, Log, OAuthAccessToken, Pause, PauseParams, Rejected, Resume, SessionBatch, SessionDone,
    SessionDoneParams, SessionDoneReply, SessionProgress, SessionRollback, SessionRollbackParams,
    SessionSend, SessionSendReply, SessionStart, SessionStartParams, SessionStartReply,
};
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::progress::{IntegrationState, SessionState};
use serde_json::value::RawValue;

use super::Export;
use super::keeper::{Finished, Lines, StoreError as KeeperError};
use super::object::Identity;
use super::sessions::{Carried, Misuse};
use super::tally::Tally;
use super::unchanged::{Scopes, Sifted};
use crate::integration_log::IntegrationLog;
use crate::oauth;

/// The longest reason for a wait that is shown, in characters.
const REASON: usize = 200;

/// Why an object without an id cannot be taken.
const NO_ID: &str = "it has no text member `id`, which its model needs";

/// One integration's side of an export.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) integration: IntegrationId,
    pub(crate) export: Arc<Export>,
    pub(crate) log: IntegrationLog,
    /// Models whose objects need an `id`; known when the integration has introduced itself.
    pub(crate) needs_id: OnceLock<HashSet<Model>>,
    /// Models of which unchanged objects may be left out; known from then on, too.
    pub(crate) skip_unchanged: OnceLock<Scopes>,
    /// Of all attempts of this integration.
    pub(crate) tally: Arc<Mutex<Tally>>,
    /// Whether this process is over: what it still asks for is refused.
    over: AtomicBool,
    /// What the host could not store of what it sent.
    pub(crate) storage: OnceLock<KeeperError>,
    /// Two counts that differ, as the first of them is told.
    pub(crate) miscounted: OnceLock<RpcError>,
}

impl Calls {
    pub(crate) fn new(
        integration: IntegrationId,
        export: Arc<Export>,
        log: IntegrationLog,
        tally: Arc<Mutex<Tally>>,
    ) -> Self {
        Self {
            integration,
            export,
            log,
            needs_id: OnceLock::new(),
            skip_unchanged: OnceLock::new(),
            tally,
            over: AtomicBool::new(false),
            storage: OnceLock::new(),
            miscounted: OnceLock::new(),
        }
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, params: SessionStartParams) -> Result<SessionStartReply, RpcError> {
        let model = Model::new(params.name.as_str()).ok();
        let object = params.object.as_ref().map(|it| it.name.clone()).unwrap_or_default();
        let (session, path) = {
            let mut sessions = self.export.sessions();
            if self.over.load(Ordering::Relaxed) {
                return Err(RpcError::new(code::CANCELLED, "this attempt of the export is over"));
            }
            sessions.start(&self.integration, params, &|it| self.log.redact(it))?
        };
        let found = self.export.values.get(&path).map_err(|err| storage(&err)).inspect_err(|_| {
            // Refused, so it is not open.
            self.export.close(session, SessionState::RolledBack);
        })?;
        let earlier = found.as_ref().is_some_and(|(_, earlier)| *earlier);
        self.tally().opened(&path, model, earlier, &object);
        Ok(SessionStartReply { session, last_processed: found.map(|(value, _)| value) })
    }

    async fn send(&self, params: RawParams) -> Result<SessionSendReply, RpcError> {
        let _answering = self.log.answering();
        let batch: SessionBatch<'_> = params.parse_borrowed()?;
        self.check(
            batch.session,
            "session.send counts",
            batch.count,
            "the batch holds",
            batch.objects.len() as u64,
        )?;
        let model = self.export.sessions().sending(&self.integration, batch.session)?;
        let Taken { objects, reply } = self.take(batch.session, &model, &batch.objects);
        let session = batch.session;
        let kept: Vec<_> = objects.iter().filter_map(|it| params.place_of(it)).collect();
        let bytes = kept.iter().map(|it| it.len() as u64).sum();
        let lines = Lines::gathered(params.into_line(), &kept);
        let appended = self.export.keeper.append(session, self.integration.clone(), model, lines).await;
        let (accepted, unchanged) = (reply.accepted, reply.unchanged);
        let (accepted, unchanged) = if appended.is_ok() { (accepted, unchanged) } else { (0, 0) };
        {
            let mut sessions = self.export.sessions();
            sessions.rejected(session, reply.rejected.len() as u64);
            sessions.sent(session, accepted, unchanged);
        }
        self.export.board().count(&self.integration, accepted, bytes);
        appended.map_err(|err| self.not_stored(err))?;
        if let Some(first) = reply.rejected.first() {
            let mut fields = Fields::new();
            fields.insert("rejected".into(), reply.rejected.len().into());
            fields.insert("first".into(), first.reason.clone().into());
            self.log.note(Level::Warn, "objects were rejected", fields);
        }
        Ok(reply)
    }

    /// Chooses the objects that can be taken and that the backend does not have.
    fn take<'a>(&self, session: SessionId, model: &Model, objects: &[&'a RawValue]) -> Taken<'a> {
        let needs_id = self.needs_id.get().is_some_and(|models| models.contains(model));
        let largest = self.export.largest_object;
        let scope = self.skip_unchanged.get().and_then(|scopes| scopes.get(model));
        let sieve = scope.map(|scope| self.export.backend.sieve(session, model, scope));
        let kept = Vec::with_capacity(objects.len());
        let mut taken = Taken { objects: kept, reply: SessionSendReply::default() };
        for (index, object) in objects.iter().enumerate() {
            let text = object.get();
            let fault = fault_of(text, needs_id && sieve.is_none(), largest);
            // One look into the object tells both whether it has an id and whether it is needed.
            let sifted = match (&fault, &sieve) {
                (None, Some(sieve)) => sieve.sift(text),
                _ => Sifted::Take,
            };
            let fault =
                fault.or_else(|| (needs_id && sifted == Sifted::NoId).then(|| (None, NO_ID.to_owned())));
            if let Some((id, reason)) = fault {
                taken.reply.rejected.push(Rejected { index: index as u64, id, reason });
            } else if sifted == Sifted::LeaveOut {
                taken.reply.unchanged += 1;
            } else {
                taken.objects.push(text);
                taken.reply.accepted += 1;
            }
        }
        taken
    }

    async fn done(&self, params: SessionDoneParams) -> Result<SessionDoneReply, RpcError> {
        let session = params.session;
        let bytes = params.last_processed.as_ref().map_or(0, |value| value.get().len());
        if bytes > VALUE_BYTES {
            let why = format!(
                "last_processed has {bytes} bytes, at most {VALUE_BYTES} are kept; it is a place, not data"
            );
            return Err(Misuse::TooLong { session, why }.into());
        }
        let _answering = self.log.answering();
        let closing = self.export.sessions().finish(&self.integration, session)?;
        let sent = closing.model.as_ref().map_or(0, |(_, sent)| *sent);
        if let Err(differs) =
            self.check(session, "session.done counts", params.objects, "the agent accepted", sent)
        {
            self.drop_sessions(vec![session]).await;
            return Err(differs);
        }
        let path = closing.path.clone();
        let finished = Finished { session, path: closing.path, last_processed: params.last_processed };
        let kept = match self.export.keeper.commit(finished).await {
            Ok(kept) => kept,
            Err(err) => {
                self.export.close(session, SessionState::RolledBack);
                return Err(self.not_stored(err));
            }
        };
        let (unchanged, rejected) = (closing.unchanged, closing.rejected);
        let carried = Carried { objects: kept.objects, bytes: kept.bytes, unchanged, rejected };
        self.tally().done(&path, closing.model.map(|(model, _)| model), carried);
        self.export.close(session, SessionState::Done);
        self.check(session, "the spool holds", Some(kept.objects), "the agent accepted", sent)?;
        Ok(SessionDoneReply { objects: kept.objects })
    }

    /// Two counts of the same objects must agree. Where they do not, the integration fails, whatever else it does.
    fn check(
        &self,
        session: SessionId,
        theirs: &str,
        found: Option<u64>,
        ours: &str,
        expected: u64,
    ) -> Result<(), RpcError> {
        let Some(found) = found.filter(|found| *found != expected) else { return Ok(()) };
        let message = format!(
            "session {session}: {theirs} {found} objects, but {ours} {expected}: objects were lost on the way"
        );
        let differs = RpcError { code: code::SESSION, ..RpcError::failed(Fault::Bug, Retry::No, message) };
        Err(self.miscounted.get_or_init(|| differs).clone())
    }

    /// Remembers that the host failed the integration.
    fn not_stored(&self, err: KeeperError) -> RpcError {
        self.storage.get_or_init(|| err.clone());
        err.into()
    }

    fn paused(&self, params: &PauseParams) {
        let reason: String = self.log.redact(&params.reason).chars().take(REASON).collect();
        let reason = if reason.is_empty() { "it gave no reason".to_owned() } else { reason };
        let why = format!("rate limit of the source: {reason}");
        self.export.board().pause(&self.integration, Some(params.until), why);
    }

    async fn rollback(&self, params: SessionRollbackParams) -> Result<Empty, RpcError> {
        let sessions = self.export.sessions().subtree(&self.integration, params.session)?;
        self.drop_sessions(sessions).await;
        Ok(Empty {})
    }

    /// Drops sessions that the integration gave up, and keeps what the log says about them.
    async fn drop_sessions(&self, sessions: Vec<SessionId>) {
        self.export.keeper.forget(sessions.clone()).await;
        for session in sessions {
            let path = self.export.sessions().path(session).cloned();
            if let Some(path) = path {
                self.tally().rolled_back(&path, &self.log);
            }
            self.export.close(session, SessionState::RolledBack);
        }
    }

    /// Drops what the integration left unfinished. Returns how many sessions that were.
    pub(crate) async fn abandon(&self) -> usize {
        {
            // With the table locked, so that whoever opens a session now either is too late or is seen below.
            let _sessions = self.export.sessions();
            self.over.store(true, Ordering::Relaxed);
        }
        self.export.until_committed(&self.integration).await;
        let sessions = self.export.sessions().of(&self.integration);
        let left = sessions.len();
        self.export.keeper.forget(sessions.clone()).await;
        for session in sessions {
            let path = self.export.sessions().path(session).cloned();
            if let Some(path) = path {
                self.tally().left_open(&path);
            }
            self.export.close(session, SessionState::RolledBack);
        }
        left
    }
}

struct Taken<'a> {
    objects: Vec<&'a str>,
    reply: SessionSendReply,
}

/// Why an object cannot be taken, and its id where it has one.
fn fault_of(text: &str, needs_id: bool, largest: usize) -> Option<(Option<String>, String)> {
    let id = || Identity::id_of(text);
    if !text.starts_with('{') {
        let found: String = text.chars().take(40).collect();
        return Some((None, format!("found {found}, expected a JSON object")));
    }
    if text.len() > largest {
        return Some((
            id().map(Cow::into_owned),
            format!("it has {} bytes, more than limits.object_bytes = {largest}", text.len()),
        ));
    }
    if needs_id && id().is_none() {
        return Some((None, NO_ID.to_owned()));
    }
    None
}

/// Everything that may be called, told apart by method.
pub(crate) fn handlers(calls: Arc<Calls>) -> Handlers<Arc<Calls>> {
    let mut on = Handlers::new(calls);
    on.on::<SessionStart, _, _>(|it, params| async move {
        it.log.heard();
        it.start(params)
    });
    on.on_raw::<SessionSend, _, _>(|it, params| async move {
        it.log.heard();
        it.send(params).await
    });
    on.on::<SessionDone, _, _>(|it, params| async move {
        it.log.heard();
        it.done(params).await
    });
    on.on::<SessionRollback, _, _>(|it, params| async move {
        it.log.heard();
        it.rollback(params).await
    });
    on.on::<Pause, _, _>(|it, params| async move {
        // Silence until then is no sign of death.
        it.log.heard_until(params.until);
        it.paused(&params);
        Ok(Empty {})
    });
    on.on::<Resume, _, _>(|it, _| async move {
        it.log.resumed();
        it.export.board().set(&it.integration, IntegrationState::Running);
        Ok(Empty {})
    });
    on.on::<OAuthAccessToken, _, _>(|it, params| async move {
        it.log.heard();
        oauth::access_token(&it.log, params).await
    });
    on.on_notice::<SessionProgress, _, _>(|it, params| async move {
        it.log.heard();
        let progressed = it.export.sessions().progress(&it.integration, params);
        if let Err(misuse) = progressed {
            it.log.note(Level::Warn, &format!("session.progress: {misuse}"), Fields::new());
        }
    });
    on.on_notice::<Log, _, _>(|it, line| async move {
        it.log.heard();
        it.log.said(line);
    });
    on
}

/// The error of a call that needs the store: a path that is too long is the integration's fault, the rest the host's.
pub(crate) fn storage(err: &StoreError) -> RpcError {
    let message = chain(err);
    match err {
        StoreError::TooLong { .. } => {
            RpcError { code: code::INVALID_PARAMS, ..RpcError::failed(Fault::Peer, Retry::No, message) }
        }
        _ => RpcError { code: code::STORAGE, ..RpcError::failed(Fault::Host, Retry::Later, message) },
    }
}

#[cfg(test)]
mod tests {
    use super::fault_of;

    #[test]
    fn an_object_that_cannot_be_taken_is_named() {
        let check = |text, needs_id, expected: Option<(Option<&str>, &str)>| {
            let found = fault_of(text, needs_id, 60);
            let found = found.as_ref().map(|(id, reason)| (id.as_deref(), reason.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        check(r#"{"id":"1"}"#, true, None);
        check(r#"{"name":"x"}"#, false, None);
        check("[1]", false, Some((None, "found [1], expected a JSON object")));
        check(r#"{"id":7}"#, true, Some((None, "it has no text member `id`, which its model needs")));
        check(r#"{"id":""}"#, true, Some((None, "it has no text member `id`, which its model needs")));
        let long = format!(r#"{{"id":"a\"b","text":"{}"}}"#, "x".repeat(60));
        check(&long, true, Some((Some("a\"b"), "it has 83 bytes, more than limits.object_bytes = 60")));
    }
}
