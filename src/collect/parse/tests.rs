//! The parsers on files of real kernels (`fixtures/collect/valid`), and on what no kernel writes.

use outrider_testkit::{fixture, fixtures};
use proptest::prelude::*;

use super::*;

fn v2(file: &str) -> String {
    fixture(&format!("collect/valid/cgroup/v2/{file}"))
}

fn hybrid(file: &str) -> String {
    fixture(&format!("collect/valid/cgroup/hybrid/{file}"))
}

#[test]
fn a_throttled_cgroup_of_v2_says_how_often_and_how_long() {
    let stat = cpu_stat(&v2("linux-6.1/thr/cpu.stat")).unwrap();
    assert_eq!(stat.usage, Some(316_188_000));
    assert_eq!((stat.periods, stat.throttled_periods), (Some(35), Some(31)));
    assert_eq!(stat.throttled, Some(2_725_821_000));
    assert_eq!(cpu_max(&v2("linux-6.1/thr/cpu.max")).unwrap().milli_cpu(), Some(100));
    assert_eq!(cpu_max(&v2("linux-7.2/mix/cpu.max")).unwrap().milli_cpu(), None);
}

#[test]
fn a_throttled_cgroup_of_v1_says_the_same() {
    let stat = cpu_stat(&hybrid("cpu/docker/c0ffee/cpu.stat")).unwrap();
    assert_eq!((stat.usage, stat.periods, stat.throttled_periods), (None, Some(72), Some(69)));
    assert_eq!(stat.throttled, Some(6_138_598_457));
    assert_eq!(cpuacct_usage(&hybrid("cpuacct/docker/c0ffee/cpuacct.usage")), Ok(730_565_764));
    let split = cpuacct_stat(&hybrid("cpuacct/docker/c0ffee/cpuacct.stat")).unwrap();
    assert_eq!((split.user, split.system), (Some(540_000_000), Some(170_000_000)));
}

#[test]
fn resident_memory_is_found_in_both_versions() {
    let v2 = memory_stat(&v2("linux-7.2/thr/memory.stat")).unwrap();
    assert_eq!(v2.rss(), Some(v2.anon.unwrap() + v2.file_mapped.unwrap()));
    let works =
        memory_stat("anon 4096\nfile 16384\nfile_mapped 8192\nanon_thp 64\ninactive_anon 32\n").unwrap();
    assert_eq!(works.rss(), Some(12_288));
    assert!(v2.kernel.is_some() && v2.slab.is_some() && v2.pgfault.is_some(), "{v2:?}");
    let v1 = memory_stat(&hybrid("memory/docker/c0ffee/memory.stat")).unwrap();
    assert_eq!(v1.rss(), Some(434_176 + 45_056));
}

#[test]
fn memory_of_v1_is_that_of_the_whole_subtree() {
    let text = "cache 1\nrss 2\nmapped_file 3\ntotal_cache 10\ntotal_rss 20\ntotal_mapped_file 30\n";
    let stat = memory_stat(text).unwrap();
    assert_eq!((stat.file, stat.rss()), (Some(10), Some(50)));
}

#[test]
fn unlimited_is_no_number() {
    assert_eq!(limit("max\n"), Ok(Limit::Unlimited));
    assert_eq!(limit("9223372036854771712\n"), Ok(Limit::Unlimited), "pages of 4 KiB");
    assert_eq!(limit("9223372036854710272\n"), Ok(Limit::Unlimited), "pages of 64 KiB");
    assert_eq!(limit("9223372036854775807\n"), Ok(Limit::Unlimited));
    assert_eq!(limit("-1\n"), Ok(Limit::Unlimited), "v1's quota");
    assert_eq!(limit(&hybrid("memory/docker/c0ffee/memory.memsw.limit_in_bytes")), Ok(Limit::Unlimited));
    assert_eq!(limit(&hybrid("memory/docker/c0ffee/memory.limit_in_bytes")), Ok(Limit::At(64 << 20)));
    assert_eq!(limit(&v2("linux-7.2/oom/memory.max")), Ok(Limit::At(8 << 20)));
}

#[test]
fn a_cgroup_that_was_out_of_memory_says_so() {
    let events = memory_events(&v2("linux-7.2/oom/memory.events")).unwrap();
    assert_eq!((events.max, events.oom, events.oom_kill), (Some(8085), Some(474), Some(1)));
    assert_eq!(memory_events(&v2("linux-7.2/oom/memory.events.local")).unwrap().oom_kill, Some(1));
    let v1 = oom_control(&hybrid("memory/docker/c0ffee/memory.oom_control")).unwrap();
    assert_eq!(v1, OomControl { under_oom: false, oom_kill: Some(1) });
}

