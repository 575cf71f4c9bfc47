//! The keeper where there is no room: it waits, loses nothing, and ends its wait.

use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use outrider_home::unchanged::Delivery;
use outrider_home::{Checkpoints, Claim, Limits, Prepared, Root};
use outrider_spool::{Settings, Spool};

use super::*;

/// A wait in which a spool that nothing can empty is given up at the second look.
const HOPELESS: u64 = 999;

/// What is to be left free on the disk.
const LEFT_FREE: u64 = 1000;

/// A keeper on a spool whose only other file fills it.
struct World {
    _folder: tempfile::TempDir,
    root: Root,
    spool: Spool,
    blocker: PathBuf,
    /// The keeper's, which lets go of the store when it ends.
    values: Weak<Values>,
    keeper: Keeper,
    sealed: mpsc::Receiver<Sealed>,
}

impl World {
    fn new(linked: bool, wait_s: u64) -> Self {
        Self::with(linked, wait_s, 10_000, |_| {})
    }

    /// With a file of so many bytes that waits, and a room that was changed.
    fn with(linked: bool, wait_s: u64, waits: usize, change: impl FnOnce(&mut Room)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        root.create().unwrap();
        let spool =
            Spool::open(root.spool(), Settings { total_bytes: 10_000, ..Settings::default() }).unwrap();
        let blocker = spool.dir().join("earlier/a.B/0.json.gz");
        std::fs::create_dir_all(blocker.parent().unwrap()).unwrap();
        std::fs::write(&blocker, vec![0; waits]).unwrap();
        let checkpoints = Checkpoints::open(&root, Duration::ZERO).unwrap();
        let run = outrider_protocol::ids::ExportId::new("e1").unwrap();
        let (unchanged, _) =
            outrider_home::Unchanged::open(&root, &checkpoints, &run, &|_, _| Delivery::Waits);
        let backend = Arc::new(Backend::over(unchanged));
        let values = Arc::new(Values::stored(checkpoints).sharing(true));
        let mut limits = Limits::default();
        (limits.spool_wait_s, limits.spool_free_bytes) = (wait_s, LEFT_FREE);
        let mut room = Room::new(spool.clone(), &limits, linked);
        room.hopeless = Duration::from_secs(if wait_s == HOPELESS { 0 } else { 1000 });
        // Whatever the disk of the tests has.
        room.disk.free_of = |_| None;
        change(&mut room);
        let (tell, sealed) = mpsc::channel(64);
        let kept = Arc::downgrade(&values);
        let keeper = Keeper::start(spool.export("e1").unwrap(), values, backend, room, tell).unwrap();
        Self { _folder: folder, root, spool, blocker, values: kept, keeper, sealed }
    }

    async fn append(&self, session: u64, objects: usize) {
        let lines = r#"{"id":"1"}"#.to_owned() + "\n";
        let lines = lines.repeat(objects).into_bytes();
        let (origin, model) = (IntegrationId::new("mock").unwrap(), Model::new("a.B").unwrap());
        self.keeper.append(SessionId(session), origin, model, lines.into()).await.unwrap();
    }

    /// One object that takes so many bytes with its line feed.
    async fn append_bytes(&self, session: u64, bytes: usize) {
        let object = format!("{{\"id\":\"{}\"}}\n", "1".repeat(bytes - 10));
        let (origin, model) = (IntegrationId::new("mock").unwrap(), Model::new("a.B").unwrap());
        self.keeper.append(SessionId(session), origin, model, object.into_bytes().into()).await.unwrap();
    }

