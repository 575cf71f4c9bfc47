//! Whether an attempt fits onto the disk, before its first byte.

use std::path::Path;

/// Left free beside everything that is counted, in bytes: journals, logs, and whatever else writes meanwhile.
const MARGIN: u64 = 32 << 20;

/// What a package needs until it is in place: what is still to be fetched, the files, a tenth more for what folders and
/// blocks take, and a margin.
pub(super) fn needed(package_bytes: u64, fetched_bytes: u64, files_bytes: u64) -> u64 {
    let all = package_bytes.saturating_sub(fetched_bytes).saturating_add(files_bytes);
    all.saturating_add(all / 10).saturating_add(MARGIN)
}

/// What the disk of a folder has for this user, in bytes.
///
/// # Errors
/// When the system does not tell.
#[cfg(unix)]
pub(super) fn free(folder: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// There nobody is asked.
#[cfg(not(unix))]
pub(super) fn free(_folder: &Path) -> std::io::Result<u64> {
    Ok(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_need_not_be_fetched_and_a_tenth_more_is_wanted() {
        assert_eq!(needed(100, 0, 900), 1100 + MARGIN);
        assert_eq!(needed(100, 100, 900), 990 + MARGIN);
        assert_eq!(needed(100, 200, 0), MARGIN);
        assert_eq!(needed(u64::MAX, 0, u64::MAX), u64::MAX);
        assert!(free(Path::new(".")).unwrap() > 0);
    }
}