#[test]
fn tasks_and_their_limit_are_read() {
    assert_eq!(limit_hits(&v2("linux-7.2/pid/pids.events")), Ok(1));
    assert_eq!(limit(&hybrid("pids/docker/c0ffee/pids.max")), Ok(Limit::At(50)));
    assert_eq!(number(&hybrid("pids/docker/c0ffee/pids.current")), Ok(3));
    assert!(cgroup_procs(&hybrid("pids/docker/c0ffee/cgroup.procs")).all(|pid| pid.is_ok()));
    assert_eq!(cgroup_procs("0\n7\n").collect::<Result<Vec<_>, _>>(), Ok(vec![7]));
}

#[test]
fn pressure_is_read() {
    let cpu = pressure(&v2("linux-6.1/thr/cpu.pressure")).unwrap();
    assert_eq!((cpu.some.total, cpu.some.avg60), (2_639_374_000, 1.33));
    assert!(cpu.full.is_some());
    let old = pressure("some avg10=100.00 avg60=0.00 avg300=0.00 total=7\n").unwrap();
    assert_eq!((old.some.avg10, old.full), (100.0, None));
}

#[test]
fn huge_pages_and_processors_are_read() {
    assert_eq!(hugetlb_size("hugetlb.2MB.current"), Some("2MB"));
    assert_eq!(hugetlb_size("hugetlb.1GB.usage_in_bytes"), Some("1GB"));
    assert_eq!(hugetlb_size("hugetlb.2MB.rsvd.current"), None);
    assert_eq!(number(&v2("linux-7.2/mix/hugetlb.2MB.current")), Ok(0));
    assert_eq!(limit(&v2("linux-7.2/mix/hugetlb.2MB.max")), Ok(Limit::Unlimited));
    assert_eq!(limit_hits(&v2("linux-7.2/mix/hugetlb.2MB.events")), Ok(0));
    assert_eq!(cpu_count(&v2("linux-7.2/mix/cpuset.cpus.effective")), Ok(2));
    assert_eq!(cpu_count("0-3,8,10-11\n"), Ok(7));
    assert_eq!(cpu_count("\n"), Ok(0));
    assert!(controllers(&v2("linux-7.2/mix/cgroup.controllers")).any(|it| it == "memory"));
    assert!(!cgroup_events(&v2("linux-7.2/mix/cgroup.events")).unwrap().populated);
}

#[test]
fn devices_are_read_in_both_versions() {
    let mut seen = Vec::new();
    // A device without numbers, and one that follows it in the same line: kernels before 5.18.
    let text = "8:16 8:0 rbytes=4096 wbytes=8 rios=1 wios=2 dbytes=0 dios=0 cost.usage=x\n253:0 \n";
    io_stat(text, |device, stat| seen.push((device.to_string(), stat))).unwrap();
    let bytes = IoBytes { read: 4096, write: 8, discard: 0 };
    let operations = IoBytes { read: 1, write: 2, discard: 0 };
    assert_eq!(seen, [("8:0".to_owned(), IoStat { bytes, operations })]);

    let mut seen = Vec::new();
    let text = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\n8:0 Total 30\n8:16 Read 5\n8:16 Discard 6\nTotal 35\n";
    blkio(text, |device, bytes| seen.push((device.to_string(), bytes.read, bytes.write, bytes.discard)))
        .unwrap();
    assert_eq!(seen, [("8:0".to_owned(), 10, 20, 0), ("8:16".to_owned(), 5, 0, 6)]);
    blkio(&hybrid("blkio/docker/c0ffee/blkio.throttle.io_service_bytes_recursive"), |_, _| unreachable!())
        .unwrap();
    io_stat("", |_, _| unreachable!()).unwrap();
}

