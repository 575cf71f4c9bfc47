//! Upgrades: for how long no service runs, how soon a bad version is undone, how fast a package comes into place, and what
//! memory that takes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use outrider_backend::admin::CommandState;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeState};
use outrider_versions::Phase;
use serde_json::json;

use crate::measure::{OUTRIDER, Table, best, memory_kib, mib, shell, size_below};
use crate::world::{World, make_program, programs};

/// Upgrades of which the middle one counts.
const TIMES: usize = 20;

pub(crate) fn run(table: &mut Table) {
    gaps(table);
    undone(table);
    into_place(table);
    memory(table);
}

/// From 'The service stops.' to 'Connected to the backend.', by the log's own times.
fn gaps(table: &mut Table) {
    let world = World::start();
    let versions = ["1.1.0", "1.2.0"];
    for version in versions {
        world.publish(version, &programs());
    }
    for turn in 0..TIMES {
        let version = versions[turn % 2].to_owned();
        let order = UpgradeOrder { version: Some(version), allow_downgrade: true, ..UpgradeOrder::default() };
        let (state, report) = world.upgrade(order);
        assert_eq!((state, report.state), (CommandState::Done, UpgradeState::Done), "{report:?}");
    }
    let log = fs::read_to_string(world.root().join("system.out")).expect("the service's log");
    let at = |line: &str| line.split(' ').next().and_then(|it| it.parse::<Timestamp>().ok());
    let (mut stops, mut gaps) = (None, Vec::new());
    for line in log.lines() {
        if line.contains("The service stops.") {
            stops = at(line);
        }
        if line.contains("Connected to the backend")
            && let (Some(from), Some(to)) = (stops.take(), at(line))
        {
            gaps.push(to.duration_since(from).as_millis());
        }
    }
    gaps.sort_unstable();
    let (middle, most) = (gaps.get(gaps.len() / 2), gaps.last());
    table.row(
        "no service running in an upgrade: from its stop to the next one's check-in",
        format!("{} ms, at most {} ms ({} upgrades)", middle.unwrap_or(&0), most.unwrap_or(&0), gaps.len()),
        "at most 1 s (median)",
    );
}

/// From the switch to the backend's having the outcome, with the old version running again.
fn undone(table: &mut Table) {
    for (what, script, goal) in [
        ("a version that crashes: from the switch until it is undone and told", "exit 1", "at most 10 s"),
        ("a version that hangs (hang limit 3 s): the same", "exec sleep 1000", "at most 30 s"),
    ] {
        let world = World::start();
        world.publish_script("1.1.0", &format!("#!/bin/sh\n{script}\n"));
        let id = world.order("1.1.0");
        while world.record().is_none_or(|it| it.phase < Phase::Switched) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let began = Instant::now();
        let (_, report) = world.outcome(&id);
        assert_eq!(report.state, UpgradeState::RolledBack, "{report:?}");
        world.until_runs("1.0.0");
        table.row(what, format!("{:.1} s", began.elapsed().as_secs_f64()), goal);
    }
    // The same with what is usual: a hang is found after its limit and a look. An answer may be waited for for 2 s, and the
    // end of the process for 4.
    let found = outrider_home::Limits::default().upgrade_hang() + Duration::from_millis(500);
    let most = (found + Duration::from_secs(2 + 4)).as_secs_f64();
    table.row("the same with the usual limits, computed", format!("{most:.1} s"), "at most 30 s");
}

/// Upgrades by hand, without a service.
struct ByHand {
    /// To the verified tree in its place.
    placed: Duration,
    /// To the switch, before which all of it is read once more.
    switched: Duration,
    /// The most memory of the process.
    kib: u64,
}

