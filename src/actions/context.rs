//! What every action has at hand: the root, the limits, the cancel signal, the log, and the way out for its news.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use jiff::Timestamp;
use outrider_home::{Config, ConfigErrors, Limits, Root, StateError};
use outrider_logs::{Redactor, RunLog};
use outrider_protocol::action::{AgentConfig, Order};
use outrider_protocol::ids::{ExportId, IntegrationId};
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::report::Failure;
use outrider_versions::Lock;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Cancel, Outlet};

/// The variable that says how much of its own events an action logs, as for the service.
const LEVEL_VARIABLE: &str = "OUTRIDER_LOG";

/// How often, and how far apart, one that must not wait tries to look at what was learned.
const TRIES: u32 = 50;
const TRY_EVERY: Duration = Duration::from_millis(1);

/// Secrets that are remembered beside those of the order.
const LEARNED: usize = 64;

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
    /// The state has another schema than this version works with.
    #[error(transparent)]
    State(StateError),
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
    share_last_processed: bool,
    action: &'static str,
    run: Run,
    log: RunLog,
    /// Knows the secrets of every integration of the order.
    redactor: Redactor,
    learned: RwLock<Learned>,
    /// Why an integration cannot be worked with: its encrypted secrets could not be read.
    unopened: HashMap<IntegrationId, Failure>,
    /// What outlives the action, for whoever goes on by hand with what it began.
    kept: Mutex<Option<Lock>>,
}

/// Secrets that came while the action ran.
#[derive(Default)]
struct Learned {
    /// Access tokens. The oldest are forgotten: they have ended by then.
    secrets: VecDeque<String>,
    redactor: Option<Redactor>,
    /// Know what the integrations' own schemas call a secret, once they have said so.
    schemas: Vec<Redactor>,
}

impl std::fmt::Debug for Learned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Learned({} secrets)", self.secrets.len())
    }
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
    /// Prepares an action: reads the limits, opens its log file, which holds this run only. Decrypts the secrets of the
    /// order's integrations; where that fails, only that integration does, when it is used.
    ///
    /// # Errors
    /// When the configuration is not valid or the root cannot be written.
    pub fn prepare(root: Root, run: Run, order: &mut Order) -> Result<Self, PrepareError> {
        let config = match Config::load(&root) {
            Ok(config) => Some(config),
            Err(errors) if errors.not_enrolled() => None,
            Err(errors) => return Err(PrepareError::Config(errors)),
        };
        let (config_integrations, limits, share_last_processed) = config
            .map_or_else(Default::default, |config| {
                (config.integrations_dir, config.limits, config.share_last_processed)
            });
        let limits = with_order(limits, order)?;
        root.create().map_err(|err| PrepareError::Root { path: root.path().to_owned(), err })?;
        let path = root.log_file(order.action());
        let log =
            RunLog::create(&path, limits.log_file_bytes).map_err(|err| PrepareError::Log { path, err })?;
        let unopened = crate::sealing::open_all(&root, order.integrations_mut());
        let (action, redactor, learned) = (order.action(), redactor(order), RwLock::default());
        let kept = Mutex::default();
        let shared = Shared {
            root,
            limits,
            config_integrations,
            share_last_processed,
            action,
            run,
            log,
            redactor,
            learned,
            unopened,
            kept,
        };
        let context = Self(Arc::new(shared));
        context.log_events();
        crate::panics::redact(&context);
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

    /// Whether last-processed values may leave the host: config.json alone says so, never the order.
    pub(crate) fn shares_last_processed(&self) -> bool {
        self.0.share_last_processed
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

    /// Whether this action exports, as no other one does.
    pub(crate) fn exports(&self) -> bool {
        self.0.action == "export"
    }

    /// Keeps a lock beyond the action where that runs by hand; lets it go otherwise.
    pub(crate) fn keep_by_hand(&self, lock: Lock) {
        if matches!(self.outlet(), Outlet::Hand(_)) {
            *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        }
    }

    /// The lock that was kept.
    pub(crate) fn take_kept(&self) -> Option<Lock> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
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

    pub(crate) fn write(&self, line: &LogLine) {
        self.0.log.write_line(line);
        self.0.run.outlet.log(line);
    }

    /// The text without the secrets of the order's integrations, and those that were learned since.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.redact_by(&self.0.learned.read().unwrap_or_else(PoisonError::into_inner), text)
    }

    /// The same for who must not wait: nothing where secrets are being learned for longer than a moment, perhaps by the caller
    /// itself.
    pub(crate) fn redact_at_once(&self, text: &str) -> Option<String> {
        for _ in 0..TRIES {
            match self.0.learned.try_read() {
                Ok(learned) => return Some(self.redact_by(&learned, text)),
                Err(TryLockError::Poisoned(learned)) => return Some(self.redact_by(learned.get_ref(), text)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_EVERY),
            }
        }
        None
    }

    fn redact_by(&self, learned: &Learned, text: &str) -> String {
        let mut text = self.0.redactor.redact(text);
        for redactor in learned.redactor.iter().chain(&learned.schemas) {
            text = redactor.redact(&text).into_owned().into();
        }
        text.into_owned()
    }

    /// Holds what was learned, as one does who learns more.
    #[cfg(test)]
    #[cfg(unix)]
    pub(crate) fn hold_learned(&self) -> impl Drop {
        self.0.learned.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns what a schema calls a secret.
    pub(crate) fn learn(&self, redactor: Redactor) {
        self.0.learned.write().unwrap_or_else(PoisonError::into_inner).schemas.push(redactor);
    }

    /// Why an integration's encrypted secrets could not be read, if they could not.
    pub(crate) fn unopened(&self, integration: &IntegrationId) -> Option<&Failure> {
        self.0.unopened.get(integration)
    }

    /// From now on, this text is a secret as well.
    pub(crate) fn learn_secret(&self, secret: &str) {
        let mut learned = self.0.learned.write().unwrap_or_else(PoisonError::into_inner);
        if learned.secrets.iter().any(|it| it == secret) {
            return;
        }
        if learned.secrets.len() == LEARNED {
            learned.secrets.pop_front();
        }
        learned.secrets.push_back(secret.to_owned());
        learned.redactor = Some(Redactor::new(learned.secrets.iter().cloned()));
    }

    /// Puts every line that was written into the log file.
    pub fn flush_log(&self) {
        self.0.log.close();
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

/// The bounds of a link.
pub(crate) fn peer_limits(limits: &Limits) -> outrider_peer::Limits {
    outrider_peer::Limits {
        line_bytes: limits.line_bytes,
        request_timeout: limits.request_timeout(),
        ..Default::default()
    }
}

/// A value with every text in it redacted.
pub(crate) fn redact_value(value: Value, redact: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => redact(&text).into(),
        Value::Array(values) => values.into_iter().map(|it| redact_value(it, redact)).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(name, it)| (redact(&name), redact_value(it, redact))).collect()
        }
        other => other,
    }
}
