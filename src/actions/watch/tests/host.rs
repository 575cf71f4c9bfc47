//! A host whose agent is being upgraded: a real journal in a temporary root, a played service on its socket.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use outrider_home::{Root, RootLock};
use outrider_peer::Handlers;
use outrider_protocol::fault::RpcError;
use outrider_protocol::local::{BackendLink, Health, HealthReply, SelfTest};
use outrider_protocol::upgrade::Build;
use outrider_upgrade::{CommitHash, Manifest, Release};
use outrider_versions::{OldReach, Phase, Record, VersionName, Versions, launch};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::{Settings, Watched, watch};

/// Far above what anything here takes.
const LONG: Duration = Duration::from_secs(60);
pub(super) const OLD: &str = "1.0.0-00000000";
pub(super) const NEW: &str = "2.0.0-11111111";
/// The old version's program, as far as it is started here.
const SAYS: &str = "#!/bin/sh\necho \"$0 $*\" >> started.new && mv started.new started\n";

pub(super) fn name(text: &str) -> VersionName {
    text.parse().unwrap()
}

/// Waits for a state.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LONG, wait).await.is_ok(), "not so in {LONG:?}: {what}");
}

pub(super) struct Host {
    dir: tempfile::TempDir,
    pub(super) root: Root,
    pub(super) versions: Versions,
    pub(super) settings: Settings,
    pub(super) green_for: Duration,
    pub(super) bound: Duration,
    stops: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Host {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        let versions = Versions::of(root.path());
        for (version, release, hash) in [(OLD, "1.0.0", "00000000"), (NEW, "2.0.0", "11111111")] {
            let folder = versions.layout().version(&name(version));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("outrider"), SAYS).unwrap();
            std::fs::set_permissions(folder.join("outrider"), PermissionsExt::from_mode(0o755)).unwrap();
            let manifest =
                Manifest::older(Release::parse(release).unwrap(), CommitHash::parse(hash).unwrap()).unwrap();
            std::fs::write(folder.join("manifest.yaml"), manifest.to_yaml()).unwrap();
        }
        symlink(format!("versions/{OLD}"), root.path().join("current")).unwrap();
        let settings = Settings {
            every: Duration::from_millis(10),
            answer_within: Duration::from_secs(2),
            hang: LONG,
            refusals: 3,
            armed_for: LONG,
            half_for: Duration::from_millis(50),
            stopped_for: LONG,
            term: Duration::from_millis(200),
            kill: LONG,
            restart_within: Duration::from_millis(50),
        };
        let (green_for, bound) = (Duration::from_millis(100), LONG);
        Self { dir, root, versions, settings, green_for, bound, stops: Mutex::default() }
    }

    /// Down to where the service starts its watcher.
    pub(super) fn arm(&self, old_reach: OldReach) {
        let writer = self.versions.write(LONG).unwrap();
        let mut record = Record::new("a".into(), "c".into(), name(OLD), name(NEW));
        record.old_reach = old_reach;
        record.green_for_ms = u64::try_from(self.green_for.as_millis()).unwrap();
        record.bound_ms = u64::try_from(self.bound.as_millis()).unwrap();
        writer.begin(record).unwrap();
        writer.enter(Phase::Staged, None).unwrap();
        writer.enter(Phase::Armed, None).unwrap();
    }

    /// What the service does, and then the launcher.
    pub(super) fn go_over(&self) {
        self.versions.write(LONG).unwrap().switch().unwrap();
        self.launch();
    }

    pub(super) fn launch(&self) -> VersionName {
        launch::prepare(&self.versions).unwrap().version
    }

    /// A trial in which the launcher has counted the first start.
    pub(super) fn on_trial(old_reach: OldReach, set: impl FnOnce(&mut Self)) -> Self {
        let mut host = Self::new();
        set(&mut host);
        host.arm(old_reach);
        host.go_over();
        host
    }

    pub(super) fn watch(&self) -> JoinHandle<Watched> {
        let (stop, stopped) = oneshot::channel();
        self.stops.lock().unwrap().push(stop);
        let stop = async move {
            match stopped.await {
                Ok(()) => "SIGTERM",
                Err(_) => std::future::pending().await,
            }
        };
        let (root, versions, settings) = (self.root.clone(), self.versions.clone(), self.settings.clone());
        tokio::spawn(watch(root, versions, settings, Box::pin(stop)))
    }

    /// As by SIGTERM.
    pub(super) fn stop_watchers(&self) {
        self.stops.lock().unwrap().drain(..).for_each(|it| it.send(()).unwrap());
    }

    pub(super) fn record(&self) -> Record {
        self.versions.see().unwrap().journal.record().unwrap().clone()
    }

    pub(super) async fn until_phase(&self, phase: Phase) -> Record {
        until(phase.as_str(), || self.record().phase == phase).await;
        self.record()
    }

    /// What the old version's program was started with, once it was.
    pub(super) async fn until_started(&self) -> String {
        let path = self.root.path().join("started");
        until("the service is started", || path.exists()).await;
        std::fs::read_to_string(path).unwrap()
    }

    pub(super) fn diagnosis(&self, file: &str) -> PathBuf {
        self.versions.layout().diagnosis(&name(NEW)).join(file)
    }

    pub(super) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }
}

