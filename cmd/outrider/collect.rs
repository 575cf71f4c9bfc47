//! `outrider collect`: linked to the service, by hand, or one look.

use outrider_home::Root;
use outrider_protocol::exit::Exit;

use crate::args::Collect;
#[cfg(target_os = "linux")]
use crate::args::CollectCommand;
use crate::report::Error;

#[cfg(target_os = "linux")]
pub(crate) fn collect(root: Root, flags: Collect) -> Result<Exit, Error> {
    use outrider_actions::collect;

    if let Some(CollectCommand::Check { config }) = flags.command {
        return check(&root, config);
    }
    if flags.once {
        let once = collect::once(&root, flags.config).map_err(|err| cannot(&err))?;
        return print(&once);
    }
    collect::confine(&root).map_err(|err| Error::of(Exit::Failure, &err))?;
    let runtime = crate::service::runtime()?;
    let done = runtime.block_on(async {
        if flags.link {
            return collect::run_linked(root).await.map_err(|err| Error::of(Exit::Usage, &err));
        }
        let stop = crate::service::signals()?;
        let ended = collect::run_by_hand(&root, flags.config, std::io::stderr(), stop).await;
        ended.map(|_| Exit::Ok).map_err(|err| cannot(&err))
    });
    // A thread that waits for a disk or a pipe that hangs is not waited for.
    runtime.shutdown_background();
    done
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn collect(_root: Root, _flags: Collect) -> Result<Exit, Error> {
    Err(Error::usage("collect: what it measures, cgroups and /proc, is on Linux only"))
}

/// Events on stdout, what failed on stderr, both as they come.
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "stdout is for the events")]
fn check(root: &Root, config: Option<std::path::PathBuf>) -> Result<Exit, Error> {
    use std::io::Write;
    use std::sync::Mutex;

    use outrider_actions::collect::Checked;

    let runtime = crate::service::runtime()?;
    let (told, printed) = std::sync::mpsc::channel();
    let told = Mutex::new(told);
    let checked =
        runtime.block_on(outrider_actions::collect::check(root, config, move |checked| match checked {
            Checked::Failed(text) => eprintln!("outrider: {text}"),
            Checked::Lines(lines) => {
                let mut out = std::io::stdout().lock();
                if let Err(err) = out.write_all(&lines).and_then(|()| out.flush()) {
                    // The other end is in this function.
                    drop(told.lock().map(|it| it.send(err)));
                }
            }
        }));
    let failed = checked.map_err(|err| cannot(&err))?;
    match printed.try_iter().find(|it| it.kind() != std::io::ErrorKind::BrokenPipe) {
        Some(err) => Err(Error::failure(&err)),
        None if failed > 0 => Err(Error::failed(format!("{failed} APIs cannot be polled"))),
        None => Ok(Exit::Ok),
    }
}

/// Samples on stdout, what could not be measured on stderr.
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "stdout is for the samples")]
fn print(once: &outrider_actions::collect::Once) -> Result<Exit, Error> {
    use std::io::Write;

    once.troubles.iter().for_each(|it| eprintln!("outrider: {it}"));
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(&once.lines).and_then(|()| out.flush());
    match printed {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::failure(&err)),
        _ if once.lines.is_empty() => Err(Error::failed("nothing was measured")),
        _ => Ok(Exit::Ok),
    }
}

#[cfg(target_os = "linux")]
fn cannot(err: &outrider_actions::collect::CollectError) -> Error {
    use outrider_actions::collect::CollectError;
    match err {
        CollectError::Config(_)
        | CollectError::NoSection { .. }
        | CollectError::Ordered(_)
        | CollectError::Environment(_)
        | CollectError::File { .. }
        | CollectError::Invalid { .. }
        | CollectError::NoApis
        | CollectError::Poller(_)
        | CollectError::Outputs(_) => Error::of(Exit::Usage, err),
        _ => Error::failure(err),
    }
}
