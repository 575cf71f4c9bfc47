//! What the keeper could not write for want of room, and when it tries again.

use std::time::Instant;

use outrider_home::SessionPath;
use outrider_protocol::Raw;
use outrider_protocol::ids::SessionId;

use super::{Answer, Append, Asker, Finish, Kept, StoreError, Waiting, Worker, refuse};
use crate::export::room::{LOOK_EVERY, Shortage};

/// What waits for room.
pub(super) enum Held {
    Append(Append),
    Commit(Waiting),
    /// Values of sessions that are in the spool, and what to answer when they are stored.
    Values(Vec<(SessionPath, Option<Raw>)>, Vec<(Answer, Kept)>),
    Finish(Asker),
}

impl Worker {
    pub(super) fn hold(&mut self, shortage: Shortage, what: Held) {
        if self.held.is_empty() {
            self.since = Instant::now();
            self.tried = self.since;
            // What is committed can be uploaded, which makes room. If there is none to say so, a later try does.
            if let Ok(sealed) = self.writer.seal_all() {
                self.tell(sealed);
            }
        }
        self.room.set(Some(shortage));
        self.held.push_back(what);
    }

    /// Tries to write what is held, in order.
    pub(super) fn try_again(&mut self) {
        if self.held.is_empty() {
            return;
        }
        if let Some(why) = self.room.given_up() {
            return self.lose_held(StoreError::new(why));
        }
        let patience = self.room.patience.unwrap_or_default();
        if self.since.elapsed() >= patience {
            let found = self.room.waits().as_ref().map(StoreError::from);
            let StoreError { message, hint } = found.unwrap_or_else(|| StoreError::new("there was none"));
            let message =
                format!("waited {} s for room (limits.spool_wait_s): {message}", patience.as_secs());
            return self.lose_held(StoreError { message, hint });
        }
        if self.tried.elapsed() < LOOK_EVERY {
            return;
        }
        self.tried = Instant::now();
        if self.is_hopeless() {
            let message = "the sessions that are open fill the spool by themselves, and nothing in it waits for the \
                           backend, so no room will come";
            let hint = "raise limits.spool_bytes, or let the integration finish smaller sessions";
            return self.lose_held(StoreError { message: message.into(), hint: Some(hint) });
        }
        let mut since = self.since;
        self.room.ask_anew();
        // Not all that is held asks for room itself; here is made what can be.
        drop(self.room.disk.shortage());
        let mut rest = std::mem::take(&mut self.held);
        while let Some(next) = rest.pop_front() {
            match next {
                Held::Append(append) => self.append(append),
                Held::Commit(waiting) => self.store(vec![waiting]),
                Held::Values(values, answers) => self.keep(values, answers),
                Held::Finish(answer) => self.finish(answer),
            }
            if !self.held.is_empty() {
                // What was just tried is held again; all that follows keeps its place behind it.
                self.held.append(&mut rest);
                self.since = since;
                return;
            }
            // There was some room: from here the wait counts anew.
            since = Instant::now();
        }
        self.hopeless = None;
        self.room.set(None);
    }

    /// Whether the spool is full, and has been for a while, of nothing but sessions that are not done.
    fn is_hopeless(&mut self) -> bool {
        let full = matches!(self.room.waits(), Some(Shortage::Spool { .. }));
        let only_open =
            full && self.held.iter().all(|it| matches!(it, Held::Append(_))) && !self.room.is_awaited();
        if !only_open {
            self.hopeless = None;
            return false;
        }
        self.hopeless.get_or_insert_with(Instant::now).elapsed() >= self.room.hopeless
    }

    /// Nothing is waited for any longer.
    pub(super) fn lose_held(&mut self, err: StoreError) {
        let err = self.broken.get_or_init(|| err).clone();
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Append(_) => {}
                Held::Commit(waiting) => refuse(vec![waiting], &err),
                Held::Values(_, answers) => {
                    answers.into_iter().for_each(|(answer, _)| drop(answer.send(Err(err.clone()))));
                }
                Held::Finish(answer) => self.end(answer, Err(err.clone())),
            }
        }
        self.room.set(None);
    }

    /// Whether objects of a session are held.
    pub(super) fn is_held(&self, id: SessionId) -> bool {
        self.held.iter().any(|it| matches!(it, Held::Append(append) if append.session == id))
    }

    /// Seals every file; waits for room where the disk has none for the manifest's last line.
    pub(super) fn finish(&mut self, answer: Asker) {
        let totals = self.writer.seal_all().and_then(|sealed| {
            self.tell(sealed);
            // Here, while the export's lock keeps everybody from removing what is finished.
            self.writer.totals()
        });
        let result = match totals {
            Ok(totals) => Ok(totals),
            Err(err) => match self.may_wait(&err).filter(|_| self.broken.get().is_none()) {
                Some(shortage) => return self.hold(shortage, Held::Finish(answer)),
                None => Err(self.note(&err)),
            },
        };
        self.end(answer, result);
    }

    fn end(&mut self, answer: Asker, result: Finish) {
        self.settle();
        self.sealed = None;
        self.ended = Some((answer, result));
    }

    /// The shortage behind an error, when it may be waited for.
    pub(super) fn may_wait(&self, err: &outrider_spool::SpoolError) -> Option<Shortage> {
        Shortage::of(err).filter(|_| self.room.patience.is_some())
    }
}
