//! Misbehaving at a chosen object.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use outrider_integration::{Error, Fields, Level, ModelSession, Run};

use crate::config::{Fault, FaultKind};

/// Lines of the fault `flood`.
pub(crate) const FLOOD_LINES: u64 = 100_000;

/// What the fault `garbage` writes: one short write, so that it never lands inside of a message.
pub(crate) const GARBAGE: &[u8] = b"Warning: this is no message {\"jsonrpc\": \xff\n";

/// Where strays go: the link's own stream, behind its back.
#[derive(Clone)]
pub(crate) struct Stray(Arc<Mutex<dyn Write + Send>>);

impl Stray {
    pub(crate) fn new(to: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(to)))
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        to.write_all(bytes)?;
        to.flush()
    }
}

impl std::fmt::Debug for Stray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stray")
    }
}

/// What is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// An object of an organization.
    Common,
    /// An object of a project, which can fail alone.
    Project,
}

/// What fails.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The project at hand.
    Project(String),
    /// The export.
    Export(Error),
}

impl From<Error> for Failed {
    fn from(err: Error) -> Self {
        Self::Export(err)
    }
}

/// Counts the objects of a run, and misbehaves when the time has come.
#[derive(Debug)]
pub(crate) struct Faults {
    fault: Option<Fault>,
    objects: u64,
    stray: Stray,
}

impl Faults {
    pub(crate) fn new(fault: Option<Fault>, stray: Stray) -> Self {
        Self { fault, objects: 0, stray }
    }

    /// To be called before each object.
    pub(crate) async fn before(
        &mut self,
        run: &Run,
        session: &mut ModelSession,
        sending: Sending,
    ) -> Result<(), Failed> {
        self.objects += 1;
        let Some(fault) = self.fault else { return Ok(()) };
        // A project's fault waits for an object of a project.
        let due =
            self.objects >= fault.at && (fault.kind != FaultKind::Project || sending == Sending::Project);
        if !due {
            return Ok(());
        }
        self.fault = None;
        // The agent has answered for all that came before: what a test finds there does not depend on luck.
        session.flush().await?;
        self.misbehave(fault.kind, run).await
    }

    async fn misbehave(&self, kind: FaultKind, run: &Run) -> Result<(), Failed> {
        let at = format!("at object {}, as the configuration told", self.objects);
        match kind {
            FaultKind::Fail => Err(Error::source(format!("the made-up source failed {at}")).into()),
            FaultKind::Project => {
                Err(Failed::Project(format!("the made-up source failed for this project {at}")))
            }
            FaultKind::Hang => {
                run.info(&format!("hanging {at}")).await;
                std::future::pending().await
            }
            FaultKind::Crash => crash(&at),
            FaultKind::Panic => panic!("the mock integration panics {at}"),
            FaultKind::Kill => kill(&at),
            FaultKind::Flood => {
                for n in 1..=FLOOD_LINES {
                    let fields = Fields::from_iter([("line".to_owned(), n.into())]);
                    run.log(Level::Info, "a line of the flood, and none that anybody wants to read", fields)
                        .await;
                }
                Ok(())
            }
            FaultKind::Garbage => {
                let written = self.stray.write(GARBAGE);
                written.map_err(|err| Error::source("write garbage to stdout").caused_by(err).into())
            }
        }
    }
}

#[expect(clippy::exit, reason = "a crash is what was asked for")]
fn crash(at: &str) -> ! {
    eprintln!("the mock integration crashes {at}");
    std::process::exit(1)
}

#[cfg(unix)]
fn kill(at: &str) -> ! {
    eprintln!("the mock integration kills itself {at}");
    // A process may always do this to itself; should it not, the next line ends it as well.
    let _refused = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

#[cfg(not(unix))]
fn kill(at: &str) -> ! {
    eprintln!("the mock integration kills itself {at}");
    std::process::abort()
}
