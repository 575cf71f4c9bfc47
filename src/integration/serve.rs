//! The program's life: greeted, called, ended.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outrider_peer::{Handlers, Limits, Lost, Peer};
use outrider_protocol::Call;
use outrider_protocol::exit::{Exit, PANIC};
use outrider_protocol::fault::{RpcError, code};
use outrider_protocol::integration::{
    Cancel, ConfigError, Empty, Export, ExportParams, ExportReply, Initialize, InitializeParams,
    InitializeReply, OnboardExport, OnboardExportParams, OnboardExportReply, Shutdown, ValidateConfig,
    ValidateConfigParams, ValidateConfigReply,
};
use outrider_protocol::version::INTEGRATION;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{SetOnce, watch};
use tokio::time::timeout;

use crate::config;
use crate::context::{Context, cancelled};
use crate::ending::HeldEnd;
use crate::error::Error;
use crate::handler::{Integration, record};
use crate::lifeline;
use crate::run::Run;

/// How long a cancelled call may take to end by itself; then it is dropped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// The agent answers as soon as its disk has taken what was sent. One that takes longer than this is dead.
const AGENT_ANSWERS_WITHIN: Duration = Duration::from_secs(300);

/// After the last answer the agent closes the link; this is how long it is waited for.
const AGENT_CLOSES_WITHIN: Duration = Duration::from_millis(200);

/// How an integration's service to its agent ended.
#[derive(Debug, Clone)]
pub enum Served {
    /// The agent called `shutdown`, or closed the link while nothing was running.
    Finished,
    /// The agent was gone before a call was finished.
    Orphaned,
    /// A call panicked; it was answered, and the panic's text is on stderr.
    Panicked,
    /// The link broke.
    Broken(Lost),
}

impl Served {
    /// The process's exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Finished => Exit::Ok.code(),
            Self::Orphaned => Exit::Orphaned.code(),
            Self::Panicked => u8::try_from(PANIC).unwrap_or(Exit::Failure.code()),
            Self::Broken(_) => Exit::Failure.code(),
        }
    }
}

/// The whole `main` of an integration's program: serves the agent on stdin and stdout until it says `shutdown` or is gone.
pub fn run(integration: impl Integration) -> ExitCode {
    let outcome = if io::stdin().is_terminal() {
        Err("this program is an integration of Outrider, which starts it and speaks JSON-RPC with it on stdin and \
             stdout; to try it, see `outrider export --help`"
            .to_owned())
    } else {
        run_on_stdio(integration)
            .map_err(|err| format!("take stdin and stdout for the link to the agent: {err}"))
    };
    match outcome {
        Ok(served) => {
            if let Served::Broken(lost) = &served {
                complain(&format!("the link to the agent broke: {lost}"));
            }
            ExitCode::from(served.exit_status())
        }
        Err(message) => {
            complain(&message);
            ExitCode::from(Exit::Usage.code())
        }
    }
}

fn complain(message: &str) {
    // Where stderr is gone too, the exit status has to do.
    drop(writeln!(io::stderr(), "{message}"));
}

fn run_on_stdio(integration: impl Integration) -> io::Result<Served> {
    lifeline::watch()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let (reader, writer) = outrider_peer::stdio()?;
        Ok(serve_on(integration, reader, writer).await)
    });
    // An author's blocking task must not keep the process.
    runtime.shutdown_background();
    served
}

