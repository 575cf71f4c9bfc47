//! Commands: the states they pass, and what each side may still do in each.
//!
//! **Invariant:** an end is final. What comes in afterwards, such as the outcome of a command that was cancelled here
//! before the agent had accepted it, completes the report and changes no state.

use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::control::{self, EndState, EndedParams, Envelope};
use outrider_protocol::ids::{AgentId, CommandId};
use outrider_protocol::report::ActionReport;
use sqlx::{FromRow, SqliteTransaction};

use super::configured::{self, SealedConfig};
use super::{During, Store, StoreError, count, from_json, from_json_opt, time, times, to_json, uncount};
use crate::admin::{Command, CommandFilter, CommandState, CommandSummary, IntegrationRef, NewCommand};
use crate::{counts, secret};

/// How often an id is made up anew when it is taken.
const ID_TRIES: usize = 5;

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateFault {
    #[error("there is no agent {agent}")]
    NoAgent { agent: AgentId },
    #[error("agent {agent} was revoked")]
    Revoked { agent: AgentId },
    #[error("the order has {bytes} bytes; at most {limit} are taken")]
    TooLarge { bytes: usize, limit: usize },
    #[error("agent {agent} has {open} commands that have not ended; at most {limit} are kept")]
    TooMany { agent: AgentId, open: u64, limit: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How much an agent may be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderBounds {
    /// Commands of one agent that have not ended.
    pub(crate) open: u64,
    /// Bytes of one order.
    pub(crate) bytes: usize,
}

/// Why a word of an agent about a command was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndFault {
    #[error("agent {agent} has no command {command} here")]
    NotYours { agent: AgentId, command: CommandId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a wish to cancel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CancelOutcome {
    /// There is no such command.
    NoCommand,
    /// It had ended before.
    AlreadyEnded(CommandState),
    /// It had not begun, and has ended now.
    Ended,
    /// Its agent has to be told.
    Asked(AgentId),
}

/// What became of an agent's word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// It was news.
    New,
    /// It was known before.
    Known,
    /// The command had ended here meanwhile: the agent has to be told.
    TellAgent,
}

#[derive(FromRow)]
struct Row {
    id: String,
    agent: String,
    action: String,
    order_json: String,
    state: String,
    created_at: i64,
    expires_at: Option<i64>,
    time_limit_ms: Option<i64>,
    accepted_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    cancel_requested_at: Option<i64>,
    cancel_reason: Option<String>,
    report_json: Option<String>,
    error_json: Option<String>,
    files: i64,
    objects: i64,
    bytes: i64,
}

/// What a decision about a command needs to know.
#[derive(FromRow)]
struct Facts {
    agent: String,
    state: String,
    accepted_at: Option<i64>,
    reported_at: Option<i64>,
}

impl Row {
    fn into_command(self) -> Result<Command, StoreError> {
        const WHAT: &str = "read a command";
        let order: Order = from_json(&self.order_json, WHAT)?;
        Ok(Command {
            time_limit_ms: self.time_limit_ms.map(uncount),
            cancel_reason: self.cancel_reason,
            report: from_json_opt(self.report_json.as_deref(), WHAT)?,
            counts: None,
            error: from_json_opt(self.error_json.as_deref(), WHAT)?,
            summary: CommandSummary {
                id: CommandId::new(self.id).during(WHAT)?,
                agent: AgentId::new(self.agent).during(WHAT)?,
                action: self.action,
                integrations: integrations_of(&order),
                state: state(&self.state)?,
                created_at: time(self.created_at),
                expires_at: times(self.expires_at),
                accepted_at: times(self.accepted_at),
                started_at: times(self.started_at),
                ended_at: times(self.ended_at),
                cancel_requested_at: times(self.cancel_requested_at),
                files: uncount(self.files),
                objects: uncount(self.objects),
                bytes: uncount(self.bytes),
            },
        })
    }
}

/// Selects [`Row`]s; a condition and an order follow.
macro_rules! select_commands {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.agent, c.action, c.order_json, c.state, c.created_at, c.expires_at, c.time_limit_ms,
                    c.accepted_at, c.started_at, c.ended_at, c.cancel_requested_at, c.cancel_reason, c.report_json,
                    c.error_json, COUNT(f.number) AS files, COALESCE(SUM(f.objects), 0) AS objects,
                    COALESCE(SUM(f.bytes), 0) AS bytes
             FROM command c LEFT JOIN file f ON f.export = c.id AND f.agent = c.agent ",
            $rest
        )
    };
}

