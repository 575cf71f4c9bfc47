//! `collect` with the service at the other end of stdin and stdout.

use std::sync::Arc;
use std::time::Duration;

use outrider_collect::outputs::SetupError;
use outrider_home::{Config, Root};
use outrider_logs::Outbox;
use outrider_peer::{Handlers, Peer};
use outrider_protocol::action::{Cancel as CancelNotice, Initialize, InitializeReply};
use outrider_protocol::collect::{Collect, CollectReport, Collecting};
use outrider_protocol::exit::Exit;
use outrider_protocol::fault::{ErrorData, Fault, Retry, RpcError, chain, code};
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::version::ACTION;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::log::Log;
use super::work::{CollectError, Wanted, Work};
use super::{FLUSH, FLUSH_ORPHANED, NAME};
use crate::context::peer_limits;
use crate::linked::{LOG_BYTES, LOG_LINES, LinkError, PATIENCE, pump};
use crate::{Cancel, Outlet};

/// How long one of before may take to end, whose service was killed: it delivers what it has.
const PREDECESSOR: Duration = Duration::from_secs(5);
/// How often the service is told how it goes.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How soon after the last time something new is told.
const REPORT_AFTER: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<CollectReport, RpcError>>;

struct Calls {
    orders: mpsc::Sender<Answer>,
    cancel: Cancel,
}

/// Serves the service until it cancels, or lets go.
///
/// # Errors
/// When stdin and stdout cannot be used.
pub async fn run_linked(root: Root) -> Result<Exit, LinkError> {
    let (reader, writer) = outrider_peer::stdio().map_err(LinkError)?;
    let (orders, mut incoming) = mpsc::channel(1);
    let cancel = Cancel::default();
    let handlers = handlers(Calls { orders, cancel: cancel.clone() });
    // A configuration that is not valid is told when there is a call to answer.
    let limits = Config::load(&root).map(|config| config.limits).unwrap_or_default();
    let service = outrider_peer::connect(reader, writer, handlers, peer_limits(&limits));
    let ordered = tokio::select! {
        ordered = timeout(PATIENCE, incoming.recv()) => ordered.ok().flatten(),
        _ = service.closed() => None,
    };
    let Some(answer) = ordered else { return Ok(Exit::Orphaned) };
    let log = Arc::new(Outbox::new(LOG_LINES, LOG_BYTES));
    let outlet = Outlet::Link { service: service.clone(), log: Arc::clone(&log) };
    let pump = tokio::spawn(pump(Arc::clone(&log), service.clone()));
    let result = collect(&root, outlet, &service, &cancel).await;
    log.close();
    if service.is_closed() {
        return Ok(Exit::Orphaned);
    }
    drop(timeout(PATIENCE, pump).await);
    drop(answer.send(result));
    // The answer is on its way when the service closes the link after it.
    drop(timeout(PATIENCE, service.closed()).await);
    Ok(Exit::Ok)
}

fn handlers(calls: Calls) -> Handlers<Calls> {
    let mut handlers = Handlers::new(calls);
    handlers.on::<Initialize, _, _>(|_: Arc<Calls>, params| async move {
        let protocol =
            ACTION.meet(params.protocol).map_err(|err| RpcError::new(code::VERSION, err.to_string()))?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(InitializeReply { protocol, action: NAME.to_owned(), version })
    });
    handlers.on::<Collect, _, _>(|calls: Arc<Calls>, _| async move {
        let (answer, answered) = oneshot::channel();
        let busy = || RpcError::new(code::INVALID_REQUEST, "collect was called already");
        calls.orders.try_send(answer).map_err(|_| busy())?;
        answered.await.map_err(|_| RpcError::new(code::INTERNAL, "the action ended without a result"))?
    });
    handlers.on_notice::<CancelNotice, _, _>(|calls: Arc<Calls>, params| async move {
        calls.cancel.cancel(&params.reason);
    });
    handlers
}

async fn collect(
    root: &Root,
    outlet: Outlet,
    service: &Peer,
    cancel: &Cancel,
) -> Result<CollectReport, RpcError> {
    let started = Wanted::of(root).and_then(|wanted| {
        let log = Log::open(root, outlet, &wanted, PREDECESSOR)?;
        Work::start(wanted, true, log.clone()).map(|work| (work, log))
    });
    let (mut work, log) = started.map_err(|err| failed(&err))?;
    log.say(Level::Info, "Collecting has begun.", Fields::new());
    let broken = tell(&mut work, &log, service, cancel).await;
    let within = if service.is_closed() { FLUSH_ORPHANED } else { FLUSH };
    let report = work.finish(within).await;
    log.flush();
    broken.map_or(Ok(report), |err| Err(failed(&err)))
}

/// Tells the service how it goes until it is over; answers what broke, if that is why.
async fn tell(work: &mut Work, log: &Log, service: &Peer, cancel: &Cancel) -> Option<CollectError> {
    let begun = Instant::now();
    let mut next = begun;
    loop {
        tokio::select! {
            broken = work.broken() => return Some(broken),
            _ = cancel.cancelled() => return None,
            _ = service.closed() => return None,
            () = sleep_until(next) => {}
            () = async { log.changed().await; sleep(REPORT_AFTER).await } => {}
        }
        // A lost link is noticed above.
        let report = work.report();
        drop(service.notify::<Collecting>(&report).await);
        // Until there is something to look at it is asked for more often, for a while.
        let settled = !report.latest.is_empty() || begun.elapsed() > REPORT_EVERY;
        next = Instant::now() + if settled { REPORT_EVERY } else { REPORT_AFTER };
    }
}

fn failed(err: &CollectError) -> RpcError {
    let (fault, retry) = match err {
        CollectError::Outputs(SetupError::Backlog { .. }) => (Fault::Host, Retry::Later),
        CollectError::Config(_)
        | CollectError::NoSection { .. }
        | CollectError::Ordered(_)
        | CollectError::Outputs(_)
        | CollectError::Poller(_) => (Fault::Host, Retry::No),
        _ => (Fault::Host, Retry::Later),
    };
    let data = ErrorData { fault: Some(fault), retry: Some(retry), hint: None, last_lines: Vec::new() };
    RpcError { code: code::FAILED, message: chain(err), data: Some(data) }
}
