//! What the admin API says and takes of integrations and crashes.

use jiff::Timestamp;
use outrider_protocol::Raw;
use outrider_protocol::crash::Crash;
use outrider_protocol::ids::{AgentId, IntegrationId, IntegrationName};
use outrider_protocol::integration::SourceInfo;
use outrider_protocol::report::{BrokenIntegration, InstalledIntegration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The integrations of an agent: those that are installed on its host, and those that are configured here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentIntegrations {
    /// Whose.
    pub agent: AgentId,
    /// What those that are installed say of themselves, by name.
    pub installed: Vec<InstalledIntegration>,
    /// Those that are installed and do not work.
    pub failed: Vec<BrokenIntegration>,
    /// When the agent said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub told_at: Option<Timestamp>,
    /// Those that are configured here, by id.
    pub configured: Vec<ConfiguredIntegration>,
    /// What is registered for access tokens, by the integration's id.
    pub oauth: Vec<OAuthInfo>,
}

/// A configured integration. Its secrets are encrypted for the host of its agent and are not told.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConfiguredIntegration {
    /// Tells several of one kind apart.
    pub id: IntegrationId,
    /// Its kind.
    pub name: IntegrationName,
    /// Its configuration without secrets.
    pub config: Raw,
    /// Whether there are secrets that only its host can decrypt.
    pub has_secrets: bool,
    /// The version of the integration that validated it.
    pub version: String,
    /// What the source said of itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
    /// When it was validated.
    #[schemars(with = "String")]
    pub validated_at: Timestamp,
}

/// How access tokens are made for an integration. Told once, to this backend.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuthRegistration {
    /// Where a refresh token is exchanged for an access token: https, or http on the backend's own machine.
    pub token_url: String,
    /// The client that a person authorized.
    pub client_id: String,
    /// The client's secret, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// What the authorization gave.
    pub refresh_token: String,
    /// What to ask for; all that was authorized where nothing is said.
    #[serde(default)]
    pub scopes: Vec<String>,
}

impl std::fmt::Debug for OAuthRegistration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuthRegistration").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// What is registered for the access tokens of an integration, without a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OAuthInfo {
    /// The configured integration, here or on the agent's host.
    pub integration: IntegrationId,
    /// The token URL without its query.
    pub token_url: String,
    /// The client that a person authorized.
    pub client_id: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// When a person registered it.
    #[schemars(with = "String")]
    pub registered_at: Timestamp,
    /// When an access token was last made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub refreshed_at: Option<Timestamp>,
    /// What the token server said when it refused the refresh token: a person has to authorize again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A crash that an agent told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredCrash {
    /// Whose process died.
    pub agent: AgentId,
    /// The agent's id of it.
    pub id: String,
    /// What is known of it.
    pub crash: Crash,
    /// When this backend heard of it.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
}

/// Which crashes to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CrashFilter {
    /// Of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// At most so many, the newest; 100 where nothing is said, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
