//! The lifeline: the process ends when its parent does, whatever it is doing.
//!
//! The runtime notices the end of stdin when it gets to read it. An integration that computes without pause, or blocks
//! the runtime's thread on a dead network mount, never gets there, so a thread of its own waits for nothing but the
//! hang-up of stdin's pipe and then ends the process.

use std::io;
use std::time::Duration;

/// How long the rest of the program has, from the end of stdin, to finish what it is doing and exit by itself.
pub const LAST_WORDS: Duration = Duration::from_millis(800);

/// How much longer the thread waits, so that a program that can end by itself does.
#[cfg(unix)]
const SLACK: Duration = Duration::from_millis(150);

/// Watches this process's stdin from a thread and ends the process soon after [`LAST_WORDS`] when the other end of the pipe
/// is gone, with [`outrider_protocol::exit::Exit::Orphaned`]. Call it before anything else takes stdin. Where stdin is no
/// pipe (a terminal, a file) nothing ever happens; neither on systems other than Unix.
///
/// # Errors
/// When the system has no descriptor or thread left.
pub fn watch() -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd as _;
        // A copy, since the link is free to replace descriptor 0.
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        std::thread::Builder::new().name("lifeline".into()).spawn(move || {
            wait_for_hangup(&stdin);
            std::thread::sleep(LAST_WORDS + SLACK);
            orphaned();
        })?;
    }
    Ok(())
}

/// Returns when the other end of the pipe is gone, whether or not what it wrote was read.
#[cfg(unix)]
fn wait_for_hangup(pipe: &impl std::os::fd::AsFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        // No event is asked for: hang-up and error are told all the same, and input that waits wakes nobody.
        let mut watched = [PollFd::new(pipe, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) if watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) => {
                return;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Without a working poll the runtime's own reading has to do.
            Err(_) => loop {
                std::thread::park();
            },
        }
    }
}

#[cfg(unix)]
#[expect(
    clippy::exit,
    reason = "the main thread may be stuck; this is the process's last act, and nothing is half-written by us"
)]
fn orphaned() -> ! {
    std::process::exit(outrider_protocol::exit::Exit::Orphaned.code().into())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_hangup_is_noticed_although_input_waits_unread() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"unread\n").unwrap();
        let (done, noticed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            wait_for_hangup(&reader);
            done.send(()).unwrap();
        });
        assert!(noticed.try_recv().is_err());
        drop(writer);
        noticed.recv().unwrap();
    }
}
