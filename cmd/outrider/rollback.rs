//! `outrider upgrade --rollback`: a person on the host wants the version before. The service takes a version on trial back, or
//! goes over by an attempt like any other; where it gives no answer, or none runs, that is done from here.

use outrider_home::Root;
use outrider_protocol::exit::Exit;
use outrider_protocol::integration::Empty;
use outrider_protocol::local::Rollback;
use outrider_protocol::upgrade::UpgradeOrder;
use outrider_service::{AskError, ask};
use outrider_versions::{Phase, Record, Versions};
use tokio::time::sleep;

use crate::report::Error;
use crate::say::say;
use crate::service::runtime;
use crate::upgrade::{LOOK_EVERY, PATIENCE, alone, follow};

/// The reason for a person.
const WANTED: &str = "a person on this host wanted it";
/// How often it is tried while others change the journal: the launcher goes from `switched` to the trial.
const TRIES: u32 = 5;

pub(crate) fn roll_back(root: &Root) -> Result<Exit, Error> {
    let versions = Versions::of(root.path());
    let trial = on_trial(&versions)?;
    let asked = runtime()?.block_on(async {
        match (ask::<Rollback>(root, &Empty {}, PATIENCE).await, trial) {
            (Ok(_), Some(trial)) => follow_back(&versions, &trial).await.map(Some),
            (Ok(taken), None) => follow(root, &taken.command).await.map(Some),
            // It does not run, or it hangs, be it before it listens or after.
            (Err(AskError::Away { .. } | AskError::Silent { .. }), Some(trial)) => {
                take_back(root, &versions, trial).await.map(Some)
            }
            (Err(AskError::Away { .. }), None) => Ok(None),
            (Err(err), _) => Err(Error::failure(&err)),
        }
    })?;
    if let Some(exit) = asked {
        return Ok(exit);
    }
    alone(root, UpgradeOrder::to_previous())
}

/// The attempt whose version is on trial, about to be, or being taken back.
fn on_trial(versions: &Versions) -> Result<Option<Record>, Error> {
    let seen = versions.see().map_err(|err| Error::failure(&err))?;
    let is_on_trial = |it: &&Record| !it.phase.is_before_switch() && !it.phase.is_terminal();
    Ok(seen.journal.record().filter(is_on_trial).cloned())
}

/// Waits until the version on trial is taken back, which is what is wanted here.
async fn follow_back(versions: &Versions, trial: &Record) -> Result<Exit, Error> {
    say(format_args!("the service goes back from {} to {}", trial.to, trial.from));
    loop {
        let seen = versions.see().map_err(|err| Error::failure(&err))?;
        match seen.journal.record().filter(|it| it.attempt == trial.attempt) {
            Some(record) if !record.phase.is_terminal() => sleep(LOOK_EVERY).await,
            other => return ended(other, trial),
        }
    }
}

/// How the attempt ended for somebody who wants the version before.
fn ended(record: Option<&Record>, trial: &Record) -> Result<Exit, Error> {
    match record {
        Some(record) if record.phase == Phase::RolledBack => {
            say(format_args!("{} is current again", record.from));
            Ok(Exit::Ok)
        }
        Some(record) => Err(Error::failed(format!("{}: {}", record.phase, record.detail))),
        None => Err(Error::failed(format!(
            "go back from {}: the journal of versions does not have the attempt any more: see `outrider status`",
            trial.to
        ))),
    }
}

/// Takes the version on trial back without its service, and ends what runs of it.
#[cfg(unix)]
async fn take_back(root: &Root, versions: &Versions, mut trial: Record) -> Result<Exit, Error> {
    use outrider_actions::watch::{TakenBack, take_back};

    for _ in 0..TRIES {
        let taken = take_back(root, &trial, WANTED).await.map_err(|err| Error::failure(&err))?;
        match taken {
            TakenBack::Back { ran: Some(pid), ended: false } => {
                return Err(Error::failed(format!(
                    "{} is current again, but the process {pid}, which ran {}, could not be ended: end it, for the version \
                     before to be started",
                    trial.from, trial.to
                )));
            }
            TakenBack::Back { ran, .. } => {
                if let Some(pid) = ran {
                    say(format_args!("the process {pid}, which ran {}, was ended", trial.to));
                }
                say(format_args!("{} is current again: the next start of the service runs it", trial.from));
                return Ok(Exit::Ok);
            }
            TakenBack::Stays { why } => {
                return Err(Error::failed(format!("go back from {} to {}: {why}", trial.to, trial.from)));
            }
            TakenBack::Moved => {}
        }
        let seen = versions.see().map_err(|err| Error::failure(&err))?;
        match seen.journal.record().filter(|it| it.attempt == trial.attempt) {
            Some(record) if !record.phase.is_terminal() => trial = record.clone(),
            other => return ended(other, &trial),
        }
    }
    Err(Error::failed(format!(
        "go back from {} to {}: the journal of versions, or the version before, changes all the while: try again",
        trial.to, trial.from
    )))
}

/// There is no watcher's way of ending a process on this system.
#[cfg(not(unix))]
async fn take_back(_root: &Root, versions: &Versions, trial: Record) -> Result<Exit, Error> {
    let failed = |err: outrider_versions::VersionsError| Error::failure(&err);
    let writer = versions.write(std::time::Duration::from_secs(5)).map_err(failed)?;
    writer.roll_back(outrider_versions::Reason::ByHand, WANTED).map_err(failed)?;
    let seen = versions.see().map_err(|err| Error::failure(&err))?;
    ended(seen.journal.record(), &trial)
}