impl Store {
    /// Takes a command for an agent.
    pub(crate) async fn create_command(
        &self,
        new: &NewCommand,
        expires_at: Option<Timestamp>,
        bounds: OrderBounds,
        now: Timestamp,
    ) -> Result<CommandId, CreateFault> {
        const WHAT: &str = "store a command";
        let limit = bounds.open;
        let mut order_json = to_json(&new.order, WHAT)?;
        // Configurations come as they were written. A line break in JSON is space, but costs a line of its own on the
        // way to the agent.
        order_json.retain(|c| !matches!(c, '\n' | '\r'));
        if order_json.len() > bounds.bytes {
            return Err(CreateFault::TooLarge { bytes: order_json.len(), limit: bounds.bytes });
        }
        let mut tx = self.begin().await.during(WHAT)?;
        let agent: Option<(Option<i64>, i64)> = sqlx::query_as(
            "SELECT revoked_at, (SELECT COUNT(*) FROM command WHERE agent = $1 AND reported_at IS NULL
                                 AND state IN ('queued', 'delivered', 'running'))
             FROM agent WHERE id = $1",
        )
        .bind(new.agent.as_str())
        .fetch_optional(&mut *tx)
        .await
        .during(WHAT)?;
        let agent_id = || new.agent.clone();
        match agent {
            None => return Err(CreateFault::NoAgent { agent: agent_id() }),
            Some((Some(_), _)) => return Err(CreateFault::Revoked { agent: agent_id() }),
            Some((None, open)) if uncount(open) >= limit => {
                return Err(CreateFault::TooMany { agent: agent_id(), open: uncount(open), limit });
            }
            Some(_) => {}
        }
        for _ in 0..ID_TRIES {
            let id = new_id(now)?;
            let done = sqlx::query(
                "INSERT INTO command (id, agent, action, order_json, state, created_at, expires_at, time_limit_ms)
                 VALUES ($1, $2, $3, $4, 'queued', $5, $6, $7) ON CONFLICT (id) DO NOTHING",
            )
            .bind(id.as_str())
            .bind(new.agent.as_str())
            .bind(new.order.action())
            .bind(&order_json)
            .bind(now.as_millisecond())
            .bind(expires_at.map(Timestamp::as_millisecond))
            .bind(new.time_limit_ms.map(count))
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
            if done.rows_affected() == 1 {
                tx.commit().await.during(WHAT)?;
                return Ok(id);
            }
        }
        Err(StoreError::Unknown { what: "make up a command's id", found: "only ids that are taken".into() }
            .into())
    }

    /// One command.
    pub(crate) async fn command(&self, id: &CommandId) -> Result<Option<Command>, StoreError> {
        let row: Option<Row> = sqlx::query_as(select_commands!("WHERE c.id = $1 GROUP BY c.seq"))
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .during("read a command")?;
        let Some(mut command) = row.map(Row::into_command).transpose()? else { return Ok(None) };
        if let Some(ActionReport::Export(report)) = &command.report {
            let received = self.received(&command.summary.agent, id).await?;
            command.counts = Some(counts::compare(report, &received.objects, received.files));
        }
        Ok(Some(command))
    }

    /// Commands, the newest first.
    pub(crate) async fn commands(&self, filter: &CommandFilter) -> Result<Vec<CommandSummary>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(select_commands!(
            "WHERE ($1 IS NULL OR c.agent = $1) AND ($2 IS NULL OR c.state = $2)
             GROUP BY c.seq ORDER BY c.seq DESC LIMIT $3"
        ))
        .bind(filter.agent.as_ref().map(AgentId::as_str))
        .bind(filter.state.map(CommandState::as_str))
        .bind(i64::from(filter.limit.unwrap_or(100).min(1000)))
        .fetch_all(&self.read)
        .await
        .during("list commands")?;
        rows.into_iter().map(|row| row.into_command().map(|command| command.summary)).collect()
    }

    /// What an agent has not answered yet, oldest first: runs that it has not accepted, cancels that have not ended.
    /// Of the runs, the first, and as many more as stay within `bytes`.
    pub(crate) async fn open_orders(
        &self,
        agent: &AgentId,
        now: Timestamp,
        bytes: usize,
    ) -> Result<Vec<Envelope>, StoreError> {
        const WHAT: &str = "read an agent's orders";
        #[derive(FromRow)]
        struct Open {
            id: String,
            order_json: String,
            state: String,
            created_at: i64,
            expires_at: Option<i64>,
            time_limit_ms: Option<i64>,
            cancel_reason: Option<String>,
        }
        let rows: Vec<Open> = sqlx::query_as(
            "SELECT id, order_json, state, created_at, expires_at, time_limit_ms, cancel_reason FROM command
             WHERE agent = $1 AND reported_at IS NULL
               AND ((state = 'queued' AND (expires_at IS NULL OR expires_at > $2))
                    OR (cancel_requested_at IS NOT NULL AND accepted_at IS NOT NULL))
             ORDER BY seq",
        )
        .bind(agent.as_str())
        .bind(now.as_millisecond())
        .fetch_all(&self.read)
        .await
        .during(WHAT)?;
        let mut orders = Vec::new();
        let mut taken = 0usize;
        for row in rows {
            let id = CommandId::new(row.id).during(WHAT)?;
            if row.state != CommandState::Queued.as_str() {
                let reason = row.cancel_reason.unwrap_or_default();
                orders.push(Envelope::Cancel { command: id, reason });
                continue;
            }
            let is_first = taken == 0;
            taken = taken.saturating_add(row.order_json.len());
            if is_first || taken <= bytes {
                orders.push(Envelope::Run(control::Command {
                    id,
                    order: from_json(&row.order_json, WHAT)?,
                    created_at: time(row.created_at),
                    expires_at: times(row.expires_at),
                    time_limit_ms: row.time_limit_ms.map(uncount),
                }));
            }
        }
        Ok(orders)
    }

    /// The agent has the command in its journal.
    pub(crate) async fn command_accepted(
        &self,
        agent: &AgentId,
        command: &CommandId,
        now: Timestamp,
    ) -> Result<Reported, EndFault> {
        const WHAT: &str = "note an accepted command";
        let mut tx = self.begin().await.during(WHAT)?;
        let facts = facts(&mut tx, agent, command).await?;
        if facts.accepted_at.is_some() {
            return Ok(Reported::Known);
        }
        let ended = state(&facts.state)?.is_end();
        sqlx::query(
            "UPDATE command SET accepted_at = $2,
                    state = CASE state WHEN 'queued' THEN 'delivered' ELSE state END,
                    cancel_requested_at = CASE state WHEN 'queued' THEN cancel_requested_at
                                                     ELSE COALESCE(cancel_requested_at, $2) END
             WHERE id = $1",
        )
        .bind(command.as_str())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await
        .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        Ok(if ended { Reported::TellAgent } else { Reported::New })
    }

    /// The agent has started the command's action.
    pub(crate) async fn command_running(
        &self,
        agent: &AgentId,
        command: &CommandId,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<Reported, EndFault> {
        const WHAT: &str = "note a running command";
        let mut tx = self.begin().await.during(WHAT)?;
        facts(&mut tx, agent, command).await?;
        let done = sqlx::query(
            "UPDATE command SET state = 'running', started_at = $2, accepted_at = COALESCE(accepted_at, $3)
             WHERE id = $1 AND state IN ('queued', 'delivered')",
        )
        .bind(command.as_str())
        .bind(at.as_millisecond())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await
        .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        Ok(if done.rows_affected() > 0 { Reported::New } else { Reported::Known })
    }

    /// The agent's outcome of a command. `sealed` is the configuration that came with it, to be kept if it was asked for.
    pub(crate) async fn command_ended(
        &self,
        agent: &AgentId,
        ended: &EndedParams,
        sealed: Option<&SealedConfig>,
        now: Timestamp,
    ) -> Result<Reported, EndFault> {
        const WHAT: &str = "store a command's outcome";
        let report = ended.outcome.report.as_ref().map(|report| to_json(report, WHAT)).transpose()?;
        let mut tx = self.begin().await.during(WHAT)?;
        let facts = facts(&mut tx, agent, &ended.command).await?;
        if facts.reported_at.is_some() {
            return Ok(Reported::Known);
        }
        let before = state(&facts.state)?;
        let mut after = if before.is_end() { before } else { end_state(ended.outcome.state) };
        let mut error = ended.outcome.error.clone();
        if let Some(sealed) = sealed.filter(|_| after == CommandState::Done)
            && let Some(fault) = configured::keep(&mut tx, agent, &ended.command, sealed, now).await?
        {
            (after, error) = (CommandState::Failed, Some(fault));
        }
        let error = error.map(|error| to_json(&error, WHAT)).transpose()?;
        sqlx::query(
            "UPDATE command SET state = $2, ended_at = COALESCE(ended_at, $3), reported_at = $4,
                    accepted_at = COALESCE(accepted_at, $4), report_json = $5, error_json = COALESCE($6, error_json)
             WHERE id = $1",
        )
        .bind(ended.command.as_str())
        .bind(after.as_str())
        .bind(ended.ended_at.as_millisecond())
        .bind(now.as_millisecond())
        .bind(report)
        .bind(error)
        .execute(&mut *tx)
        .await
        .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        Ok(Reported::New)
    }

    /// Whether a command is this agent's.
    pub(crate) async fn check_command(&self, agent: &AgentId, command: &CommandId) -> Result<(), EndFault> {
        let owner: Option<(String,)> = sqlx::query_as("SELECT agent FROM command WHERE id = $1")
            .bind(command.as_str())
            .fetch_optional(&self.read)
            .await
            .during("look up a command")?;
        match owner {
            Some((owner,)) if owner == agent.as_str() => Ok(()),
            _ => Err(EndFault::NotYours { agent: agent.clone(), command: command.clone() }),
        }
    }

    /// Somebody wants a command cancelled.
    pub(crate) async fn cancel_command(
        &self,
        command: &CommandId,
        reason: &str,
        now: Timestamp,
    ) -> Result<CancelOutcome, StoreError> {
        const WHAT: &str = "cancel a command";
        let mut tx = self.begin().await.during(WHAT)?;
        let row: Option<(String, String)> = sqlx::query_as("SELECT agent, state FROM command WHERE id = $1")
            .bind(command.as_str())
            .fetch_optional(&mut *tx)
            .await
            .during(WHAT)?;
        let Some((agent, before)) = row else { return Ok(CancelOutcome::NoCommand) };
        let before = state(&before)?;
        if before.is_end() {
            return Ok(CancelOutcome::AlreadyEnded(before));
        }
        let queued = before == CommandState::Queued;
        sqlx::query(
            "UPDATE command SET cancel_requested_at = COALESCE(cancel_requested_at, $2),
                    cancel_reason = COALESCE(cancel_reason, $3),
                    ended_at = CASE state WHEN 'queued' THEN $2 ELSE ended_at END,
                    state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END
             WHERE id = $1",
        )
        .bind(command.as_str())
        .bind(now.as_millisecond())
        .bind(reason)
        .execute(&mut *tx)
        .await
        .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        if queued {
            return Ok(CancelOutcome::Ended);
        }
        Ok(CancelOutcome::Asked(AgentId::new(agent).during(WHAT)?))
    }
}

