//! What every action has at hand: the root, the limits, the cancel signal, the log, and the way out for its news.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use outrider_home::{Config, ConfigErrors, Limits, Root};
use outrider_logs::{Redactor, RunLog};
use outrider_protocol::Raw;
use outrider_protocol::action::{AgentConfig, IntegrationConfig, Order};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::{ExportId, IntegrationId};
use outrider_protocol::integration::LogParams;
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::report::Failure;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Cancel, Outlet};

/// The variable that says how much of its own events an action logs, as for the service.
const LEVEL_VARIABLE: &str = "OUTRIDER_LOG";
/// The last lines of an integration that go into the report of its failure.
const LAST_LINES: usize = 20;

/// The longest wait for a source's rate limit that is believed; after it, silence counts again.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// An action cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// config.json is not valid.
    #[error("read the agent's configuration")]
    Config(#[source] ConfigErrors),
    /// The order's limits are not valid.
    #[error("the order's agent config: limits: {message}")]
    Limits {
        /// What was found and expected.
        message: String,
    },
    /// A folder of the root could not be made.
    #[error("prepare the root {}", path.display())]
    Root {
        /// Which root.
        path: PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// The log file could not be opened.
    #[error("open the log file {}", path.display())]
    Log {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
}

/// What every action has at hand. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: Root,
    limits: Limits,
    config_integrations: Option<PathBuf>,
    action: &'static str,
    run: Run,
    log: RunLog,
    /// Knows the secrets of every integration of the order.
    redactor: Redactor,
}

/// What is particular to one run of an action.
#[derive(Debug)]
pub struct Run {
    /// The command's id, or one made up.
    pub id: ExportId,
    /// The folder of the `outrider` program, and so of the integrations that came with it.
    pub programs: PathBuf,
    /// Where its news go.
    pub outlet: Outlet,
    /// Its early end.
    pub cancel: Cancel,
}

impl Context {
    /// Prepares an action: reads the limits, opens its log file, which holds this run only.
    ///
    /// # Errors
    /// When the configuration is not valid or the root cannot be written.
    pub fn prepare(root: Root, run: Run, order: &Order) -> Result<Self, PrepareError> {
        let config = match Config::load(&root) {
            Ok(config) => Some(config),
            Err(errors) if errors.not_enrolled() => None,
            Err(errors) => return Err(PrepareError::Config(errors)),
        };
        let (config_integrations, limits) =
            config.map_or_else(Default::default, |config| (config.integrations_dir, config.limits));
        let limits = with_order(limits, order)?;
        root.create().map_err(|err| PrepareError::Root { path: root.path().to_owned(), err })?;
        let path = root.log_file(order.action());
        let log =
            RunLog::create(&path, limits.log_file_bytes).map_err(|err| PrepareError::Log { path, err })?;
        let (action, redactor) = (order.action(), redactor(order));
        let shared = Shared { root, limits, config_integrations, action, run, log, redactor };
        let context = Self(Arc::new(shared));
        context.log_events();
        Ok(context)
    }

    /// Lets what the libraries below say (garbage on a link, a handler's panic) stand in the action's log.
    fn log_events(&self) {
        let what = std::env::var(LEVEL_VARIABLE).unwrap_or_else(|_| "info".into());
        let context = self.clone();
        let sink = move |line: &LogLine| {
            let message = context.redact(&line.message);
            let redact = |it: &str| context.redact(it);
            let fields = line.fields.clone().into_iter().map(|(name, it)| (name, redact_value(it, &redact)));
            context.write(&LogLine { message, fields: fields.collect(), ..line.clone() });
        };
        // Only a process that carries out several orders, as a test does, has a log of events already.
        drop(outrider_logs::init_action(self.0.action, &what, sink));
    }

    /// The agent's folder.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.0.root
    }

    /// Every bound, from config.json and the order.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Which run this is.
    #[must_use]
    pub fn run_id(&self) -> &ExportId {
        &self.0.run.id
    }

    /// The order's end, given from outside.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.0.run.cancel
    }

    pub(crate) fn outlet(&self) -> &Outlet {
        &self.0.run.outlet
    }

    pub(crate) fn peer_limits(&self) -> outrider_peer::Limits {
        peer_limits(self.limits())
    }

    /// Where programs of integrations are looked up, first come first.
    pub(crate) fn integration_folders(&self, agent: &AgentConfig) -> Vec<PathBuf> {
        let ordered = agent.integrations_dir.as_deref().map(PathBuf::from);
        let own = [self.0.run.programs.join("integrations"), self.0.run.programs.clone()];
        ordered.into_iter().chain(self.0.config_integrations.clone()).chain(own).collect()
    }

    /// Writes a line of the action itself.
    pub fn log(&self, level: Level, message: impl Into<String>, fields: Fields) {
        let source = self.0.action.to_owned();
        self.write(&LogLine { time: Timestamp::now(), level, source, message: message.into(), fields });
    }

    fn write(&self, line: &LogLine) {
        self.0.log.write_line(line);
        self.0.run.outlet.log(line);
    }

    /// The text without the secrets of the order's integrations.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.0.redactor.redact(text).into_owned()
    }

    /// Puts every line that was written into the log file.
    pub fn flush_log(&self) {
        self.0.log.close();
    }

    /// Opens the log of an integration for this run. Beside an export that writes to it, an action that only asks the
    /// integration something leaves the file alone: its lines stand in the action's own log.
    pub(crate) fn integration_log(
        &self,
        integration: &IntegrationConfig,
    ) -> Result<IntegrationLog, Box<Failure>> {
        let id = integration.id();
        let path = self.root().integration_log(&id);
        let exports = matches!(self.0.action, "export");
        let create = || RunLog::create(&path, self.limits().log_file_bytes);
        let file = if !exports && RunLog::is_written(&path) { Ok(None) } else { create().map(Some) };
        let file = file.map_err(|err| {
            Box::new(Failure {
                message: format!("open the log file {}: {err}", path.display()),
                fault: Fault::Host,
                retry: Retry::Later,
                hint: None,
                last_lines: Vec::new(),
            })
        })?;
        let state = State { heard: Instant::now(), last: VecDeque::new() };
        let inner = Inner {
            id,
            file,
            context: self.clone(),
            config: integration.config.clone(),
            schema: OnceLock::new(),
            state: Mutex::new(state),
        };
        Ok(IntegrationLog(Arc::new(inner)))
    }
}

