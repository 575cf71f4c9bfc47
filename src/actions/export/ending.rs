//! What became of an integration, as it is reported.

use std::collections::BTreeMap;

use outrider_protocol::fault::{ErrorData, Fault, Retry, chain};
use outrider_protocol::integration::ProjectState;
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::progress::IntegrationState;
use outrider_protocol::report::{Failure, IntegrationOutcome, IntegrationReport, ProjectReport};

use super::attempts::Ran;
use super::calls::Calls;
use super::keeper::StoreError;
use super::lives::Counts;
use super::projects::MOST_OBJECTS;
use super::{Export, failure};
use crate::context::Context;

/// Projects of one integration that a report lists. It has to pass through a message and a request.
const MOST_PROJECTS: usize = 20_000;

/// Turns what happened in one attempt into the report. Unfinished sessions are dropped.
pub(super) async fn settle(report: &mut IntegrationReport, ran: Ran, calls: &Calls) {
    let unfinished = calls.abandon().await;
    {
        let tally = calls.tally();
        report.models = tally.delivered();
        report.mode = tally.mode();
    }
    (report.state, report.error) = (IntegrationOutcome::Failed, None);
    match ran {
        Ran::Answered { projects, config_changed } => {
            let tally = calls.tally();
            let projects = projects.into_iter().map(|it| tally.project(it, &calls.log)).collect();
            (report.projects, report.more_projects) = listed(projects, MOST_PROJECTS);
            report.config_changed = config_changed;
            match not_done(report, unfinished) {
                None => report.state = IntegrationOutcome::Done,
                Some(failed) => report.error = Some(*failed),
            }
        }
        Ran::Cancelled(failed) => {
            report.state = IntegrationOutcome::Cancelled;
            unanswered(report, *failed, calls);
        }
        Ran::Failed(failed) => unanswered(report, *failed, calls),
    }
    if calls.tally().overflowed() {
        let message = format!(
            "its sessions belong to more than {MOST_OBJECTS} objects; the report counts no more for each project"
        );
        calls.log.note(Level::Warn, &message, Fields::new());
    }
    blame_others(report, calls);
    if report.state == IntegrationOutcome::Done {
        take_over(report, calls).await;
    }
}

/// An integration that did not say what became of its projects: its sessions do.
fn unanswered(report: &mut IntegrationReport, failed: Failure, calls: &Calls) {
    let (projects, more) = calls.tally().unanswered(&failed, &calls.log);
    (report.projects, report.more_projects) = listed(projects, MOST_PROJECTS);
    report.more_projects += more;
    report.error = Some(failed);
}

/// The projects that are listed, those that failed before all others where there are too many, and how many are not.
fn listed(mut projects: Vec<ProjectReport>, most: usize) -> (Vec<ProjectReport>, u64) {
    let more = projects.len().saturating_sub(most);
    if more > 0 {
        projects.sort_by_key(|it| it.state != ProjectState::Failed);
        projects.truncate(most);
    }
    (projects, more as u64)
}

/// An integration that says it is done while it is not.
fn not_done(report: &IntegrationReport, unfinished: usize) -> Option<Box<Failure>> {
    (unfinished > 0).then(|| {
        let message = format!(
            "{} answered export while {unfinished} of its sessions were open; what they sent was dropped",
            report.integration
        );
        failure(message, Fault::Peer, Retry::No)
    })
}

/// Counts that differ, and what the host could not store, are the cause of whatever the integration made of them.
fn blame_others(report: &mut IntegrationReport, calls: &Calls) {
    let cancelled = report.state == IntegrationOutcome::Cancelled;
    if let Some(differs) = calls.miscounted.get() {
        report.state = IntegrationOutcome::Failed;
        let ErrorData { fault, .. } = differs.data.clone().unwrap_or_default();
        let message = format!("{}: {}", report.integration, differs.message);
        report.error = Some(*failure(message, fault.unwrap_or(Fault::Bug), Retry::No));
    } else if let Some(broken) = calls.storage.get().filter(|_| !cancelled) {
        report.state = IntegrationOutcome::Failed;
        let message = format!("store what {} sent: {broken}", report.integration);
        let mut failed = *failure(message, Fault::Host, Retry::Later);
        let hint = "make room on the disk of the root, or repair it; what was acknowledged is safe";
        failed.hint = Some(broken.hint.unwrap_or(hint).into());
        report.error = Some(failed);
    }
}

