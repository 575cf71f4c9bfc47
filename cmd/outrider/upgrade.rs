//! `outrider upgrade`: by a person on the host, through the service where one runs.

use std::time::Duration;

use outrider_actions::run_linked;
use outrider_home::{Config, Root};
use outrider_protocol::action::Order;
use outrider_protocol::exit::Exit;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::integration::Empty;
use outrider_protocol::local::{Rollback, Upgrade};
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeReport, UpgradeState};
use outrider_service::{AskError, ask, last_upgrade};
use outrider_upgrade::check_in_place;
use outrider_versions::{Journal, Phase, Reason, Record, Versions, VersionsError};
use tokio::time::sleep;

use crate::actions::programs;
use crate::args;
use crate::report::Error;
use crate::say::say;
use crate::service::runtime;

/// How long the service may take to take the order.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const WRITER_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn upgrade(root: Root, flags: args::Upgrade) -> Result<Exit, Error> {
    if flags.link {
        let linked = runtime()?.block_on(run_linked("upgrade", root, programs()?));
        return linked.map_err(|err| Error::of(Exit::Usage, &err));
    }
    if flags.rollback {
        return roll_back(&root);
    }
    let order = UpgradeOrder {
        version: flags.version,
        sources: flags.source.into_iter().map(absolute).collect::<Result<_, _>>()?,
        allow_downgrade: flags.allow_downgrade,
        below_floor: flags.allow_downgrade,
        force: flags.force,
        ..UpgradeOrder::default()
    };
    let asked = runtime()?.block_on(async {
        match ask::<Upgrade>(&root, &order, PATIENCE).await {
            Ok(taken) => follow(&root, &taken.command).await.map(Some),
            Err(AskError::Away { .. }) => Ok(None),
            Err(err) => Err(Error::failure(&err)),
        }
    })?;
    match asked {
        Some(exit) => Ok(exit),
        None => alone(&root, order),
    }
}

/// A folder is named from where the person stands, and read from where the service does.
fn absolute(source: String) -> Result<String, Error> {
    if source.contains("://") {
        return Ok(source);
    }
    let path =
        std::path::absolute(&source).map_err(|err| Error::usage(format!("--source {source}: {err}")))?;
    Ok(path.display().to_string())
}

/// Says each step of the attempt until it has ended.
async fn follow(root: &Root, command: &CommandId) -> Result<Exit, Error> {
    say(format_args!("the service has taken the order as {command}"));
    let versions = Versions::of(root.path());
    let mut told = None;
    loop {
        if let Some(report) = last_upgrade(root).filter(|it| it.command.as_ref() == Some(command)) {
            return Ok(conclude(&report));
        }
        let seen = versions.see().map_err(|err| Error::failure(&err))?;
        let phase = seen.journal.record().filter(|it| it.command == command.as_str()).map(|it| it.phase);
        if phase != told {
            if let Some(phase) = phase {
                say(phase);
            }
            told = phase;
        }
        sleep(LOOK_EVERY).await;
    }
}

fn conclude(report: &UpgradeReport) -> Exit {
    let to = report.to.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
    let why = report.reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    say(format_args!("{}{to}{why}", report.state.word()));
    match report.state {
        UpgradeState::Done | UpgradeState::AlreadyCurrent => Exit::Ok,
        UpgradeState::Cancelled => Exit::Cancelled,
        _ => Exit::Failure,
    }
}

