//! What a container does, in numbers that are not zero, and what is around it: its network, its start, its disk.

use super::*;

/// A tree of v2 with a container whose first process is 7, and a folder of processes beside it.
fn with_process() -> (tempfile::TempDir, PathBuf) {
    let dir = v2("docker/c0ffee", "mix");
    fs::write(dir.path().join("docker/c0ffee/cgroup.procs"), "7\n8\n").unwrap();
    let proc = dir.path().join("proc");
    for (pid, namespace) in [("1", "net:[1]"), ("7", "net:[2]")] {
        fs::create_dir_all(proc.join(pid).join("ns")).unwrap();
        std::os::unix::fs::symlink(namespace, proc.join(pid).join("ns/net")).unwrap();
    }
    let given = fixtures().join("../proc");
    fs::create_dir(proc.join("7/net")).unwrap();
    fs::copy(given.join("net_dev.txt"), proc.join("7/net/dev")).unwrap();
    fs::copy(given.join("stat.txt"), proc.join("7/stat")).unwrap();
    fs::write(proc.join("stat"), "cpu 1\nbtime 1700000000\n").unwrap();
    (dir, proc)
}

fn container(base: &Path, proc: &Path) -> Collector {
    let mut collector = open(base, Target::Container("c0ffee".into()));
    collector.settings.proc_path = proc.into();
    collector
}

fn of_interface(sample: &Sample, metric: &Metric, interface: &str) -> Option<f64> {
    let is_it =
        |it: &&crate::model::Point| *it.metric == *metric && it.tags.get("interface") == Some(interface);
    sample.points.iter().find(is_it).map(|it| it.number.as_f64())
}

fn has_network(sample: &Sample) -> bool {
    sample.points.iter().any(|it| it.metric.name.starts_with("container.network."))
}

#[test]
fn the_network_of_a_containers_namespace_and_its_start_are_measured() {
    let (dir, proc) = with_process();
    let (samples, troubles) = cycle(&mut container(dir.path(), &proc), 0);
    assert_eq!(troubles, Vec::<String>::new());
    let sample = &samples[0];
    for (metric, expected) in [
        (&NETWORK_RECEIVED, 1_146_979_165.0),
        (&NETWORK_RECEIVED_PACKETS, 46_752.0),
        (&NETWORK_SENT, 3_241_284.0),
        (&NETWORK_SENT_PACKETS, 31_410.0),
    ] {
        assert_eq!(of_interface(sample, metric, "eth0"), Some(expected), "{}", metric.name);
        assert_eq!(of_interface(sample, metric, "lo"), None, "it leads nowhere");
    }
    // 2946358 hundredths of a second after the machine.
    assert_eq!(number(sample, &STARTED), Some(1_700_029_463.0));
    assert_eq!(number(sample, &DISK_LIMIT), None, "no mount is named");
}

#[test]
fn a_container_in_the_hosts_namespace_has_no_network_of_its_own() {
    let (dir, proc) = with_process();
    fs::remove_file(proc.join("7/ns/net")).unwrap();
    std::os::unix::fs::symlink("net:[1]", proc.join("7/ns/net")).unwrap();
    let (samples, troubles) = cycle(&mut container(dir.path(), &proc), 0);
    assert_eq!(troubles, Vec::<String>::new());
    assert!(!has_network(&samples[0]), "{samples:?}");
    assert!(number(&samples[0], &STARTED).is_some(), "it has a start nevertheless");
}

#[test]
fn a_process_that_ended_meanwhile_is_no_trouble_and_a_broken_file_is_told_once() {
    let (dir, proc) = with_process();
    fs::write(proc.join("7/net/dev"), "neither\n").unwrap();
    let mut collector = container(dir.path(), &proc);
    let (samples, troubles) = cycle(&mut collector, 0);
    assert!(!has_network(&samples[0]));
    assert!(matches!(&troubles[..], [it] if it.contains("7/net/dev")), "{troubles:?}");
    assert_eq!(cycle(&mut collector, 60_000).1, Vec::<String>::new());
    fs::remove_dir_all(proc.join("7")).unwrap();
    let (samples, troubles) = cycle(&mut container(dir.path(), &proc), 0);
    assert!(!has_network(&samples[0]) && number(&samples[0], &STARTED).is_none());
    assert_eq!(troubles, Vec::<String>::new());
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "compared with what was rounded in the same way")]
fn the_file_system_of_the_mount_path_is_measured_of_one_cgroup_and_not_of_many() {
    let (dir, proc) = with_process();
    let mut collector = container(dir.path(), &proc);
    collector.settings.mount_path = Some(dir.path().into());
    let (samples, troubles) = cycle(&mut collector, 0);
    assert_eq!(troubles, Vec::<String>::new());
    let stat = rustix::fs::statvfs(dir.path()).unwrap();
    let size = (stat.f_blocks * stat.f_frsize) as f64;
    let used = ((stat.f_blocks - stat.f_bavail) * stat.f_frsize) as f64;
    assert_eq!(number(&samples[0], &DISK_LIMIT), Some(size));
    // Others write meanwhile.
    let found = number(&samples[0], &DISK_USAGE).unwrap();
    assert!((found - used).abs() <= size / 10.0, "{found} of {size}, and {used} are used");

    let mut many = open(dir.path(), Target::Below("/docker".into()));
    many.settings.mount_path = Some(dir.path().into());
    assert_eq!(number(&cycle(&mut many, 0).0[0], &DISK_LIMIT), None, "it is the disk of none of them");

    let mut absent = container(dir.path(), &proc);
    absent.settings.mount_path = Some("/nowhere/at/all".into());
    let (samples, troubles) = cycle(&mut absent, 0);
    assert!(matches!(&troubles[..], [it] if it.contains("/nowhere/at/all")), "{troubles:?}");
    assert_eq!(number(&samples[0], &DISK_USAGE), None);
    assert!(has_network(&samples[0]), "it costs nothing else");
}

