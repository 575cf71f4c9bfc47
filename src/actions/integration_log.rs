//! The log of one integration, and what is known of its life from what it says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use outrider_logs::{Redactor, RunLog};
use outrider_protocol::Raw;
use outrider_protocol::action::IntegrationConfig;
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::integration::LogParams;
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::report::Failure;
use serde_json::value::RawValue;

use crate::context::{Context, redact_value};

/// The last lines of an integration that go into the report of its failure.
const LAST_LINES: usize = 20;
/// What stands in a report for the lines between those in which an integration gave up and its last ones.
const LEFT_OUT: &str = "  … (lines left out)";
/// So many characters tell whether a line of the log repeats one of stderr, which it may cut off.
const ALIKE: usize = 200;
/// Lines that are remembered, for the reports of projects that fail.
const RECENT_LINES: usize = 256;
/// The longest line that is remembered, in characters.
const RECENT_LINE: usize = 1000;
/// The longest wait for a source's rate limit that is believed; after it, silence counts again.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

impl Context {
    /// Opens the log of an integration for this run. Beside an export that writes to it, an action that only asks the
    /// integration something leaves the file alone: its lines stand in the action's own log.
    pub(crate) fn integration_log(
        &self,
        integration: &IntegrationConfig,
    ) -> Result<IntegrationLog, Box<Failure>> {
        let id = integration.id();
        if let Some(failure) = self.unopened(&id) {
            return Err(Box::new(failure.clone()));
        }
        let path = self.root().integration_log(&id);
        let create = || RunLog::create(&path, self.limits().log_file_bytes);
        let file = if !self.exports() && RunLog::is_written(&path) { Ok(None) } else { create().map(Some) };
        let file = file.map_err(|err| {
            Box::new(Failure {
                message: format!("open the log file {}: {err}", path.display()),
                fault: Fault::Host,
                retry: Retry::Later,
                hint: None,
                last_lines: Vec::new(),
            })
        })?;
        let state = State { heard: Instant::now(), answering: 0, last: VecDeque::new() };
        let inner = Inner {
            id,
            file,
            context: self.clone(),
            config: integration.config.clone(),
            state: Mutex::new(state),
            asking: tokio::sync::Mutex::default(),
        };
        Ok(IntegrationLog(Arc::new(inner)))
    }
}

/// The log of one integration: its own file, and a copy in the action's log. Secrets of its configuration are starred
/// out on the way. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct IntegrationLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: IntegrationId,
    file: Option<RunLog>,
    context: Context,
    config: Raw,
    state: Mutex<State>,
    /// Held while an access token is asked for.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    heard: Instant,
    /// Calls of the integration that this end has not answered.
    answering: usize,
    /// The last lines, and when they came.
    last: VecDeque<(Instant, String)>,
}

/// A call of the integration that is being answered; see [`IntegrationLog::answering`].
#[derive(Debug)]
pub(crate) struct Answering<'a>(&'a IntegrationLog);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.heard = state.heard.max(Instant::now());
    }
}

impl IntegrationLog {
    /// The integration's id as text.
    pub(crate) fn name(&self) -> &str {
        self.0.id.as_str()
    }

    /// A line that the integration logged.
    pub(crate) fn said(&self, line: LogParams) {
        let LogParams { level, message, fields } = line;
        self.write(level, &message, fields);
    }

    /// A line of the agent about this integration.
    pub(crate) fn note(&self, level: Level, message: &str, fields: Fields) {
        self.write(level, message, fields);
    }

    /// A line that its process wrote to stderr.
    pub(crate) fn stderr(&self, line: &str) {
        self.write(Level::Info, line, Fields::new());
    }

