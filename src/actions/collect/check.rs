//! `collect check`: every API polled once, for a person.

use std::path::PathBuf;
use std::sync::Arc;

use outrider_collect::encode::json_lines;
use outrider_collect::model::Event;
use outrider_collect::poller;
use outrider_home::Root;

use super::work::{CollectError, Wanted};

/// What a check has to tell.
#[derive(Debug)]
pub enum Checked {
    /// Events, one a line as JSON.
    Lines(Vec<u8>),
    /// What is polled, and why that failed.
    Failed(String),
}

/// Polls each API of each system, VDC or node once, and keeps nothing. Answers how many failed.
///
/// # Errors
/// When a configuration is not valid or names no API, or one cannot be used.
pub async fn check(
    root: &Root,
    config: Option<PathBuf>,
    tell: impl Fn(Checked) + Send + Sync + 'static,
) -> Result<u64, CollectError> {
    let wanted = match config {
        Some(path) => Wanted::in_file(root, path)?,
        None => Wanted::of(root)?,
    };
    if wanted.collect.apis.is_empty() {
        return Err(CollectError::NoApis);
    }
    let secrets: Vec<_> = wanted.collect.secrets().map(str::to_owned).collect();
    let redactor = outrider_logs::Redactor::new(secrets);
    let tell = Arc::new(tell);
    let lines = Arc::clone(&tell);
    let look = move |events: Vec<Event>| lines(Checked::Lines(json_lines::events(&events).bytes));
    let sink = poller::Sink::Look(Arc::new(look));
    let mut failed = 0;
    let (apis, tags) = (&wanted.collect.apis, &wanted.collect.settings.tags);
    let checked = poller::check(apis, tags, &sink, |what, polled| {
        let said = match polled {
            Ok(polled) if polled.beyond == 0 => return,
            Ok(polled) => format!("{what}: {} events beyond the bound `events`", polled.beyond),
            Err(error) => format!("{what}: {error}"),
        };
        failed += 1;
        tell(Checked::Failed(redactor.redact(&said).into_owned()));
    });
    checked.await?;
    Ok(failed)
}
