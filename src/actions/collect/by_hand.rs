//! `collect` from a shell.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outrider_collect::encode::json_lines;
use outrider_collect::sampler::Sampler;
use outrider_collect::sampling::round;
use outrider_home::{ConfigErrors, Root};
use outrider_protocol::collect::{CollectReport, Settings, Target};
use outrider_protocol::log::{Fields, Level};

use super::FLUSH;
use super::log::Log;
use super::work::{CollectError, Wanted, Work, counts};
use crate::Outlet;

/// How often it is said how it goes, where that is asked for.
const DEBUG_EVERY: Duration = Duration::from_secs(10);

/// What one look found.
#[derive(Debug)]
pub struct Once {
    /// A sample a line, as JSON.
    pub lines: Vec<u8>,
    /// What could not be measured, each as a sentence.
    pub troubles: Vec<String>,
}

/// Measures once. Rates take two looks, so there are none. Where neither a file nor config.json says what, it is all cgroups
/// of the host. Nothing is written.
///
/// # Errors
/// When a configuration is not valid, or cgroups cannot be opened.
pub fn once(root: &Root, config: Option<PathBuf>) -> Result<Once, CollectError> {
    let wanted = match config {
        Some(path) => Wanted::in_file(root, path),
        None => Wanted::of(root),
    };
    let settings = match wanted {
        Ok(wanted) => wanted.collect.settings,
        Err(CollectError::NoSection { .. } | CollectError::Config(ConfigErrors::NotEnrolled { .. })) => {
            Settings::of(Target::Below("/".into()))
        }
        Err(err) => return Err(err),
    };
    let (mut sampler, reason) = Sampler::open(settings)?;
    let (mut samples, troubles) = round(&mut sampler, Duration::ZERO, &|_| {});
    // That something is not there is a trouble by itself.
    samples.retain(|it| it.points.len() > 1);
    let reason = reason.map(|it| format!("{it}; processes are measured in their place"));
    Ok(Once {
        lines: json_lines::encode(&samples).bytes,
        troubles: reason.into_iter().chain(troubles).collect(),
    })
}

/// As config.json says; where it says nothing, as the variables of mini-collector say; without these, as the backend ordered.
fn configured(root: &Root) -> Result<Wanted, CollectError> {
    match Wanted::own(root) {
        // A host need not be an agent for this.
        Err(CollectError::Config(ConfigErrors::NotEnrolled { path })) => {
            let missing = Err(CollectError::NoSection { path });
            Wanted::in_environment(root, |name| std::env::var(name).ok()).unwrap_or(missing)
        }
        Err(CollectError::NoSection { .. }) => {
            Wanted::in_environment(root, |name| std::env::var(name).ok()).unwrap_or_else(|| Wanted::of(root))
        }
        wanted => wanted,
    }
}

/// Measures and delivers until `stop`. The log also goes to `out`.
///
/// # Errors
/// When it cannot begin, or a part of it ends by itself.
pub async fn run_by_hand(
    root: &Root,
    config: Option<PathBuf>,
    out: impl Write + Send + 'static,
    stop: impl Future<Output = &'static str>,
) -> Result<CollectReport, CollectError> {
    let wanted = match config {
        Some(path) => Wanted::in_file(root, path)?,
        None => configured(root)?,
    };
    let outlet = Outlet::Hand(Arc::new(Mutex::new(out)));
    let log = Log::open(root, outlet, &wanted, Duration::ZERO)?;
    let debug = wanted.debug;
    let mut work = Work::start(wanted, false, log.clone())?;
    log.say(Level::Info, "Collecting; Ctrl-C ends it.", Fields::new());
    tokio::pin!(stop);
    let broken = loop {
        tokio::select! {
            broken = work.broken() => break Some(broken),
            _ = &mut stop => break None,
            () = tokio::time::sleep(DEBUG_EVERY), if debug => {
                log.say(Level::Debug, "Collecting goes on.", counts(&work.report()));
            }
        }
    };
    let report = work.finish(FLUSH).await;
    log.flush();
    broken.map_or(Ok(report), Err)
}
