//! Whole cycles over trees of real files (`fixtures/collect/valid/cgroup`), and over real cgroups where this machine lets us
//! make some.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::catalogue::*;
use crate::model::{Metric, Time};
use crate::original::Entry;

mod container;
mod kept;

fn moment(millis: u64) -> Moment {
    let nanos = i64::try_from(millis).unwrap() * 1_000_000 + 1_700_000_000_000_000_000;
    Moment { wall: Time::from_unix_nanos(nanos), monotonic: Duration::from_millis(millis) }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/collect/valid/cgroup")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            let _ = fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A tree of v2 with one cgroup.
fn v2(cgroup: &str, kind: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
    copy(&fixtures().join("v2/linux-7.2").join(kind), &dir.path().join(cgroup));
    dir
}

fn open(base: &Path, target: Target) -> Collector {
    with(base, target, Budget::of(1000))
}

fn with(base: &Path, target: Target, budget: Budget) -> Collector {
    let names: Vec<_> =
        fs::read_dir(base).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let layout = Layout::of_tree(base, names.iter().map(String::as_str)).unwrap();
    let mut settings = Settings::of(target);
    settings.cgroup_path = base.into();
    Collector::open(settings, layout, budget).unwrap()
}

fn cycle(collector: &mut Collector, millis: u64) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut troubles) = (Vec::new(), Vec::new());
    collector.cycle(moment(millis), &mut |event| match event {
        Event::Sample(sample) => samples.push(sample.clone()),
        Event::Trouble(trouble) => troubles.push(trouble.to_string()),
    });
    (samples, troubles)
}

fn number(sample: &Sample, metric: &Metric) -> Option<f64> {
    sample.number(metric).map(Number::as_f64)
}

#[test]
fn a_cgroup_of_v2_says_all_that_is_known_of_it() {
    let dir = v2("docker/c0ffee", "oom");
    let (samples, troubles) = cycle(&mut open(dir.path(), Target::Container("c0ffee".into())), 0);
    assert_eq!(troubles, Vec::<String>::new());
    let [sample] = &samples[..] else { panic!("{samples:?}") };
    assert_eq!(number(sample, &RUNNING), Some(1.0));
    assert_eq!(number(sample, &CPU_USAGE), Some(7_989_921_000.0));
    assert_eq!(number(sample, &MEMORY_LIMIT), Some(8_388_608.0));
    assert_eq!(number(sample, &MEMORY_OOM_KILLS), Some(1.0));
    assert_eq!(number(sample, &CPU_LIMIT), None, "no quota is no number");
    assert_eq!(number(sample, &PIDS_LIMIT), None);
    assert_eq!(number(sample, &CPU_USED), None, "the first sample has no rate");
    assert!(sample.points.iter().any(|it| *it.metric == HUGETLB_USAGE && it.tags.get("size") == Some("2MB")));
    for point in &sample.points {
        assert!(point.number.as_f64() < 1e18, "{point:?}");
    }
}

