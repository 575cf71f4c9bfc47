//! One run: the process of an action from its start to its end, with everything that it started.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use outrider_home::Limits;
use outrider_peer::{CallError, Handlers, Peer};
use outrider_protocol::action::{
    Cancel, ChildDied, ChildEnded, ChildStarted, Initialize, InitializeParams, Log, LogBatch,
    OAuthAccessToken, Order, ProgressChanged, Run, RunParams, Sealed,
};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::integration::{CancelParams, Empty};
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::report::ActionReport;
use outrider_protocol::version::ACTION;
use outrider_supervisor::{Child, Ended, KilledFor, Spawn, SpawnError, StderrTo, StopBudget, kill_group};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::event::{Event, Said};
use crate::outcome::{Answer, RunEnd, Stop};
use crate::redaction::Redaction;
use crate::tokens::Tokens;

/// How long a process whose link is gone may live on before it gets SIGTERM: it is to exit within a second.
pub(crate) const LIFELINE: Duration = Duration::from_secs(2);
/// How long to wait for what a process that has ended still had in its pipes.
pub(crate) const REST: Duration = Duration::from_secs(1);
/// Lines of stderr that may wait; more are dropped and counted by the supervisor.
pub(crate) const STDERR_LINES: usize = 256;

/// What a run needs.
#[derive(Debug)]
pub(crate) struct Job {
    /// Whose run it is.
    pub(crate) command: CommandId,
    /// The work.
    pub(crate) order: Order,
    /// How long it may take.
    pub(crate) time_limit: Option<Duration>,
    /// The `outrider` program.
    pub(crate) program: PathBuf,
    /// The root's folder.
    pub(crate) root: PathBuf,
    /// Every bound.
    pub(crate) limits: Limits,
    /// Its secrets.
    pub(crate) redaction: Arc<Redaction>,
    /// Where its integrations' access tokens come from.
    pub(crate) tokens: Tokens,
}

/// Carries a job out. When this answers, none of its processes is left. Dropped midway, it kills them.
pub(crate) async fn carry_out(
    job: &Job,
    events: &mpsc::Sender<Event>,
    mut stop: watch::Receiver<Option<Stop>>,
) -> RunEnd {
    let said = Speaker { command: job.command.clone(), events: events.clone() };
    let (lines, heard) = mpsc::channel(STDERR_LINES);
    let mut child = match start(job, lines) {
        Ok(child) => child,
        Err(err) => {
            let answer = Answer::NotStarted { hint: err.hint(), message: chain(&err) };
            return RunEnd { answer, stopped: None, ended: None };
        }
    };
    let stderr = tokio::spawn(repeat(heard, job.order.action(), job.redaction.clone(), said.clone()));
    let (Some(stdout), Some(stdin)) = (child.take_stdout(), child.take_stdin()) else {
        return RunEnd { answer: Answer::Broken, stopped: None, ended: None };
    };
    let children = Children::default();
    let _rest = KillRest { command: job.command.clone(), children: children.clone() };
    let (handlers, all_heard) = handlers(said.clone(), children, job.tokens.clone());
    let peer = outrider_peer::connect(stdout, stdin, handlers, peer_limits(&job.limits));
    let (answer, stopped) = talk(job, &peer, &said, &mut stop).await;
    let ended = end(job, &mut child, &peer, &answer, stopped.as_ref()).await;
    // What the process said before it ended is told before its end is.
    drop(timeout(REST, all_heard).await);
    drop(timeout(REST, stderr).await);
    RunEnd { answer, stopped, ended: Some(job.redaction.ended(ended)) }
}

fn start(job: &Job, lines: mpsc::Sender<String>) -> Result<Child, SpawnError> {
    Spawn::new(&job.program)
        .arg(job.order.action())
        .arg("--link")
        .arg("--root")
        .arg(&job.root)
        .cwd(&job.root)
        .stderr(StderrTo::Lines(lines))
        .start()
}

pub(crate) fn peer_limits(limits: &Limits) -> outrider_peer::Limits {
    outrider_peer::Limits {
        line_bytes: limits.line_bytes,
        request_timeout: limits.request_timeout(),
        ..Default::default()
    }
}

/// Greets the action, gives it its order, and waits for the answer, or for a reason to end it.
async fn talk(
    job: &Job,
    peer: &Peer,
    said: &Speaker,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> (Answer, Option<Stop>) {
    tokio::select! {
        greeted = greet(job, peer) => if let Err(answer) = greeted { return (answer, None) },
        why = wanted(stop) => return (nothing("its answer to initialize"), Some(why)),
    }
    said.say(Said::Started).await;
    let params = RunParams { command: job.command.clone(), order: job.order.clone() };
    let run = peer.call_within::<Run>(None, &params);
    tokio::pin!(run);
    let why = tokio::select! {
        answered = &mut run => return (answer(answered), None),
        why = wanted(stop) => why,
        limit = passed(job.time_limit) => Stop::TimeLimit(limit),
    };
    tracing::info!(command = %job.command, reason = why.reason(), "Ending an action.");
    let asked = async {
        // Where the link is lost, the answer says so.
        drop(peer.notify::<Cancel>(&CancelParams { reason: why.reason() }).await);
        (&mut run).await
    };
    match timeout(job.limits.cancel_grace(), asked).await {
        Ok(answered) => (answer(answered), Some(why)),
        Err(_) => (nothing("its answer after the cancel"), Some(why)),
    }
}

async fn greet(job: &Job, peer: &Peer) -> Result<(), Answer> {
    let service_version = env!("CARGO_PKG_VERSION").to_owned();
    let params = InitializeParams { protocol: ACTION, service_version };
    let within = Some(job.limits.start_timeout());
    let reply = match peer.call_within::<Initialize>(within, &params).await {
        Ok(reply) => reply,
        Err(err) => return Err(answer(Err(err))),
    };
    if ACTION.holds(reply.protocol) {
        return Ok(());
    }
    let (ours, theirs) = (ACTION, reply.protocol);
    let what = format!("it answered with version {theirs} of link B, expected {}–{}", ours.min, ours.max);
    Err(Answer::Nothing { what })
}

/// Waits until the process is to end.
async fn wanted(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stop.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(why)) => why.clone(),
        // The loop that would tell is gone.
        Ok(None) | Err(_) => Stop::ServiceStops,
    }
}

