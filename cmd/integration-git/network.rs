//! How git may use the network for one address: which protocols, with which secret, for how long it may be silent.
//!
//! **Invariant:** a secret stands in a file that only this user can read, in a folder that goes when the [`Network`] is
//! dropped; what a killed process left is removed before the next one is made. It is in no argument, no variable and no
//! configuration.

use std::io::{self, Write};
use std::path::Path;

use tempfile::TempDir;

use crate::address::Address;

/// What the names of folders with secrets begin with.
const FOLDER: &str = "login-";

/// Settings of every use of the network.
const SETTINGS: &[&str] = &[
    // A peer that sends less than this many bytes a second for so many seconds is given up.
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
    // A redirect may lead to another place of the same host's, not carry the secret away.
    "http.followRedirects=initial",
    "core.hooksPath=/dev/null",
    "core.askPass=",
    "credential.interactive=never",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "transfer.fsckObjects=false",
    // Packs are put in order before git ends, not by a process that outlives it.
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "clone.defaultRemoteName=origin",
    "clone.rejectShallow=false",
    "remote.origin.mirror=false",
];

/// Never asks, and gives up.
const SSH: &str = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15 -oServerAliveCountMax=4";

/// The right to use the network for an address.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) settings: Vec<String>,
    pub(crate) variables: Vec<(&'static str, String)>,
    _login: Option<TempDir>,
}

impl Network {
    /// Prepares it; `folder` is where the secret's file may lie.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn new(address: &Address, folder: &Path) -> io::Result<Self> {
        let mut settings: Vec<_> = SETTINGS.iter().map(|&it| it.to_owned()).collect();
        settings.push(format!("protocol.{}.allow=always", address.scheme().name()));
        let mut login = None;
        if let Some(line) = address.login().map(crate::address::Login::line) {
            let mut builder = tempfile::Builder::new();
            builder.prefix(FOLDER);
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
            let place = builder.tempdir_in(folder)?;
            let path = place.path().join("store");
            let mut file = private(&path)?;
            file.write_all(line.as_bytes())?;
            let path = path.to_string_lossy().replace('\'', r"'\''");
            settings.push("credential.helper=".into());
            settings.push(format!("credential.helper=store --file='{path}'"));
            login = Some(place);
        }
        let variables = vec![("GIT_SSH_COMMAND", SSH.to_owned()), ("SSH_ASKPASS", String::new())];
        Ok(Self { settings, variables, _login: login })
    }
}

fn private(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes secrets that a killed process left in `folder`.
///
/// # Errors
/// When one cannot be removed.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(FOLDER) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_in_a_private_file_only_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::parse("https://me:s3cret@h.example/a", None, None).unwrap();
        let network = Network::new(&address, folder.path()).unwrap();
        assert!(!format!("{network:?}").contains("s3cret"), "{network:?}");
        let place = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let file = place.join("store");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "https://me:s3cret@h.example\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&place), mode(&file)), (0o700, 0o600));
        }
        drop(network);
        assert!(!place.exists());
        let left = Network::new(&address, folder.path()).unwrap();
        std::mem::forget(left);
        sweep(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
