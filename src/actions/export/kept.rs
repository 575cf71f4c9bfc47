//! The report of an export as it is kept in the root: `state/exports/ID.json`, for a person and for `outrider data`.
//!
//! It has the shape of a command's outcome, which the service writes to the same place when the action is over. While other
//! integrations of the export still run it says `interrupted`: what somebody finds who looks after a crash.

use std::path::Path;
use std::time::SystemTime;

use outrider_home::atomic;
use outrider_protocol::control::{EndState, Outcome};
use outrider_protocol::fault::chain;
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::report::{ActionReport, ExportReport, Failure};

use crate::context::Context;

/// Reports that are kept; the oldest go first.
const KEPT: usize = 100;

/// Keeps how an export ended.
pub(crate) fn keep(context: &Context, result: &Result<ExportReport, Box<Failure>>) {
    let cancelled = context.cancel().is_cancelled();
    let state = match result {
        Ok(report) if report.succeeded() => EndState::Done,
        _ if cancelled => EndState::Cancelled,
        _ => EndState::Failed,
    };
    let outcome = match result {
        Ok(report) => Outcome { state, report: Some(ActionReport::Export(report.clone())), error: None },
        Err(failed) => Outcome { state, report: None, error: Some(*failed.clone()) },
    };
    write(context, &outcome);
    if let Err(err) = expire(&context.root().exports()) {
        context.log(Level::Warn, format!("remove old reports of exports: {err}"), Fields::new());
    }
}

/// Keeps what is known so far.
pub(crate) fn keep_so_far(context: &Context, report: ExportReport) {
    let report = Some(ActionReport::Export(report));
    write(context, &Outcome { state: EndState::Interrupted, report, error: None });
}

fn write(context: &Context, outcome: &Outcome) {
    let path = context.root().export_report(context.run_id());
    // A report of texts and numbers can always be written.
    let text = serde_json::to_vec_pretty(outcome).unwrap_or_default();
    if let Err(err) = atomic::write(&path, &text, atomic::PRIVATE) {
        let message = format!("keep the report of this export: {}", chain(&err));
        context.log(Level::Warn, message, Fields::new());
    }
}

/// Removes the oldest reports above [`KEPT`].
fn expire(folder: &Path) -> std::io::Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|it| it == "json") {
            found.push((entry.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    found.sort_unstable();
    let too_many = found.len().saturating_sub(KEPT);
    found.iter().take(too_many).try_for_each(|(_, path)| std::fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_reports_go() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..KEPT as u64 + 5 {
            let path = folder.path().join(format!("e{n}.json"));
            std::fs::write(&path, "{}").unwrap();
            let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        }
        expire(folder.path()).unwrap();
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, KEPT);
        assert!(!folder.path().join("e4.json").exists() && folder.path().join("e5.json").exists());
    }
}
