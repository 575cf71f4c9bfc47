//! `integration`: what is installed at an agent, and what is configured here.

use outrider_backend::admin::{
    AgentIntegrations, CommandState, ConfiguredIntegration, NewCommand, OAuthInfo, OAuthRegistration,
};
use outrider_backend::client::Client;
use outrider_protocol::Raw;
use outrider_protocol::action::{AgentConfig, IntegrationConfig, Order, ValidateOrder};
use outrider_protocol::exit::Exit;
use outrider_protocol::ids::AgentId;

use crate::args::{Integration, IntegrationShown, Oauth, SetIntegration};
use crate::connect::find_agent;
use crate::output::{Column, ago, json, line, note, table};
use crate::report::Error;
use crate::{follow, input, show};

pub(crate) async fn run(
    client: &Client,
    shown: IntegrationShown,
    command: Option<Integration>,
) -> Result<Exit, Error> {
    let agent = find_agent(client, shown.agent.as_deref()).await?;
    let as_json = shown.json;
    match command {
        None => {
            let known = client.integrations(&agent).await?;
            if as_json {
                return json(&known);
            }
            all(&known);
            Ok(Exit::Ok)
        }
        Some(Integration::List) => {
            let known = client.integrations(&agent).await?;
            if as_json {
                return json(&known.configured);
            }
            configured(&known);
            Ok(Exit::Ok)
        }
        Some(Integration::Set(flags)) => set(client, agent, flags, as_json).await,
        Some(Integration::Schema { name }) => schema(&client.integrations(&agent).await?, name.as_str()),
        Some(Integration::Remove { id }) => {
            let left = client.remove_integration(&agent, &id).await?;
            if as_json {
                return json(&left);
            }
            line(&format!("{id} of agent {agent} is removed, with its secrets"));
            Ok(Exit::Ok)
        }
        Some(Integration::Oauth { command }) => oauth(client, &agent, command, as_json).await,
    }
}

/// What is configured and what is installed.
pub(crate) fn all(known: &AgentIntegrations) {
    configured(known);
    line("");
    installed(known);
}

async fn set(client: &Client, agent: AgentId, flags: SetIntegration, as_json: bool) -> Result<Exit, Error> {
    let config: Raw = input::json("--config", &flags.config)?;
    let integration = IntegrationConfig { name: flags.integration, id: flags.id, config, secrets: None };
    let id = integration.id();
    let order = ValidateOrder { agent: AgentConfig::default(), integration, seal: true };
    let new = NewCommand {
        expires_in_s: Some(flags.expires.as_secs()),
        ..NewCommand::new(agent, Order::ValidateConfig(order))
    };
    let command = client.create_command(&new).await?.summary.id;
    if !client.agent(&new.agent).await?.online {
        note(&format!(
            "agent {} is away; its host has to validate the configuration and to encrypt its secrets. Until then, or \
             until the order expires, they wait in the backend's database",
            new.agent
        ));
    }
    let ended = follow::to_end(client, &command, follow::Shown::all(as_json)).await?;
    let known = client.integrations(&new.agent).await?;
    let is_good = show::is_good(&ended) && ended.summary.state == CommandState::Done;
    let kept = known.configured.iter().find(|it| it.id == id).filter(|_| is_good);
    if as_json {
        return match kept {
            Some(it) => json(it),
            None => json(&ended).map(|_| Exit::Failure),
        };
    }
    show::command(&ended);
    match kept {
        Some(it) => {
            line(&format!("{id} of agent {} is configured{}", new.agent, secrets_of(it)));
            Ok(Exit::Ok)
        }
        None => Err(Error::failed(format!("{id} of agent {} is not configured", new.agent))
            .hint("the agent has not answered with a valid, sealed configuration; its report says why")),
    }
}

