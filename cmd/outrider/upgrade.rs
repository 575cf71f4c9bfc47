//! `outrider upgrade`: by a person on the host, through the service where one runs.

use std::time::Duration;

use outrider_actions::{Finished, run_linked};
use outrider_home::{Config, Root};
use outrider_protocol::action::Order;
use outrider_protocol::exit::Exit;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::local::Upgrade;
use outrider_protocol::report::ActionReport;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeReport, UpgradeState};
use outrider_service::{AskError, ask, last_upgrade};
use outrider_upgrade::check_in_place;
use outrider_versions::{Journal, Phase, Reason, Record, Versions, VersionsError};
use tokio::time::sleep;

use crate::actions::programs;
use crate::args;
use crate::report::Error;
use crate::rollback;
use crate::say::say;
use crate::service::runtime;

/// How long the service may take to take the order.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often the journal is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);
const WRITER_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn upgrade(root: Root, flags: args::Upgrade) -> Result<Exit, Error> {
    if flags.link {
        let linked = runtime()?.block_on(run_linked("upgrade", root, programs()?));
        return linked.map_err(|err| Error::of(Exit::Usage, &err));
    }
    if flags.rollback {
        return rollback::roll_back(&root);
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
pub(crate) async fn follow(root: &Root, command: &CommandId) -> Result<Exit, Error> {
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
pub(crate) fn alone(root: &Root, order: UpgradeOrder) -> Result<Exit, Error> {
    // With the right to carry it out, to the end of the switch: a service that starts meanwhile leaves the attempt alone.
    let Finished { exit, result, worker: _worker, .. } =
        crate::actions::by_hand(root.clone(), Order::Upgrade(order))?;
    match result {
        Ok(ActionReport::Upgrade(report)) if report.state == UpgradeState::Arming => {
            switch(root, &Versions::of(root.path()), &report.attempt)
        }
        // What was wanted runs already, or it failed.
        _ => Ok(exit),
    }
}

/// Switches to the version that this attempt has put into place.
fn switch(root: &Root, versions: &Versions, attempt: &str) -> Result<Exit, Error> {
    let failed = |err: VersionsError| Error::failure(&err);
    let record = staged(versions, attempt)?;
    // That reads all of both versions; so not under the lock, for which the launcher waits.
    let sealed = versions.seals(&record).map_err(|err| chain(&err)).and_then(|seals| {
        let checked = check_in_place(versions.layout().root(), record.to.as_str());
        checked.map(|()| seals).map_err(|err| chain(&err))
    });
    let writer = versions.write(WRITER_WAIT).map_err(failed)?;
    staged(versions, attempt)?;
    let seals = match sealed {
        Ok(seals) => seals,
        Err(why) => {
            writer.enter(Phase::Failed, Some((Reason::Package, &why))).map_err(failed)?;
            return Err(Error::failed(format!("arm {}: {why}", record.to)));
        }
    };
    let limits = Config::load(root).map(|it| it.limits).unwrap_or_default();
    writer.arm(seals, |it| it.set_trial(limits.upgrade_green(), limits.upgrade_bound())).map_err(failed)?;
    writer.switch().map_err(failed)?;
    require_not_failed(versions, "switch to the new version")?;
    say(format_args!("switched to {}: the next start of the service runs it on trial", record.to));
    Ok(Exit::Ok)
}

/// The record of this attempt, which has put its version into place and gone no further.
fn staged(versions: &Versions, attempt: &str) -> Result<Record, Error> {
    let seen = versions.see().map_err(|err| Error::failure(&err))?;
    let found = match &seen.journal {
        Journal::Attempt(record) if record.attempt == attempt && record.phase == Phase::Staged => {
            return Ok((**record).clone());
        }
        Journal::Attempt(record) => format!("the attempt {} in {}", record.attempt, record.phase),
        Journal::Absent => "no attempt".to_owned(),
        Journal::Unreadable => {
            return Err(Error::failed(
                "switch to the new version: the journal of versions cannot be read: start the service, which sets it \
                 aside, and try again",
            ));
        }
    };
    Err(Error::failed(format!(
        "switch to the new version: the journal of versions has {found}, expected the attempt {attempt} in {}: try again",
        Phase::Staged
    )))
}

/// What was wanted was given up, and the journal says why.
fn require_not_failed(versions: &Versions, what: &str) -> Result<(), Error> {
    let seen = versions.see().map_err(|err| Error::failure(&err))?;
    match seen.journal.record().filter(|it| it.phase == Phase::Failed) {
        Some(record) => Err(Error::failed(format!("{what}: {}", record.detail))),
        None => Ok(()),
    }
}
