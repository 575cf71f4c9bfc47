//! Signals to a whole process group.

/// Kills the group of a process that another process started and reported, such as an integration whose action died.
///
/// Answers whether there was such a group. 0 and 1 are refused (they would mean this process's own group, or every
/// process), and so is the group that this process is in. The caller takes the risk that the number has been given to
/// another process since it was reported, so it should call this soon.
///
/// On Windows this does nothing: there the job object of the process that died took its children with it.
#[cfg(unix)]
pub fn kill_group(pid: u32) -> bool {
    let Some(group) = leader(pid) else { return false };
    rustix::process::getpgrp() != group && signal(group, rustix::process::Signal::KILL)
}

/// See the Unix version: a job object took the children with it already.
#[cfg(not(unix))]
pub fn kill_group(_pid: u32) -> bool {
    false
}

/// The group that `pid` leads, if it is a number that may be signalled.
#[cfg(unix)]
pub(crate) fn leader(pid: u32) -> Option<rustix::process::Pid> {
    let raw = i32::try_from(pid).ok().filter(|raw| *raw > 1)?;
    rustix::process::Pid::from_raw(raw)
}

/// Whether somebody in `group` could be sent `signal`. A group that is gone is no error: it is what was wanted.
#[cfg(unix)]
pub(crate) fn signal(group: rustix::process::Pid, signal: rustix::process::Signal) -> bool {
    rustix::process::kill_process_group(group, signal).is_ok()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_everybody_are_refused() {
        let own = rustix::process::getpgrp().as_raw_pid().unsigned_abs();
        for pid in [0, 1, own, u32::MAX] {
            assert!(!kill_group(pid), "{pid}");
        }
    }
}
