//! The command line of `outrider data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::filter::Condition;
use super::pick::FieldPath;

#[derive(Debug, Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    pub(super) look: Look,
}

#[derive(Debug, Subcommand)]
pub(super) enum Look {
    /// List exports and their models: how many files, objects and bytes, and how far on their way
    Ls(Ls),
    /// Show objects, as JSON lines or as a table of some of their fields
    Cat(Cat),
    /// Count objects by model
    Count(Count),
    /// Show the objects whose JSON a pattern is found in
    Grep(Grep),
    /// List the last-processed values that integrations get back in the next export, or drop some
    Checkpoints(Checkpoints),
    /// Drop the files of an export that wait for the backend: it will never have them
    Drop(Drop),
}

/// Which files.
#[derive(Debug, Default, Args)]
pub(super) struct Which {
    /// Look into a backend's data folder instead of the root
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Of this agent only (with --dir); the beginning of its id is enough
    #[arg(long, value_name = "ID", requires = "dir")]
    pub(super) agent: Option<String>,
    /// Of this export only; the beginning of its id is enough
    #[arg(long, value_name = "ID")]
    pub(super) export: Option<String>,
    /// Of this model only, such as sourcecode.Commit
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Of this configured integration only
    #[arg(long, value_name = "ID", conflicts_with = "dir")]
    pub(super) integration: Option<String>,
    /// Only what the backend has acknowledged
    #[arg(long, conflicts_with_all = ["waiting", "dir"])]
    pub(super) sent: bool,
    /// Only what the backend has not acknowledged yet
    #[arg(long, conflicts_with = "dir")]
    pub(super) waiting: bool,
}

/// Which objects.
#[derive(Debug, Default, Args)]
pub(super) struct Matching {
    /// Only objects with this value: FIELD=VALUE, FIELD!=VALUE, or FIELD~TEXT for a value that contains TEXT; given
    /// several times, all must hold. FIELD is a path such as author.name; within lists any element will do. Values are
    /// compared as text: strings without quotes, anything else as its JSON
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    pub(super) conditions: Vec<Condition>,
}

#[derive(Debug, Args)]
pub(super) struct Ls {
    #[command(flatten)]
    pub(super) which: Which,
    /// A row for each file
    #[arg(long)]
    pub(super) files: bool,
    /// As JSON lines
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Cat {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) matching: Matching,
    /// A table of these fields, such as sha,author.name
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    pub(super) fields: Vec<FieldPath>,
    /// At most so many objects
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Grep {
    /// A regular expression, held against each object's JSON as the integration wrote it
    pub(super) pattern: String,
    /// The pattern is plain text
    #[arg(long, short = 'F')]
    pub(super) fixed: bool,
    /// Upper and lower case are the same
    #[arg(long, short)]
    pub(super) ignore_case: bool,
    #[command(flatten)]
    pub(super) cat: Cat,
}

#[derive(Debug, Args)]
pub(super) struct Count {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) matching: Matching,
    /// As JSON lines
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Checkpoints {
    /// Of this configured integration only
    #[arg(long, value_name = "ID")]
    pub(super) integration: Option<String>,
    /// Of this session and those below it only: a path as --json shows it, such as '["git",["repository","/srv/a"]]'
    #[arg(long, value_name = "JSON", conflicts_with = "integration")]
    pub(super) path: Option<String>,
    /// As JSON lines, with the whole values
    #[arg(long)]
    pub(super) json: bool,
    /// Drop the values of --integration or --path: the next export begins there from nothing
    #[arg(long, conflicts_with = "json")]
    pub(super) drop: bool,
    /// Drop the values of integrations that are configured no more: neither config.json's extra_integrations nor a report
    /// of an export of the last --days days names them
    #[arg(long, conflicts_with_all = ["drop", "integration", "path", "json"])]
    pub(super) drop_removed: bool,
    /// For --drop-removed: how far back a report counts; the last one always does
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(..=36_500), requires = "drop_removed")]
    pub(super) days: u32,
    /// Do not ask before dropping
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Drop {
    /// Of this export; the beginning of its id is enough
    #[arg(long, value_name = "ID")]
    pub(super) export: String,
    /// Only files that the backend refused for what is in them
    #[arg(long)]
    pub(super) refused: bool,
    /// Do not ask before dropping
    #[arg(long)]
    pub(super) yes: bool,
}