    fn write(&self, level: Level, message: &str, fields: Fields) {
        let message = self.redact(message);
        let redact = |it: &str| self.redact(it);
        let fields =
            fields.into_iter().map(|(name, it)| (redact(&name), redact_value(it, &redact))).collect();
        let line = LogLine { time: Timestamp::now(), level, source: self.name().to_owned(), message, fields };
        if let Some(file) = &self.0.file {
            file.write_line(&line);
        }
        self.0.context.write(&line);
        let mut line = line.to_string();
        if let Some((at, _)) = line.char_indices().nth(RECENT_LINE) {
            line.truncate(at);
            line.push('…');
        }
        let mut state = self.state();
        if state.last.len() == RECENT_LINES {
            state.last.pop_front();
        }
        state.last.push_back((Instant::now(), line));
    }

    /// The text without the secrets of the integration's configuration.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.0.context.redact(text)
    }

    /// From now on, what the schema of the integration's configuration marks as `writeOnly` is a secret, too.
    pub(crate) fn learn(&self, schema: &RawValue) {
        self.0.context.learn(Redactor::from_config(&self.0.config, Some(schema)));
    }

    /// The last lines, oldest first. Those of its stderr in which its process gave up lead them, where a long trace came
    /// after.
    pub(crate) fn last_words(&self, cry: &[String]) -> Vec<String> {
        let cry = cry.iter().map(|it| self.redact(it)).collect();
        led_by(cry, self.lines_between(None, LAST_LINES))
    }

    /// The last lines that were written in a span of time, or at any, oldest first; at most so many.
    pub(crate) fn lines_between(&self, span: Option<(Instant, Instant)>, most: usize) -> Vec<String> {
        let state = self.state();
        let fits = |at: &Instant| span.is_none_or(|(from, to)| (from..=to).contains(at));
        let mut lines: Vec<_> = state
            .last
            .iter()
            .rev()
            .filter(|(at, _)| fits(at))
            .take(most)
            .map(|(_, line)| line.clone())
            .collect();
        lines.reverse();
        lines
    }

    /// The integration's id.
    pub(crate) fn id(&self) -> &IntegrationId {
        &self.0.id
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }

    /// The right to ask for an access token, of which one call at a time has it.
    pub(crate) async fn asking(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.asking.lock().await
    }

    /// While this is held, the integration waits for an answer of ours, so its silence is no sign of death.
    pub(crate) fn answering(&self) -> Answering<'_> {
        self.state().answering += 1;
        Answering(self)
    }

    /// Something came in from the integration.
    pub(crate) fn heard(&self) {
        let mut state = self.state();
        // Not before the end of a wait that it announced.
        state.heard = state.heard.max(Instant::now());
    }

    /// The integration goes on after a wait, earlier or later than it said.
    pub(crate) fn resumed(&self) {
        self.state().heard = Instant::now();
    }

    /// The integration said that it will wait until then, so its silence is no sign of death.
    pub(crate) fn heard_until(&self, until: Timestamp) {
        let wait = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        self.state().heard = Instant::now() + wait.min(LONGEST_PAUSE);
    }

    /// When something last came in; in the future while the integration waits for its source.
    pub(crate) fn last_heard(&self) -> Instant {
        let state = self.state();
        if state.answering > 0 { state.heard.max(Instant::now()) } else { state.heard }
    }

    /// Puts every line that was written into the file.
    pub(crate) fn close(&self) {
        if let Some(file) = &self.0.file {
            file.close();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last lines of a log, after the lines of a cry if they do not stand there.
fn led_by(mut cry: Vec<String>, last: Vec<String>) -> Vec<String> {
    let Some(first) = cry.first() else { return last };
    let first: String = first.chars().take(ALIKE).collect();
    if last.iter().any(|line| line.contains(&first)) {
        return last;
    }
    cry.push(LEFT_OUT.to_owned());
    cry.into_iter().chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::led_by;

    #[test]
    fn the_cry_leads_the_last_lines_where_they_do_not_hold_it() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let log = lines("08:00 INFO mock: panic: boom\n08:00 INFO mock: goroutine 1:");
        assert_eq!(led_by(lines("panic: boom"), log.clone()), log);
        assert_eq!(led_by(Vec::new(), log.clone()), log);
        assert_eq!(
            led_by(lines("panic: boom"), log[1..].to_vec()),
            ["panic: boom", "  … (lines left out)", &log[1]]
        );
    }
}