    /// Objects that are as large compressed as they are.
    async fn append_noise(&self, session: u64) {
        let noise = |n: u64| (session * 1000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let lines: String = (0..200).map(|n| format!("{{\"id\":\"{:x}\"}}\n", noise(n))).collect();
        let (origin, model) = (IntegrationId::new("mock").unwrap(), Model::new("a.B").unwrap());
        self.keeper.append(SessionId(session), origin, model, lines.into_bytes().into()).await.unwrap();
    }

    fn finished(session: u64) -> Finished {
        let path =
            SessionPath::of(IntegrationId::new("mock").unwrap()).join("a.B", Some(session.to_string()));
        let last_processed = Some(serde_json::value::to_raw_value(&session).unwrap());
        Finished { session: SessionId(session), path, last_processed }
    }

    /// The sessions whose values the report may carry.
    fn shared(&self) -> Vec<String> {
        let values = self.values.upgrade().unwrap();
        let shared = values.shared(&IntegrationId::new("mock").unwrap(), &str::to_owned).unwrap();
        shared.values.iter().map(|it| it.path[0].1.clone().unwrap()).collect()
    }

    /// Lets time pass until the keeper waits for room, or no longer does.
    async fn until_waits(&self, waits: bool) {
        let looked = async {
            while self.keeper.waits().is_some() != waits {
                self.keeper.tick();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), looked).await.unwrap();
    }
}

/// A second root as a process that is killed now would leave it.
fn as_after_a_kill(root: &Root) -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    let copy = Root::at(folder.path());
    copy.create().unwrap();
    for from in files_below(root.path()) {
        let to = copy.path().join(from.strip_prefix(root.path()).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
    (folder, copy)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries.flat_map(|it| if it.is_dir() { files_below(&it) } else { vec![it] }).collect()
}

/// The backend acknowledges all that is in a spool, and nothing of it is kept any longer.
fn acknowledge_and_expire(spool: &Spool) {
    spool.recover().unwrap();
    for file in spool.pending().unwrap().files {
        spool.acknowledge(&file).unwrap();
    }
    let later = SystemTime::now() + Duration::from_secs(60);
    let removed = spool.expire_sent(Duration::ZERO, later, &[].into()).unwrap();
    assert!(removed.failed.is_empty(), "{:?}", removed.failed);
}

fn objects(files: &[Sealed]) -> u64 {
    files.iter().map(|it| it.records).sum()
}

#[tokio::test]
async fn what_finds_no_room_waits_and_is_written_as_a_whole_when_there_is_some() {
    let mut world = World::new(true, 1000);
    world.append(1, 7).await;
    world.append(1, 5).await;
    world.until_waits(true).await;
    assert_eq!(world.keeper.waits().unwrap().why(), "spool full, waiting for the backend");
    let commit = world.keeper.commit(World::finished(1));
    tokio::pin!(commit);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut commit).await;
    assert!(early.is_err(), "it is not answered before there is room");
    std::fs::remove_file(&world.blocker).unwrap();
    world.until_waits(false).await;
    assert_eq!(commit.await.unwrap().objects, 12);
    world.keeper.finish().await.unwrap();
    assert_eq!(objects(&world.spool.pending().unwrap().files), 12);
    assert_eq!(world.sealed.recv().await.map(|it| it.records), Some(12));
}

#[tokio::test]
async fn a_session_that_is_rolled_back_while_it_waits_leaves_nothing() {
    let world = World::new(true, 1000);
    world.append(1, 7).await;
    world.append(2, 3).await;
    world.until_waits(true).await;
    world.keeper.forget(vec![SessionId(1)]).await;
    std::fs::remove_file(&world.blocker).unwrap();
    assert_eq!(world.keeper.commit(World::finished(1)).await.unwrap().objects, 0);
    world.until_waits(false).await;
    assert_eq!(world.keeper.commit(World::finished(2)).await.unwrap().objects, 3);
    world.keeper.finish().await.unwrap();
    assert_eq!(objects(&world.spool.pending().unwrap().files), 3);
}

#[tokio::test]
async fn a_wait_ends_with_the_order_and_after_its_limit() {
    for (wait_s, cancelled, expected) in [(1000, true, "the end"), (1, false, "waited 1 s for room")] {
        let world = World::new(true, wait_s);
        world.append(1, 7).await;
        world.until_waits(true).await;
        let commit = world.keeper.commit(World::finished(1));
        if cancelled {
            world.keeper.give_up("the end");
        }
        let (err, ()) = tokio::join!(commit, world.until_waits(false));
        let err = err.unwrap_err().to_string();
        assert!(err.contains(expected), "{err}");
        assert!(world.keeper.intact().is_err());
        world.keeper.finish().await.unwrap();
        assert_eq!(objects(&world.spool.pending().unwrap().files), 0);
    }
}

#[tokio::test]
async fn a_spool_that_open_sessions_fill_by_themselves_is_not_waited_for() {
    let world = World::new(true, HOPELESS);
    world.append(1, 7).await;
    let commit = world.keeper.commit(World::finished(2));
    commit.await.unwrap();
    world.until_waits(true).await;
    world.until_waits(false).await;
    let err = world.keeper.intact().unwrap_err();
    assert!(err.to_string().contains("fill the spool by themselves") && err.hint.is_some(), "{err}");
}

#[tokio::test]
async fn the_report_carries_the_values_of_sessions_that_were_committed_and_of_no_others() {
    let world = World::with(true, 1000, 0, |_| {});
    for session in [1, 2, 3] {
        world.append(session, 7).await;
    }
    world.keeper.forget(vec![SessionId(2)]).await;
    assert_eq!(world.shared(), [""; 0]);
    world.keeper.commit(World::finished(3)).await.unwrap();
    // Without objects.
    world.keeper.commit(World::finished(4)).await.unwrap();
    world.keeper.commit(Finished { last_processed: None, ..World::finished(5) }).await.unwrap();
    world.keeper.commit(World::finished(1)).await.unwrap();
    assert_eq!(world.shared(), ["3", "4", "1"]);
}

#[tokio::test]
async fn the_report_carries_no_value_of_what_waits_for_room_or_was_given_up() {
    let world = World::new(true, 1000);
    world.append(1, 7).await;
    world.until_waits(true).await;
    let commit = world.keeper.commit(World::finished(1));
    tokio::pin!(commit);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut commit).await;
    assert!(early.is_err() && world.shared().is_empty());
    world.keeper.give_up("the end");
    let (err, ()) = tokio::join!(commit, world.until_waits(false));
    assert!(err.is_err() && world.shared().is_empty());
}

