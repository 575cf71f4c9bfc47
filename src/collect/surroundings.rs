//! What a container's cgroup does not say: the network of its namespace, when it started, the disk that it writes to.

use std::path::Path;

use crate::catalogue::{DISK_LIMIT, DISK_USAGE};
use crate::collector::Trouble;
use crate::parse;
use crate::points::Taker;

/// The first process of a cgroup, or of the cgroups right below it.
pub(crate) fn first_process(folder: &Path) -> Option<u32> {
    let of = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).ok()?;
        parse::cgroup_procs(&text).find_map(Result::ok)
    };
    of(folder).or_else(|| {
        let below = std::fs::read_dir(folder).ok()?.flatten();
        below.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).find_map(|it| of(&it.path()))
    })
}

/// When a process started, in seconds since 1970.
pub(crate) fn started(proc: &Path, pid: u32) -> Option<u64> {
    let boot = parse::boot_time(&std::fs::read_to_string(proc.join("stat")).ok()?).ok()?;
    let text = std::fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    Some(boot + parse::process_stat(&text).ok()?.started / parse::TICKS)
}

/// The interfaces of a process's namespace, unless that is the host's. A process that ended meanwhile has none.
///
/// # Errors
/// When the namespace's file is there and cannot be read or parsed.
pub(crate) fn network(proc: &Path, pid: u32, taker: &mut Taker<'_>) -> Result<(), Trouble> {
    let process = proc.join(pid.to_string());
    let namespace = |of: &Path| std::fs::read_link(of.join("ns/net")).ok();
    let own = namespace(&process);
    if own.is_some() && own == namespace(&proc.join("1")).or_else(|| namespace(&proc.join("self"))) {
        return Ok(());
    }
    let path = process.join("net/dev");
    match std::fs::read_to_string(&path) {
        Ok(text) => taker.network(&text).map_err(|fault| Trouble::Broken { path, fault }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(22) => {
            Ok(())
        }
        Err(error) => Err(Trouble::Unread { path, error }),
    }
}

/// Use and size of a mounted file system. Blocks that are kept for root count as used, since no other can use them.
///
/// # Errors
/// When the path cannot be reached.
pub(crate) fn disk(path: &Path, taker: &mut Taker<'_>) -> Result<(), Trouble> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| Trouble::Unread { path: path.to_owned(), error: errno.into() })?;
    let used = stat.f_blocks.saturating_sub(stat.f_bavail);
    taker.gauge(&DISK_USAGE, Some(used.saturating_mul(stat.f_frsize)));
    taker.gauge(&DISK_LIMIT, Some(stat.f_blocks.saturating_mul(stat.f_frsize)));
    Ok(())
}
