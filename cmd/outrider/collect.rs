//! `outrider collect`: linked to the service, by hand, or one look.

use outrider_home::Root;
use outrider_protocol::exit::Exit;

use crate::args::Collect;
use crate::report::Error;

#[cfg(target_os = "linux")]
pub(crate) fn collect(root: Root, flags: Collect) -> Result<Exit, Error> {
    use outrider_actions::collect;

    if flags.once {
        let once = collect::once(&root, flags.config).map_err(|err| cannot(&err))?;
        return print(&once);
    }
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
        | CollectError::File { .. }
        | CollectError::Invalid { .. }
        | CollectError::Outputs(_) => Error::of(Exit::Usage, err),
        _ => Error::failure(err),
    }
}
