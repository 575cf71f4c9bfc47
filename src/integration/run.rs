//! One export: a [`Context`] that may also open sessions.

use std::ops::Deref;
use std::sync::Arc;

use outrider_protocol::ids::ExportId;
use outrider_protocol::integration::{ExportParams, SessionKind, SessionObject};

use crate::batch::Outgoing;
use crate::context::Context;
use crate::error::Error;
use crate::session::{Core, ModelSession, Session, Tracking, TrackingSession};

/// One export: everything that a [`Context`] may do, and sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Run {
    context: Context,
    order: Arc<Order>,
}

#[derive(Debug)]
struct Order {
    id: ExportId,
    customer_id: Option<String>,
    reprocess_historical: bool,
}

impl Run {
    pub(crate) fn new(context: Context, params: ExportParams) -> Self {
        let ExportParams { export, config: _, customer_id, reprocess_historical } = params;
        Self { context, order: Arc::new(Order { id: export, customer_id, reprocess_historical }) }
    }

    /// This run.
    #[must_use]
    pub fn id(&self) -> &ExportId {
        &self.order.id
    }

    /// Whose data it is, to be put into objects where the model asks for it.
    #[must_use]
    pub fn customer_id(&self) -> Option<&str> {
        self.order.customer_id.as_deref()
    }

    /// Whether everything is exported again. Last-processed values are then not given back, so an integration that keeps
    /// its state in them has nothing to do about it.
    #[must_use]
    pub fn reprocess_historical(&self) -> bool {
        self.order.reprocess_historical
    }

    /// What does not need an export.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Opens a tracking session at the root.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what the agent answered: the same path is open already.
    pub async fn tracking(
        &self,
        name: &str,
        object: impl Into<Option<SessionObject>> + Send,
    ) -> Result<TrackingSession, Error> {
        let core = Core::start(&self.context, SessionKind::Tracking, name, None, object.into()).await?;
        Ok(Session::new(core, Tracking(())))
    }

    /// Opens a model session at the root.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what the agent answered: the same path is open already, or the name is no model's.
    pub async fn model(
        &self,
        model: &str,
        object: impl Into<Option<SessionObject>> + Send,
    ) -> Result<ModelSession, Error> {
        let core = Core::start(&self.context, SessionKind::Model, model, None, object.into()).await?;
        let outgoing = Outgoing::new(self.context.max_line_bytes());
        Ok(Session::new(core, outgoing))
    }
}

impl Deref for Run {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.context
    }
}