/// In an export of everything again, the values of this run take the place of the old ones.
async fn take_over(report: &mut IntegrationReport, calls: &Calls) {
    let (values, integration) = (calls.export.values.clone(), calls.integration.clone());
    let taken = tokio::task::spawn_blocking(move || values.take_over(&integration)).await;
    let err = match taken {
        Ok(Ok(())) => return,
        Ok(Err(err)) => chain(&err),
        // A panic's text, which may quote what it worked with.
        Err(err) => calls.log.redact(&err.to_string()),
    };
    report.state = IntegrationOutcome::Failed;
    let message = format!(
        "put the new last-processed values of {} into the place of the old: {err}; the old ones are as they were",
        report.integration
    );
    report.error = Some(*failure(message, Fault::Host, Retry::No));
}

/// The last files could not be completed. Their objects are durable all the same, and whoever opens the spool next
/// completes them; but this run cannot say that all went well.
pub(super) fn unfinished_files(report: &mut IntegrationReport, err: &StoreError) {
    if report.state == IntegrationOutcome::Done {
        report.state = IntegrationOutcome::Failed;
        let message = format!("complete the spool files of {}: {err}", report.integration);
        let mut failed = failure(message, Fault::Host, Retry::Later);
        failed.hint = Some(
            "its objects are durable; the files are completed and uploaded when the disk can be written again".into(),
        );
        report.error = Some(*failed);
    }
}

/// Holds what was counted session by session against the files that were sealed since (`sealed`), and together with what
/// earlier lives left against all files of the export (`all`). Where nothing failed before, a difference fails the
/// integration.
pub(super) fn compare(report: &mut IntegrationReport, sealed: &Counts, all: &Counts) {
    if report.state != IntegrationOutcome::Done {
        return;
    }
    if let Some(differs) = difference(report, sealed, all) {
        report.state = IntegrationOutcome::Failed;
        let message = format!("{}: {differs}; this is a bug of the agent", report.integration);
        report.error = Some(*failure(message, Fault::Bug, Retry::No));
    }
}

fn difference(report: &IntegrationReport, sealed: &Counts, all: &Counts) -> Option<String> {
    let integration = report.integration.as_str();
    // Also models that stand in files and that nobody counted.
    let found = sealed.keys().chain(all.keys()).filter(|(origin, _)| origin == integration);
    let mut models: BTreeMap<&str, (u64, u64)> = found.map(|(_, model)| (model.as_str(), (0, 0))).collect();
    report.earlier.iter().for_each(|it| models.entry(it.model.as_str()).or_default().0 += it.objects);
    report.models.iter().for_each(|it| models.entry(it.model.as_str()).or_default().1 += it.objects);
    models.into_iter().find_map(|(model, (earlier, counted))| {
        let key = (integration.to_owned(), model.to_owned());
        let of = |counts: &Counts| counts.get(&key).copied().unwrap_or_default();
        let (since, all) = (of(sealed), of(all));
        if since != counted {
            return Some(format!(
                "{counted} objects of {model} were acknowledged, but {since} stand in the files of this export"
            ));
        }
        (all != earlier + counted).then(|| {
            format!(
                "{counted} objects of {model} were acknowledged, and {earlier} were durable before this export was gone on \
                 with, but {all} stand in all of its files"
            )
        })
    })
}

