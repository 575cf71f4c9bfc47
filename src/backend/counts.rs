//! What an export's report counts against what this backend has of it.
//!
//! A file is checked on its own when it comes in. That none is missing, and that all of them together hold what the agent
//! acknowledged to its integrations, only shows when the command has ended and its last file is here.
//!
//! An export whose action or service died goes on under the same id, so that its files are of several lives, while its models
//! are counted by the last life alone. What earlier lives left is in the report as well, from the durable state of the
//! agent's spool ([`ExportReport::continued`], [`IntegrationReport::earlier`]).
//!
//! **Invariant:** of an integration that is done, earlier lives and the last one together are what is here, to the object;
//! of one that is not done no less is here. More may be, but only of the last life: it may have died, or its disk failed,
//! while objects became durable and before they were counted. What earlier lives left has no such slack, since it was
//! counted in the spool after they were dead.
//!
//! **Not judged** is an export as long as a file is on its way, and for ever one whose report does not say how many files
//! there are: because some could not be completed, because it is of an agent that could not tell of earlier lives, or
//! because the command ended without its action's report, and so without any counts. Nor is one that has more files than
//! were sealed by a life that took itself for the only one: somebody removed the export's folder from the agent's spool, or
//! the agent is of a version that counted only the files that its service was told of.

use std::collections::BTreeMap;

use outrider_protocol::ids::{IntegrationId, Model};
use outrider_protocol::report::{ExportReport, IntegrationOutcome, IntegrationReport};

use crate::admin::{ExportCounts, IntegrationCounts};

/// Objects that this backend has, by integration and model.
pub(crate) type Received = BTreeMap<(IntegrationId, Model), u64>;

/// Compares the counts of an ended export with what was received of it: `files` files in all.
pub(crate) fn compare(report: &ExportReport, received: &Received, files: u64) -> ExportCounts {
    let integrations = report.integrations.iter().map(|it| {
        let earlier = it.earlier.iter().map(|model| model.objects).sum();
        IntegrationCounts {
            integration: it.integration.clone(),
            reported: earlier + it.models.iter().map(|model| model.objects).sum::<u64>(),
            earlier,
            received: of_integration(received, &it.integration).map(|(_, objects)| objects).sum(),
        }
    });
    let sealed = report.all_files();
    let surplus = sealed.filter(|sealed| *sealed < files && report.continued.is_some());
    let judged = sealed == Some(files) || surplus.is_some();
    ExportCounts {
        sealed_files: sealed,
        earlier_files: report.continued.map_or(0, |it| it.earlier_files),
        judged,
        integrations: integrations.collect(),
        fault: match surplus {
            Some(sealed) => Some(format!(
                "the agent sealed {sealed} files in all lives of this export, but {files} were received"
            )),
            None if judged => fault(report, received, files),
            None => None,
        },
    }
}

/// The first difference between what was counted and what is here, where every file is here.
fn fault(report: &ExportReport, received: &Received, files: u64) -> Option<String> {
    let Difference { integration, model, counted, earlier, here } = report
        .integrations
        .iter()
        .find_map(|it| difference(it, received))
        .or_else(|| stray(report, received))?;
    let before = match earlier {
        0 => String::new(),
        earlier => format!(" ({earlier} of them before the export was started again)"),
    };
    Some(format!(
        "{integration}: the agent counted {counted} objects of {model}{before}, but {here} were received, though all of the \
         export's files are here ({files}); objects were lost or doubled between the agent and this backend"
    ))
}

/// What is counted and what is here of a model.
struct Difference {
    integration: IntegrationId,
    model: Model,
    /// In all lives of the export.
    counted: u64,
    /// In all but the last.
    earlier: u64,
    here: u64,
}

/// Where an integration's counts differ. In the last life of an export that is not done, objects may have become durable
/// before they were counted: more than were counted are no fault then, but fewer are.
fn difference(report: &IntegrationReport, received: &Received) -> Option<Difference> {
    let is_done = report.state == IntegrationOutcome::Done;
    // Of all lives, and of all but the last.
    let mut counted: BTreeMap<&Model, (u64, u64)> =
        of_integration(received, &report.integration).map(|(it, _)| (it, (0, 0))).collect();
    for it in &report.models {
        counted.entry(&it.model).or_default().0 += it.objects;
    }
    for it in &report.earlier {
        let (all, earlier) = counted.entry(&it.model).or_default();
        (*all, *earlier) = (*all + it.objects, *earlier + it.objects);
    }
    counted.into_iter().find_map(|(model, (counted, earlier))| {
        let (integration, model) = (report.integration.clone(), model.clone());
        let here = received.get(&(integration.clone(), model.clone())).copied().unwrap_or_default();
        let differs = if is_done { here != counted } else { here < counted };
        differs.then_some(Difference { integration, model, counted, earlier, here })
    })
}

