//! `outrider`: the agent. What people type (`enroll`, `status`, …), the service, and the hidden actions that the service
//! starts.

mod actions;
mod args;
mod collect;
mod data;
mod enroll;
#[path = "../shared/input.rs"]
mod input;
mod install;
#[path = "../shared/report.rs"]
mod report;
mod rollback;
mod say;
mod service;
mod status;
mod unit;
mod upgrade;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let root = args.root.resolve();
    let outcome = root.and_then(|root| match args.command {
        Command::Enroll(flags) => enroll::enroll(&root, flags),
        Command::Unenroll(flags) => enroll::unenroll(&root, &flags),
        Command::Status(flags) => status::status(&root, &flags),
        Command::Data(flags) => data::data(&root, flags),
        Command::Install(flags) => install::install(&root, &flags),
        Command::Upgrade(flags) => upgrade::upgrade(root, flags),
        Command::ServiceRun(flags) => service::run(root, &flags),
        Command::Export(flags) => actions::export(root, flags),
        Command::ValidateConfig(flags) => actions::validate_config(root, flags),
        Command::ExportOnboardData(flags) => actions::export_onboard_data(root, flags),
        Command::DescribeIntegrations(flags) => actions::describe_integrations(root, flags),
        Command::Collect(flags) => collect::collect(root, flags),
        Command::Watch => watch::watch(root),
    });
    report::finish(outcome)
}
