//! The integrations of an agent, and its crashes.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use outrider_protocol::action::{AgentConfig, ExportOrder, Order};
use outrider_protocol::ids::AgentId;
use outrider_protocol::report::{BrokenIntegration, InstalledIntegration};

use super::PageError;
use super::login::Viewer;
use super::parts::{ago, failure, last_lines};
use crate::admin::{AgentIntegrations, ConfiguredIntegration, NewCommand, OAuthInfo, StoredCrash};
use crate::app::Shared;
use crate::http_error::InPath;
use crate::orders;

/// Orders an export of everything that is configured at an agent.
pub(super) async fn export(
    _: Viewer,
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
) -> Result<Response, PageError> {
    let order =
        ExportOrder { agent: AgentConfig::default(), integrations: Vec::new(), reprocess_historical: false };
    let new = NewCommand { configured: true, ..NewCommand::new(agent, Order::Export(order)) };
    let command = orders::take(&app, new).await?;
    Ok(Redirect::to(&format!("/commands/{command}")).into_response())
}

/// What is configured here, with what is registered for access tokens. `earlier` are agents of the same host that have
/// configured integrations.
pub(super) fn configured(known: &AgentIntegrations, earlier: &[AgentId]) -> Markup {
    html! {
        div.title {
            h2 { "Configured integrations" }
            @if !known.configured.is_empty() {
                form method="post" action=(format!("/agents/{}/export", known.agent)) { button { "Export now" } }
            }
        }
        @if known.configured.is_empty() {
            p.empty {
                "None yet. "
                code { "outrider-backend integration set --agent " (known.agent) " --integration NAME --config @FILE" }
                @for agent in earlier {
                    br;
                    "What is configured at " a href=(format!("/agents/{agent}")) { (agent) }
                    ", an agent of the same host, does not carry over: its secrets are encrypted for a root that this \
                     agent does not have. Enter them again."
                }
            }
        } @else {
            (configured_table(&known.configured, &known.oauth))
            p.dim {
                "Secrets are encrypted for this agent's host: this backend cannot read them. Whoever loses the agent's \
                 root, or enrolls the host anew, which makes a new agent, has to enter them again."
            }
        }
        @for info in unconfigured(known) { p { code { (info.integration) } " " (oauth(info)) } }
    }
}

/// Registrations for integrations that are configured on the host only, or not yet.
fn unconfigured(known: &AgentIntegrations) -> impl Iterator<Item = &OAuthInfo> {
    known.oauth.iter().filter(|info| known.configured.iter().all(|it| it.id != info.integration))
}

fn configured_table(configured: &[ConfiguredIntegration], registered: &[OAuthInfo]) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th { "Integration" } th { "Kind" } th { "Source" } th { "Secrets" } th { "Access tokens" } th { "Validated" }
            } }
            tbody {
                @for it in configured {
                    tr {
                        td.main {
                            (it.id)
                            details { summary { "configuration" } pre.records { (pretty(it)) } }
                        }
                        td data-label="Kind" { span { (it.name) " " span.dim { (it.version) } } }
                        td data-label="Source" { (source(it)) }
                        td data-label="Secrets" { @if it.has_secrets { "encrypted" } @else { span.dim { "none" } } }
                        td data-label="Access tokens" {
                            @match registered.iter().find(|info| info.integration == it.id) {
                                Some(info) => (oauth(info)),
                                None => span.dim { "–" },
                            }
                        }
                        td data-label="Validated" { (ago(it.validated_at)) }
                    }
                }
            }
        }
    }
}

fn pretty(it: &ConfiguredIntegration) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(it.config.get()).ok();
    value.and_then(|value| serde_json::to_string_pretty(&value).ok()).unwrap_or_default()
}

fn source(it: &ConfiguredIntegration) -> Markup {
    html! {
        @match &it.source {
            Some(source) => span title=(source.scopes.join(", ")) {
                @if let Some(account) = &source.account { (account) " " }
                @if let Some(version) = &source.version { span.dim { (version) } }
            },
            None => span.dim { "–" },
        }
    }
}

fn oauth(info: &OAuthInfo) -> Markup {
    html! {
        @if let Some(why) = &info.refused {
            span.chip.failed title=(why) { "authorize again" }
        } @else if let Some(at) = info.refreshed_at {
            span title=(info.token_url) { "OAuth, refreshed " (ago(at)) }
        } @else {
            span title=(info.token_url) { "OAuth" }
        }
    }
}

/// What is installed at an agent.
pub(super) fn installed(known: &AgentIntegrations) -> Markup {
    html! {
        h2 { "Installed integrations" }
        @match known.told_at {
            None => p.empty { "The agent has not told of any." },
            Some(at) => {
                (installed_table(&known.installed, &known.failed))
                p.dim { "As the agent said " (ago(at)) "." }
            }
        }
    }
}

pub(super) fn installed_table(installed: &[InstalledIntegration], failed: &[BrokenIntegration]) -> Markup {
    html! {
        @if !installed.is_empty() {
            table.cards {
                thead { tr {
                    th { "Integration" } th { "Version" } th { "Models" } th { "Onboarding data" } th { "Configuration" }
                } }
                tbody {
                    @for InstalledIntegration { name, about } in installed {
                        tr {
                            td.main { (name) }
                            td data-label="Version" { (about.version) }
                            td data-label="Models" {
                                span { @for model in &about.models { code { (model.model) } " " } }
                            }
                            td data-label="Onboarding data" { (about.onboard_kinds.join(", ")) }
                            td data-label="Configuration" {
                                @if about.config_schema.is_some() { "checked here" } @else { span.dim { "no schema" } }
                            }
                        }
                    }
                }
            }
        }
        @for it in failed {
            p { strong { (it.name) } " does not work:" }
            (failure(&it.error))
        }
    }
}

/// The latest crashes of an agent.
pub(super) fn crashes(crashes: &[StoredCrash]) -> Markup {
    html! {
        @if !crashes.is_empty() {
            h2 { "Crashes" }
            table.cards {
                thead { tr { th { "Process" } th { "Cause" } th { "Command" } th { "Version" } th { "When" } } }
                tbody {
                    @for StoredCrash { crash, .. } in crashes {
                        tr {
                            td.main {
                                (crash.component)
                                div.why { (crash.detail) (last_lines(&crash.last_lines)) }
                            }
                            td data-label="Cause" { span.chip.failed { (crash.cause) } }
                            td data-label="Command" {
                                @match &crash.command {
                                    Some(command) => a href=(format!("/commands/{command}")) { (command) },
                                    None => span.dim { "–" },
                                }
                            }
                            td data-label="Version" { (crash.version) }
                            td data-label="When" { (ago(crash.at)) }
                        }
                    }
                }
            }
        }
    }
}