#[tokio::test]
async fn by_hand_nothing_is_waited_for() {
    let world = World::new(false, 1000);
    world.append(1, 7).await;
    let err = world.keeper.commit(World::finished(1)).await.unwrap_err().to_string();
    assert!(err.contains("limits.spool_bytes allows 10000"), "{err}");
}

/// What is free on the disk of the one test that asks for it.
static FREE: AtomicU64 = AtomicU64::new(LEFT_FREE);

#[tokio::test]
async fn a_disk_that_fills_up_while_an_export_runs_pauses_it_until_there_is_room() {
    let world = World::with(true, 1000, 10, |room| room.disk.free_of = |_| Some(FREE.load(Ordering::SeqCst)));
    world.append(1, 4).await;
    world.keeper.commit(World::finished(1)).await.unwrap();
    assert_eq!(world.keeper.waits(), None, "just enough is free");
    FREE.store(LEFT_FREE - 1, Ordering::SeqCst);
    let mut session = 2;
    let paused = async {
        while world.keeper.waits().is_none() {
            world.append(session, 1).await;
            session += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), paused).await.unwrap();
    assert_eq!(
        world.keeper.waits(),
        Some(Shortage::Disk { free: LEFT_FREE - 1, limit: LEFT_FREE, stuck: None })
    );
    FREE.store(LEFT_FREE, Ordering::SeqCst);
    world.until_waits(false).await;
    for session in 2..session {
        assert_eq!(world.keeper.commit(World::finished(session)).await.unwrap().objects, 1);
    }
}

#[tokio::test]
async fn files_that_wait_for_too_long_pause_an_export_that_runs_until_they_are_gone() {
    for linked in [true, false] {
        let world = World::with(linked, 1000, 10, |_| {});
        let long_ago = SystemTime::now() - Limits::default().spool_age() - Duration::from_secs(1);
        std::fs::File::options().write(true).open(&world.blocker).unwrap().set_modified(long_ago).unwrap();
        world.append(1, 4).await;
        if linked {
            world.until_waits(true).await;
            assert!(matches!(world.keeper.waits(), Some(Shortage::Age { .. })), "{:?}", world.keeper.waits());
            std::fs::remove_file(&world.blocker).unwrap();
            world.until_waits(false).await;
            assert_eq!(world.keeper.commit(World::finished(1)).await.unwrap().objects, 4);
        } else {
            let err = world.keeper.commit(World::finished(1)).await.unwrap_err().to_string();
            assert!(err.contains("limits.spool_age_s allows 2592000 s"), "{err}");
        }
    }
}

#[tokio::test]
async fn a_file_that_grows_for_long_is_none_that_waits() {
    let world = World::with(true, 1000, 10, |_| {});
    let growing = world.blocker.with_file_name("0.json.gz.part");
    std::fs::rename(&world.blocker, &growing).unwrap();
    let file = std::fs::File::options().write(true).open(growing).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    world.append(1, 4).await;
    assert_eq!(world.keeper.commit(World::finished(1)).await.unwrap().objects, 4);
}

