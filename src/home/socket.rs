//! The socket of a root, on which its service is asked. Its folder and itself are the owner's alone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::Root;

/// Opens the socket to listen. The caller holds the root's lock, so one that is there was left behind.
///
/// # Errors
/// When it cannot be made.
pub fn listen(root: &Root) -> io::Result<UnixListener> {
    let path = root.socket();
    if let Err(err) = std::fs::remove_file(&path)
        && err.kind() != io::ErrorKind::NotFound
    {
        return Err(err);
    }
    let listener = at_short_path(&path, |short| UnixListener::bind(short))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Reaches whoever listens.
///
/// # Errors
/// When nobody does.
pub fn connect(root: &Root) -> io::Result<UnixStream> {
    at_short_path(&root.socket(), |short| UnixStream::connect(short))
}

/// A socket's path may have some hundred bytes at most, and a root may lie deeper: its folder is then reached through the
/// descriptor of it.
#[cfg(target_os = "linux")]
fn at_short_path<T>(path: &Path, then: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    /// What every system takes.
    const SHORT: usize = 90;
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if path.as_os_str().len() > SHORT => {
            let folder = std::fs::File::open(folder)?;
            then(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
        }
        _ => then(path),
    }
}

#[cfg(not(target_os = "linux"))]
fn at_short_path<T>(path: &Path, then: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    then(path)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_root_that_lies_deep_has_a_socket_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().join("a-folder-with-a-long-name".repeat(8)));
        root.create().unwrap();
        assert!(connect(&root).is_err());
        for _ in 0..2 {
            // The second finds what the first left behind.
            let listener = listen(&root).unwrap();
            let mut asker = connect(&root).unwrap();
            asker.write_all(b"?").unwrap();
            let mut question = [0];
            listener.accept().unwrap().0.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"?");
        }
        let mode = std::fs::metadata(root.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
