//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use outrider_home::Root;

use crate::data::args::Data;
use crate::report::Error;

/// An agent for machines that a backend cannot reach into.
#[derive(Debug, Parser)]
#[command(name = "outrider", version, about, after_help = EXITS)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) root: RootFlag,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXITS: &str = "Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 the service is gone (actions), \
4 the root is in use, 5 cancelled, 6 the integration does not offer it.";

/// Where the agent's folder is.
#[derive(Debug, clap::Args)]
pub(crate) struct RootFlag {
    /// The agent's folder [default: the platform's data folder for outrider]
    #[arg(long, global = true, env = "OUTRIDER_ROOT", visible_alias = "pinpoint-root", value_name = "DIR")]
    root: Option<PathBuf>,
}

impl RootFlag {
    pub(crate) fn resolve(self) -> Result<Root, Error> {
        match self.root {
            Some(path) => {
                let path = std::path::absolute(&path)
                    .map_err(|err| Error::usage(format!("--root {}: {err}", path.display())))?;
                Ok(Root::at(path))
            }
            None => Root::default_path().map(Root::at).ok_or_else(|| {
                Error::usage("this system names no data folder for programs: say where with --root DIR")
            }),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make this machine an agent of a backend, and start it with the system
    Enroll(Enroll),
    /// Take the agent off this machine's startup and forget its identity
    Unenroll(Unenroll),
    /// Show what the agent is and does
    Status(Status),
    /// Look at what was exported, and at what is remembered for the next export
    Data(Data),
    /// Put the unpacked package that this program is of into the root, without enrolling
    Install(Install),
    /// Upgrade the agent, or take an upgrade back
    Upgrade(Upgrade),
    /// Run the agent: take the backend's orders and carry them out
    ServiceRun(ServiceRun),
    /// Export all data of the integrations
    #[command(hide = true)]
    Export(Export),
    /// Try an integration's configuration against its source
    #[command(hide = true)]
    ValidateConfig(Action),
    /// Make the lists from which a person chooses what to export
    #[command(hide = true)]
    ExportOnboardData(Onboard),
    /// Ask every installed integration what it is
    #[command(hide = true)]
    DescribeIntegrations(Describe),
    /// Measure this host and deliver it, as the section `collect` of config.json says, or the one that the backend ordered
    #[command(hide = true)]
    Collect(Collect),
    /// Let a new version of the agent stay when it is well, or take it back
    #[command(hide = true)]
    Watch,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Enroll {
    /// The enrollment code that the backend gave out
    pub(crate) code: String,
    /// The backend's address, such as `https://outrider.example.com`
    #[arg(long, value_name = "URL")]
    pub(crate) backend: String,
    /// Which releases to take: stable, edge or dev
    #[arg(long, default_value = "stable", value_parser = ["stable", "edge", "dev"])]
    pub(crate) channel: String,
    /// A file of certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Allow a backend on another machine without TLS: the token can be read on the way
    #[arg(long)]
    pub(crate) allow_http: bool,
    /// Do not put the agent on the system's startup
    #[arg(long)]
    pub(crate) no_service: bool,
    /// Whose releases to trust: root.json, from `outrider-backend release export-root`
    #[arg(long, value_name = "FILE")]
    pub(crate) releases_root: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Install {
    /// Whose releases to trust: root.json, from `outrider-backend release export-root`
    #[arg(long, value_name = "FILE")]
    pub(crate) releases_root: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    /// Which version, as 1.4.2 or 1.5.0-SNAPSHOT [default: the newest of the agent's channel]
    #[arg(long, value_name = "V")]
    pub(crate) version: Option<String>,
    /// Where signed releases lie: an address or a folder; given again, the next choice [default: the backend's]
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) source: Vec<String>,
    /// Allow a version older than the one that runs
    #[arg(long)]
    pub(crate) allow_downgrade: bool,
    /// Try a version again that was taken back here
    #[arg(long)]
    pub(crate) force: bool,
    /// Go to the version before, which is still on this host: without a network, and on trial like any other. Where a
    /// version is on trial, take it back
    #[arg(long, conflicts_with_all = ["version", "source", "allow_downgrade", "force"])]
    pub(crate) rollback: bool,
    /// The service is at the other end of stdin and stdout
    #[arg(long, hide = true)]
    pub(crate) link: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unenroll {
    /// Also delete the whole root: data that is not uploaded yet, checkpoints, logs
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServiceRun {
    /// How much to log: error, warn, info, debug or trace, or by part as info,outrider_service=debug
    #[arg(long, env = "OUTRIDER_LOG", default_value = "info", value_name = "LEVEL")]
    pub(crate) log: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Action {
    /// What holds for the whole agent: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) agent_config_json: String,
    /// The integrations, [{"name":"mock","config":{…}}]: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", required_unless_present = "link")]
    pub(crate) integrations_json: Option<String>,
    /// Where the programs of integrations are looked up first
    #[arg(long, value_name = "DIR")]
    pub(crate) integrations_dir: Option<PathBuf>,
    /// Write the result here as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// The service is at the other end of stdin and stdout
    #[arg(long, hide = true)]
    pub(crate) link: bool,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Collect {
    #[command(subcommand)]
    pub(crate) command: Option<CollectCommand>,
    /// A file that holds the section by itself [default: that of config.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Measure once and print the samples, one a line as JSON; deliver nothing
    #[arg(long)]
    pub(crate) once: bool,
    /// The service is at the other end of stdin and stdout
    #[arg(long, hide = true, conflicts_with_all = ["config", "once"])]
    pub(crate) link: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum CollectCommand {
    /// Poll each API once and print its events, one a line as JSON; errors are on stderr
    Check {
        /// A file that holds the section by itself [default: that of config.json]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) action: Action,
    /// Export everything again, as if nothing had been exported before
    #[arg(long)]
    pub(crate) reprocess_historical: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Onboard {
    #[command(flatten)]
    pub(crate) action: Action,
    /// users, repos, projects, or a kind that the integration adds
    #[arg(long, value_name = "KIND", required_unless_present = "link")]
    pub(crate) object_type: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Describe {
    /// What holds for the whole agent: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "{}")]
    agent_config_json: String,
    /// Where the programs of integrations are looked up first
    #[arg(long, value_name = "DIR")]
    integrations_dir: Option<PathBuf>,
    /// Write the result here as JSON
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// The service is at the other end of stdin and stdout
    #[arg(long, hide = true)]
    link: bool,
}

impl From<Describe> for Action {
    fn from(flags: Describe) -> Self {
        let Describe { agent_config_json, integrations_dir, output_file, link } = flags;
        Self { agent_config_json, integrations_json: None, integrations_dir, output_file, link }
    }
}
