//! Which integrations are configured no more.
//!
//! The backend says with each order which integrations there are, and nothing on this machine lists them otherwise. So an
//! integration counts as configured while config.json's `extra_integrations`, the last report of an export in
//! `state/exports`, or any report of the days before names it. An integration whose program is missing is one to repair, not
//! one that was removed: its values stay.
//!
//! **Invariant:** where it is not known what is configured, nothing counts as removed.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use outrider_home::{Config, Root};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::IntegrationId;
use serde::Deserialize;

use crate::report::Error;

/// The largest report that is read, in bytes: 100,000 projects.
const REPORT_BYTES: u64 = 64 << 20;

/// A kept report of an export, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Kept {
    /// None where the export failed as a whole.
    report: Option<Report>,
}

#[derive(Debug, Deserialize)]
struct Report {
    started_at: Timestamp,
    integrations: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    integration: IntegrationId,
}

/// The integrations that are configured, as far as this machine knows.
pub(super) fn configured(root: &Root, now: Timestamp, days: u32) -> Result<BTreeSet<IntegrationId>, Error> {
    let mut found = named(reports(&root.exports())?, now, days).ok_or_else(|| {
        Error::failed(format!(
            "found no report of an export in {}: it is not known which integrations are configured",
            root.exports().display()
        ))
        .hint("name what to drop with --drop --integration ID")
    })?;
    if root.config_path().exists() {
        let config = Config::load(root).map_err(|err| Error::failed(chain(&err)))?;
        found.extend(config.extra_integrations.iter().map(|it| it.extra().id()));
    }
    Ok(found)
}

/// What the last report, and those of the last days, name; nothing without a report.
fn named(reports: Vec<Report>, now: Timestamp, days: u32) -> Option<BTreeSet<IntegrationId>> {
    let last = reports.iter().map(|it| it.started_at).max()?;
    let since =
        now.saturating_sub(SignedDuration::from_hours(i64::from(days) * 24)).unwrap_or(Timestamp::MIN);
    let count = reports.into_iter().filter(|it| it.started_at >= since.min(last));
    Some(count.flat_map(|it| it.integrations).map(|it| it.integration).collect())
}

/// All reports. One that cannot be read may name anything, so that it is an error.
fn reports(folder: &Path) -> Result<Vec<Report>, Error> {
    let failed = |what: &str, path: &Path, err: &dyn std::fmt::Display| {
        Error::failed(format!("{what} {}: {err}", path.display()))
    };
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|err| failed("list", folder, &err))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|err| failed("list", folder, &err))?.path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let file = std::fs::File::open(&path).map_err(|err| failed("open", &path, &err))?;
        let reader = std::io::BufReader::new(std::io::Read::take(file, REPORT_BYTES));
        let kept: Kept =
            serde_json::from_reader(reader).map_err(|err| failed("read the report", &path, &err))?;
        found.extend(kept.report);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_and_those_of_the_last_days_count() {
        let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let report = |day: i64, ids: &[&str]| Report {
            started_at: at(day),
            integrations: ids
                .iter()
                .map(|it| Named { integration: IntegrationId::new(*it).unwrap() })
                .collect(),
        };
        let all = || vec![report(1, &["old"]), report(50, &["a"]), report(60, &["b", "c"])];
        let told = |now: i64, days: u32| {
            let found = named(all(), at(now), days).unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(61, 30), "a b c");
        assert_eq!(told(61, 5), "b c");
        assert_eq!(told(400, 30), "b c", "the last one always counts");
        assert_eq!(told(61, 100), "a b c old");
        assert!(named(Vec::new(), at(61), 30).is_none());
    }

    #[test]
    fn a_report_is_read_as_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "one.json",
            r#"{"state":"failed","report":{"action":"export","export":"x","started_at":"2026-01-02T03:04:05Z","duration_ms":1,"integrations":[{"integration":"git","name":"git","state":"done"}]}}"#,
        );
        write("two.json", r#"{"state":"failed","error":{"message":"no"}}"#);
        write("three.txt", "x");
        let found = reports(folder.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].integrations[0].integration.as_str(), "git");
        write("four.json", "{");
        assert!(format!("{:?}", reports(folder.path()).unwrap_err()).contains("four.json"));
        assert!(reports(&folder.path().join("none")).unwrap().is_empty());
    }
}
