//! The process of `outrider collect`, from its start to its end.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use outrider_home::Limits;
use outrider_peer::{CallError, Handlers, Peer};
use outrider_protocol::action::{Cancel, Initialize, InitializeParams, Log};
use outrider_protocol::collect::{Collect, CollectReport, Collecting};
use outrider_protocol::fault::{Retry, chain};
use outrider_protocol::integration::{CancelParams, Empty};
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::version::ACTION;
use outrider_supervisor::{Child, KilledFor, Spawn, SpawnError, StderrTo, StopBudget};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Failed, Signal};
use crate::action::{LIFELINE, REST, STDERR_LINES, peer_limits};
use crate::event::{CollectSaid, Event};
use crate::outcome::{Answer, RunEnd, Stop};
use crate::redaction::Redaction;

/// How many of its last lines tell how it ended.
const LAST_LINES: usize = 3;
/// The action's name.
pub(crate) const NAME: &str = "collect";

/// What a run needs.
#[derive(Debug)]
pub(crate) struct Job {
    /// The `outrider` program.
    pub(crate) program: PathBuf,
    /// The root's folder.
    pub(crate) root: PathBuf,
    /// Every bound.
    pub(crate) limits: Limits,
    /// The secrets of its outputs, and the agent's token.
    pub(crate) redaction: Arc<Redaction>,
}

/// Runs it until it ends, or is told to. When this answers, its process is gone: with nothing after its answer, and otherwise
/// with how it ended. Dropped midway, it kills it.
pub(crate) async fn run(job: &Job, events: &mpsc::Sender<Event>, signal: Signal) -> Option<RunEnd> {
    let (lines, heard) = mpsc::channel(STDERR_LINES);
    let mut child = match start(job, lines) {
        Ok(child) => child,
        Err(err) => {
            let answer = Answer::NotStarted { hint: err.hint(), message: chain(&err) };
            return Some(RunEnd { answer, stopped: None, ended: None });
        }
    };
    let stderr = tokio::spawn(repeat(heard, Arc::clone(&job.redaction)));
    drop(events.send(Event::Collecting(CollectSaid::Started { pid: child.pid() })).await);
    let (Some(stdout), Some(stdin)) = (child.take_stdout(), child.take_stdin()) else {
        return Some(RunEnd { answer: Answer::Broken, stopped: None, ended: None });
    };
    let peer = outrider_peer::connect(stdout, stdin, handlers(events.clone()), peer_limits(&job.limits));
    let (answer, stopped) = talk(job, &peer, signal).await;
    let answered = matches!(answer, None | Some(Answer::Error(_)));
    let budget = StopBudget {
        polite: if answered { job.limits.cancel_grace().max(LIFELINE) } else { LIFELINE },
        term: job.limits.term_grace(),
        kill: job.limits.kill_grace(),
    };
    let for_ = if stopped.is_some() { KilledFor::Cancel } else { KilledFor::Time };
    let ended = child.stop_for(for_, peer.close(), budget).await;
    // What it said before it ended is told before its end is.
    let last = timeout(REST, stderr).await.ok().and_then(Result::ok).filter(|it| !it.is_empty());
    let answer = match (answer?, last) {
        (Answer::Nothing { what }, Some(last)) => {
            Answer::Nothing { what: format!("{what}; it wrote last: {last}") }
        }
        (answer, _) => answer,
    };
    Some(RunEnd { answer, stopped, ended: Some(job.redaction.ended(ended)) })
}

fn start(job: &Job, lines: mpsc::Sender<String>) -> Result<Child, SpawnError> {
    let spawn = Spawn::new(&job.program).arg(NAME).arg("--link").arg("--root").arg(&job.root);
    spawn.cwd(&job.root).stderr(StderrTo::Lines(lines)).start()
}

