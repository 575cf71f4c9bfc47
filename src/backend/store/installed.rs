//! What the integrations that are installed on an agent's host say of themselves: the last word of the agent.

use jiff::Timestamp;
use outrider_protocol::ids::{AgentId, IntegrationName};
use outrider_protocol::integration::InitializeReply;
use outrider_protocol::report::{BrokenIntegration, DescribeReport, InstalledIntegration};

use super::{During, Store, StoreError, from_json, time, to_json};

/// Integrations kept of one agent.
const MOST: usize = 500;
/// Bytes kept of what one integration says of itself.
const LONGEST: usize = 1024 * 1024;

/// What is known of the integrations that are installed at an agent.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    pub(crate) report: DescribeReport,
    /// When the agent said so; `None` if it never did, or has none.
    pub(crate) told_at: Option<Timestamp>,
}

impl Store {
    /// Keeps what an agent says of its integrations in place of what it said before.
    pub(crate) async fn set_installed(
        &self,
        agent: &AgentId,
        report: &DescribeReport,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "store an agent's integrations";
        let mut rows: Vec<(&IntegrationName, Option<String>, Option<String>)> = Vec::new();
        for it in report.integrations.iter().take(MOST) {
            rows.push((&it.name, Some(short(it)?), None));
        }
        for it in report.failed.iter().take(MOST) {
            rows.push((&it.name, None, Some(to_json(&it.error, WHAT)?)));
        }
        let mut tx = self.begin().await.during(WHAT)?;
        sqlx::query("DELETE FROM installed_integration WHERE agent = $1")
            .bind(agent.as_str())
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
        for (name, about, error) in rows {
            sqlx::query(
                "INSERT INTO installed_integration (agent, name, about_json, error_json, told_at)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(agent.as_str())
            .bind(name.as_str())
            .bind(about)
            .bind(error)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
        }
        tx.commit().await.during(WHAT)
    }

    /// What is known of an agent's integrations, by name.
    pub(crate) async fn installed(&self, agent: &AgentId) -> Result<Installed, StoreError> {
        const WHAT: &str = "read an agent's integrations";
        let rows: Vec<(String, Option<String>, Option<String>, i64)> = sqlx::query_as(
            "SELECT name, about_json, error_json, told_at FROM installed_integration WHERE agent = $1 ORDER BY name",
        )
        .bind(agent.as_str())
        .fetch_all(&self.read)
        .await
        .during(WHAT)?;
        let mut installed = Installed::default();
        for (name, about, error, told_at) in rows {
            let name = IntegrationName::new(name).during(WHAT)?;
            installed.told_at = Some(time(told_at));
            if let Some(about) = about {
                let about = from_json(&about, WHAT)?;
                installed.report.integrations.push(InstalledIntegration { name, about });
            } else if let Some(error) = error {
                let error = from_json(&error, WHAT)?;
                installed.report.failed.push(BrokenIntegration { name, error });
            }
        }
        Ok(installed)
    }

    /// What one installed integration says of itself.
    pub(crate) async fn about_installed(
        &self,
        agent: &AgentId,
        name: &IntegrationName,
    ) -> Result<Option<InitializeReply>, StoreError> {
        const WHAT: &str = "read what an integration says of itself";
        let row: Option<(Option<String>,)> =
            sqlx::query_as("SELECT about_json FROM installed_integration WHERE agent = $1 AND name = $2")
                .bind(agent.as_str())
                .bind(name.as_str())
                .fetch_optional(&self.read)
                .await
                .during(WHAT)?;
        row.and_then(|(about,)| about).map(|about| from_json(&about, WHAT)).transpose()
    }
}

/// What an integration says of itself as JSON; without its schema where that is beyond all measure.
fn short(it: &InstalledIntegration) -> Result<String, StoreError> {
    const WHAT: &str = "store what an integration says of itself";
    let about = to_json(&it.about, WHAT)?;
    if about.len() <= LONGEST {
        return Ok(about);
    }
    tracing::warn!(integration = %it.name, bytes = about.len(), limit = LONGEST,
        "An integration says more of itself than is kept; its configurations are not checked here.");
    let known = InitializeReply {
        config_schema: None,
        models: Vec::new(),
        features: Vec::new(),
        onboard_kinds: Vec::new(),
        version: it.about.version.chars().take(100).collect(),
        name: it.name.to_string(),
        protocol: it.about.protocol,
    };
    to_json(&known, WHAT)
}
