//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use outrider_protocol::ids::ExportId;

use crate::connect::BackendFlags;

mod integrations;
pub(crate) use integrations::{Integration, IntegrationShown, Oauth, SetIntegration};
mod release;
pub(crate) use release::{
    Add as AddRelease, Init as InitReleases, Keygen, Refresh as RefreshReleases, Release,
    Repo as ReleaseRepo, RotateRoot, Signing,
};

/// The backend of Outrider: drives agents, and keeps what they report and export.
#[derive(Debug, Parser)]
#[command(name = "outrider-backend", version, about, after_help = EXITS)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) backend: BackendFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXITS: &str = "Exit status: 0 done, 1 failed, 2 wrong usage, 4 the data folder is in use.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a backend
    Serve(Serve),
    /// Make, list and revoke enrollment codes
    Code {
        #[command(subcommand)]
        command: Code,
    },
    /// List the agents
    Agents {
        /// As JSON
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        command: Option<Agents>,
    },
    /// Order something of an agent; list, show, cancel and follow what was ordered
    #[command(name = "command")]
    Order {
        #[command(subcommand)]
        command: CommandCommand,
    },
    /// The integrations of agents: installed on their hosts, and configured here
    #[command(alias = "integrations")]
    Integration {
        #[command(flatten)]
        shown: IntegrationShown,
        #[command(subcommand)]
        command: Option<Integration>,
    },
    /// List the crashes that agents told of
    Crashes(Crashes),
    /// List the files that agents have uploaded
    Files(Files),
    /// The signed repository of releases, which agents take upgrades from
    Release {
        #[command(subcommand)]
        command: Release,
    },
    /// Make a link that logs one browser in to the backend's pages
    Login,
    /// Show it all on this machine: a backend, an agent, and the export of a git repository
    Demo(Demo),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// A git repository to export; may be given several times [default: this checkout]
    #[arg(long, value_name = "PATH")]
    pub(crate) repo: Vec<PathBuf>,
    /// Keep backend, root, logs and data here [default: a fresh folder for temporary files, which stays]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// End when the export is done, with status 0 if all went well
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 for any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7878")]
    pub(crate) listen: SocketAddr,
    /// The certificate with its chain (PEM), to speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The folder of signed releases that agents upgrade from; anybody may read it [default: releases in the data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) releases: Option<PathBuf>,
    /// Say where it listens as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the same line to a file as soon as requests are taken
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How much to log on stderr: error, warn, info, debug or trace
    #[arg(long, env = "OUTRIDER_LOG", default_value = "info", value_name = "LEVEL")]
    pub(crate) log: tracing::level_filters::LevelFilter,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Code {
    /// Make a code; it is shown this once
    Create {
        /// How many agents may enroll with it
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it is valid
        #[arg(long, default_value = "1h", value_name = "TIME", value_parser = time)]
        expires: Duration,
        /// Whose agents these will be
        #[arg(long, value_name = "ID")]
        customer_id: Option<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the codes, without the codes themselves
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a code back
    Revoke {
        /// Its id, as `code list` shows it
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// Show one agent with its integrations and latest crashes
    Show {
        /// Its id, or a beginning of it that no other has [default: the only one there is]
        agent: Option<String>,
    },
    /// Take an agent's token back: it can no longer call. What it sent stays
    Revoke {
        /// Its id, or a beginning of it that no other has
        agent: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CommandCommand {
    /// Export everything that is new
    Export(Export),
    /// Try an integration's configuration against its source
    ValidateConfig(Order),
    /// Make the lists from which a person chooses what to export
    ExportOnboardData(Onboard),
    /// Put another version of the agent into its place; it goes back by itself if that one is not well
    Upgrade(Upgrade),
    /// Have an agent collect as a section `collect` says, or take that section back
    Collect(Collect),
    /// List commands, the newest first
    List(List),
    /// Show one command with its outcome
    Show {
        /// Its id, or a beginning or end of it that no other has
        command: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End a command early
    Cancel {
        /// Its id, or a beginning or end of it that no other has
        command: String,
        /// Why, for the agent's log
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a command's log
    Logs(Logs),
}

/// What all orders have in common.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The agent: its id, or a beginning of it that no other has [default: the only one there is]
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// The integration. Without a configuration: the one that is configured under this id; an export without an
    /// integration is of all that are configured
    #[arg(long, value_name = "NAME")]
    pub(crate) integration: Option<String>,
    /// Its configuration: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", requires = "integration", conflicts_with = "integrations_json")]
    pub(crate) config: Option<String>,
    /// The integrations with their configurations, [{"name":"git","config":{…}}]: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", conflicts_with = "integration")]
    pub(crate) integrations_json: Option<String>,
    /// What holds for the whole agent: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) agent_config_json: String,
    /// After which time it is too late to begin [default: a week]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) expires: Option<Duration>,
    /// How long it may run [default: the agent's own limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) time_limit: Option<Duration>,
    /// Show its progress and log until it ends; exit with 0 if it is done (and a configuration valid), else with 1
    #[arg(long)]
    pub(crate) follow: bool,
    /// As JSON: the command as it was taken, or with --follow as it ended
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) order: Order,
    /// Export everything again, as if nothing had been exported before
    #[arg(long)]
    pub(crate) reprocess_historical: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Onboard {
    #[command(flatten)]
    pub(crate) order: Order,
    /// users, repos, projects, or a kind that the integration adds
    #[arg(long, value_name = "KIND")]
    pub(crate) object_type: String,
}

/// Times are those of RFC 3339, or how long from now.
#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    /// The agent: its id, or a beginning of it that no other has [default: the only one there is]
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Which version, such as 1.4.2 or 1.5.0-SNAPSHOT [default: the newest of the agent's channel]
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// Where signed releases lie: an https address, or the full path of a folder on the agent's host; given again, the
    /// next choice [default: the releases of this backend]
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) source: Vec<String>,
    /// Not before this time: RFC 3339 such as 2026-11-25T22:00:00Z, or how long from now, such as 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) start: Option<Timestamp>,
    /// After which time it is too late to begin: RFC 3339, or how long from now [default: a week after the start]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Timestamp>,
    /// An older version than the running one may be installed
    #[arg(long)]
    pub(crate) allow_downgrade: bool,
    /// Try a version again that was rolled back on that host before
    #[arg(long)]
    pub(crate) force: bool,
    /// Show its progress and log until it ends; exit with 0 if that version runs then, else with 1
    #[arg(long)]
    pub(crate) follow: bool,
    /// As JSON: the command as it was taken, or with --follow as it ended
    #[arg(long)]
    pub(crate) json: bool,
}

/// The agent keeps the section until another is ordered or it is taken back. One in its host's config.json wins as a whole.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["section", "clear"])))]
pub(crate) struct Collect {
    /// The agent: its id, or a beginning of it that no other has [default: the only one there is]
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// The section, as it would stand in config.json, without files of the host: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    pub(crate) section: Option<String>,
    /// Take the section back
    #[arg(long)]
    pub(crate) clear: bool,
    /// Wait until it ends; exit with 0 if it is done, else with 1
    #[arg(long)]
    pub(crate) follow: bool,
    /// As JSON: the command as it was taken, or with --follow as it ended
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Of this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// In this state
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<outrider_backend::admin::CommandState>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Its id, or a beginning or end of it that no other has
    pub(crate) command: String,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// Go on until the command ends
    #[arg(long, conflicts_with_all = ["json", "tail"])]
    pub(crate) follow: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Crashes {
    /// Of this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// Of this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Of this run; the command's id
    #[arg(long, value_name = "ID")]
    pub(crate) export: Option<ExportId>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a time such as `90s`, `1h 30m`, `7d`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; expected one such as 90s, 30m, 1h 30m or 7d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let time = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(time).map_err(|_| wrong())
}

/// Reads a time, or how long it is until then.
fn moment(text: &str) -> Result<Timestamp, String> {
    outrider_backend::moment::moment(text, Timestamp::now())
}

fn state(text: &str) -> Result<outrider_backend::admin::CommandState, String> {
    use outrider_backend::admin::CommandState;
    CommandState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = CommandState::ALL.iter().map(|state| state.as_str()).collect();
        format!("{text:?} is no state; expected one of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_is_configured_needs_no_configuration_in_an_order() {
        let parse = |flags: &[&str]| Args::try_parse_from([&["outrider-backend"], flags].concat());
        for flags in [
            &["command", "export"][..],
            &["command", "export", "--integration", "hub"],
            &["command", "validate-config", "--integration", "hub", "--config", "{}"],
            &["integrations", "--json"],
            &["command", "collect", "--section", "@section.json", "--follow"],
            &["command", "collect", "--clear", "--agent", "a1"],
            &["integration", "set", "--integration", "hub", "--config", "-", "--agent", "a1"],
            &["integration", "oauth", "set", "hub", "--registration", "-"],
            &["agents", "show", "a1", "--json"],
            &["release", "keygen", "keys", "--role", "root", "--root-keys", "5"],
            &[
                "release", "add", "a.tar.gz", "a.zip", "--repo", "r", "--keys", "a", "--keys", "b",
                "--floor", "1.2.0",
            ],
            &["release", "rotate-root", "--repo", "r", "--keys", "old", "--new-keys", "new"],
        ] {
            assert!(parse(flags).is_ok(), "{flags:?}");
        }
        assert!(parse(&["command", "export", "--config", "{}"]).is_err());
        assert!(parse(&["command", "collect"]).is_err());
        assert!(parse(&["command", "collect", "--clear", "--section", "{}"]).is_err());
        assert!(parse(&["integration", "oauth", "set", "hub"]).is_err());
        assert!(parse(&["release", "refresh", "--repo", "r"]).is_err());
        assert!(parse(&["release", "keygen", "keys", "--role", "admin"]).is_err());
    }

    #[test]
    fn an_upgrade_has_a_window_of_times_or_spans_from_now() {
        let parse = |flags: &[&str]| {
            Args::try_parse_from([&["outrider-backend", "command", "upgrade"], flags].concat())
        };
        assert!(parse(&[]).is_ok());
        let flags = ["--version", "1.4.2", "--start", "30m", "--until", "2h", "--allow-downgrade", "--force"];
        let Command::Order { command: CommandCommand::Upgrade(upgrade) } = parse(&flags).unwrap().command
        else {
            panic!("expected an upgrade");
        };
        assert_eq!(upgrade.version.as_deref(), Some("1.4.2"));
        assert!(upgrade.until.unwrap().duration_since(upgrade.start.unwrap()).as_mins() >= 89);
        let upgrade = parse(&["--start", "2026-11-25T22:00:00Z"]).unwrap();
        assert!(format!("{upgrade:?}").contains("2026-11-25T22:00:00Z"));
        let err = parse(&["--until", "tonight"]).unwrap_err().to_string();
        assert!(err.contains("\"tonight\" is no time; expected a time such as"), "{err}");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(time("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert!(time("-1h").unwrap_err().contains("expected one such as 90s"));
        assert!(time("soon").is_err());
    }
}