async fn passed(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

fn answer(answered: Result<ActionReport, CallError>) -> Answer {
    match answered {
        Ok(report) => Answer::Report(Box::new(report)),
        Err(CallError::Rpc(error)) => Answer::Error(error),
        Err(err) => Answer::Nothing { what: chain(&err) },
    }
}

fn nothing(waited_for: &str) -> Answer {
    Answer::Nothing { what: format!("{waited_for} did not come in time") }
}

/// Sees the process to its end: it is told by the end of its stdin, then by signals.
async fn end(job: &Job, child: &mut Child, peer: &Peer, answer: &Answer, stopped: Option<&Stop>) -> Ended {
    let answered = matches!(answer, Answer::Report(_) | Answer::Error(_));
    let budget = StopBudget {
        polite: if answered { job.limits.cancel_grace().max(LIFELINE) } else { LIFELINE },
        term: job.limits.term_grace(),
        kill: job.limits.kill_grace(),
    };
    let for_ = match stopped {
        None | Some(Stop::TimeLimit(_)) => KilledFor::Time,
        Some(Stop::Cancelled { .. } | Stop::Superseded { .. } | Stop::ServiceStops) => KilledFor::Cancel,
    };
    let ended = child.stop_for(for_, peer.close(), budget).await;
    tracing::debug!(command = %job.command, how = %ended, "The process of an action has ended.");
    ended
}

/// Tells the loop what an action says.
#[derive(Debug, Clone)]
struct Speaker {
    command: CommandId,
    events: mpsc::Sender<Event>,
}

impl Speaker {
    /// Waits while the loop is busy, which holds the action back.
    async fn say(&self, said: Said) {
        // Without the loop nobody wants to hear it.
        drop(self.events.send(Event::Said(self.command.clone(), said)).await);
    }
}

/// Context of the handlers; when it is dropped, everything that came in was heard.
struct Hearing {
    said: Speaker,
    children: Children,
    tokens: Tokens,
    _heard: oneshot::Sender<()>,
}

fn handlers(said: Speaker, children: Children, tokens: Tokens) -> (Handlers<Hearing>, oneshot::Receiver<()>) {
    let (heard, all_heard) = oneshot::channel();
    let mut handlers = Handlers::new(Hearing { said, children, tokens, _heard: heard });
    handlers.on::<Sealed, _, _>(|it: Arc<Hearing>, file| async move {
        it.said.say(Said::Sealed(file)).await;
        Ok(Empty {})
    });
    handlers.on::<OAuthAccessToken, _, _>(|it: Arc<Hearing>, params| async move {
        let tokens = it.tokens.clone();
        // A request that is under way is not what the end of the link waits for.
        drop(it);
        tokens.get(params).await
    });
    handlers.on_notice::<ProgressChanged, _, _>(|it: Arc<Hearing>, progress| async move {
        it.said.say(Said::Progress(progress)).await;
    });
    handlers.on_notice::<Log, _, _>(|it: Arc<Hearing>, batch| async move {
        it.said.say(Said::Log(batch)).await;
    });
    handlers.on_notice::<ChildStarted, _, _>(|it: Arc<Hearing>, child| async move {
        it.children.lock().insert(child.pid, child.program);
    });
    handlers.on_notice::<ChildEnded, _, _>(|it: Arc<Hearing>, child| async move {
        it.children.lock().remove(&child.pid);
    });
    handlers.on_notice::<ChildDied, _, _>(|it: Arc<Hearing>, crash| async move {
        it.said.say(Said::Died(Box::new(crash))).await;
    });
    (handlers, all_heard)
}

/// The process groups that an action told of and that have not ended: id and program.
#[derive(Debug, Clone, Default)]
struct Children(Arc<Mutex<HashMap<u32, String>>>);

impl Children {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills what an action left behind, when its run is over or dropped.
struct KillRest {
    command: CommandId,
    children: Children,
}

impl Drop for KillRest {
    fn drop(&mut self) {
        for (pid, program) in self.children.lock().drain() {
            if kill_group(pid) {
                tracing::warn!(command = %self.command, pid, program, "Killed a process that an action left behind.");
            }
        }
    }
}

/// Repeats what an action writes to stderr, which is for people, in its log.
async fn repeat(
    mut heard: mpsc::Receiver<String>,
    source: &'static str,
    redaction: Arc<Redaction>,
    said: Speaker,
) {
    while let Some(message) = heard.recv().await {
        let message = redaction.text(&message);
        let source = source.to_owned();
        let line =
            LogLine { time: Timestamp::now(), level: Level::Warn, source, message, fields: Fields::new() };
        said.say(Said::Log(LogBatch { lines: vec![line], dropped: 0 })).await;
    }
}