#[tokio::test]
async fn what_is_in_flight_is_bounded_so_that_a_source_is_no_faster_than_the_disk() {
    let world = World::new(true, 1000);
    // Each takes a little more than its MiB of the 8.
    for session in 1..=7 {
        world.append_bytes(session, 1 << 20).await;
    }
    world.until_waits(true).await;
    let next = world.append_bytes(8, 1 << 20);
    tokio::pin!(next);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut next).await;
    assert!(early.is_err(), "it is not accepted before there is room");
    std::fs::remove_file(&world.blocker).unwrap();
    tokio::join!(next, world.until_waits(false));
    for session in 1..=8 {
        assert_eq!(world.keeper.commit(World::finished(session)).await.unwrap().bytes, 1 << 20);
    }
}

#[tokio::test]
async fn what_needs_no_room_goes_ahead_of_what_waits() {
    let world = World::new(true, 1000);
    std::fs::remove_file(&world.blocker).unwrap();
    world.append(1, 4).await;
    let mut session = 2;
    while world.spool.usage().unwrap().bytes < 10_000 {
        world.append_noise(session).await;
        world.keeper.commit(World::finished(session)).await.unwrap();
        session += 1;
    }
    world.append(session, 5).await;
    world.until_waits(true).await;
    assert_eq!(world.keeper.commit(World::finished(1)).await.unwrap().objects, 4);
    assert!(world.keeper.waits().is_some());
}

#[tokio::test]
async fn an_answered_value_is_kept_after_a_kill_though_its_objects_were_acknowledged_and_expired() {
    let world = World::new(true, 1000);
    std::fs::remove_file(&world.blocker).unwrap();
    world.append(1, 4).await;
    world.keeper.commit(World::finished(1)).await.unwrap();
    let (_folder, root) = as_after_a_kill(&world.root);
    let spool = Spool::open(root.spool(), Settings::default()).unwrap();
    acknowledge_and_expire(&spool);
    let checkpoints = Checkpoints::open(&root, Duration::ZERO).unwrap();
    assert_eq!(decide(&checkpoints, &spool).unwrap(), (1, 0));
    assert!(checkpoints.get(&World::finished(1).path).unwrap().is_some());
    acknowledge_and_expire(&spool);
    assert!(!spool.dir().join("e1").exists(), "what is decided is asked about by nobody");
}

#[tokio::test]
async fn what_was_not_committed_is_dropped_after_a_kill_though_all_before_was_acknowledged() {
    let world = World::new(true, 1000);
    std::fs::remove_file(&world.blocker).unwrap();
    world.append(1, 4).await;
    world.keeper.commit(World::finished(1)).await.unwrap();
    let (_folder, root) = as_after_a_kill(&world.root);
    let spool = Spool::open(root.spool(), Settings::default()).unwrap();
    let checkpoints = Checkpoints::open(&root, Duration::ZERO).unwrap();
    decide(&checkpoints, &spool).unwrap();
    // The next life of the export dies between the doubt and the commit.
    let mut writer = spool.export("e1").unwrap();
    let mut session = writer.session("mock", "a.B");
    session.append(br#"{"id":"2"}"#).unwrap();
    let place = writer.places(&mut [session]).unwrap().remove(0).unwrap();
    let claim = Claim { export: "e1".into(), model: place.model, number: place.number, from: place.from };
    let Finished { path, last_processed, .. } = World::finished(2);
    let prepared = Prepared { path: path.clone(), value: last_processed.unwrap(), beside: None, claim };
    checkpoints.prepare(&[prepared]).unwrap();
    drop(writer);
    acknowledge_and_expire(&spool);
    assert_eq!(decide(&checkpoints, &spool).unwrap(), (0, 1));
    assert!(checkpoints.get(&path).unwrap().is_none());
}

#[tokio::test]
async fn a_finished_export_leaves_nothing_in_doubt_and_is_removed_when_it_is_old() {
    let world = World::new(true, 1000);
    std::fs::remove_file(&world.blocker).unwrap();
    world.append(1, 4).await;
    world.keeper.commit(World::finished(1)).await.unwrap();
    world.keeper.finish().await.unwrap();
    // Whoever has the store open is gone when it is answered, so that it can be opened again.
    let checkpoints = Checkpoints::open(&world.root, Duration::ZERO).unwrap();
    assert!(checkpoints.in_doubt().unwrap().is_empty());
    assert!(checkpoints.get(&World::finished(1).path).unwrap().is_some());
    acknowledge_and_expire(&world.spool);
    assert!(!world.spool.dir().join("e1").exists());
}