#[test]
fn sizes_of_huge_pages_are_learned_of_the_first_cgroup_that_has_some() {
    let dir = v2("a", "thr");
    for file in fs::read_dir(dir.path().join("a")).unwrap().flatten() {
        if file.file_name().to_str().unwrap().starts_with("hugetlb.") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    let mut collector = open(dir.path(), Target::Below("/".into()));
    let sizes = |sample: &Sample| {
        let usage = sample.points.iter().filter(|it| *it.metric == HUGETLB_USAGE);
        usage.map(|it| it.tags.get("size").unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (samples, _) = cycle(&mut collector, 0);
    assert_eq!(samples.iter().map(sizes).collect::<Vec<_>>(), [[""; 0]], "no cgroup has any");
    copy(&fixtures().join("v2/linux-7.2/mix"), &dir.path().join("b"));
    // Details are due of both.
    let (samples, troubles) = cycle(&mut collector, 100_000);
    assert_eq!(paths(&samples), ["/a", "/b"]);
    assert_eq!(samples.iter().map(sizes).collect::<Vec<_>>(), [vec![], vec!["1GB", "2MB"]]);
    assert_eq!(number(&samples[0], &MEMORY_USAGE), Some(0.0), "its other files are where they were");
    assert_eq!(troubles, Vec::<String>::new());
    let mut both = open(dir.path(), Target::Below("/".into()));
    let (samples, _) = cycle(&mut both, 0);
    assert_eq!(samples.iter().map(sizes).collect::<Vec<_>>(), [vec![], vec!["1GB", "2MB"]], "at once");
}

#[test]
fn a_hybrid_host_gives_the_controllers_of_v1_and_the_pressure_of_v2() {
    let mut collector = open(&fixtures().join("hybrid"), Target::Container("c0ffee".into()));
    let (samples, troubles) = cycle(&mut collector, 0);
    assert_eq!(troubles, Vec::<String>::new());
    let [sample] = &samples[..] else { panic!("{samples:?}") };
    assert_eq!(number(sample, &CPU_USAGE), Some(730_565_764.0), "not that of the unified tree");
    assert_eq!(number(sample, &CPU_LIMIT), Some(100.0));
    assert_eq!(number(sample, &CPU_THROTTLED_PERIODS), Some(69.0));
    assert_eq!(number(sample, &MEMORY_RSS), Some(479_232.0));
    assert_eq!(number(sample, &MEMORY_OOM_KILLS), Some(1.0));
    assert_eq!(number(sample, &SWAP_USAGE), Some(0.0));
    assert_eq!(number(sample, &CPU_SOME), Some(6_520_413_000.0), "of the unified tree");
    assert_eq!(number(sample, &PIDS_LIMIT), Some(50.0));
    let entry = Entry::of(sample, None);
    assert_eq!((entry.memory_limit_mb, entry.pids_current, entry.disk_usage_mb), (64, 3, -1));
}

#[test]
fn rates_are_right_over_half_a_second_and_over_one_and_nine_tenths() {
    let dir = v2("a", "thr");
    let folder = dir.path().join("a");
    let mut collector = open(dir.path(), Target::Path("/a".into()));
    let mut step = |usec: u64, bytes: u64, millis| {
        fs::write(folder.join("cpu.stat"), format!("usage_usec {usec}\n")).unwrap();
        fs::write(folder.join("io.stat"), format!("8:0 rbytes={bytes} wbytes=0 rios=0 wios=0\n")).unwrap();
        let (samples, _) = cycle(&mut collector, millis);
        let sample = samples.into_iter().next().unwrap();
        (number(&sample, &CPU_USED), number(&sample, &IO_READ_RATE))
    };
    assert_eq!(step(1_000_000, 4096, 1000), (None, None));
    assert_eq!(step(1_250_000, 8192, 1500), (Some(500.0), Some(8192.0)));
    assert_eq!(step(3_150_000, 27_192, 3400), (Some(1000.0), Some(10_000.0)));
    assert_eq!(step(10, 0, 4400), (None, None), "a reset does not spike");
    assert_eq!(step(500_010, 1000, 5400), (Some(500.0), Some(1000.0)));
}

/// Limits that are lifted and a disk that goes, as the original's message says it; the files of a memory and a task limit,
/// and how the first one says that there is none.
fn lifted(base: &Path, memory: &str, pids: &str, unlimited: &str) {
    let disk = base.join("disk");
    fs::create_dir(&disk).unwrap();
    let limits = |of_memory, of_pids| {
        fs::write(base.join(memory), of_memory).unwrap();
        fs::write(base.join(pids), of_pids).unwrap();
    };
    limits("67108864\n", "50\n");
    let mut collector = open(base, Target::Container("c0ffee".into()));
    collector.settings.mount_path = Some(disk.clone());
    let mut before = None;
    let mut entry = |millis| {
        let (samples, _) = cycle(&mut collector, millis);
        *before.insert(Entry::of(&samples[0], before.as_ref()))
    };
    let first = entry(0);
    assert_eq!((first.memory_limit_mb, first.pids_limit), (64, 50));
    assert!(first.disk_limit_mb > 0);
    limits(unlimited, "max\n");
    fs::remove_dir(&disk).unwrap();
    // No time has passed, so that nothing is due that is not read each time.
    let between = entry(0);
    assert_eq!((between.memory_limit_mb, between.pids_limit), (64, 50));
    assert_eq!(between.disk_limit_mb, first.disk_limit_mb);
    let then = entry(61_000);
    assert_eq!((then.memory_limit_mb, then.pids_limit), (0, 0));
    assert_eq!((then.disk_usage_mb, then.disk_limit_mb), (-1, -1));
}

#[test]
fn lifted_limits_and_a_disk_that_went_are_gone_from_the_originals_message_as_well() {
    let dir = v2("docker/c0ffee", "mix");
    lifted(dir.path(), "docker/c0ffee/memory.max", "docker/c0ffee/pids.max", "max\n");
    let dir = tempfile::tempdir().unwrap();
    copy(&fixtures().join("hybrid"), dir.path());
    let memory = "memory/docker/c0ffee/memory.limit_in_bytes";
    lifted(dir.path(), memory, "pids/docker/c0ffee/pids.max", "9223372036854771712\n");
}

#[test]
fn a_container_that_comes_back_is_another_source() {
    let dir = v2("docker/c0ffee", "thr");
    let mut collector = open(dir.path(), Target::Container("c0ffee".into()));
    let (first, _) = cycle(&mut collector, 0);
    let folder = dir.path().join("docker/c0ffee");
    // Beside the old one for a moment, so that the file system cannot give it the old one's inode.
    copy(&fixtures().join("v2/linux-7.2/mix"), &dir.path().join("new"));
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(dir.path().join("new"), &folder).unwrap();
    let (then, _) = cycle(&mut collector, 60_000_000);
    assert_eq!(then.len(), 2, "{then:?}");
    assert_eq!(
        (&then[0].source, number(&then[0], &RUNNING)),
        (&first[0].source, Some(0.0)),
        "the last sample"
    );
    assert_eq!(then[0].points.len(), 1);
    assert_ne!(then[1].source.key, first[0].source.key);
    assert_eq!(number(&then[1], &CPU_USED), None, "nothing of its predecessor is counted");
    let usage = then[1].points.iter().find(|it| *it.metric == CPU_USAGE).unwrap();
    assert_eq!(usage.start, Some(moment(60_000_000).wall), "it came while we watched");
}

#[test]
fn a_broken_file_is_told_once_and_costs_nothing_else() {
    let dir = v2("a", "thr");
    fs::write(dir.path().join("a/memory.current"), [0xff, 0xfe]).unwrap();
    fs::write(dir.path().join("a/pids.current"), "").unwrap();
    fs::remove_file(dir.path().join("a/cpu.stat")).unwrap();
    let mut collector = open(dir.path(), Target::Path("a".into()));
    let (samples, troubles) = cycle(&mut collector, 0);
    assert_eq!(troubles.len(), 3, "{troubles:?}");
    for file in ["a/memory.current", "a/pids.current", "a/cpu.stat"] {
        let path = dir.path().join(file).display().to_string();
        assert!(troubles.iter().any(|it| it.contains(&path)), "{path} in {troubles:?}");
    }
    assert!(number(&samples[0], &MEMORY_RSS).is_some());
    for at in 1..5 {
        assert_eq!(cycle(&mut collector, at * 1000).1, Vec::<String>::new());
    }
    fs::write(dir.path().join("a/pids.current"), "7\n").unwrap();
    let (samples, _) = cycle(&mut collector, 70_000);
    assert_eq!(number(&samples[0], &PIDS), Some(7.0), "it is looked at again when limits are due");
}

#[test]
fn an_absent_container_is_told_once_and_found_when_it_comes() {
    let dir = v2("docker/c0ffee", "thr");
    let mut collector = open(dir.path(), Target::Container("decaf".into()));
    let (samples, troubles) = cycle(&mut collector, 0);
    assert!(troubles[0].contains("decaf"), "{troubles:?}");
    let (again, told) = cycle(&mut collector, 100_000);
    assert!(told.is_empty(), "{told:?}");
    for samples in [samples, again] {
        let [sample] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!((number(sample, &RUNNING), sample.points.len()), (Some(0.0), 1));
        assert!(sample.source.tags.iter().any(|it| it.name == "container" && &*it.value == "decaf"));
    }
    copy(&fixtures().join("v2/linux-7.2/mix"), &dir.path().join("docker/decaf"));
    let (samples, _) = cycle(&mut collector, 101_000);
    assert_eq!(samples.len(), 1, "the kernel's word brings it, not the interval");
    assert_eq!(number(&samples[0], &RUNNING), Some(1.0));
    fs::remove_dir_all(dir.path().join("docker/decaf")).unwrap();
    for at in [102_000, 103_000, 104_000] {
        let (samples, _) = cycle(&mut collector, at);
        let [sample] = &samples[..] else { panic!("{at}: {samples:?}") };
        assert_eq!(number(sample, &RUNNING), Some(0.0), "{at}");
    }
}

#[test]
fn a_path_that_is_not_there_yet_is_found_by_the_kernels_word() {
    let dir = v2("other", "thr");
    // Without descriptors, since a plain file can still be read when its folder is gone.
    let open = |target| with(dir.path(), target, Budget::of(0));
    let mut one = open(Target::Path("/x/y/z".into()));
    let mut below = open(Target::Below("/x/y".into()));
    let (samples, troubles) = cycle(&mut one, 0);
    assert!(samples.is_empty() && troubles[0].contains("x/y/z"), "{troubles:?}");
    let (samples, troubles) = cycle(&mut below, 0);
    assert!(samples.is_empty() && troubles[0].contains("x/y"), "{troubles:?}");
    // Each step is a second, and no look is due by the interval before ten.
    for (at, folder) in [(1, "x"), (2, "x/y")] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for collector in [&mut one, &mut below] {
            assert_eq!(cycle(collector, at * 1000), (Vec::new(), Vec::new()), "{folder}");
        }
    }
    copy(&fixtures().join("v2/linux-7.2/mix"), &dir.path().join("x/y/z"));
    for collector in [&mut one, &mut below] {
        assert_eq!(paths(&cycle(collector, 3000).0), ["/x/y/z"]);
    }
    // All of the way goes and comes: the watches of before are gone with their folders.
    fs::rename(dir.path().join("x"), dir.path().join("old")).unwrap();
    for collector in [&mut one, &mut below] {
        assert_eq!(number(&cycle(collector, 4000).0[0], &RUNNING), Some(0.0));
    }
    copy(&fixtures().join("v2/linux-7.2/mix"), &dir.path().join("x/y/z"));
    for collector in [&mut one, &mut below] {
        assert_eq!(paths(&cycle(collector, 5000).0), ["/x/y/z"]);
    }
}

#[test]
fn without_the_kernels_word_a_path_is_looked_for_at_the_interval() {
    let dir = v2("other", "thr");
    let mut collector = open(dir.path(), Target::Path("/x".into()));
    collector.watch = None;
    assert!(cycle(&mut collector, 0).0.is_empty());
    copy(&fixtures().join("v2/linux-7.2/mix"), &dir.path().join("x"));
    assert!(cycle(&mut collector, 9_900).0.is_empty());
    assert_eq!(paths(&cycle(&mut collector, 10_000).0), ["/x"]);
}

fn paths(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|it| it.source.tags.get("cgroup").unwrap()).collect()
}

#[test]
fn all_below_a_path_come_and_go_up_to_a_bound() {
    let dir = v2("x/a", "thr");
    copy(&fixtures().join("v2/linux-7.2/mix"), &dir.path().join("x/b/c"));
    let mut collector = open(dir.path(), Target::Below("/x".into()));
    assert_eq!(paths(&cycle(&mut collector, 0).0), ["/x/a", "/x/b", "/x/b/c"]);
    collector.settings.max_cgroups = 1;
    fs::create_dir(dir.path().join("x/d")).unwrap();
    let (samples, troubles) = cycle(&mut collector, 100_000);
    assert!(troubles.iter().any(|it| it.contains("4 cgroups are there") && it.contains("3 are left out")));
    assert_eq!(collector.count(), 1);
    assert_eq!(paths(&samples), ["/x/a"], "those that are left out are still there");
    assert_eq!(number(&samples[0], &RUNNING), Some(1.0));
}

#[test]
fn what_is_measured_stays_when_a_newcomer_has_an_earlier_path() {
    let dir = v2("x/b", "thr");
    let mix = fixtures().join("v2/linux-7.2/mix");
    copy(&mix, &dir.path().join("x/c"));
    let mut collector = open(dir.path(), Target::Below("/x".into()));
    collector.settings.max_cgroups = 2;
    let (first, _) = cycle(&mut collector, 0);
    copy(&mix, &dir.path().join("x/a"));
    let (then, troubles) = cycle(&mut collector, 100_000);
    assert_eq!(paths(&then), ["/x/b", "/x/c"]);
    for (before, after) in first.iter().zip(&then) {
        assert_eq!((&after.source, number(after, &RUNNING)), (&before.source, Some(1.0)));
    }
    assert!(
        troubles.iter().any(|it| it.contains("3 cgroups are there, and max_cgroups is 2")),
        "{troubles:?}"
    );
    fs::remove_dir_all(dir.path().join("x/b")).unwrap();
    let (last, _) = cycle(&mut collector, 200_000);
    assert_eq!(paths(&last), ["/x/b", "/x/a", "/x/c"]);
    assert_eq!(number(&last[0], &RUNNING), Some(0.0), "it went");
    let usage = last[1].points.iter().find(|it| *it.metric == CPU_USAGE).unwrap();
    assert_eq!(usage.start, None, "it waited for room, and was there before");
}

#[test]
fn without_descriptors_everything_is_still_read() {
    let dir = v2("a", "thr");
    let mut kept = open(dir.path(), Target::Path("/a".into()));
    let mut opened = with(dir.path(), Target::Path("/a".into()), Budget::of(0));
    for at in 0..3 {
        assert_eq!(cycle(&mut kept, at * 1000), cycle(&mut opened, at * 1000));
    }
    fs::remove_dir_all(dir.path().join("a")).unwrap();
    assert_eq!(number(&cycle(&mut opened, 3000).0[0], &RUNNING), Some(0.0));
}

/// Real cgroups, where they may be made: this test runs as root on hosts that have a tree it may write to.
#[test]
fn real_cgroups_are_read_and_their_end_is_seen() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Ok(layout) = Layout::of_mounts(&mounts, Path::new("/sys/fs/cgroup")) else { return };
    let name = format!("outrider-test-{}", std::process::id());
    let folders: Vec<_> = layout.points().iter().map(|it| it.join(&name)).collect();
    let make = || folders.iter().all(|it| fs::create_dir(it).is_ok());
    let unmake = || folders.iter().for_each(|it| drop(fs::remove_dir(it)));
    if !make() {
        return unmake();
    }
    let mut collector = Collector::open(Settings::of(Target::Path(name)), layout, Budget::of(100)).unwrap();
    let (first, troubles) = cycle(&mut collector, 0);
    unmake();
    let (last, _) = cycle(&mut collector, 1000);
    let again = make();
    let (new, _) = cycle(&mut collector, 2000);
    unmake();
    assert_eq!(troubles, Vec::<String>::new());
    assert_eq!(number(&first[0], &MEMORY_USAGE), Some(0.0), "{first:?}");
    assert_eq!(number(&last[0], &RUNNING), Some(0.0));
    assert!(again && new[0].source.key != first[0].source.key, "{new:?}");
}
