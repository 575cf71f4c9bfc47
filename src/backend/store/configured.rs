//! The integrations that are configured at an agent. Their secrets are encrypted for the agent's host: what stands here
//! is of no use anywhere else.

use jiff::Timestamp;
use outrider_protocol::Raw;
use outrider_protocol::action::{IntegrationConfig, Order, ValidateOrder};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::{AgentId, CommandId, IntegrationId, IntegrationName};
use outrider_protocol::integration::SourceInfo;
use outrider_protocol::report::Failure;
use sqlx::{FromRow, SqliteTransaction};

use super::{During, Store, StoreError, from_json, from_json_opt, time, to_json};
use crate::admin::ConfiguredIntegration;
use crate::config_schema::plain_secrets;

/// Configured integrations of one agent.
const MOST: i64 = 1000;

/// A configuration as its host sealed it, with what was said of it.
#[derive(Debug)]
pub(crate) struct SealedConfig {
    pub(crate) integration: IntegrationConfig,
    pub(crate) version: String,
    pub(crate) source: Option<SourceInfo>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    name: String,
    config_json: String,
    secrets: Option<String>,
    version: String,
    source_json: Option<String>,
    validated_at: i64,
}

impl Row {
    fn config(&self) -> Result<IntegrationConfig, StoreError> {
        const WHAT: &str = "read a configured integration";
        Ok(IntegrationConfig {
            name: IntegrationName::new(self.name.clone()).during(WHAT)?,
            id: Some(IntegrationId::new(self.id.clone()).during(WHAT)?),
            config: from_json::<Raw>(&self.config_json, WHAT)?,
            secrets: self.secrets.clone(),
        })
    }

    fn into_configured(self) -> Result<ConfiguredIntegration, StoreError> {
        const WHAT: &str = "read a configured integration";
        let config = self.config()?;
        Ok(ConfiguredIntegration {
            id: config.id(),
            name: config.name,
            config: crate::shown::config(&config.config),
            has_secrets: self.secrets.is_some(),
            version: self.version,
            source: from_json_opt(self.source_json.as_deref(), WHAT)?,
            validated_at: time(self.validated_at),
        })
    }
}

impl Store {
    /// The configured integrations of an agent, by id, as they are shown.
    pub(crate) async fn configured(&self, agent: &AgentId) -> Result<Vec<ConfiguredIntegration>, StoreError> {
        self.configured_rows(agent).await?.into_iter().map(Row::into_configured).collect()
    }

    /// The configured integrations of an agent, by id, as they are sent to it.
    pub(crate) async fn configured_orders(
        &self,
        agent: &AgentId,
    ) -> Result<Vec<IntegrationConfig>, StoreError> {
        self.configured_rows(agent).await?.iter().map(Row::config).collect()
    }

    /// Other agents of the same host that have configured integrations: what an agent had before it was enrolled anew.
    pub(crate) async fn configured_beside(&self, agent: &AgentId) -> Result<Vec<AgentId>, StoreError> {
        const WHAT: &str = "look for earlier agents of a host";
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT DISTINCT o.id FROM agent o JOIN configured_integration c ON c.agent = o.id
             WHERE o.id <> $1 AND o.hostname = (SELECT hostname FROM agent WHERE id = $1) ORDER BY o.id LIMIT 5",
        )
        .bind(agent.as_str())
        .fetch_all(&self.read)
        .await
        .during(WHAT)?;
        rows.into_iter().map(|(id,)| AgentId::new(id).during(WHAT)).collect()
    }

    async fn configured_rows(&self, agent: &AgentId) -> Result<Vec<Row>, StoreError> {
        sqlx::query_as(
            "SELECT id, name, config_json, secrets, version, source_json, validated_at
             FROM configured_integration WHERE agent = $1 ORDER BY id",
        )
        .bind(agent.as_str())
        .fetch_all(&self.read)
        .await
        .during("list configured integrations")
    }

    /// Removes a configured integration, with what is registered for its access tokens. Answers whether there was any.
    pub(crate) async fn remove_configured(
        &self,
        agent: &AgentId,
        id: &IntegrationId,
    ) -> Result<bool, StoreError> {
        const WHAT: &str = "remove a configured integration";
        let mut tx = self.begin().await.during(WHAT)?;
        let mut removed = 0;
        for statement in [
            "DELETE FROM configured_integration WHERE agent = $1 AND id = $2",
            "DELETE FROM oauth_registration WHERE agent = $1 AND integration = $2",
        ] {
            let done = sqlx::query(statement).bind(agent.as_str()).bind(id.as_str()).execute(&mut *tx).await;
            removed += done.during(WHAT)?.rows_affected();
        }
        tx.commit().await.during(WHAT)?;
        Ok(removed > 0)
    }
}

