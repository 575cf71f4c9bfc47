//! Single values as git writes them, turned into values of the models. Pure.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::Offset};
use sha2::{Digest, Sha256};

use crate::models::{Signature, User};

/// Bytes as text, for people: what is no UTF-8 becomes U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether `bytes` are UTF-8.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// Bytes as text from which the bytes can be had again: `\xNN` for what is no UTF-8, `\\` for a backslash.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _written = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The name of a ref as text. No ref holds a backslash, so that nothing is lost and nothing is doubled.
pub(crate) fn ref_name(bytes: &[u8]) -> String {
    if is_text(bytes) { text(bytes) } else { escaped(bytes) }
}

/// The user of an identity. The id is made from the bytes, so that two names that look the same once they are text
/// stay two.
pub(crate) fn user(name: &[u8], email: &[u8]) -> User {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([0]);
    hash.update(email);
    let mut id = String::with_capacity(32);
    for byte in &hash.finalize()[..16] {
        let _written = write!(id, "{byte:02x}");
    }
    User { id, name: text(name), email: text(email) }
}

/// A user's id in 16 bytes, for sets of many.
pub(crate) fn user_key(id: &str) -> u128 {
    u128::from_str_radix(id, 16).unwrap_or_default()
}

/// A signature from its name, its e-mail address and git's raw date.
pub(crate) fn signature(name: &[u8], email: &[u8], date: &[u8]) -> Signature {
    let User { id, name, email } = user(name, email);
    Signature { user_id: id, name, email, time: time(date) }
}

/// `1700000000 +0100` as RFC 3339 with that offset; nothing for a moment that the calendar does not hold. An offset
/// that no clock has is taken for UTC, as the moment itself does not depend on it.
pub(crate) fn time(raw: &[u8]) -> Option<String> {
    let raw = std::str::from_utf8(raw).ok()?.trim();
    let (seconds, zone) = raw.split_once(' ').unwrap_or((raw, "+0000"));
    let moment = Timestamp::from_second(seconds.parse().ok()?).ok()?;
    let offset = offset(zone).unwrap_or(Offset::UTC);
    Some(moment.display_with_offset(offset).to_string())
}

fn offset(zone: &str) -> Option<Offset> {
    let number: i32 = zone.parse().ok()?;
    let (hours, minutes) = (number / 100, number % 100);
    if hours.abs() > 24 || minutes.abs() > 59 {
        return None;
    }
    Offset::from_seconds(hours * 3600 + minutes * 60).ok()
}

/// An address without what may be secret in it: user and password, query, fragment. The user of the short form
/// `git@host:path` is no secret.
pub(crate) fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// `git version 2.47.3 (Apple Git-154)` as (`2.47.3`, (2, 47)).
pub(crate) fn version(said: &str) -> Option<(String, (u32, u32))> {
    let number = said.strip_prefix("git version ")?.split_whitespace().next()?;
    let mut parts = number.split('.');
    let mut part = || parts.next()?.parse().ok();
    Some((number.to_owned(), (part()?, part()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_offset() {
        for (raw, said) in [
            ("1700000000 +0100", Some("2023-11-14T23:13:20+01:00")),
            ("1700000000 -0730", Some("2023-11-14T14:43:20-07:30")),
            ("0 +0000", Some("1970-01-01T00:00:00+00:00")),
            ("-86400 +0000", Some("1969-12-31T00:00:00+00:00")),
            ("1700000000 -7700", Some("2023-11-14T22:13:20+00:00")),
            ("1700000000 +0199", Some("2023-11-14T22:13:20+00:00")),
            ("1700000000", Some("2023-11-14T22:13:20+00:00")),
            ("18446744073709551615 +0000", None),
            ("999999999999999 +0000", None),
            ("", None),
        ] {
            assert_eq!(time(raw.as_bytes()).as_deref(), said, "{raw}");
        }
    }

    #[test]
    fn an_escaped_path_tells_its_bytes() {
        assert_eq!(escaped(b"a\xff\\b/\xc3\xa4\xc3"), "a\\xff\\\\b/ä\\xc3");
        assert_eq!(ref_name(b"refs/heads/\xe4"), "refs/heads/\\xe4");
        assert_eq!(ref_name("refs/heads/ä".as_bytes()), "refs/heads/ä");
    }

    #[test]
    fn two_identities_that_look_the_same_stay_two() {
        let (one, other) = (user(b"J\xf6rg", b"j@x"), user(b"J\xe4rg", b"j@x"));
        assert_eq!(one.name, other.name);
        assert_ne!(one.id, other.id);
        assert_ne!(user(b"a", b"bc").id, user(b"ab", b"c").id);
        assert_eq!(one.id.len(), 32);
    }

    #[test]
    fn no_secret_of_an_address_stays() {
        for (address, left) in [
            ("https://me:pa@ss@host:8443/a/b.git?private_token=x#y", "https://host:8443/a/b.git"),
            ("https://token@host", "https://host"),
            ("ssh://git@host/a.git", "ssh://host/a.git"),
            ("git@host:a/b.git", "git@host:a/b.git"),
            ("/srv/git/a.git", "/srv/git/a.git"),
            ("https://host/a@b/c", "https://host/a@b/c"),
        ] {
            assert_eq!(without_credentials(address), left);
        }
    }

    #[test]
    fn the_version_of_any_git_is_read() {
        assert_eq!(version("git version 2.47.3\n"), Some(("2.47.3".into(), (2, 47))));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)").map(|it| it.1), Some((2, 39)));
        assert_eq!(version("git version 2.45.1.windows.1").map(|it| it.1), Some((2, 45)));
        assert_eq!(version("hub 1.0"), None);
    }
}
