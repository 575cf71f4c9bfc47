//! Descriptors: they stay open from round to round, and go with their cgroups.

use super::*;

const BUDGET: u64 = 1000;

/// How many files below a folder this process has open: other tests, which may run beside this one, open others.
fn open_below(folder: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter(|it| fs::read_link(it.path()).is_ok_and(|it| it.starts_with(folder))).count()
}

fn replace(file: &Path, text: &str) {
    let other = file.with_extension("new");
    fs::write(&other, text).unwrap();
    fs::rename(other, file).unwrap();
}

#[test]
fn a_descriptor_stays_open_between_rounds() {
    let dir = v2("a", "thr");
    let target = || Target::Path("/a".into());
    let mut kept = with(dir.path(), target(), Budget::of(BUDGET));
    let mut opened = with(dir.path(), target(), Budget::of(0));
    let file = dir.path().join("a/pids.current");
    fs::write(&file, "3\n").unwrap();
    let mut pids = |millis| {
        let of = |collector: &mut Collector| number(&cycle(collector, millis).0[0], &PIDS);
        [of(&mut kept), of(&mut opened)]
    };
    assert_eq!(pids(0), [Some(3.0), Some(3.0)]);
    // The file that was opened is still there for whoever has it open, though its name is another one's.
    replace(&file, "7\n");
    assert_eq!(pids(1000), [Some(3.0), Some(7.0)]);
    assert_eq!(pids(100_000), [Some(3.0), Some(7.0)], "in a round that reads everything as well");
}

#[test]
fn what_is_kept_is_what_the_budget_lacks_and_no_round_keeps_more() {
    let dir = v2("a", "thr");
    let before = open_below(dir.path());
    let mut collector = with(dir.path(), Target::Path("/a".into()), Budget::of(BUDGET));
    let folders = open_below(dir.path()) - before;
    let kept = |collector: &Collector| {
        let open = open_below(dir.path()) - before - folders;
        assert_eq!(open as u64, BUDGET - collector.budget.left());
        open
    };
    cycle(&mut collector, 0);
    let first = kept(&collector);
    assert!(first > 5, "{first}");
    for at in 1..10 {
        cycle(&mut collector, at * 20_000);
        assert_eq!(kept(&collector), first);
    }
}

#[test]
fn cgroups_that_come_and_go_leave_no_descriptor_behind() {
    let dir = v2("x/a", "thr");
    let mut collector = with(dir.path(), Target::Below("/x".into()), Budget::of(BUDGET));
    cycle(&mut collector, 0);
    let before = (open_below(dir.path()), collector.budget.left());
    let other = dir.path().join("x/b");
    for at in 0..100 {
        fs::create_dir(&other).unwrap();
        for file in ["cpu.stat", "memory.current", "memory.events", "memory.stat", "pids.current"] {
            fs::copy(dir.path().join("x/a").join(file), other.join(file)).unwrap();
        }
        cycle(&mut collector, at * 2000 + 1000);
        assert_eq!(collector.count(), 2);
        assert!(collector.budget.left() < before.1 && open_below(dir.path()) > before.0);
        // Half of them are cut by the bound, the others end.
        if at % 2 == 0 {
            collector.settings.max_cgroups = 1;
            collector.last_scan = None;
        } else {
            fs::remove_dir_all(&other).unwrap();
        }
        cycle(&mut collector, at * 2000 + 2000);
        assert_eq!((open_below(dir.path()), collector.budget.left()), before, "{at}");
        if at % 2 == 0 {
            collector.settings.max_cgroups = 2;
            fs::remove_dir_all(&other).unwrap();
        }
    }
}