async fn facts(
    tx: &mut SqliteTransaction<'_>,
    agent: &AgentId,
    command: &CommandId,
) -> Result<Facts, EndFault> {
    let facts: Option<Facts> =
        sqlx::query_as("SELECT agent, state, accepted_at, reported_at FROM command WHERE id = $1")
            .bind(command.as_str())
            .fetch_optional(&mut **tx)
            .await
            .during("look up a command")?;
    facts
        .filter(|facts| facts.agent == agent.as_str())
        .ok_or_else(|| EndFault::NotYours { agent: agent.clone(), command: command.clone() })
}

/// An id that sorts by time and can be read out: `20261121-071103-k3f9q2`.
fn new_id(now: Timestamp) -> Result<CommandId, StoreError> {
    const WHAT: &str = "make up a command's id";
    let random = secret::random_text(6).during(WHAT)?;
    CommandId::new(format!("{}-{random}", now.strftime("%Y%m%d-%H%M%S"))).during(WHAT)
}

pub(super) fn state(text: &str) -> Result<CommandState, StoreError> {
    CommandState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| StoreError::Unknown {
        what: "read a command's state",
        found: text.chars().take(40).collect(),
    })
}

fn end_state(state: EndState) -> CommandState {
    match state {
        EndState::Done => CommandState::Done,
        EndState::Failed => CommandState::Failed,
        EndState::Cancelled => CommandState::Cancelled,
        EndState::Interrupted => CommandState::Interrupted,
        EndState::Expired => CommandState::Expired,
        EndState::SetAside => CommandState::SetAside,
    }
}

fn integrations_of(order: &Order) -> Vec<IntegrationRef> {
    order.integrations().iter().map(|it| IntegrationRef { id: it.id(), name: it.name.clone() }).collect()
}
