//! The agents, and one agent.

use maud::{Markup, html};
use outrider_protocol::ids::AgentId;

use super::live::Fragment;
use super::parts::{ago, bytes, commands, counted};
use super::{collecting, integrations, measured, upgrades};
use crate::admin::{Agent, CommandFilter, CrashFilter};
use crate::admin_api::{collecting_of, integrations_of};
use crate::app::Shared;
use crate::http_error::ApiError;

/// Commands shown on a page.
const COMMANDS_SHOWN: u32 = 50;
/// Upgrades shown on a page.
const UPGRADES_SHOWN: u32 = 10;
/// Crashes shown on a page.
const CRASHES_SHOWN: u32 = 20;

pub(super) async fn all(app: &Shared) -> Result<Vec<Fragment>, ApiError> {
    let agents = app.agents(None).await?;
    let filter = CommandFilter { limit: Some(COMMANDS_SHOWN), ..CommandFilter::default() };
    let recent = app.store.commands(&filter).await?;
    Ok(vec![
        Fragment::new("agents", html! { h1 { "Agents" } (table(&agents)) }),
        Fragment::new("commands", html! { h2 { "Latest commands" } (commands(&recent, true)) }),
    ])
}

pub(super) async fn one(app: &Shared, id: &AgentId) -> Result<Vec<Fragment>, ApiError> {
    let agent = app.agents(Some(id)).await?.pop();
    let agent = agent.ok_or_else(|| ApiError::not_found(format!("There is no agent {id}.")))?;
    let filter =
        CommandFilter { agent: Some(id.clone()), limit: Some(COMMANDS_SHOWN), ..CommandFilter::default() };
    let recent = app.store.commands(&filter).await?;
    let upgraded = app.store.upgrades(id, None, UPGRADES_SHOWN).await?;
    let known = integrations_of(app, id).await?;
    let collecting = collecting_of(app, id).await?;
    let earlier =
        if known.configured.is_empty() { app.store.configured_beside(id).await? } else { Vec::new() };
    let crashes = CrashFilter { agent: Some(id.clone()), limit: Some(CRASHES_SHOWN) };
    let crashes = app.store.crashes(&crashes).await?;
    Ok(vec![
        Fragment::new("agent", facts(&agent)),
        Fragment::new("upgrades", upgrades::all(&upgraded)),
        Fragment::new("upgrade-order", upgrades::form(&agent)),
        Fragment::new("configured", integrations::configured(&known, &earlier)),
        Fragment::new("commands", html! { h2 { "Commands" } (commands(&recent, false)) }),
        Fragment::new("collecting", collecting::collecting(&collecting)),
        Fragment::new("measured", measured::plots(&app.plots.of(id))),
        Fragment::new("crashes", integrations::crashes(&crashes)),
        Fragment::new("installed", integrations::installed(&known)),
    ])
}

fn table(agents: &[Agent]) -> Markup {
    html! {
        @if agents.is_empty() {
            p.empty {
                "No agents yet. Make a code with " code { "outrider-backend code create" }
                ", and enroll one with " code { "outrider enroll CODE --backend URL" } "."
            }
        } @else {
            table.cards {
                thead { tr {
                    th { "Host" } th { "State" } th { "System" } th { "Version" } th { "Seen" }
                    th.num { "Open commands" } th.num { "In spool" }
                } }
                tbody {
                    @for agent in agents {
                        tr {
                            td.main {
                                a href=(format!("/agents/{}", agent.id)) { (agent.hostname) " " span.id { (agent.id) } }
                            }
                            td data-label="State" { (presence(agent)) }
                            td data-label="System" { (agent.os) " " (agent.arch) }
                            td data-label="Version" {
                                span { (agent.build.as_ref().unwrap_or(&agent.version)) " " span.dim { (agent.channel) } }
                            }
                            td data-label="Seen" { (seen(agent)) }
                            td.num data-label="Open commands" { (agent.open_commands) }
                            td.num data-label="In spool" { (bytes(agent.spool_bytes)) }
                        }
                    }
                }
            }
        }
    }
}

fn facts(agent: &Agent) -> Markup {
    html! {
        div.title { h1 { (agent.hostname) } (presence(agent)) }
        dl.facts {
            div { dt { "Agent" } dd.id { (agent.id) } }
            div { dt { "System" } dd { (agent.os) " " (agent.arch) } }
            div { dt { "Version" } dd { (agent.version) " " span.dim { (agent.channel) } } }
            @if let Some(build) = &agent.build { div { dt { "Build" } dd { (build) } } }
            @if let Some(customer) = &agent.customer_id { div { dt { "Customer" } dd { (customer) } } }
            div { dt { "Seen" } dd { (seen(agent)) } }
            @if let Some(started) = agent.service_started_at { div { dt { "Service started" } dd { (ago(started)) } } }
            div { dt { "Enrolled" } dd { (ago(agent.enrolled_at)) } }
            div { dt { "In spool" } dd { (counted(agent.spool_files, "file")) ", " (bytes(agent.spool_bytes)) } }
        }
        @if agent.refused_files > 0 { (refused(agent.refused_files)) }
        @if agent.lost_files > 0 { (lost(agent.lost_files)) }
    }
}

/// Files that came to be refused after their export's outcome was told are shown nowhere else.
fn refused(files: u64) -> Markup {
    html! {
        div.notice.bad {
            p { strong { "This backend refuses " (counted(files, "file")) " of the agent for what is in them." } }
            p { "They stay in its spool. Its log, and this backend's, say why." }
        }
    }
}

/// What is missing here shows in no export: each of them was done.
fn lost(files: u64) -> Markup {
    html! {
        div.notice.bad {
            p { strong { "This backend has lost " (counted(files, "file")) " of the agent." } }
            p {
                "It came back with an older database, and the agent no longer keeps them. Export again with "
                code { "reprocess_historical" } " what it exports: their objects come no other way."
            }
        }
    }
}

fn presence(agent: &Agent) -> Markup {
    let (class, word) = match (agent.revoked_at, agent.online) {
        (Some(_), _) => ("failed", "revoked"),
        (None, true) => ("done", "online"),
        (None, false) => ("queued", "away"),
    };
    html! { span.chip.(class) { (word) } }
}

fn seen(agent: &Agent) -> Markup {
    match agent.seen_at {
        Some(_) if agent.online => html! { "now" },
        Some(at) => ago(at),
        None => html! { span.dim { "never" } },
    }
}
