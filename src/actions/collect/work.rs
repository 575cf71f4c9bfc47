//! Measuring and delivering, whoever started it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outrider_collect::discover::DiscoverError;
use outrider_collect::outputs::{Inlet, Outputs, SetupError, Tell, Timing};
use outrider_collect::poller::{Poller, Sink, StartError, TellPolls};
use outrider_collect::sampler::Sampler;
use outrider_collect::sampling::Sampling;
use outrider_collect::settings::{EnvironmentFault, from_environment};
use outrider_home::{
    CollectConfig, Config, ConfigErrors, ConfigFault, FileError, Limits, OrderedCollect, OrderedError, Root,
};
use outrider_protocol::collect::ordered::CollectSource;
use outrider_protocol::collect::{
    CollectReport, Credential, LinkTls, Output, OutputReport, Reach, Settings, Target, To,
};
use outrider_protocol::log::{Fields, Level};

use super::log::Log;

/// The variable without which there is no mini-collector to stand in for.
const REMOTE_ADDRESS: &str = "MINI_COLLECTOR_REMOTE_ADDRESS";
/// What waits for its aggregator on the disk, in bytes: a day of one container, as that sampled it.
const QUEUE_BYTES: u64 = 64 << 20;
/// Points that would wait in memory; none do.
const QUEUE_POINTS: usize = 50_000;

