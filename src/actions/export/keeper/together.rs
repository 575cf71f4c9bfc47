//! A commit of objects together with their sessions' values, which lie in another place: whenever the process dies, both
//! are there or neither is, so that nothing is exported twice.
//!
//! The values are put in doubt first, each with the place where its objects will be; when the objects are committed, the
//! values are confirmed. What a death leaves in doubt is decided at the next opening ([`decide`]): by the objects.

use outrider_home::{Checkpoints, Claim};
use outrider_spool::{CommitPlace, Committed, Session, Spool, SpoolError};

use super::{Waiting, Worker};
use crate::export::room::Shortage;

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Values(#[from] outrider_home::StoreError),
}

impl Failed {
    /// The shortage of room behind it, if it is one.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Spool(err) => Shortage::of(err),
            Self::Values(err) => Shortage::of_values(err),
        }
    }
}

/// What a commit made durable.
#[derive(Debug)]
pub(super) struct Together {
    pub(super) committed: Committed,
    /// The members of the group whose values are durable with it.
    pub(super) with_value: Vec<usize>,
}

impl Worker {
    /// Commits sessions and the values of those that have objects. `at` says for each session which member of the group it
    /// is. Sessions that may be tried again stay in `sessions`.
    pub(super) fn commit_together(
        &mut self,
        group: &[Waiting],
        at: &[usize],
        sessions: &mut Vec<Session>,
    ) -> Result<Together, Failed> {
        let places = self.writer.places(sessions.as_mut_slice())?;
        let (mut with_value, mut values) = (Vec::new(), Vec::new());
        for (i, place) in at.iter().zip(places) {
            let (finished, _) = &group[*i];
            if let (Some(value), Some(place)) = (&finished.last_processed, place) {
                with_value.push(*i);
                values.push((finished.path.clone(), value.clone(), self.claim(place)));
            }
        }
        // Also when there are none: what an earlier commit that failed left in doubt ends before the next begins.
        if !values.is_empty() || self.doubtful {
            // Also when it fails: they may be written all the same.
            self.doubtful = true;
            self.values.prepare(values)?;
        }
        let ids = || group.iter().map(|(finished, _)| finished.session);
        self.backend.before_commit(ids());
        let committed = self.writer.try_commit(sessions)?;
        self.backend.committed(ids());
        if self.doubtful {
            self.values.confirm();
            self.doubtful = false;
        }
        Ok(Together { committed, with_value })
    }

    /// Settles the values of the last commit, which is not in doubt here: then the export may be removed as soon as the
    /// backend has it. Where that fails, the next opening decides, and the export is kept until then.
    pub(super) fn settle(&mut self) {
        if !self.doubtful && self.values.settle().is_ok() {
            drop(self.writer.settle());
        }
    }

    fn claim(&self, place: CommitPlace) -> Claim {
        let CommitPlace { model, number, from } = place;
        Claim { export: self.writer.export().to_owned(), model, number, from }
    }
}

/// Decides about the values that a death left in doubt: those whose objects are in the spool are kept. Answers how many
/// were kept and how many dropped. No export may be written meanwhile, which having the store open makes sure of.
pub(crate) fn decide(checkpoints: &Checkpoints, spool: &Spool) -> Result<(usize, usize), Undecided> {
    let claims = checkpoints.in_doubt()?;
    let mut holds = vec![false; claims.len()];
    let mut done: Vec<&str> = Vec::new();
    for Claim { export, .. } in &claims {
        if done.contains(&export.as_str()) {
            continue;
        }
        done.push(export);
        let of_export: Vec<usize> = (0..claims.len()).filter(|i| claims[*i].export == *export).collect();
        let places: Vec<_> = of_export.iter().map(|i| place(&claims[*i])).collect();
        for (i, held) in of_export.into_iter().zip(spool.holds(export, &places)?) {
            holds[i] = held;
        }
    }
    if !claims.is_empty() {
        checkpoints.resolve(&holds)?;
    }
    spool.settle()?;
    let kept = holds.iter().filter(|it| **it).count();
    Ok((kept, claims.len() - kept))
}

fn place(claim: &Claim) -> CommitPlace {
    CommitPlace { model: claim.model.clone(), number: claim.number, from: claim.from }
}

/// It could not be found out whether values that were in doubt are to be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecided {
    #[error("read or write the store of checkpoints")]
    Values(#[from] outrider_home::StoreError),
    #[error("look for the objects of the last commit")]
    Spool(#[from] SpoolError),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrider_home::{Prepared, Root, SessionPath};
    use outrider_protocol::ids::IntegrationId;
    use outrider_spool::Settings;

    use super::*;

    fn path(name: &str) -> SessionPath {
        SessionPath::of(IntegrationId::new("git").unwrap()).join("a.B", Some(name.to_owned()))
    }

    #[test]
    fn of_each_export_those_values_are_kept_whose_objects_are_in_the_spool() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        root.create().unwrap();
        let spool = Spool::open(root.spool(), Settings::default()).unwrap();
        let checkpoints = Checkpoints::open(&root, Duration::ZERO).unwrap();
        assert_eq!(decide(&checkpoints, &spool).unwrap(), (0, 0));

        let mut values = Vec::new();
        let mut writers: Vec<_> = ["e1", "e2", "gone"].map(|it| spool.export(it).unwrap()).into();
        // In turns, so that no export's values stand together.
        for turn in ["there", "not"] {
            for writer in &mut writers {
                let mut sessions = vec![writer.session("git", "a.B")];
                sessions[0].append(b"{}").unwrap();
                let place = writer.places(&mut sessions).unwrap().remove(0).unwrap();
                let claim = Claim {
                    export: writer.export().to_owned(),
                    model: place.model,
                    number: place.number,
                    from: place.from,
                };
                let path = path(&format!("{turn} in {}", writer.export()));
                let value = serde_json::value::to_raw_value(turn).unwrap();
                values.push(Prepared { path, value, beside: None, claim });
                if turn == "there" {
                    writer.commit_many(sessions).unwrap();
                }
            }
        }
        checkpoints.prepare(&values).unwrap();
        let writing = decide(&checkpoints, &spool).unwrap_err();
        assert!(matches!(writing, Undecided::Spool(SpoolError::InUse { .. })), "{writing:?}");
        drop(writers);
        std::fs::remove_dir_all(spool.dir().join("gone")).unwrap();

        assert_eq!(decide(&checkpoints, &spool).unwrap(), (2, 4));
        for (name, expected) in [
            ("there in e1", true),
            ("not in e1", false),
            ("there in e2", true),
            ("not in e2", false),
            ("there in gone", false),
            ("not in gone", false),
        ] {
            assert_eq!(checkpoints.get(&path(name)).unwrap().is_some(), expected, "{name}");
        }
        assert_eq!(decide(&checkpoints, &spool).unwrap(), (0, 0), "it is decided once");
    }
}
