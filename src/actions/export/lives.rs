//! The lives of an export. Where its action or its service dies, the service starts it again under the same id, and it goes on
//! from its checkpoints: its files are then those of several lives, while each life counts only its own objects.
//!
//! What earlier lives left is not what they counted, which died with them, but what the spool has of it: all that its manifest
//! names once a recovery has sealed what was committed, also when it was acknowledged and has expired. It is read under the
//! export's lock, before the first commit of this life.
//!
//! **Invariant:** for each integration and model, what was durable when this life began, and what this life acknowledged,
//! are together what stands in all files of the export. For an integration that is done both hold to the object: what an
//! earlier life committed and did not come to count (it died in between) is in the first of them, and nothing can be
//! committed between the two. Only of this life can there be more than was counted, where an integration is not done:
//! a commit that failed may turn out to have happened.

use std::collections::BTreeMap;

use outrider_protocol::ids::{IntegrationId, Model};
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::report::{Continued, EarlierCount};
use outrider_spool::Total;

use crate::context::Context;

/// Objects in sealed files, by integration and model.
pub(super) type Counts = BTreeMap<(String, String), u64>;

/// How many objects are in those files.
pub(super) fn counts(totals: &[Total]) -> Counts {
    totals.iter().map(|it| ((it.origin.clone(), it.model.clone()), it.amount.records)).collect()
}

/// What earlier lives of an export left.
#[derive(Debug, Default)]
pub(super) struct Lives {
    earlier: Vec<Total>,
}

impl Lives {
    /// From what the spool had when this life began.
    pub(super) fn new(earlier: &[Total]) -> Self {
        Self { earlier: earlier.to_vec() }
    }

    /// Says in the log that there were any.
    pub(super) fn tell(&self, context: &Context) {
        let (files, objects) =
            (sum(&self.earlier), self.earlier.iter().map(|it| it.amount.records).sum::<u64>());
        if files > 0 {
            let fields = Fields::from_iter([
                ("files".to_owned(), files.into()),
                ("objects".to_owned(), objects.into()),
            ]);
            let message =
                "the export goes on; what was durable of it before is counted beside what comes now";
            context.log(Level::Info, message, fields);
        }
    }

    /// What they left of an integration.
    pub(super) fn earlier_of(&self, integration: &IntegrationId) -> Vec<EarlierCount> {
        let of_integration = self.earlier.iter().filter(|it| it.origin == integration.as_str());
        let count = |it: &Total| {
            let (objects, bytes) = (it.amount.records, it.amount.raw_bytes);
            // The name of a model's folder was a model when it was written; one of a stranger is nobody's object.
            Some(EarlierCount { model: Model::new(it.model.clone()).ok()?, objects, bytes, files: it.files })
        };
        of_integration.filter_map(count).collect()
    }

    /// What the report says of the export's files, of which `all` are sealed; nothing where some are not.
    pub(super) fn files(&self, all: Option<&[Total]>) -> (Option<u64>, Option<Continued>) {
        let files = all.map(sum);
        match sum(&self.earlier) {
            0 => (files, None),
            earlier_files => (None, Some(Continued { earlier_files, files })),
        }
    }
}

fn sum(totals: &[Total]) -> u64 {
    totals.iter().map(|it| it.files).sum()
}

#[cfg(test)]
mod tests {
    use outrider_spool::Amount;

    use super::*;

    fn total(origin: &str, model: &str, files: u64, records: u64) -> Total {
        let amount = Amount { records, raw_bytes: records * 10 };
        Total { origin: origin.into(), model: model.into(), files, amount }
    }

    #[test]
    fn each_integration_has_what_was_left_of_it() {
        let lives =
            Lives::new(&[total("git", "a.B", 2, 5), total("git", "a.C", 1, 1), total("jira", "a.B", 1, 3)]);
        let of = |id: &str| {
            let earlier = lives.earlier_of(&IntegrationId::new(id).unwrap());
            earlier
                .iter()
                .map(|it| format!("{} {} {} {}", it.model, it.objects, it.bytes, it.files))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("git"), ["a.B 5 50 2", "a.C 1 10 1"]);
        assert_eq!(of("jira"), ["a.B 3 30 1"]);
        assert!(of("mock").is_empty());
    }

    #[test]
    fn the_files_of_a_first_life_are_all_there_are_and_those_of_a_later_one_are_told_apart() {
        let first = Lives::new(&[]);
        let all = [total("git", "a.B", 2, 5), total("jira", "a.B", 1, 3)];
        assert_eq!(first.files(Some(&all)), (Some(3), None));
        assert_eq!(first.files(None), (None, None), "some could not be completed");
        let second = Lives::new(&all[1..]);
        assert_eq!(second.files(Some(&all)), (None, Some(Continued { earlier_files: 1, files: Some(3) })));
        assert_eq!(second.files(None), (None, Some(Continued { earlier_files: 1, files: None })));
    }
}