/// Collecting cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// config.json is not valid.
    #[error("read the agent's configuration")]
    Config(#[source] ConfigErrors),
    /// What the backend ordered cannot be used.
    #[error(transparent)]
    Ordered(#[from] OrderedError),
    /// Neither config.json nor the backend says what to collect.
    #[error(
        "{} has no section `collect`, and no backend ordered one; add one, or name a file that holds it with --config FILE",
        path.display()
    )]
    NoSection {
        /// Which file.
        path: PathBuf,
    },
    /// mini-collector's variables are not valid.
    #[error("read mini-collector's variables:{}", .0.iter().map(|it| format!("\n  {it}")).collect::<String>())]
    Environment(Vec<EnvironmentFault>),
    /// The file that was named cannot be read.
    #[error("--config: read {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// The file that was named holds something else.
    #[error("--config: {} cannot be used:{}", path.display(), faults.iter().map(|it| format!("\n  {it}")).collect::<String>())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Everything that is wrong.
        faults: Vec<ConfigFault>,
    },
    /// The log file could not be opened.
    #[error("open the log file {}", path.display())]
    Log {
        /// Which file, or the root that could not be made.
        path: PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// It is not known whether another process has it.
    #[error(transparent)]
    Lock(#[from] FileError),
    /// There are cgroups that cannot be opened.
    #[error(transparent)]
    Cgroups(#[from] DiscoverError),
    /// The outputs cannot be set up.
    #[error(transparent)]
    Outputs(#[from] SetupError),
    /// The APIs cannot be polled.
    #[error(transparent)]
    Poller(#[from] StartError),
    /// A check without anything to check.
    #[error("the section names no API to check; add `apis` to it, or name a file with --config FILE")]
    NoApis,
    /// The system gives no thread.
    #[error("start the thread that measures")]
    Thread(#[source] std::io::Error),
    /// A part ended by itself.
    #[error("{part} ended by itself: this is a bug; the last lines on stderr say where")]
    Broken {
        /// Which.
        part: &'static str,
    },
}

/// What is to be collected, and within which bounds.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) collect: CollectConfig,
    pub(super) limits: Limits,
    /// Where what waits for outputs is.
    queues: PathBuf,
    /// Where the time windows of APIs ended is kept.
    cursors: PathBuf,
    /// Whether as much is logged as there is to say.
    pub(super) debug: bool,
    /// Whether what waits for outputs that are not named any more goes: nobody else removes it where the backend names them.
    sweeps: bool,
}

impl Wanted {
    /// As config.json of a root says; where it says nothing, as its backend ordered.
    pub(super) fn of(root: &Root) -> Result<Self, CollectError> {
        let config = Config::load(root).map_err(CollectError::Config)?;
        let missing = || CollectError::NoSection { path: root.config_path() };
        let asks = config.collect.is_none() && config.backend_collect;
        let ordered = if asks { OrderedCollect::load(root)? } else { None };
        let (source, collect) = config.collects(ordered.as_ref()).ok_or_else(missing)?;
        let wanted = Self::operators(collect.clone(), config.limits.clone(), root);
        Ok(match source {
            CollectSource::Config => wanted,
            CollectSource::Backend => {
                let queues = root.ordered_queues();
                Self { cursors: queues.join("api-windows.json"), queues, sweeps: true, ..wanted }
            }
        })
    }

    /// As config.json of a root says, and nobody else.
    pub(super) fn own(root: &Root) -> Result<Self, CollectError> {
        let config = Config::load(root).map_err(CollectError::Config)?;
        let missing = || CollectError::NoSection { path: root.config_path() };
        Ok(Self::operators(config.collect.ok_or_else(missing)?, config.limits, root))
    }

    fn operators(collect: CollectConfig, limits: Limits, root: &Root) -> Self {
        let cursors = root.state().join("api-windows.json");
        Self { collect, limits, queues: root.collect_queues(), cursors, debug: false, sweeps: false }
    }

    /// As a file says, which is YAML where it is called so; relative paths in it begin at the root.
    pub(super) fn in_file(root: &Root, path: PathBuf) -> Result<Self, CollectError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) => return Err(CollectError::File { path, err }),
        };
        let is_yaml = path.extension().is_some_and(|it| it == "yml" || it == "yaml");
        let read = if is_yaml { CollectConfig::read_yaml } else { CollectConfig::read };
        let collect = match read(&text, root) {
            Ok(collect) => collect,
            Err(faults) => return Err(CollectError::Invalid { path, faults }),
        };
        Ok(Self::operators(collect, Limits::default(), root))
    }

    /// As mini-collector's variables say, where the one for the aggregator's address is set: in its place, it sends what
    /// that sent, by its protocol.
    pub(super) fn in_environment(
        root: &Root,
        get: impl Fn(&str) -> Option<String>,
    ) -> Option<Result<Self, CollectError>> {
        get(REMOTE_ADDRESS)?;
        let read = match from_environment(get) {
            Ok(read) => read,
            Err(faults) => return Some(Err(CollectError::Environment(faults))),
        };
        let tls = read.tls.map(|it| LinkTls {
            ca: Some(Credential::Given(it.ca_certificate)),
            identity: Some((Credential::Given(it.certificate), Credential::Given(it.key))),
        });
        let to = To::Publish { address: read.remote_address, tls };
        let outputs = vec![Output {
            name: "aggregator".to_owned(),
            queue_points: QUEUE_POINTS,
            queue_bytes: Some(QUEUE_BYTES),
            ca_file: None,
            reach: Reach::Anywhere,
            to,
        }];
        // Several containers on one host may have one root.
        let of = match &read.settings.target {
            Target::Container(id) => id.clone(),
            Target::Path(path) | Target::Below(path) => path.clone(),
        };
        let of: String = of.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect();
        let collect = CollectConfig::of_host(read.settings, outputs);
        let wanted = Self::operators(collect, Limits::default(), root);
        Some(Ok(Self { debug: read.debug, queues: wanted.queues.join(of), ..wanted }))
    }
}

/// The thread that measures, and the tasks that poll and deliver.
pub(super) struct Work {
    sampling: Option<Sampling>,
    poller: Option<Poller>,
    outputs: Outputs,
    inlet: Inlet,
    log: Log,
}

impl Work {
    /// Begins. Where stdout is a link, an output to it is left out, and said.
    pub(super) fn start(wanted: Wanted, linked: bool, log: Log) -> Result<Self, CollectError> {
        let Wanted { collect, limits, queues, cursors, debug: _, sweeps } = wanted;
        let CollectConfig { settings, host, apis, mut outputs, .. } = collect;
        if linked {
            let before = outputs.len();
            outputs.retain(|it| it.to != To::Stdout);
            if outputs.len() < before {
                log.say(
                    Level::Warn,
                    "An output to stdout is for a run by hand; it is left out.",
                    Fields::new(),
                );
            }
        }
        let timing = Timing {
            connect: limits.connect_timeout(),
            answer: limits.request_timeout(),
            retry_first: limits.retry_first().min(limits.reconnect_max()).min(Duration::from_secs(1)),
            retry_most: limits.reconnect_max(),
        };
        let sampler = host.then(|| open(settings.clone(), &log)).transpose()?;
        let telling = log.clone();
        let tell: Tell = Arc::new(move |output, news| telling.news(output, news));
        if sweeps && let Err(err) = outrider_collect::outputs::sweep(&outputs, &queues) {
            log.say(
                Level::Warn,
                format!("Old queues below {} stay: {err}.", queues.display()),
                Fields::new(),
            );
        }
        let outputs = Outputs::start(&outputs, &queues, timing, &tell)?;
        let inlet = outputs.inlet();
        let poller = if apis.is_empty() {
            None
        } else {
            let telling = log.clone();
            let sink = Sink::Outputs(inlet.clone());
            let tell: TellPolls = Arc::new(move |news| telling.polls(news));
            let cursors = log.is_alone().then_some(cursors);
            Some(Poller::start(&apis, &settings.tags, cursors, &sink, &tell)?)
        };
        let trouble = log.clone();
        let sampling = sampler.map(|sampler| {
            let interval = Duration::from_millis(settings.interval_ms);
            Sampling::start(sampler, interval, inlet.clone(), move |it| {
                trouble.say(Level::Warn, it.to_string(), Fields::new());
            })
        });
        let sampling = sampling.transpose().map_err(CollectError::Thread)?;
        Ok(Self { sampling, poller, outputs, inlet, log })
    }

    /// How it goes.
    pub(super) fn report(&self) -> CollectReport {
        let measured = self.sampling.as_ref().map(Sampling::measured).unwrap_or_default();
        CollectReport {
            cycles: measured.cycles,
            late: measured.late,
            samples: measured.samples,
            sources: measured.sources,
            troubles: measured.troubles,
            trouble: measured.trouble,
            apis: self.poller.as_ref().map(Poller::report),
            outputs: self.inlet.report(),
            latest: measured.latest,
        }
    }

    /// Waits until a part of it ends by itself. May be dropped.
    pub(super) async fn broken(&mut self) -> CollectError {
        let sampling = async {
            match &mut self.sampling {
                Some(it) => it.broken().await,
                None => std::future::pending().await,
            }
        };
        let poller = async {
            match &mut self.poller {
                Some(it) => it.broken().await,
                None => std::future::pending().await,
            }
        };
        let part = tokio::select! {
            () = sampling => "the thread that measures",
            () = poller => "the task of an API",
            () = self.outputs.broken() => "the task of an output",
        };
        CollectError::Broken { part }
    }

    /// Ends: the round that is under way is over first, then outputs may take what waits.
    pub(super) async fn finish(mut self, within: Duration) -> CollectReport {
        let stop_sampling = async {
            if let Some(it) = &mut self.sampling {
                it.stop(within / 2).await;
            }
        };
        let stop_polling = async {
            if let Some(it) = &mut self.poller {
                it.finish(within / 2).await;
            }
        };
        tokio::join!(stop_sampling, stop_polling);
        let report = self.report();
        let outputs = self.outputs.finish(within).await;
        let report = CollectReport { outputs, ..report };
        self.log.say(Level::Info, "Collecting has ended.", counts(&report));
        report
    }
}

/// How much was measured, and what became of it.
pub(super) fn counts(report: &CollectReport) -> Fields {
    let sum = |of: fn(&OutputReport) -> u64| -> u64 { report.outputs.iter().map(of).sum() };
    let numbers = [
        ("samples", report.samples),
        ("events", report.apis.as_ref().map_or(0, |it| it.events)),
        ("sent", sum(|it| it.sent)),
        ("waiting", sum(|it| it.waiting)),
        ("dropped", sum(|it| it.dropped)),
        ("refused", sum(|it| it.refused)),
        ("left_out", sum(|it| it.left_out)),
    ];
    numbers.into_iter().map(|(name, number)| (name.to_owned(), number.into())).collect()
}

/// What measures this host; what stands in for cgroups where there are none is said.
fn open(settings: Settings, log: &Log) -> Result<Sampler, CollectError> {
    let (sampler, reason) = Sampler::open(settings)?;
    if let Some(reason) = reason {
        let fields = [("why".to_owned(), reason.to_string().into())].into_iter().collect();
        log.say(Level::Warn, "This host has no cgroups; its processes are measured in their place.", fields);
    }
    Ok(sampler)
}