/// Serves an agent on any pair of streams, on the current runtime.
pub async fn serve_on<I: Integration>(
    integration: I,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> Served {
    let (end, mut ended) = watch::channel(None);
    let (idle, is_idle) = watch::channel(true);
    let server = Server {
        integration: Arc::new(integration),
        peer: SetOnce::new(),
        phase: Mutex::new(Phase::New),
        idle,
        end: end.clone(),
    };
    let server = Arc::new(server);
    let limits = Limits { request_timeout: AGENT_ANSWERS_WITHIN, ..Limits::default() };
    let reader = HeldEnd::new(reader, is_idle, end.clone());
    let peer = outrider_peer::connect(reader, writer, handlers(server.clone()), limits);
    // Set once, here.
    drop(server.peer.set(peer.clone()));
    let told = async { ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) };
    let served = tokio::select! {
        end = told => {
            drop(timeout(AGENT_CLOSES_WITHIN, peer.closed()).await);
            end.unwrap_or(Served::Finished)
        }
        lost = peer.closed() => match lost {
            Lost::Ended => end.borrow().clone().unwrap_or(Served::Finished),
            lost => Served::Broken(lost),
        },
    };
    peer.close().await;
    served
}

struct Server<I> {
    integration: Arc<I>,
    peer: SetOnce<Peer>,
    phase: Mutex<Phase>,
    idle: watch::Sender<bool>,
    end: watch::Sender<Option<Served>>,
}

/// What the agent may call now.
enum Phase {
    /// `initialize` only.
    New,
    /// Anything but `initialize`.
    Ready(Arc<InitializeParams>),
    /// `cancel` and `shutdown` only.
    Busy { method: &'static str, cancel: watch::Sender<Option<String>> },
}

fn handlers<I: Integration>(server: Arc<Server<I>>) -> Handlers<Arc<Server<I>>> {
    type Shared<I> = Arc<Arc<Server<I>>>;
    let mut handlers = Handlers::new(server);
    handlers.on::<Initialize, _, _>(|server: Shared<I>, params| async move { server.greeted(params).await });
    handlers.on::<Export, _, _>(|server: Shared<I>, params| async move { server.export(params).await });
    handlers
        .on::<ValidateConfig, _, _>(|server: Shared<I>, params| async move { server.validate(params).await });
    handlers
        .on::<OnboardExport, _, _>(|server: Shared<I>, params| async move { server.onboard(params).await });
    handlers.on::<Shutdown, _, _>(|server: Shared<I>, Empty {}| async move {
        server.end.send_replace(Some(Served::Finished));
        Ok(Empty {})
    });
    handlers
        .on_notice::<Cancel, _, _>(|server: Shared<I>, params| async move { server.cancel(params.reason) });
    handlers
}

impl<I: Integration> Server<I> {
    async fn greeted(&self, params: InitializeParams) -> Result<InitializeReply, RpcError> {
        let protocol = INTEGRATION.meet(params.protocol).map_err(|err| {
            RpcError::new(code::VERSION, format!("{}: {err}", self.integration.about().name))
        })?;
        let about = self.integration.about();
        let models =
            about.model_infos().map_err(|err| RpcError::new(code::INTERNAL, format!("about: {err}")))?;
        let config_schema = about.config_schema.as_ref().map(record).transpose()?;
        let line_bytes = usize::try_from(params.max_line_bytes).unwrap_or(usize::MAX);
        {
            let mut phase = self.phase();
            if !matches!(*phase, Phase::New) {
                return Err(RpcError::new(
                    code::INVALID_REQUEST,
                    "initialize: it was called already; call it once",
                ));
            }
            *phase = Phase::Ready(Arc::new(params));
        }
        // Only ever wider than ours: objects keep to a narrower one by themselves.
        self.peer.wait().await.set_line_bytes(line_bytes.max(Limits::default().line_bytes));
        Ok(InitializeReply {
            protocol,
            name: about.name,
            version: about.version,
            models,
            onboard_kinds: about.onboard_kinds,
            config_schema,
            features: about.features,
        })
    }

    async fn export(self: &Arc<Self>, params: ExportParams) -> Result<ExportReply, RpcError> {
        let integration = self.integration.clone();
        self.carry_out(Export::NAME, move |context| async move {
            let config = config::parse(&params.config)?;
            integration.export(Run::new(context, params), config).await
        })
        .await
    }

