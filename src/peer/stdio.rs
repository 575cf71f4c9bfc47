//! This process's stdin and stdout as a link.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// The reading side of a link.
pub type Input = Box<dyn AsyncRead + Send + Sync + Unpin>;
/// The writing side of a link.
pub type Output = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// Takes this process's stdin and stdout for a link. To be called once, early, inside of a tokio runtime with I/O.
///
/// On Unix, the descriptors 0 and 1 are something else afterwards: 0 is empty, so that no child process reads the
/// link, and 1 is the same as 2, so that a stray print, of a library or of a child, lands on stderr instead of inside
/// a message. On Windows they stay as they are.
///
/// Pipes are read and written without a thread. Anything else, such as a terminal or a file, goes through tokio's
/// blocking threads: a read that waits there keeps the runtime from shutting down, so end the process by leaving
/// `main` with `Runtime::shutdown_background` or `std::process::exit`.
///
/// # Errors
/// When a descriptor is closed or cannot be copied.
pub fn stdio() -> io::Result<(Input, Output)> {
    imp::stdio()
}

#[cfg(all(test, unix))]
pub(crate) use imp::{input, output};

#[cfg(unix)]
mod imp {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileTypeExt;

    use tokio::net::unix::pipe;

    use super::{Input, Output};

    /// What the pipe we write is to hold: a batch of objects, so that it is handed over at once.
    #[cfg(target_os = "linux")]
    const PIPE_BYTES: usize = 256 * 1024;

    pub(super) fn stdio() -> io::Result<(Input, Output)> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        rustix::stdio::dup2_stdout(io::stderr().as_fd())?;
        Ok((input(stdin)?, output(stdout)?))
    }

    fn is_pipe(file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.file_type().is_fifo())
    }

    pub(crate) fn input(file: File) -> io::Result<Input> {
        if is_pipe(&file)? {
            return Ok(Box::new(pipe::Receiver::from_owned_fd(OwnedFd::from(file))?));
        }
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    pub(crate) fn output(file: File) -> io::Result<Output> {
        if is_pipe(&file)? {
            // Where the system does not let it grow, it is slower.
            #[cfg(target_os = "linux")]
            let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE_BYTES);
            return Ok(Box::new(pipe::Sender::from_owned_fd(OwnedFd::from(file))?));
        }
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }
}

#[cfg(not(unix))]
mod imp {
    use std::io;

    use super::{Input, Output};

    pub(super) fn stdio() -> io::Result<(Input, Output)> {
        Ok((Box::new(tokio::io::stdin()), Box::new(tokio::io::stdout())))
    }
}
