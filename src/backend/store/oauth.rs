//! What is registered for the access tokens of integrations.
//!
//! **Invariant:** a generation is given to one access token, and never goes back. **Invariant:** a refresh token that
//! came with an answer to an older registration never replaces one that a person has entered since.

use std::fmt;

use jiff::Timestamp;
use outrider_protocol::ids::{AgentId, IntegrationId};
use sqlx::FromRow;

use super::{During, Store, StoreError, count, from_json, time, times, to_json, uncount};
use crate::admin::{OAuthInfo, OAuthRegistration};

/// A registration as it is used. Holds secrets: it cannot be written out.
#[derive(Clone)]
pub(crate) struct Registration {
    /// Changes whenever a person enters it anew.
    pub(crate) revision: i64,
    pub(crate) token_url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<String>,
    pub(crate) refresh_token: String,
    pub(crate) scopes: Vec<String>,
    /// The newest access token's.
    pub(crate) generation: u64,
    /// What the token server said when it refused the refresh token.
    pub(crate) refused: Option<String>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// What a refresh brought.
#[derive(Clone, Copy)]
pub(crate) struct Refreshed<'a> {
    /// The registration that was used.
    pub(crate) revision: i64,
    /// The new access token's.
    pub(crate) generation: u64,
    /// A new refresh token in place of the old one.
    pub(crate) refresh_token: Option<&'a str>,
}

impl fmt::Debug for Refreshed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refreshed").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[derive(FromRow)]
struct Row {
    revision: i64,
    token_url: String,
    client_id: String,
    client_secret: Option<String>,
    refresh_token: String,
    scopes_json: String,
    generation: i64,
    refused: Option<String>,
}

impl Store {
    /// Keeps a registration in place of an older one. The count of access tokens goes on.
    pub(crate) async fn register_oauth(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
        new: &OAuthRegistration,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "store a registration for access tokens";
        sqlx::query(
            "INSERT INTO oauth_registration (agent, integration, revision, token_url, client_id, client_secret,
                                             refresh_token, scopes_json, registered_at)
             VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (agent, integration) DO UPDATE SET revision = oauth_registration.revision + 1,
                 token_url = excluded.token_url, client_id = excluded.client_id,
                 client_secret = excluded.client_secret, refresh_token = excluded.refresh_token,
                 scopes_json = excluded.scopes_json, registered_at = excluded.registered_at,
                 refreshed_at = NULL, refused = NULL",
        )
        .bind(agent.as_str())
        .bind(integration.as_str())
        .bind(&new.token_url)
        .bind(&new.client_id)
        .bind(&new.client_secret)
        .bind(&new.refresh_token)
        .bind(to_json(&new.scopes, WHAT)?)
        .bind(now.as_millisecond())
        .execute(&self.write)
        .await
        .during(WHAT)?;
        Ok(())
    }

    /// What is registered for an integration.
    pub(crate) async fn oauth(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
    ) -> Result<Option<Registration>, StoreError> {
        const WHAT: &str = "read a registration for access tokens";
        let row: Option<Row> = sqlx::query_as(
            "SELECT revision, token_url, client_id, client_secret, refresh_token, scopes_json, generation, refused
             FROM oauth_registration WHERE agent = $1 AND integration = $2",
        )
        .bind(agent.as_str())
        .bind(integration.as_str())
        .fetch_optional(&self.read)
        .await
        .during(WHAT)?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Registration {
            revision: row.revision,
            token_url: row.token_url,
            client_id: row.client_id,
            client_secret: row.client_secret,
            refresh_token: row.refresh_token,
            scopes: from_json(&row.scopes_json, WHAT)?,
            generation: uncount(row.generation),
            refused: row.refused,
        }))
    }

    /// Enters a new access token's generation, and the refresh token that came with it. Answers whether the
    /// registration is still the same.
    pub(crate) async fn oauth_refreshed(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
        news: Refreshed<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE oauth_registration SET generation = $4, refresh_token = COALESCE($5, refresh_token),
                    refreshed_at = $6, refused = NULL
             WHERE agent = $1 AND integration = $2 AND revision = $3",
        )
        .bind(agent.as_str())
        .bind(integration.as_str())
        .bind(news.revision)
        .bind(count(news.generation))
        .bind(news.refresh_token)
        .bind(now.as_millisecond())
        .execute(&self.write)
        .await
        .during("store a refresh token")?;
        Ok(done.rows_affected() > 0)
    }

    /// The token server refused the refresh token.
    pub(crate) async fn oauth_refused(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
        revision: i64,
        why: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE oauth_registration SET refused = $4 WHERE agent = $1 AND integration = $2 AND revision = $3",
        )
        .bind(agent.as_str())
        .bind(integration.as_str())
        .bind(revision)
        .bind(why)
        .execute(&self.write)
        .await
        .during("note a refused refresh token")?;
        Ok(())
    }

    /// Removes a registration. Answers whether there was one.
    pub(crate) async fn remove_oauth(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM oauth_registration WHERE agent = $1 AND integration = $2")
            .bind(agent.as_str())
            .bind(integration.as_str())
            .execute(&self.write)
            .await
            .during("remove a registration for access tokens")?;
        Ok(done.rows_affected() > 0)
    }

    /// What is registered at an agent, without a secret.
    pub(crate) async fn oauth_infos(&self, agent: &AgentId) -> Result<Vec<OAuthInfo>, StoreError> {
        const WHAT: &str = "list registrations for access tokens";
        type Listed = (String, String, String, String, i64, Option<i64>, Option<String>);
        let rows: Vec<Listed> = sqlx::query_as(
            "SELECT integration, token_url, client_id, scopes_json, registered_at, refreshed_at, refused
             FROM oauth_registration WHERE agent = $1 ORDER BY integration",
        )
        .bind(agent.as_str())
        .fetch_all(&self.read)
        .await
        .during(WHAT)?;
        let info = |(integration, url, client_id, scopes, registered_at, refreshed_at, refused): Listed| {
            Ok(OAuthInfo {
                integration: IntegrationId::new(integration).during(WHAT)?,
                token_url: crate::oauth::shown_url(&url),
                client_id,
                scopes: from_json(&scopes, WHAT)?,
                registered_at: time(registered_at),
                refreshed_at: times(refreshed_at),
                refused,
            })
        };
        rows.into_iter().map(info).collect()
    }
}
