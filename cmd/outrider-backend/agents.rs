//! `agents`: lists and revokes agents.

use outrider_backend::admin::{Agent, AgentCollecting, AgentIntegrations, CrashFilter, StoredCrash};
use outrider_backend::client::Client;
use outrider_protocol::collect::ordered::CollectingParams;
use outrider_protocol::exit::Exit;
use serde::Serialize;

use crate::args::Agents;
use crate::connect::find_agent;
use crate::output::{Column, ago, bytes, json, line, table};
use crate::report::Error;
use crate::{crashes, integrations};

pub(crate) async fn run(client: &Client, as_json: bool, command: Option<Agents>) -> Result<Exit, Error> {
    let agents = match command {
        None => client.agents().await?,
        Some(Agents::Show { agent }) => return one(client, as_json, agent.as_deref()).await,
        Some(Agents::Revoke { agent }) => {
            let agent = find_agent(client, Some(&agent)).await?;
            vec![client.revoke_agent(&agent).await?]
        }
    };
    if as_json {
        return json(&agents);
    }
    if agents.is_empty() {
        line(
            "no agents yet: make a code with `outrider-backend code create`, enroll one with `outrider enroll`",
        );
        return Ok(Exit::Ok);
    }
    let columns = [
        Column::Text("id"),
        Column::Text("state"),
        Column::Text("host"),
        Column::Text("system"),
        Column::Text("version"),
        Column::Text("seen"),
        Column::Number("open commands"),
        Column::Number("in spool"),
    ];
    line(&table(&columns, agents.into_iter().map(row).collect()));
    Ok(Exit::Ok)
}

/// Crashes shown of one agent.
const CRASHES_SHOWN: u32 = 5;

/// One agent, with its integrations and latest crashes.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    agent: Agent,
    integrations: AgentIntegrations,
    collecting: AgentCollecting,
    crashes: Vec<StoredCrash>,
}

async fn one(client: &Client, as_json: bool, agent: Option<&str>) -> Result<Exit, Error> {
    let id = find_agent(client, agent).await?;
    let filter = CrashFilter { agent: Some(id.clone()), limit: Some(CRASHES_SHOWN) };
    let shown = Shown {
        agent: client.agent(&id).await?,
        integrations: client.integrations(&id).await?,
        collecting: client.collecting(&id).await?,
        crashes: client.crashes(&filter).await?,
    };
    if as_json {
        return json(&shown);
    }
    let agent = &shown.agent;
    let runs = agent.build.as_ref().unwrap_or(&agent.version);
    line(&format!("{} {runs} on {}: {}", agent.id, agent.hostname, state(agent)));
    line(&format!(
        "{}/{}, enrolled {}, seen {}",
        agent.os,
        agent.arch,
        ago(Some(agent.enrolled_at)),
        ago(agent.seen_at)
    ));
    line(&format!("in its spool: {} file(s), {}", agent.spool_files, bytes(agent.spool_bytes)));
    if agent.refused_files > 0 {
        let files = agent.refused_files;
        line(&format!(
            "refused by this backend for what is in them: {files} file(s), which stay in its spool"
        ));
    }
    if agent.lost_files > 0 {
        let files = agent.lost_files;
        line(&format!(
            "lost by this backend, which came back with an older database: {files} file(s), which the agent no longer keeps; \
             export again with reprocess_historical"
        ));
    }
    line("");
    integrations::all(&shown.integrations);
    shown.collecting.told.iter().for_each(collecting);
    if !shown.crashes.is_empty() {
        line("\nlatest crashes");
        shown.crashes.iter().for_each(crashes::show);
    }
    Ok(Exit::Ok)
}

/// Whether it collects; nothing where it does not and nobody ordered it to.
fn collecting(told: &CollectingParams) {
    if let Some(source) = told.source {
        let since = ago(told.since);
        line(&format!("\ncollecting as {} says: {}, since {since}", source.word(), told.state.word()));
    }
    if let Some(end) = &told.last_end {
        line(&format!("  it ended by itself {}: {}", ago(Some(end.at)), end.error));
    }
    told.troubles.iter().for_each(|it| line(&format!("  {it}")));
    if let Some(it) = &told.ordered {
        let idle = it.idle.as_ref().map(|it| format!("; not in effect: {it}")).unwrap_or_default();
        line(&format!("  it keeps a section of this backend, by command {}{idle}", it.command));
    }
}

fn state(agent: &Agent) -> &'static str {
    match (agent.revoked_at, agent.online) {
        (Some(_), _) => "revoked",
        (None, true) => "online",
        (None, false) => "away",
    }
}

fn row(agent: Agent) -> Vec<String> {
    vec![
        agent.id.to_string(),
        state(&agent).into(),
        agent.hostname,
        format!("{}/{}", agent.os, agent.arch),
        agent.build.unwrap_or(agent.version),
        ago(agent.seen_at),
        agent.open_commands.to_string(),
        bytes(agent.spool_bytes),
    ]
}
