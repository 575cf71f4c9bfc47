//! What is asked of an order to upgrade before an agent gets it, and until when any command may begin. Whether there is
//! such a version, and whether it may be installed, only the agent finds out: it alone verifies releases.

use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::upgrade::UpgradeOrder;

use crate::admin::NewCommand;
use crate::admin_api::after;
use crate::http_error::ApiError;

/// The longest name of a version, and the longest source.
const LONGEST: usize = 2048;
/// The most places of releases that an order may name.
const SOURCES: usize = 16;

/// Refuses what no agent could carry out.
pub(super) fn check(order: &UpgradeOrder) -> Result<(), ApiError> {
    if let Some(version) = order.version.as_deref().filter(|it| !is_version(it)) {
        let message = format!("{:?} is no version of the agent; expected one such as 1.4.2", short(version));
        return Err(
            unprocessable(message).hint("without a version, the newest of the agent's channel is meant")
        );
    }
    if order.previous || order.below_floor {
        let message = "the order asks for the version before, or for one below the floor: only a person on the host may";
        return Err(unprocessable(message).hint("name the version, and allow the downgrade"));
    }
    if order.sources.len() > SOURCES {
        let message =
            format!("the order names {} places of releases, expected at most {SOURCES}", order.sources.len());
        return Err(unprocessable(message));
    }
    if let Some(source) = order.sources.iter().find(|it| !is_source(it)) {
        let message = format!("{:?} is no place of releases", short(source));
        return Err(unprocessable(message).hint(
            "expected an address such as https://mirror.example/releases, or the full path of a folder on the agent's \
             host; without one, this backend's own releases are meant",
        ));
    }
    Ok(())
}

/// When it is too late to begin a command: as it says, else `default` from now, or from the start that it waits for.
pub(super) fn expiry(new: &NewCommand, default: Duration, now: Timestamp) -> Result<Timestamp, ApiError> {
    let start = match &new.order {
        Order::Upgrade(order) => order.start_at.filter(|start| *start > now),
        _ => None,
    };
    let end = match (new.expires_at, new.expires_in_s) {
        (Some(_), Some(_)) => {
            let message = "the order says twice until when it may begin: `expires_at` and `expires_in_s`";
            return Err(ApiError::bad_request(message).hint("leave one of them out"));
        }
        (Some(end), None) if end <= now => {
            let message =
                format!("the order may begin until {end:.0}, and it is {now:.0} now: it is too late already");
            return Err(unprocessable(message).hint("name an end that lies ahead"));
        }
        (Some(end), None) => end,
        (None, Some(seconds)) => after(now, Duration::from_secs(seconds))?,
        (None, None) => after(start.unwrap_or(now), default)?,
    };
    match start {
        Some(start) if end <= start => {
            let message =
                format!("the upgrade is not to begin before {start:.0}, and may begin until {end:.0} only");
            Err(unprocessable(message).hint("name an end that lies after the start, or leave it out"))
        }
        _ => Ok(end),
    }
}

fn unprocessable(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message)
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Three numbers, and what may follow them: `1.4.2`, `1.5.0-SNAPSHOT`.
fn is_version(text: &str) -> bool {
    let (numbers, rest) = text.find(['-', '+']).map_or((text, ""), |at| text.split_at(at));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_rest = rest.is_empty()
        || (rest.len() > 1
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.')));
    text.len() <= LONGEST && numbers.split('.').count() == 3 && numbers.split('.').all(is_number) && is_rest
}

/// An address, or an absolute path of whichever system the agent's host has.
fn is_source(text: &str) -> bool {
    let is_address = ["https://", "http://"]
        .iter()
        .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        && url::Url::parse(text).is_ok();
    let is_drive = matches!(text.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    let is_path = text.starts_with('/') || text.starts_with(r"\\") || is_drive;
    text.len() <= LONGEST && !text.contains(char::is_control) && (is_address || is_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_places_of_releases_are_told_from_anything_else() {
        for good in ["1.4.2", "1.5.0-SNAPSHOT", "10.0.0-rc.1+build.5"] {
            assert!(is_version(good), "{good}");
        }
        for bad in
            ["", "v1.4.2", "1.4", "1.4.2.3", "1..2", "newest", "1.4.2 ", "1.4.2-", "1.4.2/../x", "1.4.x"]
        {
            assert!(!is_version(bad), "{bad}");
        }
        for good in
            ["https://m.example/r", "http://10.0.0.1:8080", "/srv/releases", r"C:\releases", r"\\nas\r"]
        {
            assert!(is_source(good), "{good}");
        }
        for bad in
            ["", "releases", "./releases", "ftp://m.example", "https://", "https://m example", "/srv\n/x"]
        {
            assert!(!is_source(bad), "{bad}");
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn upgrade(start: Option<&str>, until: Option<&str>) -> NewCommand {
        let order = UpgradeOrder { start_at: start.map(at), ..UpgradeOrder::default() };
        NewCommand {
            expires_at: until.map(at),
            ..NewCommand::new("a1".parse().unwrap(), Order::Upgrade(order))
        }
    }

    #[test]
    fn a_window_ends_where_it_is_said_to_or_a_while_after_it_begins() {
        let now = at("2026-11-25T10:00:00Z");
        let ends = |new: &NewCommand| {
            expiry(new, Duration::from_secs(3600), now).map_err(|err| err.message().to_owned())
        };
        let (noon, past, later) = ("2026-11-25T12:00:00Z", "2026-11-25T09:00:00Z", "2026-11-25T13:00:00Z");
        assert_eq!(ends(&upgrade(None, None)), Ok(at("2026-11-25T11:00:00Z")));
        assert_eq!(ends(&upgrade(Some(noon), None)), Ok(at(later)));
        assert_eq!(ends(&upgrade(Some(past), None)), Ok(at("2026-11-25T11:00:00Z")));
        assert_eq!(ends(&upgrade(Some(noon), Some(later))), Ok(at(later)));
        assert_eq!(ends(&upgrade(None, Some(noon))), Ok(at(noon)));
        let refused = |start, until| ends(&upgrade(start, until)).unwrap_err();
        assert!(refused(None, Some(past)).contains("it is too late already"));
        assert!(refused(Some(later), Some(noon)).contains("not to begin before 2026-11-25T13:00:00Z"));
        assert!(refused(Some(noon), Some(noon)).contains("may begin until 2026-11-25T12:00:00Z only"));
        let seconds = |start| NewCommand { expires_in_s: Some(60), ..upgrade(start, None) };
        assert_eq!(ends(&seconds(None)), Ok(at("2026-11-25T10:01:00Z")));
        assert!(ends(&seconds(Some(noon))).is_err());
        let both = NewCommand { expires_in_s: Some(60), ..upgrade(None, Some(noon)) };
        assert!(ends(&both).unwrap_err().contains("says twice"));
    }
}