/// Keeps a sealed configuration, if this command asked for it. Answers why it was not kept although it was asked for.
pub(super) async fn keep(
    tx: &mut SqliteTransaction<'_>,
    agent: &AgentId,
    command: &CommandId,
    sealed: &SealedConfig,
    now: Timestamp,
) -> Result<Option<Failure>, StoreError> {
    const WHAT: &str = "store a configured integration";
    let (order,): (String,) = sqlx::query_as("SELECT order_json FROM command WHERE id = $1")
        .bind(command.as_str())
        .fetch_one(&mut **tx)
        .await
        .during(WHAT)?;
    let it = &sealed.integration;
    match from_json(&order, WHAT)? {
        Order::ValidateConfig(ValidateOrder { seal: true, integration: asked, .. })
            if asked.id() == it.id() && asked.name == it.name => {}
        _ => {
            tracing::warn!(%agent, %command, "An agent sealed a configuration that nobody asked for; it is not kept.");
            return Ok(None);
        }
    }
    let about: Option<(Option<String>,)> =
        sqlx::query_as("SELECT about_json FROM installed_integration WHERE agent = $1 AND name = $2")
            .bind(agent.as_str())
            .bind(it.name.as_str())
            .fetch_optional(&mut **tx)
            .await
            .during(WHAT)?;
    if let Some(about) = about.and_then(|(about,)| about) {
        let about: outrider_protocol::integration::InitializeReply = from_json(&about, WHAT)?;
        let plain = about.config_schema.map(|schema| plain_secrets(&schema, &it.config)).unwrap_or_default();
        if !plain.is_empty() {
            return Ok(Some(not_sealed(&plain)));
        }
    }
    insert(tx, agent, sealed, now).await
}

async fn insert(
    tx: &mut SqliteTransaction<'_>,
    agent: &AgentId,
    sealed: &SealedConfig,
    now: Timestamp,
) -> Result<Option<Failure>, StoreError> {
    const WHAT: &str = "store a configured integration";
    let it = &sealed.integration;
    let done = sqlx::query(
        "INSERT INTO configured_integration (agent, id, name, config_json, secrets, version, source_json, validated_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8
         WHERE (SELECT COUNT(*) FROM configured_integration WHERE agent = $1 AND id <> $2) < $9
         ON CONFLICT (agent, id) DO UPDATE SET name = excluded.name, config_json = excluded.config_json,
             secrets = excluded.secrets, version = excluded.version, source_json = excluded.source_json,
             validated_at = excluded.validated_at",
    )
    .bind(agent.as_str())
    .bind(it.id().as_str())
    .bind(it.name.as_str())
    .bind(it.config.get())
    .bind(&it.secrets)
    .bind(&sealed.version)
    .bind(sealed.source.as_ref().map(|source| to_json(source, WHAT)).transpose()?)
    .bind(now.as_millisecond())
    .bind(MOST)
    .execute(&mut **tx)
    .await
    .during(WHAT)?;
    Ok((done.rows_affected() == 0).then(|| Failure {
        message: format!(
            "the configuration is valid, but the agent has {MOST} configured integrations already"
        ),
        fault: Fault::Caller,
        retry: Retry::No,
        hint: Some("remove some with `outrider-backend integration remove`".into()),
        last_lines: Vec::new(),
    }))
}

fn not_sealed(places: &[String]) -> Failure {
    Failure {
        message: format!(
            "the agent answered with a sealed configuration that still holds the secrets at {}; it was not kept",
            places.join(", ")
        ),
        fault: Fault::Peer,
        retry: Retry::No,
        hint: Some("the agent's version may be too old to seal what its integration calls a secret".into()),
        last_lines: Vec::new(),
    }
}