fn by_hand(world: &World, version: &str, root: &Path) -> ByHand {
    let began = Instant::now();
    let mut child = Command::new(OUTRIDER)
        .args(["upgrade", "--version", version, "--source"])
        .arg(world.mirror())
        .arg("--root")
        .arg(root)
        .env_remove("OUTRIDER_ROOT")
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the upgrade");
    let out = child.stdout.take().expect("a pipe");
    let says = std::thread::spawn(move || {
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let placed = lines.any(|it| it.contains("verified and in place")).then(Instant::now);
        lines.for_each(drop);
        placed.expect("the upgrade by hand puts the version into place")
    });
    let mut kib = 0;
    let status = loop {
        kib = memory_kib(child.id(), "VmHWM").unwrap_or_default().max(kib);
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let switched = began.elapsed();
    assert!(status.success(), "the upgrade by hand failed");
    ByHand { placed: says.join().expect("its output") - began, switched, kib }
}

/// A root like the world's, without what was switched to.
fn copy_of(world: &World, name: &str) -> PathBuf {
    let copy = world.stack.dir.path().join(name);
    shell(&format!("rm -rf {1} && cp -a {0} {1} && sync", world.root().display(), copy.display()));
    copy
}

fn still() -> World {
    let mut world = World::with(&json!({}));
    world.stop_system();
    world
}

fn into_place(table: &mut Table) {
    let world = still();
    let contents = world.stack.dir.path().join("contents");
    fs::create_dir_all(&contents).expect("a folder");
    // The agent's own programs, some times over, as the integrations of a package are.
    shell(&format!(
        "cp -r {0}/. {1} && for n in 1 2 3 4 5 6; do cp {0}/outrider {1}/integrations/more-$n; done",
        programs().display(),
        contents.display()
    ));
    let package = world.publish("1.1.0", &contents);
    let scratch = world.stack.dir.path().join("scratch");
    let ours: Vec<_> = (0..3).map(|_| by_hand(&world, "1.1.0", &copy_of(&world, "ours"))).collect();
    let fastest = |time: fn(&ByHand) -> Duration| ours.iter().map(time).min().unwrap_or_default();
    let (placed, switched) = (fastest(|it| it.placed), fastest(|it| it.switched));
    // Ours is durable when it is in place; with the last step theirs is, too.
    let [theirs, durable] = ["", " && find . -type f -exec sync {} +"].map(|then| {
        best(3, || {
            shell(&format!(
                "rm -rf {0} && mkdir {0} && cd {0} && cp {1} a && sha512sum a > /dev/null && tar xzf a{then}",
                scratch.display(),
                package.display()
            ));
        })
    });
    table.row(
        "an upgrade by hand to the verified, durable tree, against cp + sha512sum + tar xzf of its package",
        format!(
            "{:.2}, {:.2} where theirs is synced ({:.2} s, and {:.2} s to the switch; to {:.2} and {:.2} s; {:.0} MiB in {:.0} \
             MiB)",
            placed.as_secs_f64() / theirs.as_secs_f64(),
            placed.as_secs_f64() / durable.as_secs_f64(),
            placed.as_secs_f64(),
            switched.as_secs_f64(),
            theirs.as_secs_f64(),
            durable.as_secs_f64(),
            mib(size_below(&contents)),
            mib(fs::metadata(&package).map_or(0, |it| it.len())),
        ),
        "at most 1",
    );
}

fn memory(table: &mut Table) {
    for megabytes in [50, 500] {
        let world = still();
        let contents = world.stack.dir.path().join("contents");
        fs::create_dir_all(&contents).expect("a folder");
        make_program(&contents.join("outrider"), "#!/bin/sh\nexit 1\n");
        random(&contents.join("data"), megabytes);
        let package = world.publish("1.1.0", &contents);
        let kib = by_hand(&world, "1.1.0", &world.root()).kib;
        table.row(
            &format!("the most memory of an upgrade action, {megabytes} MB that do not compress"),
            format!(
                "{:.1} MiB (package of {:.0} MiB)",
                mib(kib * 1024),
                mib(fs::metadata(package).map_or(0, |it| it.len()))
            ),
            "at most 40 MiB",
        );
    }
}

/// A file of so many MB (10^6) of the system's random bytes.
fn random(path: &Path, megabytes: u64) {
    let mut source = fs::File::open("/dev/urandom").expect("random bytes").take(megabytes * 1_000_000);
    let mut file = fs::File::create(path).expect("a file");
    std::io::copy(&mut source, &mut file).expect("random bytes");
    file.flush().expect("random bytes");
}
