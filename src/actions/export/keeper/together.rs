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
