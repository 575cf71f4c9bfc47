//! Agents: how they come to be, how they are recognized, what they last said of themselves.

use jiff::Timestamp;
use outrider_protocol::bulk::{EnrollReply, EnrollRequest};
use outrider_protocol::control::{HelloParams, PingParams};
use outrider_protocol::ids::AgentId;
use sqlx::FromRow;

use super::{During, Store, StoreError, count, time, times, uncount};
use crate::admin::Agent;
use crate::secret::{self, Hash};

/// The longest part of a host's name that goes into an agent's id.
const HOST_IN_ID: usize = 24;

/// What a token stands for.
#[derive(Debug)]
pub(crate) enum Caller {
    /// An agent.
    Agent(AgentId),
    /// An agent whose token was taken back.
    Revoked,
    /// Nobody.
    Unknown,
}

/// An enrollment that was granted.
#[derive(Debug)]
pub(crate) struct Enrollment {
    pub(crate) reply: EnrollReply,
    /// Whether the same request was granted before.
    pub(crate) again: bool,
}

/// Why an enrollment was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollFault {
    #[error("the enrollment code is not known")]
    UnknownCode,
    #[error("the enrollment code expired at {at:.0}")]
    Expired { at: Timestamp },
    #[error("the enrollment code was used up: it was good for {uses} enrollment(s)")]
    UsedUp { uses: i64 },
    #[error("the enrollment code was revoked")]
    Revoked,
    #[error("this request enrolled agent {agent} already, and that agent is in use")]
    InUse { agent: AgentId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(FromRow)]
struct CodeRow {
    id: String,
    uses: i64,
    used: i64,
    customer_id: Option<String>,
    expires_at: i64,
    revoked_at: Option<i64>,
}

#[derive(FromRow)]
struct Earlier {
    id: String,
    code: String,
    customer_id: Option<String>,
    seen_at: Option<i64>,
    revoked_at: Option<i64>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    hostname: String,
    os: String,
    arch: String,
    version: String,
    build: Option<String>,
    channel: String,
    customer_id: Option<String>,
    enrolled_at: i64,
    seen_at: Option<i64>,
    service_started_at: Option<i64>,
    spool_files: i64,
    spool_bytes: i64,
    refused_files: i64,
    lost_files: i64,
    revoked_at: Option<i64>,
    open_commands: i64,
}

impl Row {
    fn into_agent(self) -> Result<Agent, StoreError> {
        Ok(Agent {
            id: AgentId::new(self.id).during("read an agent")?,
            hostname: self.hostname,
            os: self.os,
            arch: self.arch,
            version: self.version,
            build: self.build,
            channel: self.channel,
            customer_id: self.customer_id,
            online: false,
            enrolled_at: time(self.enrolled_at),
            seen_at: times(self.seen_at),
            service_started_at: times(self.service_started_at),
            spool_files: uncount(self.spool_files),
            spool_bytes: uncount(self.spool_bytes),
            refused_files: uncount(self.refused_files),
            lost_files: uncount(self.lost_files),
            open_commands: uncount(self.open_commands),
            revoked_at: times(self.revoked_at),
        })
    }
}

