//! `outrider watch`: the watcher of an upgrade, which the service and the launcher start.

use outrider_home::Root;
use outrider_protocol::exit::Exit;

use crate::report::Error;

#[cfg(unix)]
pub(crate) fn watch(root: Root) -> Result<Exit, Error> {
    let runtime = crate::service::runtime()?;
    let watched = runtime.block_on(async {
        let stop = crate::service::signals()?;
        outrider_actions::watch::run(root, stop).await.map_err(|err| Error::failure(&err))
    });
    // A thread that waits for a service or a disk that hangs is not waited for.
    runtime.shutdown_background();
    watched.map(|_| Exit::Ok)
}

#[cfg(not(unix))]
pub(crate) fn watch(_root: Root) -> Result<Exit, Error> {
    Err(Error::usage("watch: there is no watcher on this system: the launcher alone takes a version back"))
}
