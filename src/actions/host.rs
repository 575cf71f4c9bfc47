//! One integration process and link C to it: started, greeted, called, ended.
//!
//! [`Host::start`] returns only when `initialize` was answered, so that no other call can come before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_peer::{CallError, Handlers, Lost, Peer};
use outrider_protocol::Call;
use outrider_protocol::action::{AgentConfig, IntegrationConfig};
use outrider_protocol::crash::Crash;
use outrider_protocol::fault::{ErrorData, Fault, Retry, RpcError, code};
use outrider_protocol::integration::{
    Cancel, CancelParams, Empty, Initialize, InitializeParams, InitializeReply, Log, OAuthAccessToken,
    Shutdown,
};
use outrider_protocol::report::Failure;
use outrider_protocol::version::INTEGRATION;
use outrider_supervisor::{Child, Ended, How, Spawn, StderrTo, StopBudget};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::crash;
use crate::integration_log::IntegrationLog;
use crate::locate::locate;

/// Lines of stderr that may wait for the log; above that the log is too slow and lines are counted, not kept.
const STDERR_LINES: usize = 1024;

/// How long what an ended process wrote last may take to be read.
const REST: Duration = Duration::from_secs(5);

/// An integration that has answered `initialize`.
pub(crate) struct Host {
    child: Child,
    peer: Peer,
    about: InitializeReply,
    context: Context,
    log: IntegrationLog,
    stderr: tokio::task::JoinHandle<()>,
    program: String,
}

/// An integration that could not be started, or did not answer `initialize`.
pub(crate) struct NotStarted {
    pub(crate) failure: Box<Failure>,
    /// Its death, where it died of the greeting.
    pub(crate) crash: Option<Box<Crash>>,
}

impl From<Box<Failure>> for NotStarted {
    fn from(failure: Box<Failure>) -> Self {
        Self { failure, crash: None }
    }
}

impl From<NotStarted> for Box<Failure> {
    fn from(it: NotStarted) -> Self {
        it.failure
    }
}

/// An integration whose process is over.
pub(crate) struct Gone {
    /// What it said of itself.
    pub(crate) about: InitializeReply,
    /// How it ended, where it had not been killed by then.
    pub(crate) ended: Option<Ended>,
    /// Its death, if it died.
    pub(crate) crash: Option<Box<Crash>>,
}

