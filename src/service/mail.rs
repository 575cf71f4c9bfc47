//! What the backend is still to be told of one command. Filled by the loop, which never waits for it; emptied by the
//! command's courier.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use outrider_home::Limits;
use outrider_logs::Outbox;
use outrider_protocol::action::LogBatch;
use outrider_protocol::control::EndedParams;
use outrider_protocol::ids::{IntegrationId, SessionId};
use outrider_protocol::progress::{IntegrationProgress, Progress, SessionProgress, SessionState};
use outrider_protocol::upgrade::UpgradeProgress;
use tokio::sync::Notify;

/// Nodes of a progress tree that wait for the backend. Above it the oldest finished ones are left out: their parents
/// count them.
const NODES: usize = 10_000;

/// One command's mail.
#[derive(Debug)]
pub(crate) struct Mail {
    state: Mutex<State>,
    changed: Notify,
    /// Lines of its log.
    pub(crate) log: Outbox,
}

#[derive(Debug, Default)]
struct State {
    accepted: Option<Timestamp>,
    running: Option<Timestamp>,
    progress: Merged,
    ended: Option<EndedParams>,
    /// Nothing more follows in this life of the service.
    retired: bool,
}

/// One thing to tell, taken out of the mail.
#[derive(Debug)]
pub(crate) enum Letter {
    /// `command.accepted`.
    Accepted(Timestamp),
    /// `command.running`.
    Running(Timestamp),
    /// `command.progress`.
    Progress(Progress),
    /// `command.log`.
    Log(LogBatch),
    /// `command.ended`: the last.
    Ended(Box<EndedParams>),
}

impl Mail {
    /// Mail of a command that the backend is to hear is accepted.
    pub(crate) fn new(accepted: Timestamp, limits: &Limits) -> Self {
        let state = State { accepted: Some(accepted), ..Default::default() };
        let log = Outbox::new(limits.log_queue_lines, limits.log_queue_bytes);
        Self { state: Mutex::new(state), changed: Notify::new(), log }
    }

    /// The command was delivered again: its acceptance was not heard.
    pub(crate) fn accept_again(&self, at: Timestamp) {
        self.change(|state| state.accepted = Some(at));
    }

    pub(crate) fn running(&self, at: Timestamp) {
        self.change(|state| state.running = Some(at));
    }

    pub(crate) fn progress(&self, progress: Progress) {
        self.change(|state| state.progress.merge(progress));
    }

    pub(crate) fn log(&self, batch: LogBatch) {
        self.log.count_dropped(batch.dropped);
        batch.lines.into_iter().for_each(|line| self.log.push(line));
    }

    /// The command has ended: nothing but this follows.
    pub(crate) fn ended(&self, ended: EndedParams) {
        self.log.close();
        self.change(|state| state.ended = Some(ended));
    }

    /// The command goes on in the next life of the service: of this one, only what is here is still to be told.
    pub(crate) fn retire(&self) {
        self.log.close();
        self.change(|state| state.retired = true);
    }

    /// Whether nothing follows but what is here.
    pub(crate) fn is_retired(&self) -> bool {
        self.state().retired
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }

    /// The acceptance or the start, if either is to be told: what cannot wait for company.
    pub(crate) fn urgent(&self) -> Option<Letter> {
        let mut state = self.state();
        let accepted = state.accepted.take().map(Letter::Accepted);
        accepted.or_else(|| state.running.take().map(Letter::Running))
    }

    /// The nodes that changed, if any.
    pub(crate) fn changed_nodes(&self) -> Option<Letter> {
        self.state().progress.take().map(Letter::Progress)
    }

    /// The outcome, if there is one. It stays in the mail.
    pub(crate) fn last(&self) -> Option<Letter> {
        self.state().ended.clone().map(|it| Letter::Ended(Box::new(it)))
    }

