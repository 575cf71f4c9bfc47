//! Last-processed values of one export: where they come from and where they go.
//!
//! An ordinary export reads and replaces the stored values at once. One that exports everything again keeps its own beside
//! them, until an integration is done: see [`Checkpoints`]. Where the host's configuration says so, what became durable is
//! remembered for the report (`shared`).

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use outrider_home::{Checkpoints, Claim, Prepared, SessionPath, StoreError};
use outrider_protocol::Raw;
use outrider_protocol::ids::{ExportId, IntegrationId};
use outrider_protocol::report::LastProcessed;

use super::shared::{Noted, Sharing};

/// The values, as one export sees them.
#[derive(Debug)]
pub(crate) struct Values {
    checkpoints: Checkpoints,
    again: Option<Again>,
    /// What is to leave the host; nothing where it may not.
    sharing: Option<Sharing>,
}

/// An export of everything again.
#[derive(Debug)]
struct Again {
    run: ExportId,
    /// Integrations whose values took their place.
    done: Mutex<HashSet<IntegrationId>>,
}

impl Values {
    /// Those of an ordinary export.
    pub(crate) fn stored(checkpoints: Checkpoints) -> Self {
        Self { checkpoints, again: None, sharing: None }
    }

    /// Those of an export of everything again, which may have been interrupted before.
    pub(crate) fn again(
        checkpoints: Checkpoints,
        run: ExportId,
        integrations: impl Iterator<Item = IntegrationId>,
    ) -> Result<Self, StoreError> {
        checkpoints.forget_other_runs(&run)?;
        let mut done = HashSet::new();
        for integration in integrations {
            if checkpoints.was_taken_over(&run, &integration)? {
                done.insert(integration);
            }
        }
        let again = Some(Again { run, done: Mutex::new(done) });
        Ok(Self { checkpoints, again, sharing: None })
    }

    /// From here on remembers what becomes durable, if it may leave the host.
    pub(crate) fn sharing(self, may_leave: bool) -> Self {
        Self { sharing: may_leave.then(Sharing::default), ..self }
    }

    /// What leaves the host of an integration's values, without what `redact` takes out of a text; `None` where nothing may.
    /// Values that lie beside the stored ones are none yet.
    pub(crate) fn shared(
        &self,
        integration: &IntegrationId,
        redact: &dyn Fn(&str) -> String,
    ) -> Option<LastProcessed> {
        let sharing = self.sharing.as_ref()?;
        let taken_over = self.beside(integration).is_none();
        Some(if taken_over { sharing.report(integration, redact) } else { LastProcessed::default() })
    }

    /// What a session gets back, and whether it is of an earlier run.
    pub(crate) fn get(&self, path: &SessionPath) -> Result<Option<(Raw, bool)>, StoreError> {
        let earlier = self.again.is_none();
        let found = match self.beside(&path.integration) {
            Some(run) => self.checkpoints.get_of_run(run, path)?,
            None => self.checkpoints.get(path)?,
        };
        Ok(found.map(|value| (value, earlier)))
    }

    /// Puts values in doubt whose objects are about to be committed: see [`Checkpoints::prepare`].
    pub(crate) fn prepare(&self, values: Vec<(SessionPath, Raw, Claim)>) -> Result<(), StoreError> {
        if let Some(sharing) = &self.sharing {
            sharing.in_doubt(values.iter().map(|(path, value, _)| Noted::of(path, value)).collect());
        }
        let values: Vec<_> = values
            .into_iter()
            .map(|(path, value, claim)| {
                let beside = self.beside(&path.integration).cloned();
                Prepared { path, value, beside, claim }
            })
            .collect();
        self.checkpoints.prepare(&values)
    }

    /// The objects of the values in doubt are committed.
    pub(crate) fn confirm(&self) {
        self.checkpoints.confirm();
        self.sharing.iter().for_each(Sharing::confirmed);
    }

    /// Nothing that was confirmed is in doubt any more, whoever dies.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.checkpoints.settle()
    }

    /// Stores values, durably.
    pub(crate) fn commit(&self, values: &[(SessionPath, Option<Raw>)]) -> Result<(), StoreError> {
        self.store(values)?;
        self.sharing.iter().for_each(|it| it.stored(values));
        Ok(())
    }

    fn store(&self, values: &[(SessionPath, Option<Raw>)]) -> Result<(), StoreError> {
        let Some(Again { run, .. }) = &self.again else { return self.checkpoints.commit(values) };
        let (beside, stored): (Vec<_>, Vec<_>) =
            values.iter().cloned().partition(|(path, _)| self.beside(&path.integration).is_some());
        if !beside.is_empty() {
            self.checkpoints.commit_of_run(run, &beside)?;
        }
        if stored.is_empty() { Ok(()) } else { self.checkpoints.commit(&stored) }
    }

    /// An integration is done: its values take their place.
    pub(crate) fn take_over(&self, integration: &IntegrationId) -> Result<(), StoreError> {
        let Some(again) = &self.again else { return Ok(()) };
        self.checkpoints.take_over(&again.run, integration)?;
        again.done().insert(integration.clone());
        Ok(())
    }

    /// The run beside whose stored values those of an integration lie.
    fn beside(&self, integration: &IntegrationId) -> Option<&ExportId> {
        self.again.as_ref().filter(|it| !it.done().contains(integration)).map(|it| &it.run)
    }
}

impl Again {
    fn done(&self) -> MutexGuard<'_, HashSet<IntegrationId>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
