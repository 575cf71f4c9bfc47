//! The flags of `integration`.

use std::time::Duration;

use clap::Subcommand;
use outrider_protocol::ids::{IntegrationId, IntegrationName};

use super::time;

#[derive(Debug, clap::Args)]
pub(crate) struct IntegrationShown {
    /// The agent: its id, or a beginning of it that no other has [default: the only one there is]
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// As JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Integration {
    /// Configure an integration: its host tries the configuration and encrypts its secrets; only the result is kept
    Set(SetIntegration),
    /// List those that are configured
    List,
    /// Show the JSON Schema of an installed integration's configuration
    Schema {
        /// The integration
        name: IntegrationName,
    },
    /// Remove a configured integration, with what is registered for its access tokens
    Remove {
        /// Its id
        id: IntegrationId,
    },
    /// How access tokens are made for an integration
    Oauth {
        #[command(subcommand)]
        command: Oauth,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetIntegration {
    /// The integration
    #[arg(long, value_name = "NAME")]
    pub(crate) integration: IntegrationName,
    /// Tells several of one kind apart [default: the name]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<IntegrationId>,
    /// Its configuration: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) config: String,
    /// For how long the configuration waits for an agent that is away, with its secrets as they are
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub(crate) expires: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Oauth {
    /// Register a refresh token and its client: an object with token_url, client_id, client_secret, refresh_token, scopes
    Set {
        /// The integration's id, configured here or on the agent's host
        id: IntegrationId,
        /// @FILE, or - for stdin: it holds secrets
        #[arg(long, value_name = "@FILE")]
        registration: String,
    },
    /// Remove a registration
    Remove {
        /// The integration's id
        id: IntegrationId,
    },
}
