//! What is collected of which cgroups: a section of a config file, or the environment variables of mini-collector.
//!
//! # Invariants
//! - Both make the same [`Settings`]; every fault of the environment is told at once, by the name of its variable.
//! - `MINI_COLLECTOR_DEBUG` and `_TLS` are on when they are set, whatever to, `false` included: so they were.
//! - An error shows no value of a variable that holds a key.

use std::path::PathBuf;
use std::time::Duration;

pub use outrider_protocol::collect::{Intervals, Settings, Target};

/// Keys of mutual TLS, as texts of PEM.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the variables are")]
pub struct Tls {
    pub certificate: String,
    pub key: String,
    pub ca_certificate: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(***)")
    }
}

/// All that mini-collector's environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// What is collected.
    pub settings: Settings,
    /// The aggregator, as `host:port`.
    pub remote_address: String,
    /// Whether the log is to be long.
    pub debug: bool,
    /// Mutual TLS with the aggregator.
    pub tls: Option<Tls>,
}

/// A variable that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentFault {
    /// Not there, or empty.
    #[error("MINI_COLLECTOR_{0} is not set; set it to {1}")]
    Missing(&'static str, &'static str),
    /// No duration.
    #[error(
        "MINI_COLLECTOR_POLL_INTERVAL is {0:?}; set it to a duration above zero such as 30s, 1.5s, 500ms or 1m30s"
    )]
    Interval(String),
    /// No address.
    #[error("MINI_COLLECTOR_REMOTE_ADDRESS is {0:?}; set it to host:port, as aggregator:8000")]
    Address(String),
}

/// Reads mini-collector's variables; `get` is asked for each by its whole name.
///
/// # Errors
/// All faults at once.
pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Environment, Vec<EnvironmentFault>> {
    let set = |name: &str| get(&format!("MINI_COLLECTOR_{name}"));
    let mut faults = Vec::new();
    let mut needed = |name, example| {
        let value = set(name).filter(|it| !it.is_empty());
        value.unwrap_or_else(|| {
            faults.push(EnvironmentFault::Missing(name, example));
            String::new()
        })
    };
    let remote_address = needed("REMOTE_ADDRESS", "the aggregator's host:port");
    let container = needed("CONTAINER_ID", "the container's long id");
    let environment = needed("ENVIRONMENT_NAME", "the tag environment");
    let service = needed("SERVICE_NAME", "the tag service");
    let tls = set("TLS").is_some().then(|| Tls {
        certificate: needed("TLS_CERTIFICATE", "the certificate's PEM text"),
        key: needed("TLS_KEY", "the key's PEM text"),
        ca_certificate: needed("TLS_CA_CERTIFICATE", "the authority's PEM text"),
    });
    if !remote_address.is_empty() && !is_address(&remote_address) {
        faults.push(EnvironmentFault::Address(remote_address.clone()));
    }
    // The host's name was always the container's id, cut to 12 characters.
    let host = container.get(..12).unwrap_or(&container).to_owned();
    let mut settings = Settings::of(Target::Container(container.clone()));
    settings.tags =
        [("environment", environment), ("service", service), ("container", container), ("host", host)]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
    for (variable, tag) in [("APP_NAME", "app"), ("DATABASE_NAME", "database")] {
        settings.tags.extend(set(variable).filter(|it| !it.is_empty()).map(|value| (tag.to_owned(), value)));
    }
    if let Some(path) = set("CGROUP_PATH").filter(|it| !it.is_empty()) {
        settings.cgroup_path = path.into();
    }
    settings.mount_path = set("MOUNT_PATH").filter(|it| !it.is_empty()).map(PathBuf::from);
    if let Some(text) = set("POLL_INTERVAL").filter(|it| !it.is_empty()) {
        match go_duration(&text).and_then(|it| u64::try_from(it.as_millis()).ok()).filter(|it| *it > 0) {
            Some(millis) => settings.interval_ms = millis,
            None => faults.push(EnvironmentFault::Interval(text)),
        }
    }
    if faults.is_empty() {
        Ok(Environment { settings, remote_address, debug: set("DEBUG").is_some(), tls })
    } else {
        Err(faults)
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && !text.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|it| it > 0)
}

/// A duration as Go writes it: numbers, which may have a fraction, each with its unit.
#[must_use]
pub fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let seconds = match &unit[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &unit[end..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &[(&str, &str)]) -> Result<Environment, Vec<EnvironmentFault>> {
        const NEEDED: [(&str, &str); 4] = [
            ("REMOTE_ADDRESS", "aggregator:8000"),
            ("CONTAINER_ID", "0123456789abcdef"),
            ("ENVIRONMENT_NAME", "prod"),
            ("SERVICE_NAME", "web"),
        ];
        from_environment(|name| {
            let name = name.strip_prefix("MINI_COLLECTOR_").unwrap();
            let found = extra.iter().chain(&NEEDED).find(|it| it.0 == name);
            found.map(|it| it.1.to_owned())
        })
    }

    #[test]
    fn an_existing_deployment_moves_over() {
        let found =
            read(&[("APP_NAME", "shop"), ("POLL_INTERVAL", "1m0.5s"), ("MOUNT_PATH", "/data")]).unwrap();
        assert_eq!(found.settings.target, Target::Container("0123456789abcdef".into()));
        assert_eq!(found.settings.interval_ms, 60_500);
        assert_eq!(found.settings.mount_path, Some("/data".into()));
        let tags: Vec<_> =
            found.settings.tags.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(
            tags,
            [
                "environment:prod",
                "service:web",
                "container:0123456789abcdef",
                "host:0123456789ab",
                "app:shop"
            ]
        );
        assert!(!found.debug && found.tls.is_none());
    }

    #[test]
    fn a_flag_is_on_whatever_it_is_set_to() {
        assert!(read(&[("DEBUG", "false")]).unwrap().debug);
        let faults = read(&[("TLS", ""), ("TLS_KEY", "k")]).unwrap_err();
        assert_eq!(faults.len(), 2, "TLS is on, and two of its three texts are missing: {faults:?}");
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let bad = [("REMOTE_ADDRESS", "http://a"), ("CONTAINER_ID", ""), ("POLL_INTERVAL", "30")];
        let faults = read(&bad).unwrap_err();
        let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(faults.len(), 3, "{text}");
        assert!(text.contains("MINI_COLLECTOR_POLL_INTERVAL is \"30\"; set it to a duration"), "{text}");
    }

    #[test]
    fn a_short_id_is_no_panic() {
        let found = read(&[("CONTAINER_ID", "c0ffee")]).unwrap();
        assert!(found.settings.tags.contains(&("host".into(), "c0ffee".into())));
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go_duration("1h1m1s1ms1us"), Some(Duration::from_micros(3_661_001_001)));
        for bad in ["", "s", "1", "-1s", "1.2.3s", "1 s", "1d", "99999999999999999999h"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }
}
