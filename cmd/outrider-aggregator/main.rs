//! `outrider-aggregator`: takes what collectors measure, keeps it until it is sent on, and sends it on.

#[path = "../shared/report.rs"]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod say;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    report::finish(run::run())
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    let error = report::Error::failed("the aggregator is for Linux only");
    report::finish(Err(error.hint("run it on a Linux host; collectors reach it by the network")))
}
