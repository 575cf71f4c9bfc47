//! An action with the service at the other end of stdin and stdout.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outrider_home::{Config, Root};
use outrider_logs::Outbox;
use outrider_peer::{Handlers, Peer};
use outrider_protocol::action::{
    Cancel as CancelNotice, Initialize, InitializeReply, Log, Run as RunCall, RunParams,
};
use outrider_protocol::exit::Exit;
use outrider_protocol::fault::{ErrorData, Fault, Retry, RpcError, chain, code};
use outrider_protocol::report::{ActionReport, Failure};
use outrider_protocol::version::ACTION;
use tokio::sync::{mpsc, oneshot};

use crate::context::{Context, Run, peer_limits};
use crate::{Cancel, Outlet, carry_out};

/// Log lines that may wait for the service, which reads them as fast as it can.
pub(crate) const LOG_LINES: usize = 4096;
/// Bytes that may wait for the service.
pub(crate) const LOG_BYTES: usize = 4 << 20;
/// Lines in one message to the service.
const BATCH_LINES: usize = 256;
/// Bytes in one message to the service.
const BATCH_BYTES: usize = 256 << 10;
/// How long the service may take to give an order, and to let the action go after its answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The link to the service could not be made.
#[derive(Debug, thiserror::Error)]
#[error("join the service on stdin and stdout; this mode is for the service, by hand leave --link out")]
pub struct LinkError(#[source] pub(crate) std::io::Error);

type Ordered = (RunParams, oneshot::Sender<Result<ActionReport, RpcError>>);

struct Calls {
    action: &'static str,
    orders: mpsc::Sender<Ordered>,
    cancel: Cancel,
}

/// Serves the service until it lets go. `programs` is the folder of the `outrider` program.
///
/// # Errors
/// When stdin and stdout cannot be used.
pub async fn run_linked(action: &'static str, root: Root, programs: PathBuf) -> Result<Exit, LinkError> {
    let (reader, writer) = outrider_peer::stdio().map_err(LinkError)?;
    let (orders, mut incoming) = mpsc::channel(1);
    let cancel = Cancel::default();
    let handlers = handlers(Calls { action, orders, cancel: cancel.clone() });
    // A configuration that is not valid is told when there is a run to answer.
    let limits = Config::load(&root).map(|config| config.limits).unwrap_or_default();
    let service = outrider_peer::connect(reader, writer, handlers, peer_limits(&limits));

    let ordered = tokio::select! {
        ordered = tokio::time::timeout(PATIENCE, incoming.recv()) => ordered.ok().flatten(),
        _ = service.closed() => None,
    };
    let Some((params, answer)) = ordered else { return Ok(Exit::Orphaned) };

    let log = Arc::new(Outbox::new(LOG_LINES, LOG_BYTES));
    let outlet = Outlet::Link { service: service.clone(), log: log.clone() };
    let pump = tokio::spawn(pump(log.clone(), service.clone()));
    let work = work(root, programs, params, outlet, cancel);
    let result = tokio::select! {
        result = work => result,
        // Dropping the work kills the process groups of its children.
        _ = service.closed() => return Ok(Exit::Orphaned),
    };
    log.close();
    drop(tokio::time::timeout(PATIENCE, pump).await);
    drop(answer.send(result));
    // The answer is on its way when the service closes the link after it.
    drop(tokio::time::timeout(PATIENCE, service.closed()).await);
    Ok(Exit::Ok)
}

fn handlers(calls: Calls) -> Handlers<Calls> {
    let mut handlers = Handlers::new(calls);
    handlers.on::<Initialize, _, _>(|calls: Arc<Calls>, params| async move {
        let protocol =
            ACTION.meet(params.protocol).map_err(|err| RpcError::new(code::VERSION, err.to_string()))?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(InitializeReply { protocol, action: calls.action.to_owned(), version })
    });
    handlers.on::<RunCall, _, _>(|calls: Arc<Calls>, params| async move {
        if params.order.action() != calls.action {
            let message = format!(
                "this process is `{}`: expected an order for it, found {}",
                calls.action,
                params.order.action()
            );
            return Err(RpcError::new(code::INVALID_PARAMS, message));
        }
        let (answer, answered) = oneshot::channel();
        let busy = || RpcError::new(code::INVALID_REQUEST, "run was called already: one action, one run");
        calls.orders.try_send((params, answer)).map_err(|_| busy())?;
        answered.await.map_err(|_| RpcError::new(code::INTERNAL, "the action ended without a result"))?
    });
    handlers.on_notice::<CancelNotice, _, _>(|calls: Arc<Calls>, params| async move {
        calls.cancel.cancel(&params.reason);
    });
    handlers
}

async fn work(
    root: Root,
    programs: PathBuf,
    params: RunParams,
    outlet: Outlet,
    cancel: Cancel,
) -> Result<ActionReport, RpcError> {
    let RunParams { command, mut order } = params;
    let run = Run { id: command.into(), programs, outlet, cancel: cancel.clone() };
    let context = Context::prepare(root, run, &mut order).map_err(|err| {
        RpcError::failed(Fault::Host, Retry::Later, chain(&err))
            .hint("see logs/service-run and the root's permissions")
    })?;
    let result = carry_out(&context, order).await;
    context.flush_log();
    result.map_err(|failure| {
        let Failure { message, fault, retry, hint, last_lines } = *failure;
        let code = if cancel.is_cancelled() { code::CANCELLED } else { code::FAILED };
        let data = ErrorData { fault: Some(fault), retry: Some(retry), hint, last_lines };
        RpcError { code, message, data: Some(data) }
    })
}

/// Sends log lines to the service until the outbox is closed and empty.
pub(crate) async fn pump(log: Arc<Outbox>, service: Peer) {
    while let Some(batch) = log.next_batch(BATCH_LINES, BATCH_BYTES).await {
        if service.notify::<Log>(&batch).await.is_err() {
            return;
        }
    }
}