/// Objects of an integration that the report does not name.
fn stray(report: &ExportReport, received: &Received) -> Option<Difference> {
    let is_named = |id: &IntegrationId| report.integrations.iter().any(|it| it.integration == *id);
    let ((integration, model), here) = received.iter().find(|((id, _), here)| **here > 0 && !is_named(id))?;
    let (integration, model) = (integration.clone(), model.clone());
    Some(Difference { integration, model, counted: 0, earlier: 0, here: *here })
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
    use outrider_protocol::report::{Continued, EarlierCount};
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
        assert_eq!((counts.sealed_files, counts.judged, counts.fault), (Some(3), true, None));
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

    /// The same report of an export that was gone on with: what earlier lives left of each integration by model, in how many
    /// files, and how many files there are in all.
    fn continued(
        mut report: ExportReport,
        earlier: &[(&str, &str, u64)],
        (earlier_files, files): (u64, Option<u64>),
    ) -> ExportReport {
        report.files = None;
        report.continued = Some(Continued { earlier_files, files });
        for it in &mut report.integrations {
            let of_it = earlier.iter().filter(|(id, ..)| *id == it.integration.as_str());
            let count = |(_, model, objects): &(&str, &str, u64)| EarlierCount {
                model: model.parse().unwrap(),
                objects: *objects,
                bytes: 1,
                files: 1,
            };
            it.earlier = of_it.map(count).collect();
        }
        report
    }

    #[test]
    fn earlier_lives_of_an_export_and_its_last_are_held_together_against_what_is_here() {
        let last = report(None, &[("a", "done", &[(REPO, 2)]), ("b", "done", &[(REPO, 1)])]);
        let report = continued(last, &[("a", REPO, 3), ("a", COMMIT, 5)], (2, Some(4)));
        let here = |repos, commits| [("a", REPO, repos), ("a", COMMIT, commits), ("b", REPO, 1)];
        let counts = compare(&report, &received(&here(5, 5)), 4);
        assert_eq!((counts.sealed_files, counts.earlier_files), (Some(4), 2));
        assert_eq!((counts.judged, counts.fault), (true, None));
        let sums: Vec<_> =
            counts.integrations.iter().map(|it| (it.reported, it.earlier, it.received)).collect();
        assert_eq!(sums, [(10, 8, 10), (1, 0, 1)]);

        let said = fault(&report, &here(4, 5), 4).unwrap();
        assert!(
            said.contains("a: the agent counted 5 objects of sourcecode.Repo (3 of them before the export was started again)")
                && said.contains("but 4 were received"),
            "{said}"
        );
        assert!(fault(&report, &here(5, 4), 4).is_some(), "a model that only an earlier life had");
        assert!(fault(&report, &here(6, 5), 4).is_some(), "an object twice");
        let counts = compare(&report, &received(&here(4, 5)), 3);
        assert_eq!((counts.judged, counts.fault), (false, None), "a file is still on its way");
    }

    #[test]
    fn what_earlier_lives_left_has_to_be_there_also_where_the_last_one_failed() {
        let last = report(None, &[("a", "failed", &[(REPO, 2)])]);
        let report = continued(last, &[("a", REPO, 3)], (1, Some(2)));
        assert_eq!(fault(&report, &[("a", REPO, 6)], 2), None, "one became durable and was not counted");
        assert!(fault(&report, &[("a", REPO, 4)], 2).is_some());
    }

    #[test]
    fn more_files_than_all_lives_sealed_are_a_fault() {
        let report = continued(report(None, &[("a", "done", &[(REPO, 2)])]), &[("a", REPO, 3)], (1, Some(2)));
        let counts = compare(&report, &received(&[("a", REPO, 5)]), 3);
        assert!(counts.judged);
        assert_eq!(
            counts.fault.unwrap(),
            "the agent sealed 2 files in all lives of this export, but 3 were received"
        );
    }

    #[test]
    fn an_export_whose_last_files_could_not_be_completed_is_not_judged() {
        let report = continued(report(None, &[("a", "failed", &[(REPO, 2)])]), &[("a", REPO, 3)], (1, None));
        let counts = compare(&report, &received(&[("a", REPO, 4)]), 1);
        assert_eq!((counts.sealed_files, counts.judged, counts.fault), (None, false, None));
    }
}