    async fn validate(
        self: &Arc<Self>,
        params: ValidateConfigParams,
    ) -> Result<ValidateConfigReply, RpcError> {
        let integration = self.integration.clone();
        self.carry_out(ValidateConfig::NAME, move |context| async move {
            let outcome = match config::parse(&params.config) {
                Ok(config) => integration.validate(context, config).await,
                Err(err) => Err(err),
            };
            match outcome {
                Err(Error::Config(errors)) => Ok(invalid(errors)),
                outcome => outcome,
            }
        })
        .await
    }

    async fn onboard(self: &Arc<Self>, params: OnboardExportParams) -> Result<OnboardExportReply, RpcError> {
        let integration = self.integration.clone();
        self.carry_out(OnboardExport::NAME, move |context| async move {
            let OnboardExportParams { kind, config } = params;
            if !integration.about().onboard_kinds.contains(&kind) {
                return Err(Error::NotSupported { what: format!("onboarding data of kind {kind:?}") });
            }
            let records = integration.onboard(context, &kind, config::parse(&config)?).await?;
            Ok(OnboardExportReply { records })
        })
        .await
    }

    /// Runs the author's code as a task of its own, so that its panic and its end by force stay its own.
    async fn carry_out<T, F>(
        self: &Arc<Self>,
        method: &'static str,
        work: impl FnOnce(Context) -> F,
    ) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (running, cancel) = self.begin(method)?;
        let peer = self.peer.wait().await.clone();
        let context = Context::new(peer, running.agent.clone(), cancel.clone());
        let mut task = tokio::spawn(work(context));
        let outcome = tokio::select! {
            outcome = &mut task => outcome,
            reason = grace_over(cancel) => {
                task.abort();
                return Err(RpcError::new(code::CANCELLED, format!("cancelled: {reason}")));
            }
        };
        match outcome {
            Ok(done) => done.map_err(RpcError::from),
            Err(err) => {
                self.end.send_replace(Some(Served::Panicked));
                let message = match err.try_into_panic() {
                    Ok(panic) => format!("{method}: the integration panicked: {}", panic_text(&*panic)),
                    Err(err) => format!("{method}: {err}"),
                };
                Err(RpcError::new(code::INTERNAL, message))
            }
        }
    }

    /// Takes note that a call runs, if one may.
    fn begin(self: &Arc<Self>, method: &'static str) -> Result<(Running<I>, Cancelled), RpcError> {
        let mut phase = self.phase();
        let agent = match &*phase {
            Phase::Ready(agent) => agent.clone(),
            Phase::New => {
                let message = format!("{method}: call initialize first, and wait for its answer");
                return Err(RpcError::new(code::INVALID_REQUEST, message));
            }
            Phase::Busy { method: running, .. } => {
                let message =
                    format!("{method}: {running} is still running; wait for its answer or cancel it");
                return Err(RpcError::new(code::INVALID_REQUEST, message));
            }
        };
        let (cancel, cancelled) = watch::channel(None);
        *phase = Phase::Busy { method, cancel };
        self.idle.send_replace(false);
        Ok((Running { server: self.clone(), agent }, cancelled))
    }

    fn cancel(&self, reason: String) {
        if let Phase::Busy { cancel, .. } = &*self.phase() {
            cancel.send_replace(Some(reason));
        }
    }

    fn phase(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Cancelled = watch::Receiver<Option<String>>;

/// A running call; the next may come when this is dropped.
struct Running<I: Integration> {
    server: Arc<Server<I>>,
    agent: Arc<InitializeParams>,
}

impl<I: Integration> Drop for Running<I> {
    fn drop(&mut self) {
        *self.server.phase() = Phase::Ready(self.agent.clone());
        self.server.idle.send_replace(true);
    }
}

/// Ends [`CANCEL_GRACE`] after a cancel.
async fn grace_over(cancel: Cancelled) -> String {
    let reason = cancelled(cancel).await;
    tokio::time::sleep(CANCEL_GRACE).await;
    reason
}

fn invalid(errors: Vec<ConfigError>) -> ValidateConfigReply {
    ValidateConfigReply { errors, source: None }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
