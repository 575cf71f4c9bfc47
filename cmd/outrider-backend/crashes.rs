//! `crashes`: lists how processes of agents died.

use outrider_backend::admin::{CrashFilter, StoredCrash};
use outrider_backend::client::Client;
use outrider_protocol::exit::Exit;

use crate::args::Crashes;
use crate::connect::find_agent;
use crate::output::{json, line};
use crate::report::Error;

pub(crate) async fn run(client: &Client, flags: Crashes) -> Result<Exit, Error> {
    let agent = match flags.agent {
        Some(agent) => Some(find_agent(client, Some(&agent)).await?),
        None => None,
    };
    let crashes = client.crashes(&CrashFilter { agent, limit: Some(flags.limit) }).await?;
    if flags.json {
        return json(&crashes);
    }
    if crashes.is_empty() {
        line("no crashes");
    }
    crashes.iter().for_each(show);
    Ok(Exit::Ok)
}

/// A crash with its last words.
pub(crate) fn show(stored: &StoredCrash) {
    let crash = &stored.crash;
    let command = crash.command.as_ref().map(|command| format!(" in command {command}")).unwrap_or_default();
    let (at, component, version) = (crash.at, &crash.component, &crash.version);
    line(&format!(
        "{at:.0} {} {component} {version}{command}: {}: {}",
        stored.agent, crash.cause, crash.detail
    ));
    for last in &crash.last_lines {
        line(&format!("  | {last}"));
    }
}
