//! Puts the version that this program came with into a root, from where it can be upgraded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrider_home::{Root, atomic};
use outrider_protocol::exit::Exit;
use outrider_upgrade::{
    FileList, Identity, installed, keep_list, list_folder, trusted_root_path, verify_tree,
};
use outrider_versions::{VersionName, Versions};

use crate::args;
use crate::report::Error;
use crate::say::say;

/// What the system starts.
pub(crate) const LAUNCHER: &str = "outrider-launcher";
const MANIFEST: &str = "manifest.yaml";
/// The most that a version's files may have together, in bytes.
const MOST_BYTES: u64 = 1 << 30;
const WRITER_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn install(root: &Root, flags: &args::Install) -> Result<Exit, Error> {
    if let Some(file) = &flags.releases_root {
        trust(root, file)?;
    }
    let Some(version) = from_package(root)? else {
        return Err(Error::usage(
            "this program was not started from an unpacked package: there is no manifest.yaml beside it or above it",
        )
        .hint("unpack outrider-<version>-<system>.tar.gz, and run data/outrider-*/outrider install"));
    };
    say(format_args!("installed {version} in {}", root.path().display()));
    say(format_args!("run it with: {} service-run", root.path().join(LAUNCHER).display()));
    Ok(Exit::Ok)
}

/// Remembers whose releases the root trusts.
pub(crate) fn trust(root: &Root, file: &Path) -> Result<(), Error> {
    let text = fs::read(file)
        .map_err(|err| Error::usage(format!("--releases-root: read {}: {err}", file.display())))?;
    root.create().map_err(|err| Error::failure(&err))?;
    atomic::write(&trusted_root_path(root), &text, atomic::PRIVATE).map_err(|err| Error::failure(&err))
}

/// Copies the version that this program came with into the root, if it came in a package; a root that has a current version
/// keeps that. Answers the version.
pub(crate) fn from_package(root: &Root) -> Result<Option<VersionName>, Error> {
    let program = std::env::current_exe().map_err(|err| Error::failure(&err))?;
    let Some(home) = program.parent() else { return Ok(None) };
    if let Some(version) = own_version(root, home) {
        return Ok(Some(version));
    }
    let Some((manifest, identity)) = manifest_of(home) else { return Ok(None) };
    let name =
        VersionName::of_build(&identity.version.to_string(), identity.snapshot, identity.hash.as_str())
            .map_err(|err| Error::failure(&err))?;
    root.create().map_err(|err| Error::failure(&err))?;
    let versions = Versions::of(root.path());
    let staging = versions.layout().staging().join(format!("install-{}", std::process::id()));
    let installed = copy(home, &manifest, &identity, &staging).and_then(|list| {
        keep_list(root.path(), name.as_str(), &list).map_err(|err| Error::failure(&err))?;
        let writer = versions.write(WRITER_WAIT).map_err(|err| Error::failure(&err))?;
        writer.install(&staging, &name).map_err(|err| Error::failure(&err))
    });
    // What was not renamed away is of no use.
    drop(fs::remove_dir_all(&staging));
    installed?;
    place_launcher(root, home)?;
    Ok(Some(name))
}

/// The version of this root that a folder is.
fn own_version(root: &Root, home: &Path) -> Option<VersionName> {
    let versions = Versions::of(root.path()).layout().versions();
    let inside = fs::canonicalize(home).ok()?.parent()? == fs::canonicalize(versions).ok()?;
    if inside { home.file_name()?.to_str()?.parse().ok() } else { None }
}

/// The manifest of a version's folder: in it, or two folders up, as in an unpacked package.
fn manifest_of(home: &Path) -> Option<(PathBuf, Identity)> {
    let above = home.parent().and_then(Path::parent);
    [Some(home), above].into_iter().flatten().find_map(|folder| {
        let identity = installed(folder)?;
        Some((folder.join(MANIFEST), identity))
    })
}

/// Copies a version's folder, and holds the copy against it. Answers the files of the copy.
fn copy(home: &Path, manifest: &Path, identity: &Identity, to: &Path) -> Result<FileList, Error> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let list =
        list_folder(home, identity.clone(), os, arch, MOST_BYTES).map_err(|err| Error::failure(&err))?;
    let copied = || -> io::Result<()> {
        for file in list.files() {
            let (from, to) = (home.join(file.path.to_path()), to.join(file.path.to_path()));
            make_folder(to.parent().unwrap_or(&to))?;
            fs::copy(&from, &to)?;
        }
        Ok(())
    };
    copied().map_err(|err| Error::failed(format!("copy {} to {}: {err}", home.display(), to.display())))?;
    verify_tree(to, &list).map_err(|err| Error::failure(&err))?;
    let inside = to.join(MANIFEST);
    if inside.exists() {
        return Ok(list);
    }
    fs::copy(manifest, &inside)
        .map_err(|err| Error::failed(format!("copy {}: {err}", manifest.display())))?;
    list_folder(to, identity.clone(), os, arch, MOST_BYTES).map_err(|err| Error::failure(&err))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o755);
    builder.create(folder)
}

/// The launcher stays where it is when the version changes: whatever comes, what the system starts is there.
fn place_launcher(root: &Root, home: &Path) -> Result<(), Error> {
    let (from, to) = (home.join(LAUNCHER), root.path().join(LAUNCHER));
    let text = fs::read(&from).map_err(|err| Error::failed(format!("read {}: {err}", from.display())))?;
    atomic::write(&to, &text, 0o755).map_err(|err| Error::failure(&err))
}
