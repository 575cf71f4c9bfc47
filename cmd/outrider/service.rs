//! `outrider service-run`, and what it shares with the actions: the runtime and the signals.

use outrider_home::Root;
use outrider_protocol::exit::Exit;
use outrider_service::{Options, ServiceError};
use outrider_versions::Versions;
use tokio::runtime::{Builder, Runtime};

use crate::args::ServiceRun;
use crate::report::Error;

/// One thread for all that waits: an agent is mostly idle, and should weigh as little.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread().enable_all().build().map_err(|err| Error::failure(&err))
}

pub(crate) fn run(root: Root, flags: &ServiceRun) -> Result<Exit, Error> {
    let program = std::env::current_exe().map_err(|err| Error::failure(&err))?;
    let versions = Versions::of(root.path());
    let options = Options { root, program, log: flags.log.clone() };
    let runtime = runtime()?;
    let (stopped, stop) = runtime.block_on(async {
        let mut stop = Box::pin(signals()?);
        let stopped = outrider_service::run(options, stop.as_mut()).await.map_err(|err| cannot_run(&err))?;
        Ok::<_, Error>((stopped, stop))
    })?;
    if !stopped.goes_over {
        return Ok(Exit::Ok);
    }
    // Nothing of this version runs on beside the next.
    drop(runtime);
    end_when_told(stop)?;
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let _not_started = outrider_versions::launch::launch(&versions, &args);
    Err(Error::failed("no version could be started: its errors stand above"))
}

/// Ends this process when it is told to stop, up to the moment in which it becomes another version: the launcher reads all of
/// that first, and whoever stops a service then would wait for it in vain.
fn end_when_told(stop: impl Future<Output = &'static str> + Send + 'static) -> Result<(), Error> {
    let runtime = runtime()?;
    let listening = std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
        runtime.block_on(stop);
        leave(Exit::Ok)
    });
    listening.map(drop).map_err(|err| {
        Error::failed(format!("start the thread that listens for the end of the service: {err}"))
    })
}

fn cannot_run(err: &ServiceError) -> Error {
    let exit = match err {
        ServiceError::RootInUse(_) => Exit::RootInUse,
        ServiceError::Config(_) => Exit::Usage,
        _ => Exit::Failure,
    };
    let error = Error::of(exit, err);
    match err {
        ServiceError::RootInUse(_) => {
            error.hint("another `outrider service-run` uses this root: `outrider status` shows it; stop it, or name another --root")
        }
        _ => error,
    }
}

/// Ends at the first Ctrl-C or SIGTERM, with the reason. A second one ends the process at once; its children notice
/// by the end of their stdin.
#[cfg(unix)]
pub(crate) fn signals() -> Result<impl Future<Output = &'static str>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|err| Error::failure(&err));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        let reason = tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            leave(Exit::Cancelled);
        });
        reason
    })
}

/// Ends at the first Ctrl-C, with the reason. A second one ends the process at once.
#[cfg(not(unix))]
pub(crate) fn signals() -> Result<impl Future<Output = &'static str>, Error> {
    Ok(async move {
        // Without the handler the system's own ends the process, which is what is left to do.
        drop(tokio::signal::ctrl_c().await);
        tokio::spawn(async {
            drop(tokio::signal::ctrl_c().await);
            leave(Exit::Cancelled);
        });
        "Ctrl-C"
    })
}

#[expect(
    clippy::exit,
    reason = "whoever says so will not wait for anything, or there is nothing left to end"
)]
fn leave(exit: Exit) -> ! {
    std::process::exit(exit.code().into())
}