/// What a played service answers.
#[derive(Debug, Clone)]
pub(super) enum Play {
    Answer(Box<HealthReply>),
    Slowly(Duration, Box<HealthReply>),
    Nothing,
}

pub(super) fn reply(
    version: &str,
    hash: &str,
    self_test: SelfTest,
    backend: BackendLink,
) -> Box<HealthReply> {
    let build = Some(Build { version: version.into(), snapshot: false, hash: hash.into() });
    let (pid, started_at) = (std::process::id(), Timestamp::UNIX_EPOCH);
    Box::new(HealthReply { version: version.into(), build, pid, started_at, self_test, backend })
}

/// The new build says this of its self-test and of the backend.
pub(super) fn says(self_test: SelfTest, backend: BackendLink) -> Play {
    Play::Answer(reply("2.0.0", "11111111", self_test, backend))
}

pub(super) fn linked(backend: BackendLink) -> Play {
    says(SelfTest::Answered, backend)
}

pub(super) fn well() -> Play {
    linked(BackendLink::CheckedIn { at: Timestamp::UNIX_EPOCH })
}

pub(super) fn away() -> BackendLink {
    BackendLink::Away { error: "503".into() }
}

pub(super) fn refused() -> BackendLink {
    BackendLink::Refused { error: "401".into() }
}

/// A service in this process. Dropping it lets the root go, as its death does.
pub(super) struct Service {
    play: Arc<Mutex<Play>>,
    task: JoinHandle<()>,
    _lock: RootLock,
}

impl Service {
    pub(super) fn start(host: &Host, play: Play) -> Self {
        let lock = host.root.lock().unwrap();
        let listener = outrider_home::socket::listen(&host.root).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let play = Arc::new(Mutex::new(play));
        let task = tokio::spawn(serve(listener, play.clone()));
        Self { play, task, _lock: lock }
    }

    pub(super) fn plays(&self, play: Play) {
        *self.play.lock().unwrap() = play;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, play: Arc<Mutex<Play>>) {
    // They go down with this task.
    let mut peers = Vec::new();
    loop {
        let (reader, writer) = listener.accept().await.unwrap().0.into_split();
        let mut on = Handlers::new(play.clone());
        on.on::<Health, _, _>(|play: Arc<Arc<Mutex<Play>>>, _| async move {
            let now = play.lock().unwrap().clone();
            Ok::<_, RpcError>(match now {
                Play::Answer(reply) => *reply,
                Play::Slowly(after, reply) => {
                    sleep(after).await;
                    *reply
                }
                Play::Nothing => std::future::pending().await,
            })
        });
        peers.push(outrider_peer::connect(reader, writer, on, outrider_peer::Limits::default()));
    }
}
