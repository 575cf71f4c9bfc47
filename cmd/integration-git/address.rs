//! The address of a repository elsewhere, apart from the secret with which it is read. Pure.
//!
//! **Invariant:** an [`Address`]'s text holds no secret, so that it may stand in an argument, a configuration of git, a
//! message and a log.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

use crate::text::without_credentials;

/// The name with which a token is given where no other is said: the sources that look at it at all take this one.
const TOKENS_NAME: &str = "x-access-token";

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    /// Unencrypted: for what needs no secret, and for this machine.
    Http,
    Ssh,
    File,
}

impl Scheme {
    /// As git names it in `protocol.<name>.allow`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

/// Where a repository lies that is not read in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    text: String,
    scheme: Scheme,
    login: Option<Login>,
}

/// A name and a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    username: String,
    secret: String,
    /// Scheme, host and port that it is for.
    origin: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Login {
    /// A line of git's credential store.
    pub(crate) fn line(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (scheme, host) = self.origin.split_once("://").unwrap_or(("https", &self.origin));
        format!("{scheme}://{}:{}@{host}\n", encode(&self.username), encode(&self.secret))
    }
}

/// Whether a text is meant as an address rather than a path.
pub(crate) fn is_address(text: &str) -> bool {
    let scheme = text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    scheme || is_short(text)
}

/// The short form of ssh, `user@host:path`; a path on this machine begins with a separator or a drive.
fn is_short(text: &str) -> bool {
    text.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains(['/', '\\']))
}

impl Address {
    /// Reads an address, with the name and the token that are configured beside it.
    ///
    /// # Errors
    /// What is wrong with it, without its secret.
    pub(crate) fn parse(written: &str, username: Option<&str>, token: Option<&str>) -> Result<Self, String> {
        let shown = without_credentials(written);
        if is_short(written) && !written.contains("://") {
            let (host, path) = written.split_once(':').unwrap_or((written, ""));
            if token.is_some()
                || host.starts_with('-')
                || host.contains(char::is_whitespace)
                || path.is_empty()
            {
                return Err(ssh_takes_keys(&shown));
            }
            return Ok(Self { text: written.to_owned(), scheme: Scheme::Ssh, login: None });
        }
        let mut url = Url::parse(written).map_err(|err| {
            format!(
                "found {shown}, which is no address ({err}); expected one such as https://host/project.git"
            )
        })?;
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            "ssh" => Scheme::Ssh,
            "file" => Scheme::File,
            other => {
                return Err(format!("found the scheme {other}, expected https, http, ssh or file: {shown}"));
            }
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "found an address with a query or fragment, expected one without: put a secret into `token` ({shown})"
            ));
        }
        if scheme != Scheme::File && url.host().is_none() {
            return Err(format!("found no host in {shown}, expected one such as https://host/project.git"));
        }
        if matches!(scheme, Scheme::Ssh | Scheme::File) && (token.is_some() || url.password().is_some()) {
            return Err(ssh_takes_keys(&shown));
        }
        let login = match scheme {
            Scheme::Https | Scheme::Http => login(&url, username, token),
            Scheme::Ssh | Scheme::File => None,
        };
        if login.is_some() && scheme == Scheme::Http && !is_this_machine(&url) {
            return Err(format!("the secret for {shown} would be sent unencrypted: use https"));
        }
        if scheme != Scheme::Ssh {
            // Both are allowed for these schemes, so that neither can fail.
            let _cleared = (url.set_username(""), url.set_password(None));
        }
        Ok(Self { text: url.into(), scheme, login })
    }

    /// The address, without a secret.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// As whom it is read, where a name was configured.
    pub(crate) fn account(&self) -> Option<&str> {
        self.login.as_ref().map(|it| it.username.as_str()).filter(|it| *it != TOKENS_NAME)
    }

    /// What people call the repository: the last part of the path.
    pub(crate) fn name(&self) -> String {
        let path = self.text.trim_end_matches('/');
        let last = path.rsplit(['/', ':']).next().unwrap_or(path);
        last.strip_suffix(".git").filter(|it| !it.is_empty()).unwrap_or(last).to_owned()
    }
}

fn login(url: &Url, username: Option<&str>, token: Option<&str>) -> Option<Login> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let named = Some(url.username()).filter(|it| !it.is_empty()).map(decode);
    let origin = url.origin().ascii_serialization();
    let secret = token.map(str::to_owned).or_else(|| url.password().map(decode));
    let (username, secret) = match (username.map(str::to_owned).or(named.clone()), secret) {
        (Some(username), Some(secret)) => (username, secret),
        (None, Some(secret)) => (TOKENS_NAME.to_owned(), secret),
        // `https://TOKEN@host`: the name itself is the secret.
        (_, None) => (TOKENS_NAME.to_owned(), named?),
    };
    Some(Login { username, secret, origin })
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn ssh_takes_keys(shown: &str) -> String {
    format!(
        "found {shown}, which cannot be read with a token or password: ssh takes the key of the user that the agent runs as, \
         and a file needs none; expected user@host:path, or https with `token`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_taken_out_of_the_address() {
        for (written, username, token, text, line) in [
            ("https://h.example/a/b.git", None, None, "https://h.example/a/b.git", None),
            (
                "https://me:p%40ss@h.example:8443/a",
                None,
                None,
                "https://h.example:8443/a",
                Some("https://me:p%40ss@h.example:8443\n"),
            ),
            (
                "https://s3cret@h.example/a",
                None,
                None,
                "https://h.example/a",
                Some("https://x%2Daccess%2Dtoken:s3cret@h.example\n"),
            ),
            (
                "https://me@h.example/a",
                None,
                Some("s3/"),
                "https://h.example/a",
                Some("https://me:s3%2F@h.example\n"),
            ),
            (
                "https://h.example/a",
                Some("you"),
                Some("s3"),
                "https://h.example/a",
                Some("https://you:s3@h.example\n"),
            ),
            (
                "http://127.0.0.1:80/a",
                None,
                Some("t"),
                "http://127.0.0.1/a",
                Some("http://x%2Daccess%2Dtoken:t@127.0.0.1\n"),
            ),
            ("ssh://git@h.example:22/a.git", None, None, "ssh://git@h.example:22/a.git", None),
            ("git@h.example:a/b.git", None, None, "git@h.example:a/b.git", None),
            ("file:///srv/a.git", None, None, "file:///srv/a.git", None),
        ] {
            let address = Address::parse(written, username, token).unwrap();
            assert_eq!(address.text(), text);
            assert_eq!(address.login().map(Login::line).as_deref(), line, "{written}");
            assert!(!format!("{address:?}").contains("s3"), "{address:?}");
        }
        assert_eq!(Address::parse("https://h.example/x/y.git/", None, None).unwrap().name(), "y");
        assert_eq!(Address::parse("git@h.example:y.git", None, None).unwrap().name(), "y");
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_secret() {
        for (written, token, said) in [
            ("git://h.example/a", None, "found the scheme git"),
            ("ext::sh -c x://y", None, "found the scheme ext"),
            ("https://h.example/a?private_token=s3cret", None, "put a secret into `token`"),
            ("http://me:s3cret@h.example/a", None, "would be sent unencrypted"),
            ("ssh://me:s3cret@h.example/a", None, "ssh takes the key"),
            ("git@h.example:a", Some("s3cret"), "ssh takes the key"),
            ("-oProxyCommand=x@h:a", None, "cannot be read"),
            ("https:///", None, "no address"),
        ] {
            let err = Address::parse(written, None, token).unwrap_err();
            assert!(err.contains(said) && !err.contains("s3cret"), "{written}: {err}");
        }
    }
}
