//! Whether the system killed a process to get memory back, from what the system itself counts.
//!
//! Linux counts, for each control group, the processes that it killed for memory, by a limit of the group or because
//! the machine had none left: `oom_kill` in `memory.events` (cgroup v2) or `memory.oom_control` (v1). A child that was
//! ended by a SIGKILL which its parent did not send, while that count rose, died of it.
//!
//! The count is of the whole group. Two children that end by SIGKILL while one of them is counted are both taken for
//! killed for memory; where nothing is counted (other systems, the root group of a machine), none is.

use std::path::{Path, PathBuf};

/// Where control groups are mounted, on every distribution.
const MOUNT: &str = "/sys/fs/cgroup";

/// How many processes of this process's control group the system has killed for memory; `None` where it does not tell.
pub fn kills() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    counters(&groups).iter().find_map(|file| kills_in(&std::fs::read_to_string(file).ok()?))
}

/// Whether a count taken when a child was started and one taken after its death say that one was killed in between.
pub(crate) fn rose(before: Option<u64>, after: Option<u64>) -> bool {
    matches!((before, after), (Some(before), Some(after)) if after > before)
}

/// The files that may hold the count, from what `/proc/self/cgroup` says. The path of a group is seen from the host in
/// some containers, whose own group is then what is mounted.
fn counters(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mounts, name): (&[&str], _) = match controllers {
            "" => (&["", "unified"], "memory.events"),
            it if it.split(',').any(|it| it == "memory") => (&[it, "memory"], "memory.oom_control"),
            _ => continue,
        };
        for mount in mounts {
            let mount = Path::new(MOUNT).join(mount);
            files.push(mount.join(group.trim_start_matches('/')).join(name));
            files.push(mount.join(name));
        }
    }
    files
}

/// The number behind `oom_kill`.
fn kills_in(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_both_versions_of_control_groups() {
        assert_eq!(kills_in("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(kills_in("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        // Kernels before 4.13 do not count.
        assert_eq!(kills_in("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn the_group_of_this_process_comes_before_the_one_that_is_mounted() {
        let files = |groups: &str| -> Vec<String> {
            counters(groups).iter().map(|it| it.to_string_lossy().into_owned()).collect()
        };
        let v2 = files("0::/system.slice/outrider.service\n");
        assert_eq!(v2[0], "/sys/fs/cgroup/system.slice/outrider.service/memory.events");
        assert_eq!(v2[1], "/sys/fs/cgroup/memory.events");
        let v1 = files("4:cpu:/a\n3:memory:/docker/abc\n1:name=systemd:/\n");
        assert_eq!(v1[0], "/sys/fs/cgroup/memory/docker/abc/memory.oom_control");
        assert!(v1.contains(&"/sys/fs/cgroup/memory/memory.oom_control".to_owned()), "{v1:?}");
        assert!(files("nonsense\n12:\n").is_empty());
    }

    #[test]
    fn only_a_count_that_rose_says_so() {
        let rows = [
            (Some(1), Some(2), true),
            (Some(1), Some(1), false),
            (None, Some(2), false),
            (Some(1), None, false),
        ];
        for (before, after, expected) in rows {
            assert_eq!(rose(before, after), expected, "{before:?} {after:?}");
        }
    }
}