impl Store {
    /// Makes an agent, or, for a request that was granted before, gives the same agent a new token: the answer with the
    /// first one was lost. Once the agent has called, its request cannot be repeated any more.
    pub(crate) async fn enroll(
        &self,
        request: &EnrollRequest,
        now: Timestamp,
    ) -> Result<Enrollment, EnrollFault> {
        const WHAT: &str = "enroll an agent";
        let mut tx = self.begin().await.during(WHAT)?;
        let code: CodeRow = sqlx::query_as(
            "SELECT id, uses, used, customer_id, expires_at, revoked_at FROM code WHERE hash = $1",
        )
        .bind(secret::code_hash(&request.code).as_bytes().to_vec())
        .fetch_optional(&mut *tx)
        .await
        .during(WHAT)?
        .ok_or(EnrollFault::UnknownCode)?;
        let request_hash = Hash::of(&request.request);
        let earlier: Option<Earlier> = sqlx::query_as(
            "SELECT id, code, customer_id, seen_at, revoked_at FROM agent WHERE request_hash = $1",
        )
        .bind(request_hash.as_bytes().to_vec())
        .fetch_optional(&mut *tx)
        .await
        .during(WHAT)?;
        let secret_part = secret::token().during(WHAT)?;
        let again = earlier.is_some();
        let (agent, customer_id) = match earlier {
            Some(earlier) => repeated(earlier, &code)?,
            None => (first(&code, &request.host.hostname, now)?, code.customer_id.clone()),
        };
        let token = format!("{agent}.{secret_part}");
        let token_hash = Hash::of(&token);
        if again {
            sqlx::query("UPDATE agent SET token_hash = $2 WHERE id = $1")
                .bind(agent.as_str())
                .bind(token_hash.as_bytes().to_vec())
                .execute(&mut *tx)
                .await
                .during(WHAT)?;
        } else {
            insert(&mut tx, &agent, request, &code, [request_hash, token_hash], now).await?;
        }
        tx.commit().await.during(WHAT)?;
        Ok(Enrollment { reply: EnrollReply { agent, token, customer_id }, again })
    }

    /// Who calls with this token.
    pub(crate) async fn caller(&self, token: &str) -> Result<Caller, StoreError> {
        const WHAT: &str = "look up a token";
        let Some((id, _)) = token.split_once('.') else { return Ok(Caller::Unknown) };
        let row: Option<(Vec<u8>, Option<i64>)> =
            sqlx::query_as("SELECT token_hash, revoked_at FROM agent WHERE id = $1")
                .bind(id)
                .fetch_optional(&self.read)
                .await
                .during(WHAT)?;
        match row {
            Some((hash, revoked)) if Hash::of(token).is(&hash) => match revoked {
                Some(_) => Ok(Caller::Revoked),
                None => Ok(Caller::Agent(AgentId::new(id).during(WHAT)?)),
            },
            _ => Ok(Caller::Unknown),
        }
    }

    /// All agents by name of host; only one of them where an id is given.
    pub(crate) async fn agents(&self, only: Option<&AgentId>) -> Result<Vec<Agent>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT a.id, a.hostname, a.os, a.arch, a.version, a.build, a.channel, a.customer_id, a.enrolled_at, a.seen_at,
                    a.service_started_at, a.spool_files, a.spool_bytes, a.refused_files, a.lost_files, a.revoked_at,
                    (SELECT COUNT(*) FROM command c
                     WHERE c.agent = a.id AND c.state IN ('queued', 'delivered', 'running')) AS open_commands
             FROM agent a WHERE $1 IS NULL OR a.id = $1 ORDER BY a.hostname, a.id",
        )
        .bind(only.map(AgentId::as_str))
        .fetch_all(&self.read)
        .await
        .during("list agents")?;
        rows.into_iter().map(Row::into_agent).collect()
    }

    /// Takes an agent's token back, and forgets what its access tokens are made of: nobody may ask for one any more.
    /// Answers whether there is such an agent.
    pub(crate) async fn revoke_agent(&self, agent: &AgentId, now: Timestamp) -> Result<bool, StoreError> {
        const WHAT: &str = "revoke an agent";
        let mut tx = self.begin().await.during(WHAT)?;
        sqlx::query("DELETE FROM oauth_registration WHERE agent = $1")
            .bind(agent.as_str())
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
        let done = sqlx::query("UPDATE agent SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1")
            .bind(agent.as_str())
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn agent_seen(&self, agent: &AgentId, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE agent SET seen_at = $2 WHERE id = $1")
            .bind(agent.as_str())
            .bind(now.as_millisecond())
            .execute(&self.write)
            .await
            .during("note an agent's call")?;
        Ok(())
    }

    pub(crate) async fn agent_said_hello(
        &self,
        agent: &AgentId,
        hello: &HelloParams,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE agent SET hostname = $2, os = $3, arch = $4, version = $5, service_started_at = $6,
                 build = $7 WHERE id = $1",
        )
        .bind(agent.as_str())
        .bind(&hello.host.hostname)
        .bind(&hello.host.os)
        .bind(&hello.host.arch)
        .bind(&hello.version)
        .bind(hello.started_at.as_millisecond())
        .bind(hello.build.as_ref().map(ToString::to_string))
        .execute(&self.write)
        .await
        .during("note what an agent says of itself")?;
        Ok(())
    }

    pub(crate) async fn agent_pinged(&self, agent: &AgentId, ping: &PingParams) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE agent SET spool_files = $2, spool_bytes = $3, refused_files = $4, lost_files = $5
             WHERE id = $1
               AND (spool_files <> $2 OR spool_bytes <> $3 OR refused_files <> $4 OR lost_files <> $5)",
        )
        .bind(agent.as_str())
        .bind(count(ping.spool_files))
        .bind(count(ping.spool_bytes))
        .bind(count(ping.refused_files))
        .bind(count(ping.lost_files))
        .execute(&self.write)
        .await
        .during("note an agent's sign of life")?;
        Ok(done.rows_affected() > 0)
    }
}

