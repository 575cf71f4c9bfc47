//! `outrider-backend`: the server that drives agents, the commands of its operators, and the demo.

mod agents;
mod args;
mod codes;
mod commands;
mod connect;
mod crashes;
mod demo;
mod files;
mod follow;
#[path = "../shared/input.rs"]
mod input;
mod integrations;
mod orders;
mod output;
mod release;
#[path = "../shared/report.rs"]
mod report;
mod serve;
mod sessions;
mod show;
mod upgrading;

use std::process::ExitCode;

use clap::Parser;
use outrider_protocol::exit::Exit;

use crate::args::{Args, Command};
use crate::report::Error;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(err) => Err(Error::failure(&err)),
    };
    report::finish(outcome)
}

async fn run(args: Args) -> Result<Exit, Error> {
    let backend = args.backend;
    match args.command {
        Command::Serve(flags) => serve::run(backend.data()?, flags).await,
        Command::Code { command } => codes::run(&backend.connect()?, command).await,
        Command::Agents { json, command } => agents::run(&backend.connect()?, json, command).await,
        Command::Order { command } => commands::run(&backend.connect()?, command).await,
        Command::Integration { shown, command } => {
            integrations::run(&backend.connect()?, shown, command).await
        }
        Command::Crashes(flags) => crashes::run(&backend.connect()?, flags).await,
        Command::Files(flags) => files::run(&backend.connect()?, flags).await,
        Command::Release { command } => release::run(command),
        Command::Demo(flags) => demo::run(flags).await,
        Command::Login => connect::login(&backend.connect()?).await,
    }
}