    /// Waits until something was added since the last wait.
    pub(crate) async fn added(&self) {
        self.changed.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        // One waiter only: the courier. A notice that finds nobody waiting is kept.
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Progress of which the latest of each node wins.
#[derive(Debug, Default)]
struct Merged {
    integrations: BTreeMap<IntegrationId, IntegrationProgress>,
    sessions: BTreeMap<SessionId, SessionProgress>,
    upgrade: Option<UpgradeProgress>,
}

impl Merged {
    fn merge(&mut self, news: Progress) {
        self.integrations.extend(news.integrations.into_iter().map(|it| (it.integration.clone(), it)));
        if news.upgrade.is_some() {
            self.upgrade = news.upgrade;
        }
        self.sessions.extend(news.sessions.into_iter().map(|it| (it.session, it)));
        while self.sessions.len() > NODES {
            let done = self.sessions.iter().find(|(_, it)| it.state != SessionState::Open);
            let Some(id) = done.or_else(|| self.sessions.iter().next()).map(|(id, _)| *id) else { return };
            self.sessions.remove(&id);
        }
    }

    fn take(&mut self) -> Option<Progress> {
        if self.integrations.is_empty() && self.sessions.is_empty() && self.upgrade.is_none() {
            return None;
        }
        let Self { integrations, sessions, upgrade } = std::mem::take(self);
        Some(Progress {
            integrations: integrations.into_values().collect(),
            sessions: sessions.into_values().collect(),
            upgrade,
        })
    }
}

#[cfg(test)]
mod tests {
    use outrider_protocol::control::{EndState, Outcome};
    use outrider_protocol::integration::SessionKind;

    use super::*;

    fn session(id: u64, current: u64, state: SessionState) -> SessionProgress {
        SessionProgress {
            session: SessionId(id),
            parent: None,
            integration: IntegrationId::new("git").unwrap(),
            kind: SessionKind::Tracking,
            name: "repo".into(),
            object: None,
            state,
            current,
            total: None,
            objects: 0,
            children_done: 0,
        }
    }

    fn sessions(ids: impl IntoIterator<Item = (u64, u64)>, state: SessionState) -> Progress {
        let sessions = ids.into_iter().map(|(id, current)| session(id, current, state)).collect();
        Progress { sessions, ..Progress::default() }
    }

    #[test]
    fn the_latest_state_of_each_node_is_told_once() {
        let mail = Mail::new(Timestamp::UNIX_EPOCH, &Limits::default());
        mail.progress(sessions([(1, 1), (2, 1)], SessionState::Open));
        mail.progress(sessions([(1, 5)], SessionState::Open));
        let Some(Letter::Progress(progress)) = mail.changed_nodes() else { panic!() };
        let told: Vec<_> = progress.sessions.iter().map(|it| (it.session.0, it.current)).collect();
        assert_eq!(told, [(1, 5), (2, 1)]);
        assert!(mail.changed_nodes().is_none());
    }

    #[test]
    fn a_tree_that_grows_while_the_backend_is_away_loses_its_oldest_finished_nodes_first() {
        let mut merged = Merged::default();
        merged.merge(sessions([(0, 0)], SessionState::Open));
        for id in 1..=20_000 {
            merged.merge(sessions([(id, 0)], SessionState::Done));
        }
        let kept = merged.take().unwrap().sessions;
        assert_eq!(kept.len(), NODES);
        assert_eq!((kept[0].session.0, kept[1].session.0), (0, 10_002));
    }

    #[test]
    fn the_acceptance_comes_first_and_the_outcome_stays_until_it_is_answered() {
        let mail = Mail::new(Timestamp::UNIX_EPOCH, &Limits::default());
        mail.running(Timestamp::UNIX_EPOCH);
        let command = outrider_protocol::ids::CommandId::new("c1").unwrap();
        let outcome = Outcome { state: EndState::Done, report: None, error: None };
        mail.ended(EndedParams { command, outcome, ended_at: Timestamp::UNIX_EPOCH });
        assert!(matches!(mail.urgent(), Some(Letter::Accepted(_))));
        assert!(matches!(mail.urgent(), Some(Letter::Running(_))));
        assert!(mail.urgent().is_none());
        assert!(matches!(mail.last(), Some(Letter::Ended(_))));
        assert!(matches!(mail.last(), Some(Letter::Ended(_))));
    }
}