/// The agent that an earlier, equal request made. The code's end does not matter: it was valid then.
fn repeated(earlier: Earlier, code: &CodeRow) -> Result<(AgentId, Option<String>), EnrollFault> {
    let agent = AgentId::new(earlier.id).during("enroll an agent")?;
    if earlier.code != code.id || earlier.seen_at.is_some() || earlier.revoked_at.is_some() {
        return Err(EnrollFault::InUse { agent });
    }
    Ok((agent, earlier.customer_id))
}

/// An id for a new agent, if the code is good for one more.
fn first(code: &CodeRow, hostname: &str, now: Timestamp) -> Result<AgentId, EnrollFault> {
    if code.revoked_at.is_some() {
        return Err(EnrollFault::Revoked);
    }
    if code.used >= code.uses {
        return Err(EnrollFault::UsedUp { uses: code.uses });
    }
    if code.expires_at <= now.as_millisecond() {
        return Err(EnrollFault::Expired { at: time(code.expires_at) });
    }
    let mut name = String::new();
    for c in hostname.chars().take(HOST_IN_ID) {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = if name.is_empty() { "agent" } else { name.trim_end_matches('-') };
    let random = secret::random_text(8).during("enroll an agent")?;
    Ok(AgentId::new(format!("{name}-{random}")).during("enroll an agent")?)
}

async fn insert(
    tx: &mut sqlx::SqliteTransaction<'_>,
    agent: &AgentId,
    request: &EnrollRequest,
    code: &CodeRow,
    [request_hash, token_hash]: [Hash; 2],
    now: Timestamp,
) -> Result<(), StoreError> {
    const WHAT: &str = "store a new agent";
    sqlx::query(
        "INSERT INTO agent (id, token_hash, request_hash, code, customer_id, hostname, os, arch, version, channel,
                            enrolled_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(agent.as_str())
    .bind(token_hash.as_bytes().to_vec())
    .bind(request_hash.as_bytes().to_vec())
    .bind(&code.id)
    .bind(&code.customer_id)
    .bind(&request.host.hostname)
    .bind(&request.host.os)
    .bind(&request.host.arch)
    .bind(&request.version)
    .bind(&request.channel)
    .bind(now.as_millisecond())
    .execute(&mut **tx)
    .await
    .during(WHAT)?;
    sqlx::query("UPDATE code SET used = used + 1 WHERE id = $1")
        .bind(&code.id)
        .execute(&mut **tx)
        .await
        .during(WHAT)?;
    Ok(())
}
