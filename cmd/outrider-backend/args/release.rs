//! The flags of `release`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use outrider_releases::{Role, Version};

use super::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Release {
    /// Make the keys that sign, each in a file that only you can read. Keep those of root and targets off the network
    Keygen(Keygen),
    /// Make an empty repository, signed with the keys
    Init(Init),
    /// Add archives with the lists of their files, and sign. FILE.sha512 and the list lie beside each
    Add(Add),
    /// List the releases, and until when what was signed holds
    List {
        #[command(flatten)]
        repo: Repo,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign anew what would expire: timestamp and snapshot, for which the keys of these two are enough
    Refresh(Refresh),
    /// Make the next root, with other keys or only a later expiry. Agents with the present root follow it
    RotateRoot(RotateRoot),
    /// Write the latest root, to be built into agents
    ExportRoot {
        #[command(flatten)]
        repo: Repo,
        /// Where to [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Where a repository is.
#[derive(Debug, clap::Args)]
pub(crate) struct Repo {
    /// The repository's folder, which any web server can serve
    #[arg(long, value_name = "DIR")]
    pub(crate) repo: PathBuf,
}

/// What signs, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Signing {
    #[command(flatten)]
    pub(crate) repo: Repo,
    /// A folder with keys, as keygen makes them; may be given several times
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) keys: Vec<PathBuf>,
    /// How long a root holds
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "365d")]
    pub(crate) root_expires: Duration,
    /// How long a list of files holds
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "90d")]
    pub(crate) targets_expires: Duration,
    /// How long a snapshot holds
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30d")]
    pub(crate) snapshot_expires: Duration,
    /// How long a timestamp holds: how long an agent can be kept from knowing of a release
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "7d")]
    pub(crate) timestamp_expires: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Keygen {
    /// The folder for them
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Only of this role: root, targets, snapshot or timestamp; may be given several times
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub(crate) role: Vec<Role>,
    /// How many root keys
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) root_keys: u32,
    /// How many targets keys
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) targets_keys: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// How many of the root keys must sign a root
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) root_threshold: NonZeroU64,
    /// How many of the targets keys must sign a list of files
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) targets_threshold: NonZeroU64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The archives: outrider-VERSION[-SNAPSHOT]-OS-ARCH.tar.gz or .zip
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// Who gets them
    #[arg(long, value_name = "CHANNEL", default_value = "stable")]
    pub(crate) channel: String,
    /// The commit that they were built from [default: what the lists of files say]
    #[arg(long, value_name = "HASH")]
    pub(crate) build: Option<String>,
    /// From now on, agents install no version below this one unless they are told to
    #[arg(long, value_name = "VERSION")]
    pub(crate) floor: Option<Version>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// Also sign the list of files anew, which needs the targets keys
    #[arg(long)]
    pub(crate) targets: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateRoot {
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// A folder with the new keys of the roles that change, all of a role; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) new_keys: Vec<PathBuf>,
    /// How many of the root keys must sign from now on [default: as before]
    #[arg(long, value_name = "N")]
    pub(crate) root_threshold: Option<NonZeroU64>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn role(text: &str) -> Result<Role, String> {
    Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
        let known = Role::ALL.map(Role::as_str).join(", ");
        format!("{text:?} is no role; expected one of {known}")
    })
}
