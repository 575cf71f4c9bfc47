//! Takes an order for an agent: fills in what is configured here, holds each configuration against what the agent's
//! integration expects, and stores the command. Whoever orders something, by API, command line or page, comes through
//! here.

use axum::http::StatusCode;
use jiff::Timestamp;
use outrider_protocol::action::{IntegrationConfig, Order};
use outrider_protocol::collect::ordered::CollectOrder;
use outrider_protocol::ids::{AgentId, CommandId, IntegrationId};
use outrider_protocol::integration::ConfigError;

use crate::admin::NewCommand;
use crate::app::App;
use crate::config_schema::{self, Checked};
use crate::http_error::ApiError;
use crate::hub::Change;
use crate::store::{CreateFault, OrderBounds};

mod upgrade;

/// Takes a command; its agent is told at once, if it is there.
pub(crate) async fn take(app: &App, mut new: NewCommand) -> Result<CommandId, ApiError> {
    if new.configured {
        fill_in(app, &new.agent, &mut new.order).await?;
    }
    if let Some(id) = new.order.integrations().iter().map(IntegrationConfig::id).find(IntegrationId::is_extra)
    {
        let message = format!(
            "an integration has the id {id}: ids that begin with `{}` are those of `extra_integrations` in config.json of \
             the host",
            IntegrationId::EXTRA
        );
        return Err(ApiError::bad_request(message).hint("give the integration another `id`"));
    }
    check_configs(app, &new.agent, &new.order).await?;
    if let Order::Upgrade(order) = &new.order {
        upgrade::check(order)?;
    }
    if let Order::ConfigureCollect(CollectOrder { section: Some(section), .. }) = &new.order
        && !section.get().trim_start().starts_with('{')
    {
        // Everything else is the agent's to judge: it alone knows its version's fields.
        let message = "the section `collect` is no object; expected one as it stands in config.json";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let now = Timestamp::now();
    let expires_at = upgrade::expiry(&new, app.limits.command_expiry, now)?;
    let bounds = OrderBounds { open: app.limits.open_commands, bytes: app.limits.order_bytes };
    let id = app.store.create_command(&new, Some(expires_at), bounds, now).await.map_err(refused)?;
    tracing::info!(command = %id, agent = %new.agent, action = new.order.action(), "Command taken.");
    app.hub.orders_changed(&new.agent);
    app.hub.changed(Change::Command(id.clone()));
    Ok(id)
}

/// Puts what is configured at the agent in the places of the order's integrations.
async fn fill_in(app: &App, agent: &AgentId, order: &mut Order) -> Result<(), ApiError> {
    let configured = app.store.configured_orders(agent).await?;
    if let Order::Export(export) = order
        && export.integrations.is_empty()
    {
        if configured.is_empty() {
            let message = format!("agent {agent} has no configured integration to export from");
            return Err(ApiError::new(StatusCode::CONFLICT, message)
                .hint("configure one with `outrider-backend integration set`, or give a configuration with the order"));
        }
        export.integrations = configured;
        return Ok(());
    }
    for asked in order.integrations_mut() {
        let id = asked.id();
        if asked.secrets.is_some() || asked.config.get().trim() != "{}" {
            let message =
                format!("the order says both that {id} is configured here and how it is configured");
            return Err(
                ApiError::bad_request(message).hint("leave out `config` and `secrets`, or `configured`")
            );
        }
        *asked = configured
            .iter()
            .find(|it| it.id() == id)
            .cloned()
            .ok_or_else(|| no_such(agent, &id, &configured))?;
    }
    Ok(())
}

fn no_such(agent: &AgentId, id: &IntegrationId, configured: &[IntegrationConfig]) -> ApiError {
    let there_is = match configured {
        [] => "it has none".to_owned(),
        some => {
            format!("it has: {}", some.iter().map(|it| it.id().to_string()).collect::<Vec<_>>().join(", "))
        }
    };
    ApiError::not_found(format!("agent {agent} has no configured integration {id}; {there_is}"))
        .hint("configure it with `outrider-backend integration set`")
}

/// Refuses what the agent's integrations would refuse. What is not known here is left to them.
async fn check_configs(app: &App, agent: &AgentId, order: &Order) -> Result<(), ApiError> {
    // Programs of another folder are others, though they have the same names.
    if order.agent().integrations_dir.is_some() {
        return Ok(());
    }
    for integration in order.integrations() {
        let Some(about) = app.store.about_installed(agent, &integration.name).await? else { continue };
        let Some(schema) = about.config_schema else { continue };
        let integration = integration.clone();
        let id = integration.id();
        let checked = tokio::task::spawn_blocking(move || config_schema::check(&schema, &integration)).await;
        match checked.map_err(|err| ApiError::internal(&err))? {
            Checked::Valid => {}
            Checked::NoSchema(why) => {
                tracing::warn!(%agent, integration = %id, why, "An integration's schema cannot be used; it is not checked here.");
            }
            Checked::Invalid(errors) => {
                let expects = format!("{} {} on agent {agent}", about.name, about.version);
                let message =
                    format!("the configuration of {id} is not what {expects} expects: {}", said(&errors));
                return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message).hint(format!(
                    "`outrider-backend integration schema {}` shows what it expects",
                    about.name
                )));
            }
        }
    }
    Ok(())
}

/// Each error with its place: `/repos/0: value is not of type "string"; …`.
fn said(errors: &[ConfigError]) -> String {
    let each = errors.iter().map(|error| {
        let place = if error.path.is_empty() { "config" } else { &error.path };
        format!("{place}: {}", error.message)
    });
    each.collect::<Vec<_>>().join("; ")
}

fn refused(fault: CreateFault) -> ApiError {
    let text = fault.to_string();
    match fault {
        CreateFault::Store(err) => err.into(),
        CreateFault::NoAgent { .. } => {
            ApiError::not_found(text).hint("`outrider-backend agents` lists the agents there are")
        }
        CreateFault::TooLarge { .. } => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text).hint(
            "an order holds configurations only: order fewer integrations at once, and give long lists to an \
             integration in a file on its host",
        ),
        CreateFault::Revoked { .. } => ApiError::new(StatusCode::CONFLICT, text),
        CreateFault::TooMany { .. } => {
            ApiError::new(StatusCode::CONFLICT, text).hint("wait until some have ended, or cancel some")
        }
    }
}
