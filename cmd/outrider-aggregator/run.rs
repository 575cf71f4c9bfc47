//! The program on Linux, where what it keeps and sends is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use outrider_aggregator::{Aggregator, AggregatorError, from_environment};
use outrider_home::Root;
use outrider_protocol::aggregator::Settings;
use outrider_protocol::exit::Exit;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Error;
use crate::say;

/// Takes what collectors measure, keeps it on its disk or in NATS `JetStream` until it is sent on, and sends it on. Without
/// --config it reads the variables `AGGREGATOR_*` of the original aggregator, and `OUTRIDER_AGGREGATOR_NATS*`.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// A file of JSON: listen, tls, pages, data, queue, bounds, prefix, outputs
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// The folder of what is kept, where there is neither a file nor NATS
    #[arg(
        long,
        value_name = "DIR",
        env = "OUTRIDER_AGGREGATOR_DATA",
        default_value = "/var/lib/outrider-aggregator"
    )]
    data: PathBuf,
    /// Listen here, in place of what is said elsewhere
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Show /metrics and /healthz here, in place of what is said elsewhere
    #[arg(long, value_name = "ADDRESS")]
    pages: Option<SocketAddr>,
}

/// Until a signal, or a part of it breaks.
pub(crate) fn run() -> Result<Exit, Error> {
    let args = Args::parse();
    let mut settings = match &args.config {
        Some(path) => in_file(path)?,
        None => in_environment(args.data)?,
    };
    settings.listen = args.listen.unwrap_or(settings.listen);
    settings.pages = args.pages.or(settings.pages);
    say::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|err| Error::failure(&err))?;
    let done = runtime.block_on(serve(&settings));
    // A thread that waits for a disk or a pipe that hangs is not waited for.
    runtime.shutdown_background();
    done
}

async fn serve(settings: &Settings) -> Result<Exit, Error> {
    let listen = |kind| signal(kind).map_err(|err| Error::failed(format!("listen for signals: {err}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut aggregator =
        Aggregator::start(settings, &(Arc::new(say::news) as _)).await.map_err(|err| cannot(&err))?;
    say::started(&aggregator);
    let broken = tokio::select! {
        broken = aggregator.broken() => Some(broken),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let reports = aggregator.finish().await;
    say::ended(&reports);
    broken.map_or(Ok(Exit::Ok), |err| Err(Error::failure(&err)))
}

fn cannot(err: &AggregatorError) -> Error {
    match err {
        AggregatorError::Tls(_) | AggregatorError::File { .. } => {
            Error::of(Exit::Usage, err).hint("each is a file of PEM; a key belongs to its certificate")
        }
        _ => Error::failure(err),
    }
}

fn in_file(path: &Path) -> Result<Settings, Error> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|err| Error::usage(format!("--config: read {shown}: {err}")))?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    outrider_home::aggregator(&text, &Root::at(folder)).map_err(|faults| {
        let told: String = faults.iter().map(|it| format!("\n  {it}")).collect();
        Error::usage(format!("--config: {shown} cannot be used:{told}"))
    })
}

fn in_environment(data: PathBuf) -> Result<Settings, Error> {
    from_environment(data, |name| std::env::var(name).ok()).map_err(|faults| {
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Error::usage(told.join("\n  "))
    })
}