/// Greets it and lets it work, until it answers (with nothing else to tell) or is told to end.
async fn talk(job: &Job, peer: &Peer, mut signal: Signal) -> (Option<Answer>, Option<Stop>) {
    let service_version = env!("CARGO_PKG_VERSION").to_owned();
    let hello = InitializeParams { protocol: ACTION, service_version };
    tokio::select! {
        greeted = peer.call_within::<Initialize>(Some(job.limits.start_timeout()), &hello) => {
            if let Err(err) = greeted {
                return (answer(Err(err)), None);
            }
        }
        why = told(&mut signal) => {
            let what = "its answer to initialize did not come in time".to_owned();
            return (Some(Answer::Nothing { what }), Some(Stop::Superseded { reason: why.to_owned() }));
        }
    }
    let params = Empty {};
    let work = peer.call_within::<Collect>(None, &params);
    tokio::pin!(work);
    let why = tokio::select! {
        answered = &mut work => return (answer(answered), None),
        why = told(&mut signal) => why,
    };
    let stop = Some(Stop::Superseded { reason: why.to_owned() });
    let asked = async {
        // Where the link is lost, the answer says so.
        drop(peer.notify::<Cancel>(&CancelParams { reason: why.to_owned() }).await);
        (&mut work).await
    };
    match timeout(job.limits.cancel_grace(), asked).await {
        Ok(answered) => (answer(answered), stop),
        Err(_) => {
            let what = "its answer after the cancel did not come in time".to_owned();
            (Some(Answer::Nothing { what }), stop)
        }
    }
}

fn answer(answered: Result<CollectReport, CallError>) -> Option<Answer> {
    match answered {
        Ok(_) => None,
        Err(CallError::Rpc(error)) => Some(Answer::Error(error)),
        Err(err) => Some(Answer::Nothing { what: chain(&err) }),
    }
}

/// Waits until it is to end.
async fn told(signal: &mut Signal) -> &'static str {
    match signal.0.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(why)) => why,
        // The loop that would tell is gone.
        Ok(None) | Err(_) => "the service stops",
    }
}

fn handlers(events: mpsc::Sender<Event>) -> Handlers<mpsc::Sender<Event>> {
    type Events = Arc<mpsc::Sender<Event>>;
    let mut handlers = Handlers::new(events);
    handlers.on_notice::<Log, _, _>(|_: Events, batch| async move {
        if batch.dropped > 0 {
            tracing::warn!(lines = batch.dropped, "Lines of the log of collect were dropped.");
        }
        batch.lines.iter().for_each(outrider_logs::relay);
    });
    handlers.on_notice::<Collecting, _, _>(|events: Events, report| async move {
        // Without the loop nobody wants to hear it.
        drop(events.send(Event::Collecting(CollectSaid::Report(report))).await);
    });
    handlers
}

/// Repeats what it writes to stderr in the service's log, and answers the last lines of that, in one.
async fn repeat(mut heard: mpsc::Receiver<String>, redaction: Arc<Redaction>) -> String {
    let mut last = VecDeque::new();
    while let Some(message) = heard.recv().await {
        let (time, source) = (Timestamp::now(), NAME.to_owned());
        let message = redaction.text(&message);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(message.trim().to_owned());
        outrider_logs::relay(&LogLine { time, level: Level::Warn, source, message, fields: Fields::new() });
    }
    last.make_contiguous().join("; ")
}

/// Why it ended by itself, in words.
pub(crate) fn failed(end: &RunEnd) -> Failed {
    let how = end.ended.as_ref().map(outrider_supervisor::detail).unwrap_or_default();
    let (why, again) = match &end.answer {
        Answer::Error(error) => {
            let retry = error.data.as_ref().and_then(|it| it.retry);
            (error.message.clone(), retry != Some(Retry::No))
        }
        Answer::Nothing { what } => (format!("{how} ({what})"), true),
        Answer::NotStarted { message, .. } => (format!("start the process of {NAME}: {message}"), true),
        // A report is no answer of collect.
        Answer::Broken | Answer::Report(_) => {
            ("the service's task for it panicked; its log says where".to_owned(), true)
        }
    };
    Failed { why, again }
}
