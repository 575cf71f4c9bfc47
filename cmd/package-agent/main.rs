//! `cargo package-agent`: the agent's packages from a release build, with the list of files that is to be signed.

#![expect(clippy::print_stdout, reason = "what was made is this program's result")]
#![expect(clippy::disallowed_methods, reason = "it runs cargo and git, as a person at the same prompt would")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use outrider_upgrade::{CommitHash, Format, Identity, Recipe, Release, pack};

/// The programs of a package; those of integrations go to `integrations/`.
const PROGRAMS: [&str; 2] = ["outrider", "outrider-launcher"];
const INTEGRATIONS: [&str; 2] = ["integration-git", "integration-mock"];
/// The most that all files together may have, in bytes.
const MOST_BYTES: u64 = 1 << 30;

/// Build the agent and pack it: outrider-VERSION[-SNAPSHOT]-OS-ARCH.tar.gz and .zip
#[derive(Debug, Parser)]
#[command(name = "package-agent")]
struct Args {
    /// The version, as 1.4.2 or 1.5.0-SNAPSHOT [default: the workspace's]
    #[arg(long, value_name = "V", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// The commit, in hex [default: git's HEAD]
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
    /// Where the packages go
    #[arg(long, value_name = "DIR", default_value = "target/packages")]
    out: PathBuf,
    /// Take the programs from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Build it with ISA-L, which compresses exports about twice as fast; needs nasm, autoconf, automake and libtool
    #[arg(long, conflicts_with = "programs")]
    isal: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let mut text = err.to_string();
            let mut cause = err.source();
            while let Some(err) = cause {
                text = format!("{text}: {err}");
                cause = err.source();
            }
            println!("package-agent: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let hash = args.hash.clone().map_or_else(head, Ok)?;
    let package = Identity::new(Release::parse(&args.version)?, CommitHash::parse(&hash)?);
    let programs = args.programs.clone().map_or_else(|| build(args.isal), Ok)?;
    let contents = tempfile::tempdir()?;
    gather(&programs, contents.path())?;
    fs::create_dir_all(&args.out)?;
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let recipe = Recipe { folder: contents.path(), package: &package, os, arch, most_bytes: MOST_BYTES };
    let mut list = None;
    for format in [Format::TarGz, Format::Zip] {
        let packed = pack(&recipe, format, &args.out)?;
        println!("{} ({} bytes, SHA-512 beside it)", packed.archive.display(), packed.size);
        list = Some(packed.list);
    }
    let list = list.ok_or("nothing was packed")?;
    let name = format!("outrider-{}-{os}-{arch}.files.json", package.release());
    let path = args.out.join(name);
    fs::write(&path, list.to_json()?)?;
    println!(
        "{} ({} files; sign it with `outrider-backend release add`)",
        path.display(),
        list.files().len()
    );
    Ok(())
}

fn head() -> Result<String, Box<dyn Error>> {
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output()?;
    if !head.status.success() {
        return Err("git rev-parse HEAD: not in a repository; give the commit with --hash".into());
    }
    Ok(String::from_utf8(head.stdout)?.trim().to_owned())
}

/// Builds the programs for release; where they are then.
fn build(isal: bool) -> Result<PathBuf, Box<dyn Error>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--release"]);
    if isal {
        command.args(["--features", "isal"]);
    }
    for name in PROGRAMS.iter().chain(&INTEGRATIONS) {
        command.args(["--bin", name]);
    }
    if !command.status()?.success() {
        return Err("cargo build --release failed".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(target.join("release"))
}

fn gather(programs: &Path, into: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir(into.join("integrations"))?;
    let all = PROGRAMS.iter().map(|it| (it, PathBuf::from(it)));
    let all = all.chain(INTEGRATIONS.iter().map(|it| (it, Path::new("integrations").join(it))));
    for (name, place) in all {
        let from = programs.join(name);
        fs::copy(&from, into.join(place)).map_err(|err| format!("copy {}: {err}", from.display()))?;
    }
    Ok(())
}
