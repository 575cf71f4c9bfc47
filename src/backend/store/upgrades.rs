//! The upgrades of an agent: commands of that action, with what was ordered and how far each is.

use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::ids::{AgentId, CommandId};
use outrider_protocol::report::{ActionReport, Failure};
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeProgress, UpgradeReport};
use sqlx::FromRow;

use super::{During, Store, StoreError, commands, from_json, from_json_opt, time, times};
use crate::admin::CommandState;

/// A command to upgrade, as pages show it.
#[derive(Debug)]
pub(crate) struct StoredUpgrade {
    pub(crate) command: CommandId,
    pub(crate) order: UpgradeOrder,
    pub(crate) state: CommandState,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) cancel_requested_at: Option<Timestamp>,
    /// As the agent last said.
    pub(crate) progress: Option<UpgradeProgress>,
    /// How the attempt ended.
    pub(crate) report: Option<UpgradeReport>,
    /// Why the command did not end well.
    pub(crate) error: Option<Failure>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    order_json: String,
    state: String,
    created_at: i64,
    expires_at: Option<i64>,
    ended_at: Option<i64>,
    cancel_requested_at: Option<i64>,
    upgrade: Option<String>,
    report_json: Option<String>,
    error_json: Option<String>,
}

impl Row {
    /// Nothing for a row that is no upgrade after all.
    fn into_upgrade(self) -> Result<Option<StoredUpgrade>, StoreError> {
        const WHAT: &str = "read an upgrade";
        let Order::Upgrade(order) = from_json(&self.order_json, WHAT)? else { return Ok(None) };
        let report = match from_json_opt(self.report_json.as_deref(), WHAT)? {
            Some(ActionReport::Upgrade(report)) => Some(report),
            _ => None,
        };
        Ok(Some(StoredUpgrade {
            command: CommandId::new(self.id).during(WHAT)?,
            order,
            state: commands::state(&self.state)?,
            created_at: time(self.created_at),
            expires_at: times(self.expires_at),
            ended_at: times(self.ended_at),
            cancel_requested_at: times(self.cancel_requested_at),
            progress: from_json_opt(self.upgrade.as_deref(), WHAT)?,
            report,
            error: from_json_opt(self.error_json.as_deref(), WHAT)?,
        }))
    }
}

impl Store {
    /// The upgrades of an agent, the newest first; only one of them where a command is given.
    pub(crate) async fn upgrades(
        &self,
        agent: &AgentId,
        only: Option<&CommandId>,
        limit: u32,
    ) -> Result<Vec<StoredUpgrade>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, order_json, state, created_at, expires_at, ended_at, cancel_requested_at, upgrade, report_json,
                    error_json
             FROM command WHERE agent = $1 AND action = 'upgrade' AND ($2 IS NULL OR id = $2)
             ORDER BY seq DESC LIMIT $3",
        )
        .bind(agent.as_str())
        .bind(only.map(CommandId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await
        .during("list an agent's upgrades")?;
        rows.into_iter().filter_map(|row| row.into_upgrade().transpose()).collect()
    }
}