/// Tells the end of an integration.
pub(super) fn conclude(context: &Context, export: &Export, report: &IntegrationReport) {
    let (state, level) = match report.state {
        IntegrationOutcome::Done => (IntegrationState::Done, Level::Info),
        IntegrationOutcome::Failed => (IntegrationState::Failed, Level::Error),
        IntegrationOutcome::Cancelled => (IntegrationState::Cancelled, Level::Warn),
    };
    export.board().set(&report.integration, state);
    let mut fields = Fields::new();
    fields.insert("integration".into(), report.integration.as_str().into());
    fields.insert("objects".into(), report.models.iter().map(|it| it.objects).sum::<u64>().into());
    fields.insert("duration_ms".into(), report.duration_ms.into());
    if report.attempts > 1 {
        fields.insert("attempts".into(), report.attempts.into());
    }
    if let Some(error) = &report.error {
        fields.insert("error".into(), error.message.clone().into());
    }
    context.log(level, format!("integration {}", word(report.state)), fields);
}

fn word(outcome: IntegrationOutcome) -> &'static str {
    match outcome {
        IntegrationOutcome::Done => "done",
        IntegrationOutcome::Failed => "failed",
        IntegrationOutcome::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrider_protocol::report::{EarlierCount, ModelCount};

    #[test]
    fn of_too_many_projects_those_that_failed_are_listed() {
        let project = |n: u32| ProjectReport {
            id: n.to_string(),
            name: String::new(),
            state: if n == 8 { ProjectState::Failed } else { ProjectState::Done },
            mode: outrider_protocol::report::ExportMode::Historical,
            objects: 0,
            bytes: 0,
            unchanged: 0,
            duration_ms: 0,
            error: None,
        };
        let ids = |(projects, more): (Vec<ProjectReport>, u64)| {
            (projects.iter().map(|it| it.id.clone()).collect::<Vec<_>>().join(" "), more)
        };
        assert_eq!(ids(listed((5..10).map(project).collect(), 3)), ("8 5 6".to_owned(), 2));
        assert_eq!(ids(listed((5..10).map(project).collect(), 5)), ("5 6 7 8 9".to_owned(), 0));
    }

    #[test]
    fn counts_that_differ_fail_what_seemed_done() {
        let config = serde_json::from_str(r#"{"name":"mock"}"#).unwrap();
        let mut report = super::super::empty_report(&config);
        report.state = IntegrationOutcome::Done;
        report.models = vec![ModelCount {
            model: outrider_protocol::ids::Model::new("a.B").unwrap(),
            objects: 5,
            bytes: 50,
            unchanged: 0,
            rejected: 0,
            duration_ms: 0,
        }];
        let with = |objects| Counts::from([(("mock".to_owned(), "a.B".to_owned()), objects)]);
        compare(&mut report, &with(5), &with(5));
        assert_eq!(report.state, IntegrationOutcome::Done);
        let said = |mut report: IntegrationReport, sealed, all| {
            compare(&mut report, &sealed, &all);
            assert_eq!(report.state, IntegrationOutcome::Failed);
            report.error.unwrap().message
        };
        let message = said(report.clone(), with(4), with(4));
        assert!(message.contains("5 objects of a.B") && message.contains("but 4 stand"), "{message}");

        report.earlier = vec![EarlierCount {
            model: outrider_protocol::ids::Model::new("a.B").unwrap(),
            objects: 7,
            bytes: 70,
            files: 2,
        }];
        compare(&mut report, &with(5), &with(12));
        assert_eq!(report.state, IntegrationOutcome::Done, "both lives together");
        let message = said(report.clone(), with(5), with(11));
        assert!(
            message.contains("and 7 were durable before") && message.contains("but 11 stand"),
            "{message}"
        );

        (report.models, report.earlier) = (Vec::new(), Vec::new());
        let message = said(report, Counts::new(), with(1));
        assert!(message.contains("0 objects of a.B") && message.contains("but 1 stand"), "{message}");
    }
}
