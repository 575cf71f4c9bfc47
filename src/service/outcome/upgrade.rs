//! How an attempt to upgrade becomes a command's outcome: decisions only.

use std::path::PathBuf;

use jiff::Timestamp;
use outrider_home::{FileError, Root, atomic};
use outrider_protocol::control::{EndState, Outcome};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::{ActionReport, Failure};
use outrider_protocol::upgrade::{Build, UpgradeReport, UpgradeState};
use outrider_versions::{Phase, Record};

/// The outcome of the command that ordered an attempt which has ended so.
pub(crate) fn ended(report: UpgradeReport) -> Outcome {
    let state = match report.state {
        UpgradeState::Done | UpgradeState::AlreadyCurrent => EndState::Done,
        UpgradeState::Cancelled | UpgradeState::Superseded => EndState::Cancelled,
        UpgradeState::Expired => EndState::Expired,
        // One that has not ended is no outcome; whoever brings it as one is wrong.
        _ => EndState::Failed,
    };
    let error = (state != EndState::Done).then(|| failure(&report));
    Outcome { state, report: Some(ActionReport::Upgrade(report)), error }
}

fn failure(report: &UpgradeReport) -> Failure {
    let to = report.to.as_ref().map(|it| format!(" to {it}")).unwrap_or_default();
    let at = report.failed_at.map(|it| format!(" while {}", it.word())).unwrap_or_default();
    let why = report.reason.as_deref().unwrap_or("no reason was kept");
    let message = format!("upgrade{to}: {}{at}: {why}", report.state.word());
    let hint = match report.state {
        UpgradeState::RolledBack => Some(
            "the version before runs again; what the failed one left is in upgrade/failed/ of the agent's root, and it is \
             not tried again there without force"
                .to_owned(),
        ),
        _ => None,
    };
    let fault = match report.state {
        UpgradeState::RolledBack | UpgradeState::Failed => Fault::Host,
        _ => Fault::Caller,
    };
    let retry = if report.retryable { Retry::Later } else { Retry::No };
    Failure { message, fault, retry, hint, last_lines: Vec::new() }
}

/// What the journal of versions says of an attempt that has ended. `build` reads which build a version is.
pub(crate) fn report_of(
    record: &Record,
    build: impl Fn(&outrider_versions::VersionName) -> Option<Build>,
    started_at: Timestamp,
    ended_at: Timestamp,
) -> UpgradeReport {
    let reason = match (record.reason_word(), record.detail.as_str()) {
        (None, "") => None,
        (Some(reason), "") => Some(reason.to_string()),
        (_, detail) => Some(detail.to_owned()),
    };
    UpgradeReport {
        attempt: record.attempt.clone(),
        command: CommandId::new(record.command.as_str()).ok(),
        state: state(record.phase),
        from: build(&record.from),
        to: build(&record.to),
        reason,
        failed_at: record.ended_at.map(state),
        retryable: record.retryable,
        started_at,
        ended_at,
    }
}

/// The state that people and the backend know a phase by.
pub(crate) fn state(phase: Phase) -> UpgradeState {
    match phase {
        Phase::Requested => UpgradeState::Requested,
        Phase::Fetching => UpgradeState::Downloading,
        Phase::Verified => UpgradeState::Extracting,
        Phase::Staged | Phase::Armed => UpgradeState::Arming,
        Phase::Switched => UpgradeState::Switching,
        Phase::Probation | Phase::RollingBack => UpgradeState::Watching,
        Phase::Committed => UpgradeState::Done,
        Phase::RolledBack => UpgradeState::RolledBack,
        Phase::Failed => UpgradeState::Failed,
        Phase::Cancelled => UpgradeState::Cancelled,
        Phase::Expired => UpgradeState::Expired,
        Phase::Superseded => UpgradeState::Superseded,
    }
}

/// Where the report of the last attempt is kept.
fn last_path(root: &Root) -> PathBuf {
    root.state().join("upgrade.json")
}

/// Keeps the report of an attempt, for a person who asks on the host.
pub(crate) fn keep(root: &Root, report: &UpgradeReport) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(report).unwrap_or_default();
    atomic::write(&last_path(root), &text, atomic::PRIVATE)
}

/// How the last attempt of a root ended, if there was one.
#[must_use]
pub fn last_upgrade(root: &Root) -> Option<UpgradeReport> {
    serde_json::from_slice(&std::fs::read(last_path(root)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use outrider_versions::Reason;

    use super::*;

    fn record(phase: Phase) -> Record {
        let mut record = Record::new(
            "c1".into(),
            "c1".into(),
            "1.0.0-11111111".parse().unwrap(),
            "2.0.0-22222222".parse().unwrap(),
        );
        record.phase = phase;
        record
    }

    #[test]
    fn every_end_of_an_attempt_is_an_end_of_its_command_with_a_reason() {
        for phase in Phase::ALL.into_iter().filter(|it| it.is_terminal()) {
            let mut record = record(phase);
            record.reason = Some(Reason::CrashLoop);
            record.ended_at = Some(Phase::Probation);
            let report = report_of(&record, |_| None, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
            assert!(report.state.is_end(), "{phase}");
            let outcome = ended(report);
            assert_eq!(outcome.state == EndState::Done, phase == Phase::Committed, "{phase}");
            assert_eq!(outcome.error.is_none(), phase == Phase::Committed, "{phase}");
        }
    }

    #[test]
    fn a_version_that_was_taken_back_is_told_with_what_to_look_at() {
        let mut record = record(Phase::RolledBack);
        (record.reason, record.detail) = (Some(Reason::Hang), "no answer for 30 s".into());
        record.ended_at = Some(Phase::RollingBack);
        let build = |it: &outrider_versions::VersionName| {
            let (version, hash) = it.as_str().split_once('-')?;
            Some(Build { version: version.into(), snapshot: false, hash: hash.into() })
        };
        let outcome = ended(report_of(&record, build, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH));
        let error = outcome.error.unwrap();
        assert_eq!(
            error.message,
            "upgrade to 2.0.0 (22222222): rolled back while watching: no answer for 30 s"
        );
        assert!(error.hint.unwrap().contains("upgrade/failed/"));
    }
}