/// Why a call to an integration has no result.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// It answered with an error.
    Answered(RpcError),
    /// It was told to cancel, and either answered so or did not answer in time.
    Cancelled { reason: String },
    /// Nothing came from it for so long.
    Silent { method: &'static str, after: Duration },
    /// The link was lost before the answer.
    Lost { method: &'static str, lost: Lost },
    /// The answer could not be read.
    BadReply { method: &'static str, message: String },
}

impl Host {
    /// Starts an integration and greets it.
    pub(crate) async fn start<C: Send + Sync + 'static>(
        context: &Context,
        agent: &AgentConfig,
        integration: &IntegrationConfig,
        log: &IntegrationLog,
        handlers: Handlers<C>,
    ) -> Result<Self, NotStarted> {
        let program = locate(&integration.name, &context.integration_folders(agent))?;
        let (child, peer, stderr) = spawn(context, &program, log, handlers).await?;
        let program = program.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        context.outlet().child_started(child.pid(), &program).await;
        let mut host = Self {
            child,
            peer,
            about: unknown(),
            context: context.clone(),
            log: log.clone(),
            stderr,
            program,
        };
        match host.greet(integration).await {
            Ok(about) => {
                if let Some(schema) = &about.config_schema {
                    log.learn(schema);
                }
                host.about = about;
                Ok(host)
            }
            Err(stopped) => {
                let Gone { ended, crash, .. } = host.end(Some(&stopped)).await;
                Err(NotStarted { failure: stopped.failure(ended.as_ref(), log), crash })
            }
        }
    }

    async fn greet(&mut self, integration: &IntegrationConfig) -> Result<InitializeReply, Stopped> {
        let limits = self.context.limits();
        let params = InitializeParams {
            protocol: INTEGRATION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            integration: integration.id(),
            max_line_bytes: limits.line_bytes as u64,
            cache_dir: self.context.root().cache(&integration.id()).display().to_string(),
        };
        let within = limits.start_timeout();
        let method = Initialize::NAME;
        let answer = tokio::select! {
            answer = self.peer.call_within::<Initialize>(Some(within), &params) => answer,
            reason = self.context.cancel().cancelled() => return Err(Stopped::Cancelled { reason }),
        };
        let about = answer.map_err(|err| Stopped::from_call(method, err))?;
        if INTEGRATION.holds(about.protocol) {
            return Ok(about);
        }
        Err(Stopped::Answered(RpcError::new(
            code::VERSION,
            format!(
                "{} {} answered initialize with protocol version {}, which was not offered: expected {}–{}; \
                 update the older of agent and integration",
                about.name, about.version, about.protocol, INTEGRATION.min, INTEGRATION.max
            ),
        )))
    }

    /// What the integration said of itself.
    pub(crate) fn about(&self) -> &InitializeReply {
        &self.about
    }

    /// Calls the integration and waits until it answers, is cancelled, or is silent for too long.
    pub(crate) async fn call<M: Call>(&mut self, params: &M::Params) -> Result<M::Reply, Stopped> {
        let idle = self.context.limits().integration_idle();
        let call = self.peer.call_within::<M>(None, params);
        tokio::pin!(call);
        self.log.heard();
        let answer = tokio::select! {
            answer = &mut call => answer,
            reason = self.context.cancel().cancelled() => {
                drop(self.peer.notify::<Cancel>(&CancelParams { reason: reason.clone() }).await);
                return match tokio::time::timeout(self.context.limits().cancel_grace(), call).await {
                    // It was done before it heard.
                    Ok(Ok(reply)) => Ok(reply),
                    Ok(Err(_)) | Err(_) => Err(Stopped::Cancelled { reason }),
                };
            }
            () = silence(&self.log, idle) => return Err(Stopped::Silent { method: M::NAME, after: idle }),
            // A process that left its group may hold stdout open for ever, so the end of the link does not tell it all.
            _ = self.child.wait() => match tokio::time::timeout(REST, call).await {
                Ok(answer) => answer,
                Err(_) => Err(CallError::Lost(Lost::Ended)),
            },
        };
        answer.map_err(|err| Stopped::from_call(M::NAME, err))
    }

    /// Ends the process, politely first, and tells of its death if it died. `stopped` says why a call had no result.
    pub(crate) async fn end(mut self, stopped: Option<&Stopped>) -> Gone {
        let limits = self.context.limits();
        let budget = StopBudget {
            polite: limits.cancel_grace(),
            term: limits.term_grace(),
            kill: limits.kill_grace(),
        };
        let pid = self.child.pid();
        let lost = self.peer.is_closed();
        let peer = self.peer.clone();
        let polite = async move {
            if !lost {
                drop(peer.call_within::<Shutdown>(Some(budget.polite), &Empty {}).await);
            }
            peer.close().await;
        };
        let ended = self.child.stop(polite, budget).await;
        self.context.outlet().child_ended(pid, &self.program).await;
        // The reader ends with the pipe; a grandchild that holds it was killed with the group.
        if tokio::time::timeout(budget.kill, &mut self.stderr).await.is_err() {
            self.stderr.abort();
        }
        let crash = crash::tell(&self.log, &self.about.version, stopped, Some(&ended)).await;
        Gone { about: self.about, ended: Some(ended), crash }
    }
}

/// Starts the program and joins link C to it.
async fn spawn<C: Send + Sync + 'static>(
    context: &Context,
    program: &std::path::Path,
    log: &IntegrationLog,
    handlers: Handlers<C>,
) -> Result<(Child, Peer, tokio::task::JoinHandle<()>), Box<Failure>> {
    let cannot = |message: String, retry: Retry, hint: Option<String>| {
        Box::new(Failure { message, fault: Fault::Host, retry, hint, last_lines: Vec::new() })
    };
    let (lines, mut stderr) = mpsc::channel(STDERR_LINES);
    let mut spawn = Spawn::new(program.to_owned());
    spawn.cwd = context.root().path().to_owned();
    spawn.stderr = StderrTo::Lines(lines);
    let mut child = spawn.start().map_err(|err| {
        let retry = if err.is_transient() { Retry::Later } else { Retry::No };
        cannot(outrider_protocol::fault::chain(&err), retry, err.hint())
    })?;
    let pipes = child.take_stdin().zip(child.take_stdout());
    let (stdin, stdout) = pipes
        .ok_or_else(|| cannot(format!("{} was started without pipes", program.display()), Retry::No, None))?;
    let peer = outrider_peer::connect(stdout, stdin, handlers, context.peer_limits());
    let log = log.clone();
    let reader = tokio::spawn(async move {
        while let Some(line) = stderr.recv().await {
            log.heard();
            log.stderr(&line);
        }
    });
    Ok((child, peer, reader))
}

/// Handlers for calls during which an integration may only log and ask for an access token.
pub(crate) fn quiet_handlers(log: IntegrationLog) -> Handlers<IntegrationLog> {
    let mut handlers = Handlers::new(log);
    handlers.on_notice::<Log, _, _>(|log: Arc<IntegrationLog>, line| async move {
        log.heard();
        log.said(line);
    });
    handlers.on::<OAuthAccessToken, _, _>(|log: Arc<IntegrationLog>, params| async move {
        log.heard();
        crate::oauth::access_token(&log, params).await
    });
    handlers
}

