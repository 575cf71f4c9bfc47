//! `agents`: lists and revokes agents.

use outrider_backend::admin::Agent;
use outrider_backend::client::Client;
use outrider_protocol::exit::Exit;

use crate::args::Agents;
use crate::connect::find_agent;
use crate::output::{Column, ago, bytes, json, line, table};
use crate::report::Error;

pub(crate) async fn run(client: &Client, as_json: bool, command: Option<Agents>) -> Result<Exit, Error> {
    let agents = match command {
        None => client.agents().await?,
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

fn row(agent: Agent) -> Vec<String> {
    let state = match (agent.revoked_at, agent.online) {
        (Some(_), _) => "revoked",
        (None, true) => "online",
        (None, false) => "away",
    };
    vec![
        agent.id.into(),
        state.into(),
        agent.hostname,
        format!("{}/{}", agent.os, agent.arch),
        agent.version,
        ago(agent.seen_at),
        agent.open_commands.to_string(),
        bytes(agent.spool_bytes),
    ]
}