/// Without a service: the version is put into place and switched to, and the next start runs it on trial.
fn alone(root: &Root, order: UpgradeOrder) -> Result<Exit, Error> {
    let exit = crate::actions::by_hand(root.clone(), Order::Upgrade(order))?;
    if exit != Exit::Ok {
        return Ok(exit);
    }
    let versions = Versions::of(root.path());
    let failed = |err: VersionsError| Error::failure(&err);
    let writer = versions.write(WRITER_WAIT).map_err(failed)?;
    let seen = versions.see().map_err(|err| Error::failure(&err))?;
    match &seen.journal {
        Journal::Attempt(record) if record.phase == Phase::Staged => {
            let sealed = versions.seals(record).map_err(|err| chain(&err)).and_then(|seals| {
                let checked = check_in_place(root.path(), record.to.as_str());
                checked.map(|()| seals).map_err(|err| chain(&err))
            });
            let seals = match sealed {
                Ok(seals) => seals,
                Err(why) => {
                    writer.enter(Phase::Failed, Some((Reason::Package, &why))).map_err(failed)?;
                    return Err(Error::failed(format!("arm {}: {why}", record.to)));
                }
            };
            writer.arm(seals, |it| set_trial(it, root)).map_err(failed)?;
            writer.switch().map_err(failed)?;
            require_not_failed(&versions, "switch to the new version")?;
            say(format_args!("switched to {}: the next start of the service runs it on trial", record.to));
            Ok(Exit::Ok)
        }
        Journal::Attempt(record) if record.phase.is_before_switch() => Err(Error::failed(format!(
            "switch to {}: the journal of versions says {}, expected {}: try again",
            record.to,
            record.phase,
            Phase::Staged
        ))),
        Journal::Unreadable => Err(Error::failed(
            "switch to the new version: the journal of versions cannot be read: start the service, which sets it aside, \
             and try again",
        )),
        // What was wanted runs already.
        Journal::Attempt(_) | Journal::Absent => Ok(Exit::Ok),
    }
}

/// How long the version is to be well, and how long it has for that, as the root's limits say.
fn set_trial(record: &mut Record, root: &Root) {
    let limits = Config::load(root).map(|it| it.limits).unwrap_or_default();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    (record.green_for_ms, record.bound_ms) = (ms(limits.upgrade_green()), ms(limits.upgrade_bound()));
}

/// The attempt whose version is on trial.
fn on_trial(versions: &Versions) -> Result<Option<Record>, Error> {
    let seen = versions.see().map_err(|err| Error::failure(&err))?;
    Ok(seen.journal.record().filter(|it| it.phase == Phase::Probation).cloned())
}

/// What was wanted was given up, and the journal says why.
fn require_not_failed(versions: &Versions, what: &str) -> Result<(), Error> {
    let seen = versions.see().map_err(|err| Error::failure(&err))?;
    match seen.journal.record().filter(|it| it.phase == Phase::Failed) {
        Some(record) => Err(Error::failed(format!("{what}: {}", record.detail))),
        None => Ok(()),
    }
}

fn roll_back(root: &Root) -> Result<Exit, Error> {
    let versions = Versions::of(root.path());
    let trial = on_trial(&versions)?;
    let asked = runtime()?.block_on(async {
        match (ask::<Rollback>(root, &Empty {}, PATIENCE).await, &trial) {
            (Ok(_), Some(trial)) => follow_back(&versions, trial).await.map(Some),
            (Ok(taken), None) => follow(root, &taken.command).await.map(Some),
            (Err(AskError::Away { .. }), _) => Ok(None),
            (Err(err), _) => Err(Error::failure(&err)),
        }
    })?;
    if let Some(exit) = asked {
        return Ok(exit);
    }
    if trial.is_none() {
        let order =
            UpgradeOrder { previous: true, allow_downgrade: true, force: true, ..UpgradeOrder::default() };
        return alone(root, order);
    }
    let failed = |err: VersionsError| Error::failure(&err);
    let writer = versions.write(WRITER_WAIT).map_err(failed)?;
    writer.roll_back(Reason::ByHand, "a person on this host wanted it").map_err(failed)?;
    require_not_failed(&versions, "go back to the version before")?;
    say("the version before is current again");
    Ok(Exit::Ok)
}

/// Waits until the version on trial is taken back, which is what is wanted here.
async fn follow_back(versions: &Versions, trial: &Record) -> Result<Exit, Error> {
    say(format_args!("the service goes back from {} to {}", trial.to, trial.from));
    loop {
        let seen = versions.see().map_err(|err| Error::failure(&err))?;
        match seen.journal.record().filter(|it| it.attempt == trial.attempt) {
            Some(record) if !record.phase.is_terminal() => sleep(LOOK_EVERY).await,
            Some(record) if record.phase == Phase::RolledBack => {
                say(format_args!("{} is current again", record.from));
                return Ok(Exit::Ok);
            }
            Some(record) => {
                return Err(Error::failed(format!("{}: {}", record.phase, record.detail)));
            }
            None => {
                return Err(Error::failed(format!(
                    "go back from {}: the journal of versions does not have the attempt any more: see `outrider status`",
                    trial.to
                )));
            }
        }
    }
}