/// How a process ended, and what it said of the reason where it gave up by itself.
fn how(ended: &Ended) -> String {
    match outrider_supervisor::words(ended) {
        Some(words) => format!("{}: {words}", ended.how),
        None => ended.how.to_string(),
    }
}

/// Ends when nothing was heard of the integration for `limit`.
async fn silence(log: &IntegrationLog, limit: Duration) {
    loop {
        let quiet = log.last_heard().elapsed();
        if quiet >= limit {
            return;
        }
        tokio::time::sleep_until((Instant::now() + (limit - quiet)).into()).await;
    }
}

fn unknown() -> InitializeReply {
    InitializeReply {
        protocol: 0,
        name: String::new(),
        version: String::new(),
        models: Vec::new(),
        onboard_kinds: Vec::new(),
        config_schema: None,
        features: Vec::new(),
    }
}

impl Stopped {
    fn from_call(method: &'static str, err: CallError) -> Self {
        match err {
            CallError::Rpc(error) => Self::Answered(error),
            CallError::Lost(lost) => Self::Lost { method, lost },
            CallError::TimedOut { after, .. } => Self::Silent { method, after },
            other => Self::BadReply { method, message: outrider_protocol::fault::chain(&other) },
        }
    }

    /// Whether it was the order's end and not the integration's failure.
    pub(crate) fn was_cancelled(&self) -> bool {
        match self {
            Self::Cancelled { .. } => true,
            Self::Answered(error) => error.code == code::CANCELLED,
            _ => false,
        }
    }

    /// Whether the integration was gone, or as good as gone, before it answered.
    pub(crate) fn was_lost(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Lost { .. })
    }

    /// The failure as it is reported, with the integration's last words.
    pub(crate) fn failure(&self, ended: Option<&Ended>, log: &IntegrationLog) -> Box<Failure> {
        let mut failure = self.told(ended, log.name());
        failure.message = log.redact(&failure.message);
        failure.hint = failure.hint.map(|hint| log.redact(&hint));
        failure.last_lines = log.last_words(&ended.map(outrider_supervisor::cry).unwrap_or_default());
        Box::new(failure)
    }

    fn told(&self, ended: Option<&Ended>, name: &str) -> Failure {
        let how = ended.map_or_else(|| "it is still running".to_owned(), how);
        let failure = |message, fault, retry, hint: Option<&str>| Failure {
            message,
            fault,
            retry,
            hint: hint.map(str::to_owned),
            last_lines: Vec::new(),
        };
        match self {
            Self::Answered(error) => {
                let ErrorData { fault, retry, hint, .. } = error.data.clone().unwrap_or_default();
                failure(
                    format!("{name}: {}", error.message),
                    fault.unwrap_or(Fault::Peer),
                    retry.unwrap_or(Retry::No),
                    hint.as_deref(),
                )
            }
            Self::Cancelled { reason } => {
                failure(format!("{name} was cancelled: {reason}"), Fault::Caller, Retry::No, None)
            }
            Self::Silent { method, after } => failure(
                format!(
                    "{name} sent nothing for {} s while {method} was to be answered; it was stopped",
                    after.as_secs()
                ),
                Fault::Peer,
                Retry::Later,
                Some(
                    "see the integration's log; raise limits.integration_idle_s (or start_timeout_s) in config.json if its source is that slow",
                ),
            ),
            Self::Lost { method, lost } => {
                let broke = matches!(lost, Lost::Torn { .. } | Lost::TooLong { .. });
                let crashed = ended.is_some_and(|it| it.how != How::Ok);
                let outlived =
                    ended.is_some_and(|it| matches!(it.how, How::Killed { .. } | How::Unkillable { .. }));
                let message = match (broke, crashed) {
                    (false, _) if outlived => {
                        format!("{name} closed its stdout before it answered {method}, and lived on; {how}")
                    }
                    (true, true) => format!("{name} ended before it answered {method}: {how}; {lost}"),
                    (true, false) => format!("{name} broke the protocol before it answered {method}: {lost}"),
                    (false, _) => format!("{name} ended before it answered {method}: {how}"),
                };
                failure(
                    message,
                    Fault::Peer,
                    Retry::Later,
                    Some("its last words stand below and in its log file"),
                )
            }
            Self::BadReply { method, message } => failure(
                format!("{name} gave no valid answer to {method}: {message}"),
                Fault::Peer,
                Retry::No,
                None,
            ),
        }
    }
}