fn secrets_of(it: &ConfiguredIntegration) -> &'static str {
    if it.has_secrets {
        "; its secrets are encrypted for the agent's host. Whoever loses the agent's root, or enrolls the host anew, \
         which makes a new agent, has to enter them again"
    } else {
        "; it holds no secrets"
    }
}

fn schema(known: &AgentIntegrations, name: &str) -> Result<Exit, Error> {
    let Some(it) = known.installed.iter().find(|it| it.name.as_str() == name) else {
        let names: Vec<&str> = known.installed.iter().map(|it| it.name.as_str()).collect();
        let there = if names.is_empty() { "none".into() } else { names.join(", ") };
        return Err(Error::failed(format!(
            "agent {} has told of no integration {name}; it has: {there}",
            known.agent
        )));
    };
    match &it.about.config_schema {
        Some(schema) => json(schema),
        None => Err(Error::failed(format!("integration {name} gives no schema of its configuration"))),
    }
}

async fn oauth(client: &Client, agent: &AgentId, command: Oauth, as_json: bool) -> Result<Exit, Error> {
    match command {
        Oauth::Set { id, registration } => {
            let registration: OAuthRegistration = input::secret_json("--registration", &registration)?;
            let info = client.register_oauth(agent, &id, &registration).await?;
            if as_json {
                return json(&info);
            }
            line(&format!("{id} of agent {agent} gets its access tokens from {}", info.token_url));
        }
        Oauth::Remove { id } => {
            let left = client.remove_oauth(agent, &id).await?;
            if as_json {
                return json(&left);
            }
            line(&format!("{id} of agent {agent} gets no access tokens any more"));
        }
    }
    Ok(Exit::Ok)
}

fn configured(known: &AgentIntegrations) {
    if known.configured.is_empty() {
        line(&format!(
            "agent {} has no configured integrations: `outrider-backend integration set`",
            known.agent
        ));
    } else {
        let columns = [
            Column::Text("configured"),
            Column::Text("kind"),
            Column::Text("account"),
            Column::Text("secrets"),
            Column::Text("access tokens"),
            Column::Text("validated"),
        ];
        let rows = known.configured.iter().map(|it| {
            let account = it.source.as_ref().and_then(|source| source.account.clone());
            vec![
                it.id.to_string(),
                format!("{} {}", it.name, it.version),
                account.unwrap_or_else(|| "–".into()),
                if it.has_secrets { "encrypted".into() } else { "none".into() },
                known.oauth.iter().find(|info| info.integration == it.id).map_or_else(|| "–".into(), token),
                ago(Some(it.validated_at)),
            ]
        });
        line(&table(&columns, rows.collect()));
    }
    let elsewhere = |info: &&OAuthInfo| known.configured.iter().all(|it| it.id != info.integration);
    for info in known.oauth.iter().filter(elsewhere) {
        line(&format!("{}: access tokens: {}", info.integration, token(info)));
    }
}

fn token(info: &OAuthInfo) -> String {
    match (&info.refused, info.refreshed_at) {
        (Some(why), _) => format!("authorize again: {why}"),
        (None, Some(at)) => format!("refreshed {}", ago(Some(at))),
        (None, None) => "registered".into(),
    }
}

fn installed(known: &AgentIntegrations) {
    let Some(told_at) = known.told_at else {
        line(&format!("agent {} has not told what is installed", known.agent));
        return;
    };
    let columns = [
        Column::Text("installed"),
        Column::Text("version"),
        Column::Text("models"),
        Column::Text("onboarding data"),
    ];
    let rows = known.installed.iter().map(|it| {
        let models: Vec<&str> = it.about.models.iter().map(|model| model.model.as_str()).collect();
        vec![
            it.name.to_string(),
            it.about.version.clone(),
            models.join(", "),
            it.about.onboard_kinds.join(", "),
        ]
    });
    line(&table(&columns, rows.collect()));
    for it in &known.failed {
        show::failure(&format!("{} does not work: ", it.name), &it.error);
    }
    line(&format!("as the agent said {}", ago(Some(told_at))));
}
