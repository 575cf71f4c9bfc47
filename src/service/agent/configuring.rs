//! The section `collect` that the backend orders: kept, taken back, answered; and what the backend is told of collecting.
//!
//! **Invariant:** an order is answered as done when what it changed is durable. It is carried out in the loop, so that orders
//! take effect one after the other; one that a crash cut short is carried out again, which changes nothing.

use std::sync::Arc;

use jiff::Timestamp;
use outrider_home::{OrderedCollect, Root};
use outrider_protocol::collect::ordered::{CollectOrder, OrderedSection};
use outrider_protocol::control::Outcome;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use serde_json::Value;
use tokio::time::Instant;

use super::Agent;
use super::settings::advise;
use crate::collecting::ordered::{Judged, done, judge, not_kept};

/// What the backend ordered to be collected, as the root keeps it.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    pub(super) kept: Option<OrderedCollect>,
    /// The section as the backend may see it again.
    shown: Value,
    /// Why what is kept cannot be used.
    fault: Option<String>,
}

impl Ordered {
    /// What an earlier life of the service kept.
    pub(super) fn load(root: &Root) -> Self {
        match OrderedCollect::load(root) {
            Ok(kept) => Self::of(kept),
            Err(err) => {
                let fault = chain(&err);
                tracing::error!(error = fault, "What the backend ordered to be collected cannot be used.");
                Self { fault: Some(fault), ..Self::default() }
            }
        }
    }

    fn of(kept: Option<OrderedCollect>) -> Self {
        let shown = kept.as_ref().map(|it| it.section.shown()).unwrap_or_default();
        Self { kept, shown, fault: None }
    }
}

impl Agent {
    /// Carries an order about the section out, and ends its command.
    pub(super) fn configure_collect(&mut self, id: &CommandId, order: &CollectOrder) {
        self.commands.running(id);
        let fault = self.held.get_mut(id).and_then(|held| {
            held.mail.running(Timestamp::now());
            held.config_fault.take()
        });
        let mut outcome = self.configured_collect(id, order);
        if let (Some(error), Some(fault)) = (&mut outcome.error, fault) {
            advise(error, &fault);
        }
        self.commands.ended(id);
        self.end(id, outcome);
        self.collecting.look(Instant::now());
    }

    fn configured_collect(&mut self, id: &CommandId, order: &CollectOrder) -> Outcome {
        let root = &self.setup.root;
        let changed = match judge(order, &self.setup.config) {
            Judged::Refuse(outcome) => return *outcome,
            Judged::Clear => OrderedCollect::clear(root).map(|()| None),
            Judged::Keep(section) => {
                let new = OrderedCollect { command: id.clone(), at: Timestamp::now(), section: *section };
                new.save(root).map(|()| Some(new))
            }
        };
        match changed {
            Ok(kept) => {
                tracing::info!(command = %id, kept = kept.is_some(), "The backend's section `collect` is changed.");
                self.ordered = Ordered::of(kept);
                done(self.ordered.kept.as_ref(), &self.setup.config)
            }
            Err(err) => {
                // It may have failed after the file was in its place: what holds is what is there.
                self.ordered = Ordered::load(root);
                not_kept(&err)
            }
        }
    }

    /// Notes what the backend is to be told of collecting, if that is news.
    pub(super) fn tell_collecting(&self) {
        let Ordered { kept, shown, fault } = &self.ordered;
        let config = &self.setup.config;
        let mut told = self.collecting.told();
        told.troubles.extend(fault.clone());
        // What a receiver answers may repeat what it was sent.
        told.troubles.iter_mut().for_each(|it| *it = self.collect_redaction.text(it));
        if let Some(end) = &mut told.last_end {
            end.error = self.collect_redaction.text(&end.error);
        }
        told.ordered = kept.as_ref().map(|it| OrderedSection {
            command: it.command.clone(),
            at: it.at,
            section: shown.clone(),
            idle: config.overrules_backend().map(str::to_owned),
        });
        self.told_collecting.send_if_modified(|before| {
            let is_news = before.as_deref() != Some(&told);
            if is_news {
                *before = Some(Arc::new(told));
            }
            is_news
        });
    }
}