/// Knows the secrets of every integration of an order.
fn redactor(order: &Order) -> Redactor {
    let configs: Vec<&RawValue> = order.integrations().iter().map(|it| &*it.config).collect();
    let all = serde_json::value::to_raw_value(&configs);
    // Raw JSON in a list is always valid JSON.
    all.map_or_else(|_| Redactor::new([]), |all| Redactor::from_config(&all, None))
}

fn with_order(limits: Limits, order: &Order) -> Result<Limits, PrepareError> {
    limits.with(&order.agent().limits).map_err(|message| PrepareError::Limits { message })
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
    /// Knows what the integration's own schema calls a secret, once it has said so.
    schema: OnceLock<Redactor>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heard: Instant,
    last: VecDeque<String>,
}

impl IntegrationLog {
    /// The integration's id as text.
    pub(crate) fn name(&self) -> &str {
        self.0.id.as_str()
    }

    /// A line that the integration logged.
    pub(crate) fn said(&self, line: LogParams) {
        let LogParams { level, message, fields } = line;
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name, redact_value(value, &|it| self.redact(it))))
            .collect();
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
        let line = LogLine { time: Timestamp::now(), level, source: self.name().to_owned(), message, fields };
        if let Some(file) = &self.0.file {
            file.write_line(&line);
        }
        self.0.context.write(&line);
        let mut state = self.state();
        if state.last.len() == LAST_LINES {
            state.last.pop_front();
        }
        state.last.push_back(line.to_string());
    }

    /// The text without the secrets of the integration's configuration.
    pub(crate) fn redact(&self, text: &str) -> String {
        let text = self.0.context.redact(text);
        self.0.schema.get().map_or_else(|| text.clone(), |it| it.redact(&text).into_owned())
    }

    /// From now on, what the schema of the integration's configuration marks as `writeOnly` is a secret, too.
    pub(crate) fn learn(&self, schema: &RawValue) {
        drop(self.0.schema.set(Redactor::from_config(&self.0.config, Some(schema))));
    }

    /// The last lines, oldest first.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.state().last.iter().cloned().collect()
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
        self.state().heard
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

/// The bounds of a link.
pub(crate) fn peer_limits(limits: &Limits) -> outrider_peer::Limits {
    outrider_peer::Limits {
        line_bytes: limits.line_bytes,
        request_timeout: limits.request_timeout(),
        ..Default::default()
    }
}

/// A value with every text in it redacted.
fn redact_value(value: Value, redact: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => redact(&text).into(),
        Value::Array(values) => values.into_iter().map(|it| redact_value(it, redact)).collect(),
        Value::Object(map) => map.into_iter().map(|(name, it)| (name, redact_value(it, redact))).collect(),
        other => other,
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(": ");
        text.push_str(&err.to_string());
        cause = err.source();
    }
    text
}
