//! What an export's report counts against what this backend has of it.
//!
//! A file is checked on its own when it comes in. That none is missing, and that all of them together hold what the agent
//! acknowledged to its integrations, only shows when the command has ended and its last file is here.

use std::collections::BTreeMap;

use outrider_protocol::ids::{IntegrationId, Model};
use outrider_protocol::report::{ExportReport, IntegrationOutcome, IntegrationReport};

use crate::admin::{ExportCounts, IntegrationCounts};

/// Objects that this backend has, by integration and model.
pub(crate) type Received = BTreeMap<(IntegrationId, Model), u64>;

/// Compares the counts of an ended export with what was received of it: `files` files in all.
pub(crate) fn compare(report: &ExportReport, received: &Received, files: u64) -> ExportCounts {
    let integrations = report.integrations.iter().map(|it| IntegrationCounts {
        integration: it.integration.clone(),
        reported: it.models.iter().map(|model| model.objects).sum(),
        received: of_integration(received, &it.integration).map(|(_, objects)| objects).sum(),
    });
    ExportCounts {
        sealed_files: report.files,
        integrations: integrations.collect(),
        fault: if report.files == Some(files) { fault(report, received, files) } else { None },
    }
}

/// The first difference between what was counted and what is here, where every file is here.
fn fault(report: &ExportReport, received: &Received, files: u64) -> Option<String> {
    let (integration, model, counted, here) = report
        .integrations
        .iter()
        .find_map(|it| difference(it, received))
        .or_else(|| stray(report, received))?;
    Some(format!(
        "{integration}: the agent counted {counted} objects of {model}, but {here} were received, though all of the \
         export's files are here ({files}); objects were lost or doubled between the agent and this backend"
    ))
}

type Difference = (IntegrationId, Model, u64, u64);

/// Where an integration's counts differ. One that is not done may have died while objects became durable, before they were
/// counted: more than it counted are no fault then, but fewer are.
fn difference(report: &IntegrationReport, received: &Received) -> Option<Difference> {
    let is_done = report.state == IntegrationOutcome::Done;
    let mut counted: BTreeMap<&Model, u64> =
        of_integration(received, &report.integration).map(|(it, _)| (it, 0)).collect();
    for it in &report.models {
        *counted.entry(&it.model).or_default() += it.objects;
    }
    counted.into_iter().find_map(|(model, counted)| {
        let here = received.get(&(report.integration.clone(), model.clone())).copied().unwrap_or_default();
        let differs = if is_done { here != counted } else { here < counted };
        differs.then(|| (report.integration.clone(), model.clone(), counted, here))
    })
}

/// Objects of an integration that the report does not name.
fn stray(report: &ExportReport, received: &Received) -> Option<Difference> {
    let is_named = |id: &IntegrationId| report.integrations.iter().any(|it| it.integration == *id);
    let ((integration, model), here) = received.iter().find(|((id, _), here)| **here > 0 && !is_named(id))?;
    Some((integration.clone(), model.clone(), 0, *here))
}

fn of_integration<'a>(
    received: &'a Received,
    integration: &'a IntegrationId,
) -> impl Iterator<Item = (&'a Model, u64)> {
    received
        .iter()
        .filter(move |((id, _), _)| id == integration)
        .map(|((_, model), objects)| (model, *objects))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const REPO: &str = "sourcecode.Repo";
    const COMMIT: &str = "sourcecode.Commit";

    /// Its id, its state, and what it counted by model.
    type Told<'a> = (&'a str, &'a str, &'a [(&'a str, u64)]);

    fn report(files: Option<u64>, integrations: &[Told<'_>]) -> ExportReport {
        let integrations: Vec<_> = integrations
            .iter()
            .map(|(id, state, models)| {
                let models: Vec<_> = models.iter().map(|(model, objects)| {
                json!({"model": model, "objects": objects, "bytes": 1, "duration_ms": 1})
            }).collect();
                json!({
                    "integration": id, "name": "git", "state": state, "mode": "historical", "duration_ms": 1,
                    "models": models, "projects": [],
                })
            })
            .collect();
        let report = json!({
            "export": "e1", "started_at": "2026-11-29T00:00:00Z", "duration_ms": 1, "files": files,
            "integrations": integrations,
        });
        serde_json::from_value(report).unwrap()
    }

    fn received(of: &[(&str, &str, u64)]) -> Received {
        of.iter()
            .map(|(id, model, objects)| ((id.parse().unwrap(), model.parse().unwrap()), *objects))
            .collect()
    }

    fn fault(report: &ExportReport, of: &[(&str, &str, u64)], files: u64) -> Option<String> {
        compare(report, &received(of), files).fault
    }

    #[test]
    fn counts_that_agree_are_summed_by_integration_and_no_fault() {
        let report =
            report(Some(3), &[("a", "done", &[(REPO, 2), (COMMIT, 5)]), ("b", "done", &[(REPO, 1)])]);
        let counts = compare(&report, &received(&[("a", REPO, 2), ("a", COMMIT, 5), ("b", REPO, 1)]), 3);
        let sums: Vec<_> = counts
            .integrations
            .iter()
            .map(|it| (it.integration.as_str(), it.reported, it.received))
            .collect();
        assert_eq!(sums, [("a", 7, 7), ("b", 1, 1)]);
        assert_eq!((counts.sealed_files, counts.fault), (Some(3), None));
    }

    #[test]
    fn a_difference_is_a_fault_with_both_numbers_as_soon_as_all_files_are_here() {
        let report = report(Some(2), &[("a", "done", &[(REPO, 2), (COMMIT, 5)])]);
        let said = fault(&report, &[("a", REPO, 2), ("a", COMMIT, 4)], 2).unwrap();
        assert!(
            said.contains("a: the agent counted 5 objects of sourcecode.Commit, but 4 were received"),
            "{said}"
        );
        assert_eq!(fault(&report, &[("a", REPO, 2)], 1), None, "a file is still on its way");
    }

    #[test]
    fn a_model_with_more_does_not_hide_one_with_fewer() {
        let report = report(Some(2), &[("a", "done", &[(REPO, 2), (COMMIT, 5)])]);
        assert!(fault(&report, &[("a", REPO, 3), ("a", COMMIT, 4)], 2).is_some());
    }

    #[test]
    fn objects_that_nobody_counted_are_a_fault() {
        let report = report(Some(1), &[("a", "done", &[])]);
        assert!(fault(&report, &[("a", REPO, 1)], 1).is_some());
        assert!(fault(&report, &[("stranger", REPO, 1)], 1).is_some());
    }

    #[test]
    fn an_integration_that_is_not_done_may_have_delivered_more_than_it_counted_and_not_less() {
        for state in ["failed", "cancelled"] {
            let report = report(Some(1), &[("a", state, &[(REPO, 2)])]);
            assert_eq!(fault(&report, &[("a", REPO, 3)], 1), None);
            assert!(fault(&report, &[("a", REPO, 1)], 1).is_some());
        }
    }

    #[test]
    fn nothing_is_judged_where_nobody_knows_how_many_files_there_are() {
        let report = report(None, &[("a", "done", &[(REPO, 2)])]);
        assert_eq!(fault(&report, &[("a", REPO, 1)], 1), None);
    }
}
