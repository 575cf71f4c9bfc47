//! `command`: orders things of agents, and shows what became of them.

use outrider_backend::admin::{CommandFilter, CommandState, CommandSummary, LogRange, NewCommand};
use outrider_backend::client::Client;
use outrider_protocol::exit::Exit;
use outrider_protocol::ids::CommandId;

use crate::args::{CommandCommand, List, Logs};
use crate::connect::{find_agent, find_command};
use crate::output::{Column, ago, bytes, count, json, line, note, ran, table};
use crate::report::Error;
use crate::{follow, orders, show, upgrading};

/// Lines of a log that are asked for at once; as many as the backend gives.
const LINES_AT_ONCE: u32 = 10_000;

pub(crate) async fn run(client: &Client, command: CommandCommand) -> Result<Exit, Error> {
    match command {
        CommandCommand::Export(flags) => wish(client, orders::export(flags)).await,
        CommandCommand::ValidateConfig(flags) => wish(client, orders::validate(flags)).await,
        CommandCommand::ExportOnboardData(flags) => wish(client, orders::onboard(flags)).await,
        CommandCommand::Upgrade(flags) => {
            let (as_json, to_end) = (flags.json, flags.follow);
            order(client, upgrading::into_new(flags, client).await?, as_json, to_end).await
        }
        CommandCommand::Collect(flags) => {
            let (as_json, to_end) = (flags.json, flags.follow);
            order(client, orders::collect(flags, client).await?, as_json, to_end).await
        }
        CommandCommand::List(flags) => list(client, flags).await,
        CommandCommand::Show { command, json: as_json } => {
            let command = client.command(&find_command(client, &command).await?).await?;
            if as_json {
                return json(&command);
            }
            show::command(&command);
            Ok(Exit::Ok)
        }
        CommandCommand::Cancel { command, reason, json: as_json } => {
            let command = client.cancel(&find_command(client, &command).await?, &reason).await?;
            if as_json {
                return json(&command);
            }
            line(&match command.summary.state {
                CommandState::Cancelled => format!("{} is cancelled", command.summary.id),
                state => format!("{} is {state}; its agent is told to cancel it", command.summary.id),
            });
            Ok(Exit::Ok)
        }
        CommandCommand::Logs(flags) => logs(client, flags).await,
    }
}

async fn wish(client: &Client, wish: orders::Wish) -> Result<Exit, Error> {
    let (as_json, to_end) = (wish.order.json, wish.order.follow);
    order(client, wish.into_new(client).await?, as_json, to_end).await
}

async fn order(client: &Client, new: NewCommand, as_json: bool, to_end: bool) -> Result<Exit, Error> {
    let command = client.create_command(&new).await?;
    let id = &command.summary.id;
    let agent = client.agent(&new.agent).await?;
    if !agent.online {
        let seen = ago(agent.seen_at);
        note(&format!("agent {} is away (seen: {seen}); it gets the command when it is back", agent.id));
    }
    if to_end {
        note(&format!("command {id} for agent {}", agent.id));
        return finish(client, id, as_json).await;
    }
    if as_json {
        return json(&command);
    }
    line(id.as_str());
    Ok(Exit::Ok)
}

/// Follows a command to its end, and says by the exit status how that was.
async fn finish(client: &Client, id: &CommandId, as_json: bool) -> Result<Exit, Error> {
    let ended = follow::to_end(client, id, follow::Shown::all(as_json)).await?;
    let exit = if show::is_good(&ended) { Exit::Ok } else { Exit::Failure };
    if as_json {
        json(&ended)?;
    } else {
        show::command(&ended);
    }
    Ok(exit)
}

async fn list(client: &Client, flags: List) -> Result<Exit, Error> {
    let agent = match flags.agent {
        Some(agent) => Some(find_agent(client, Some(&agent)).await?),
        None => None,
    };
    let filter = CommandFilter { agent, state: flags.state, limit: Some(flags.limit) };
    let commands = client.commands(&filter).await?;
    if flags.json {
        return json(&commands);
    }
    let columns = [
        Column::Text("id"),
        Column::Text("state"),
        Column::Text("action"),
        Column::Text("integrations"),
        Column::Text("agent"),
        Column::Text("ordered"),
        Column::Number("ran"),
        Column::Number("objects"),
        Column::Number("size"),
    ];
    line(&table(&columns, commands.into_iter().map(row).collect()));
    Ok(Exit::Ok)
}

fn row(command: CommandSummary) -> Vec<String> {
    let integrations: Vec<&str> = command.integrations.iter().map(|it| it.id.as_str()).collect();
    vec![
        command.id.to_string(),
        command.state.to_string(),
        command.action,
        integrations.join(", "),
        command.agent.to_string(),
        ago(Some(command.created_at)),
        ran(command.started_at, command.ended_at),
        count(command.objects),
        bytes(command.bytes),
    ]
}

async fn logs(client: &Client, flags: Logs) -> Result<Exit, Error> {
    let command = find_command(client, &flags.command).await?;
    if flags.follow {
        follow::to_end(client, &command, follow::Shown::log_only()).await?;
        return Ok(Exit::Ok);
    }
    let range = match flags.tail {
        Some(tail) => LogRange { after: None, limit: Some(tail) },
        None => LogRange { after: Some(0), limit: Some(LINES_AT_ONCE) },
    };
    let lines = client.logs(&command, range).await?;
    if flags.json {
        return json(&lines);
    }
    for numbered in lines {
        line(&numbered.line.to_string());
    }
    Ok(Exit::Ok)
}