#[test]
fn what_is_cut_off_is_no_smaller_number() {
    assert!(number("1234").is_err(), "of 12345");
    assert!(cpu_stat("usage_usec 12\nuser_us").is_err());
    assert!(memory_stat("anon 4096\nfile 12").is_err());
    assert!(blkio("8:0 Read 10\n", |_, _| ()).is_err());
    assert!(pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=1").is_err());
    assert!(number("").is_err() && cpu_max("\n").is_err() && limit("many\n").is_err());
}

#[test]
fn faults_name_line_and_expectation() {
    let fault = cpu_stat("usage_usec 5\nnr_periods many\n").unwrap_err();
    assert_eq!(fault.to_string(), "line 2 is \"nr_periods many\", and a key and a whole number was expected");
    assert_eq!(memory_stat("file 1\n").unwrap_err(), Fault::Missing { key: "anon" });
}

#[test]
fn a_process_is_read_whatever_its_name() {
    let text = "7 (a) b (c\n) S 1 7 7 0 -1 4194304 98 0 0 0 11 22 0 0 20 0 3 0 2946358 3133440 363 184 0\n";
    let stat = process_stat(text).unwrap();
    assert_eq!(stat.name, "a) b (c\n");
    assert_eq!((stat.user, stat.system, stat.threads), (11, 22, 3));
    assert_eq!((stat.started, stat.rss), (2_946_358, 363));
    let real = fixture("collect/valid/proc/stat.txt");
    assert_eq!(process_stat(&real).unwrap().name, "cat");
    let interfaces: Vec<_> =
        net_dev(&fixture("collect/valid/proc/net_dev.txt")).map(|it| it.unwrap().name.to_owned()).collect();
    assert_eq!(interfaces, ["lo", "ifb0", "ifb1", "eth0"]);
    assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Ok(1_700_000_000));
}

#[test]
fn mounts_are_told_apart() {
    for (name, text) in fixtures("collect/valid/mountinfo", "txt") {
        let all: Vec<_> = mounts(&text).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.iter().any(|it| it.options.is_none()), name != "v1.txt", "{name}");
        assert_eq!(all.iter().any(|it| it.options.is_some()), name != "v2.txt", "{name}");
    }
    let odd = "1 2 0:3 / /a\\040b rw - cgroup2 cgroup2 rw\n";
    assert_eq!(mounts(odd).next().unwrap().unwrap().point, "/a b");
    let all: Vec<_> = memberships("4:memory:/a:b\n0::/c\n").map(|it| it.unwrap().path).collect();
    assert_eq!(all, ["/a:b", "/c"]);
}

/// Every parser on one text; none may panic.
fn all_of_them(text: &str) {
    drop(number(text));
    drop(limit(text));
    drop(cpu_stat(text));
    drop(cpuacct_stat(text));
    drop(cpu_max(text).map(Quota::milli_cpu));
    drop(cpu_count(text));
    drop(memory_stat(text));
    drop(memory_events(text));
    drop(oom_control(text));
    drop(io_stat(text, |_, _| ()));
    drop(blkio(text, |_, _| ()));
    drop(pressure(text));
    drop(cgroup_events(text));
    drop(limit_hits(text));
    drop(cgroup_procs(text).collect::<Vec<_>>());
    drop(mounts(text).collect::<Vec<_>>());
    drop(memberships(text).collect::<Vec<_>>());
    drop(net_dev(text).collect::<Vec<_>>());
    drop(process_stat(text));
    drop(boot_time(text));
    let _ = hugetlb_size(text);
}

#[test]
fn broken_files_give_faults() {
    for (name, text) in fixtures("collect/invalid/cgroup", "txt") {
        all_of_them(&text);
        let parsed = match name.split('-').next().unwrap() {
            "number" => number(&text).map(drop),
            "limit" => limit(&text).map(drop),
            "cpu_stat" => cpu_stat(&text).map(drop),
            "memory_stat" => memory_stat(&text).map(drop),
            "io_stat" => io_stat(&text, |_, _| ()),
            "blkio" => blkio(&text, |_, _| ()),
            "pressure" => pressure(&text).map(drop),
            other => panic!("no parser for {other}"),
        };
        assert!(parsed.is_err(), "{name} was taken");
    }
}

proptest! {
    #[test]
    fn nothing_makes_a_parser_panic(text in "(?s).{0,200}") {
        all_of_them(&text);
    }

    #[test]
    fn nothing_alike_makes_a_parser_panic(
        text in "([a-z_.0-9:=/()-]{0,12}( |\n|=|: |999999999999999999999|max|some|avg10|Total|8:0|\\\\04)){0,30}"
    ) {
        all_of_them(&text);
    }

    #[test]
    fn a_real_file_cut_off_anywhere_is_a_fault_or_whole_lines(cut in 0_usize..2000) {
        let whole = v2("linux-7.2/thr/memory.stat");
        let text = &whole[..cut.min(whole.len())];
        if memory_stat(text).is_ok() {
            prop_assert!(text.ends_with('\n'));
        }
    }

    #[test]
    fn numbers_come_back(value: u64) {
        prop_assert_eq!(number(&format!("{value}\n")), Ok(value));
    }
}
