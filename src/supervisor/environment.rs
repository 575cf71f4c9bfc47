//! What a child sees of this process's environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Names that a child inherits where this process has them: what programs need to find other programs, the user's
/// folders, the language, the time zone, certificates, proxies and the agent that holds SSH keys.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "TZ",
    "TZDIR",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSH_AUTH_SOCK",
    "RUST_BACKTRACE",
    "OUTRIDER_LOG",
    // Windows: without these, sockets and temporary files do not work.
    "SystemRoot",
    "SystemDrive",
    "windir",
    "ComSpec",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "USERNAME",
    "APPDATA",
    "LOCALAPPDATA",
    "ProgramData",
    "ProgramFiles",
];

/// Which variables a child gets: an allow-list of inherited names, and pairs of the caller's own.
///
/// A secret belongs into neither: other users may read a process's environment, and so do crash reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    inherited: Vec<OsString>,
    own: Vec<(OsString, OsString)>,
}

impl Default for Environment {
    /// The usual names; see [`Environment::usual_names`].
    fn default() -> Self {
        Self { inherited: INHERITED.iter().map(OsString::from).collect(), own: Vec::new() }
    }
}

impl Environment {
    /// No variable at all.
    #[must_use]
    pub fn empty() -> Self {
        Self { inherited: Vec::new(), own: Vec::new() }
    }

    /// The names on the list of [`Environment::default`].
    #[must_use]
    pub fn usual_names() -> &'static [&'static str] {
        INHERITED
    }

    /// Also inherits `name`, where this process has it.
    #[must_use]
    pub fn inherit(mut self, name: impl Into<OsString>) -> Self {
        self.inherited.push(name.into());
        self
    }

    /// Sets `name`, whatever this process has under it.
    #[must_use]
    pub fn set(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.own.push((name.into(), value.into()));
        self
    }

    /// What the child gets, given this process's variables.
    pub(crate) fn resolve(
        &self,
        ours: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> BTreeMap<OsString, OsString> {
        let wanted = |name: &OsStr| self.inherited.iter().any(|listed| same_name(listed, name));
        let mut variables: BTreeMap<_, _> = ours.into_iter().filter(|(name, _)| wanted(name)).collect();
        for (name, value) in &self.own {
            variables.retain(|known, _| !same_name(known, name));
            variables.insert(name.clone(), value.clone());
        }
        variables
    }
}

fn same_name(a: &OsStr, b: &OsStr) -> bool {
    if cfg!(windows) { a.eq_ignore_ascii_case(b) } else { a == b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(rows: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        rows.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn only_listed_names_pass_and_own_pairs_win() {
        let ours = pairs(&[("PATH", "/bin"), ("AWS_SECRET", "s"), ("TZ", "UTC"), ("MINE", "m")]);
        let environment = Environment::default().inherit("MINE").set("TZ", "CET").set("X", "1");
        let got: Vec<_> = environment.resolve(ours).into_iter().collect();
        assert_eq!(got, pairs(&[("MINE", "m"), ("PATH", "/bin"), ("TZ", "CET"), ("X", "1")]));
    }

    #[test]
    fn an_empty_environment_inherits_nothing() {
        assert!(Environment::empty().resolve(pairs(&[("PATH", "/bin")])).is_empty());
    }
}
