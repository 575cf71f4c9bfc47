//! Collecting on an agent's host: the last word of the agent, and the latest order about it.

use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::collect::ordered::{CollectingParams, OrderedSection};
use outrider_protocol::ids::{AgentId, CommandId};

use super::{During, Store, StoreError, from_json, time, to_json};
use crate::admin::CollectOrdered;

/// Bytes kept of what one agent says.
const LONGEST: usize = 1 << 20;

impl Store {
    /// Keeps what an agent says of collecting in place of what it said before. Answers whether it is anything else.
    pub(crate) async fn set_collecting(
        &self,
        agent: &AgentId,
        told: &CollectingParams,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const WHAT: &str = "store what an agent says of collecting";
        let text = short(told)?;
        let mut tx = self.begin().await.during(WHAT)?;
        let before: Option<(String,)> = sqlx::query_as("SELECT told_json FROM collecting WHERE agent = $1")
            .bind(agent.as_str())
            .fetch_optional(&mut *tx)
            .await
            .during(WHAT)?;
        sqlx::query(
            "INSERT INTO collecting (agent, told_json, told_at) VALUES ($1, $2, $3)
             ON CONFLICT (agent) DO UPDATE SET told_json = excluded.told_json, told_at = excluded.told_at",
        )
        .bind(agent.as_str())
        .bind(&text)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await
        .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        Ok(before.is_none_or(|(before,)| before != text))
    }

    /// What an agent last said of collecting, and when; nothing for one that never did.
    pub(crate) async fn collecting(
        &self,
        agent: &AgentId,
    ) -> Result<Option<(CollectingParams, Timestamp)>, StoreError> {
        const WHAT: &str = "read what an agent says of collecting";
        let row: Option<(String, i64)> =
            sqlx::query_as("SELECT told_json, told_at FROM collecting WHERE agent = $1")
                .bind(agent.as_str())
                .fetch_optional(&self.read)
                .await
                .during(WHAT)?;
        row.map(|(told, at)| Ok((from_json(&told, WHAT)?, time(at)))).transpose()
    }

    /// The latest order about collecting of an agent.
    pub(crate) async fn collect_ordered(
        &self,
        agent: &AgentId,
    ) -> Result<Option<CollectOrdered>, StoreError> {
        const WHAT: &str = "read an agent's latest order to collect";
        let row: Option<(String, String)> = sqlx::query_as(
            "SELECT id, order_json FROM command WHERE agent = $1 AND action = 'configure-collect'
             ORDER BY seq DESC LIMIT 1",
        )
        .bind(agent.as_str())
        .fetch_optional(&self.read)
        .await
        .during(WHAT)?;
        let Some((id, order)) = row else { return Ok(None) };
        let Order::ConfigureCollect(order) = from_json(&order, WHAT)? else { return Ok(None) };
        let command = self.command(&CommandId::new(id).during(WHAT)?).await?;
        Ok(command.map(|command| CollectOrdered { clears: order.section.is_none(), command }))
    }
}

/// As JSON; without the section where that is beyond all measure.
fn short(told: &CollectingParams) -> Result<String, StoreError> {
    const WHAT: &str = "store what an agent says of collecting";
    let text = to_json(told, WHAT)?;
    if text.len() <= LONGEST {
        return Ok(text);
    }
    let ordered = told.ordered.as_ref().map(|it| OrderedSection {
        command: it.command.clone(),
        at: it.at,
        section: serde_json::Value::Null,
        // Without it the section would be shown as if it were in effect.
        idle: it.idle.clone(),
    });
    let (source, state, since) = (told.source, told.state, told.since);
    to_json(&CollectingParams { source, state, since, ordered, ..CollectingParams::default() }, WHAT)
}