#[test]
fn a_container_of_v2_that_works_is_measured() {
    let dir = v2("docker/c0ffee", "thr");
    let folder = dir.path().join("docker/c0ffee");
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap();
    let stat = stat.replacen("anon 0\n", "anon 4096\n", 1).replacen("\nfile 0\n", "\nfile 65536\n", 1);
    let stat = stat.replacen("\nfile_mapped 0\n", "\nfile_mapped 8192\n", 1);
    let stat = stat.replacen("\ninactive_file 0\n", "\ninactive_file 16384\n", 1);
    fs::write(folder.join("memory.stat"), stat).unwrap();
    fs::write(folder.join("memory.current"), "73728\n").unwrap();
    fs::write(folder.join("memory.swap.current"), "12288\n").unwrap();
    fs::write(folder.join("cpuset.cpus.effective"), "0-3,8\n").unwrap();
    let io = |reads: u64, writes: u64| {
        let text = format!(
            "8:0 rbytes=0 wbytes=0 rios={reads} wios={writes} dbytes=0 dios=0\n8:16 rbytes=0 wbytes=0 rios={reads} wios=0\n"
        );
        fs::write(folder.join("io.stat"), text).unwrap();
    };
    io(100, 40);
    let mut collector = open(dir.path(), Target::Container("c0ffee".into()));
    let (samples, troubles) = cycle(&mut collector, 1000);
    assert_eq!(troubles, Vec::<String>::new());
    let of = |metric| number(&samples[0], metric);
    assert_eq!(of(&MEMORY_RSS), Some(12_288.0), "anonymous and mapped");
    assert_eq!((of(&MEMORY_ANON), of(&MEMORY_MAPPED)), (Some(4096.0), Some(8192.0)));
    assert_eq!((of(&MEMORY_USAGE), of(&MEMORY_FILE)), (Some(73_728.0), Some(65_536.0)));
    assert_eq!(of(&MEMORY_WORKING_SET), Some(57_344.0), "without the inactive part of the page cache");
    assert_eq!(of(&SWAP_USAGE), Some(12_288.0));
    assert_eq!(of(&CPU_AVAILABLE), Some(5.0));
    assert_eq!((of(&IO_READ_IOPS), of(&IO_WRITE_IOPS)), (None, None), "the first sample has no rate");
    io(110, 45);
    let (samples, _) = cycle(&mut collector, 1500);
    let of = |metric| number(&samples[0], metric);
    assert_eq!((of(&IO_READ_IOPS), of(&IO_WRITE_IOPS)), (Some(40.0), Some(10.0)), "of both devices");
}

#[test]
fn a_container_of_v1_that_works_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixtures().join("hybrid"), dir.path());
    let write = |file: &str, text: &str| {
        let (controller, file) = file.split_once('/').unwrap();
        fs::write(dir.path().join(controller).join("docker/c0ffee").join(file), text).unwrap();
    };
    let stat = fs::read_to_string(dir.path().join("memory/docker/c0ffee/memory.stat")).unwrap();
    write("memory/memory.stat", &stat.replacen("\ntotal_swap 0\n", "\ntotal_swap 8192\n", 1));
    write("cpuset/cpuset.effective_cpus", "1,3\n");
    let io = |reads: u64| {
        let text = format!("8:0 Read {reads}\n8:0 Write 20\n8:16 Read {reads}\nTotal 0\n");
        write("blkio/blkio.throttle.io_serviced_recursive", &text);
    };
    io(10);
    let mut collector = open(dir.path(), Target::Container("c0ffee".into()));
    let (samples, _) = cycle(&mut collector, 1000);
    assert_eq!(number(&samples[0], &SWAP_USAGE), Some(8192.0));
    assert_eq!(number(&samples[0], &CPU_AVAILABLE), Some(2.0));
    io(30);
    let (samples, _) = cycle(&mut collector, 3000);
    assert_eq!(number(&samples[0], &IO_READ_IOPS), Some(20.0));
    assert_eq!(number(&samples[0], &IO_WRITE_IOPS), Some(0.0));
}
