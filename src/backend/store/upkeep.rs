//! What time does to commands: those that nobody came for expire, those that an agent has lost are interrupted, and what
//! is no longer needed goes.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::{AgentId, CommandId};
use outrider_protocol::integration::Empty;
use outrider_protocol::report::Failure;
use sqlx::{ConnectOptions as _, Connection as _};

use super::{During, Store, StoreError, from_json, to_json};

impl Store {
    /// Ends the commands that waited too long for their agent.
    pub(crate) async fn expire_commands(&self, now: Timestamp) -> Result<Vec<CommandId>, StoreError> {
        const WHAT: &str = "expire commands";
        let rows: Vec<(String,)> = sqlx::query_as(
            "UPDATE command SET state = 'expired', ended_at = $1 WHERE state = 'queued' AND expires_at <= $1
             RETURNING id",
        )
        .bind(now.as_millisecond())
        .fetch_all(&self.write)
        .await
        .during(WHAT)?;
        rows.into_iter().map(|(id,)| CommandId::new(id).during(WHAT)).collect()
    }

    /// Ends the commands that an agent accepted at least `lost_after` ago and does not list: no outcome will come.
    pub(crate) async fn interrupt_forgotten(
        &self,
        agent: &AgentId,
        known: &[CommandId],
        lost_after: Duration,
        now: Timestamp,
    ) -> Result<Vec<CommandId>, StoreError> {
        const WHAT: &str = "look for commands that an agent has lost";
        let accepted: Vec<(String,)> = sqlx::query_as(
            "SELECT id FROM command WHERE agent = $1 AND reported_at IS NULL AND accepted_at <= $2 ORDER BY seq",
        )
        .bind(agent.as_str())
        .bind(now.as_millisecond().saturating_sub(i64::try_from(lost_after.as_millis()).unwrap_or(i64::MAX)))
        .fetch_all(&self.read)
        .await
        .during(WHAT)?;
        let is_lost = |(id,): &(String,)| !known.iter().any(|command| command.as_str() == id);
        let mut lost = Vec::new();
        for (id,) in accepted.into_iter().filter(is_lost) {
            let done = sqlx::query(
                "UPDATE command SET reported_at = $2, ended_at = COALESCE(ended_at, $2),
                        error_json = COALESCE(error_json, $3),
                        state = CASE WHEN state IN ('delivered', 'running') THEN 'interrupted' ELSE state END
                 WHERE id = $1 AND reported_at IS NULL",
            )
            .bind(&id)
            .bind(now.as_millisecond())
            .bind(to_json(&lost_by_agent(), WHAT)?)
            .execute(&self.write)
            .await
            .during(WHAT)?;
            // Its outcome may have come in between.
            if done.rows_affected() > 0 {
                lost.push(CommandId::new(id).during(WHAT)?);
            }
        }
        Ok(lost)
    }

    /// Takes the configurations of integrations, and the sections `collect`, out of the orders of commands that have ended, a
    /// bounded number at once; names and ids stay. Answers how many orders that were.
    pub(crate) async fn drop_configs(&self) -> Result<usize, StoreError> {
        const WHAT: &str = "take configurations out of the orders of ended commands";
        let mut tx = self.begin().await.during(WHAT)?;
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT seq, order_json FROM command
             WHERE has_configs = 1 AND state NOT IN ('queued', 'delivered', 'running') LIMIT 100",
        )
        .fetch_all(&mut *tx)
        .await
        .during(WHAT)?;
        let found = rows.len();
        for (seq, order) in rows {
            sqlx::query("UPDATE command SET order_json = $2, has_configs = 0 WHERE seq = $1")
                .bind(seq)
                .bind(blanked(&order)?)
                .execute(&mut *tx)
                .await
                .during(WHAT)?;
        }
        tx.commit().await.during(WHAT)?;
        Ok(found)
    }

    /// Folds the write-ahead log into the database and cuts it, so that what was taken out stands in neither. Where
    /// somebody reads just now, that is left to the next time. Answers whether nothing is left.
    pub(crate) async fn fold_log(&self) -> Result<bool, StoreError> {
        const WHAT: &str = "fold the write-ahead log into the database";
        // A connection of its own: the others wait for readers, and nobody is to wait with them.
        let options = self.write.connect_options().as_ref().clone().busy_timeout(Duration::ZERO);
        let mut connection = options.connect().await.during(WHAT)?;
        let folded: Result<(i64, i64, i64), _> =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await;
        connection.close().await.during(WHAT)?;
        let (busy, ..) = folded.during(WHAT)?;
        Ok(busy == 0)
    }

    /// Removes commands that ended before a time (in milliseconds since 1970), with their progress and logs, a bounded
    /// number at once. Answers how many.
    pub(crate) async fn forget_commands(&self, ended_before: i64) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM command WHERE seq IN (SELECT seq FROM command
             WHERE ended_at < $1 AND (reported_at IS NOT NULL OR accepted_at IS NULL) ORDER BY seq LIMIT 100)",
        )
        .bind(ended_before)
        .execute(&self.write)
        .await
        .during("remove old commands")?;
        Ok(done.rows_affected())
    }
}

/// An order with the names and ids of its integrations, and without what they are to do and with which secrets.
fn blanked(order: &str) -> Result<String, StoreError> {
    const WHAT: &str = "take the configurations out of an order";
    let mut order: Order = from_json(order, WHAT)?;
    for integration in order.integrations_mut() {
        integration.config = serde_json::value::to_raw_value(&Empty {}).during(WHAT)?;
        integration.secrets = None;
    }
    if let Order::ConfigureCollect(order) = &mut order
        && let Some(section) = &mut order.section
    {
        *section = serde_json::value::to_raw_value(&Empty {}).during(WHAT)?;
    }
    to_json(&order, WHAT)
}

/// What is known when an agent no longer lists a command: nothing but that.
fn lost_by_agent() -> Failure {
    Failure {
        message: "the agent took this command, no longer lists it among its commands, and told no outcome".into(),
        fault: Fault::Peer,
        retry: Retry::Later,
        hint: Some(
            "the backend cannot know why: look at the agent's own log, and order it again if it is still needed"
                .into(),
        ),
        last_lines: Vec::new(),
    }
}
