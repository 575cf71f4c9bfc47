//! The backlog against a list, with kills, cuts and damage at places that only the seed knows.
use std::collections::VecDeque;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use outrider_testkit::lossy::{Lossy, on_this_threads_disk};

use super::core::{Core, Of};
use super::*;

fn quiet() -> (TellBacklog, Arc<Mutex<Vec<Told>>>) {
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let kept = Arc::clone(&told);
    (Arc::new(move |it| kept.lock().unwrap().push(it)), told)
}

fn names() -> Vec<String> {
    vec!["a".to_owned(), "b".to_owned()]
}

fn entry(number: u64, times: u64) -> Entry {
    let times = usize::try_from(times).unwrap();
    Entry { origin: None, points: 1, bytes: number.to_le_bytes().repeat(times) }
}

fn number(stored: &Stored) -> u64 {
    u64::from_le_bytes(*stored.bytes.first_chunk().unwrap())
}

/// Numbers that are the same in every run.
struct Random(TestRng);

impl Random {
    fn seeded(seed: u8) -> Self {
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }
}

/// What it has to be, in a few lines: all entries that ever were, and where each cursor stands.
#[derive(Clone, Default)]
struct Model {
    all: VecDeque<(u64, Entry)>,
    next: u64,
    at: HashMap<String, u64>,
    dropped: HashMap<String, u64>,
    /// Where the last opening began: what was put in since has a sender of its own.
    opened: u64,
    /// The place after what each has in hand, and how much of that was dropped.
    hand: HashMap<String, (u64, u64)>,
}

impl Model {
    fn push(&mut self, entry: Entry) {
        self.all.push_back((self.next, entry));
        self.next += 1;
    }

    fn trim(&mut self, most: u64) {
        let least = self.at.values().copied().min().unwrap_or(self.next);
        self.all.retain(|it| it.0 >= least);
        let bytes =
            |all: &VecDeque<(u64, Entry)>| all.iter().map(|it| it.1.bytes.len() as u64 + 64).sum::<u64>();
        while self.all.len() > 1 && bytes(&self.all) > most {
            let (place, _) = self.all.pop_front().unwrap();
            for (name, at) in &mut self.at {
                if *at <= place {
                    match self.hand.get_mut(name).filter(|it| it.0 > place) {
                        Some(hand) => hand.1 += 1,
                        None => *self.dropped.entry(name.clone()).or_default() += 1,
                    }
                    *at = place + 1;
                }
            }
        }
    }

    fn seen(&self, name: &str) -> Vec<(u64, Vec<u8>)> {
        let at = self.at[name];
        self.all.iter().filter(|it| it.0 >= at).map(|it| (it.0, it.1.bytes.clone())).collect()
    }
}

const ALL: Most = Most { points: u64::MAX, bytes: usize::MAX };

/// The file as a kill would leave it now.
fn killed(folder: &Path) -> tempfile::TempDir {
    let next = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("q"), next.path().join("q")).unwrap();
    next
}

#[test]
fn it_does_what_a_list_does_and_a_kill_changes_nothing() {
    const MOST: u64 = 20_000;
    let (mut drops, mut in_hand) = (0, 0);
    for seed in 0..12 {
        let (tell, told) = quiet();
        let open = |at: &Path| Core::open(at.join("q"), MOST, &names(), Arc::clone(&tell)).unwrap();
        let mut folder = tempfile::tempdir().unwrap();
        let mut core = open(folder.path());
        let mut random = Random::seeded(seed);
        let mut model = Model { next: 1, ..Model::default() };
        model.at = names().into_iter().map(|it| (it, 1)).collect();
        let mut dropped_before: HashMap<String, u64> = HashMap::new();
        for step in 0..150_u64 {
            match random.below(13) {
                0..5 => {
                    let count = 1 + random.below(3);
                    let added: Vec<_> = (0..count).map(|_| entry(step, 1 + random.below(400))).collect();
                    core.commit(&added, &[]).unwrap();
                    added.into_iter().for_each(|it| model.push(it));
                }
                5..8 => {
                    let name = names()[usize::from(random.below(2) == 1)].clone();
                    let to = random.below(model.next + 2);
                    core.commit(&[], &[(name.clone(), to)]).unwrap();
                    let at = model.at.get_mut(&name).unwrap();
                    *at = (*at).max(to.min(model.next));
                    model.hand.retain(|it, hand| *it != name || hand.0 > to);
                }
                8..11 => {
                    let name = names()[usize::from(random.below(2) == 1)].clone();
                    let most = Most { points: 1 + random.below(9), bytes: usize::MAX };
                    let read = core.read(&name, most).unwrap();
                    let mut expected: Vec<_> = model.seen(&name).into_iter().map(|it| it.0).collect();
                    expected.truncate(usize::try_from(most.points).unwrap());
                    let places: Vec<_> = read.iter().map(|it| it.place).collect();
                    if expected.first().is_some_and(|it| *it >= model.opened) {
                        assert_eq!(places, expected);
                    }
                    assert!(expected.starts_with(&places) && places.is_empty() == expected.is_empty());
                    assert!(read.iter().all(|it| it.sender == read[0].sender));
                    model.hand.insert(name, (places.last().map_or(0, |it| it + 1), 0));
                }
                _ => {
                    let next = killed(folder.path());
                    core = open(next.path());
                    folder = next;
                    dropped_before.clone_from(&model.dropped);
                    model.hand.clear();
                    model.opened = model.next;
                }
            }
            model.trim(MOST);
            let fill = core.fill();
            for name in names() {
                let (all, _) = core.look(&name, ALL, Of::All).unwrap();
                let seen: Vec<_> = all.into_iter().map(|it| (it.place, it.bytes)).collect();
                assert_eq!(seen, model.seen(&name), "seed {seed}, step {step}, {name}");
                let of = |it: &HashMap<String, u64>| it.get(&name).copied().unwrap_or_default();
                let dropped = of(&model.dropped) - of(&dropped_before);
                let uncounted = model.hand.get(&name).map_or(0, |it| it.1);
                in_hand += uncounted;
                let waiting = seen.len() as u64 + uncounted;
                let expected = CursorFill { at: model.at[&name], waiting, dropped, uncounted };
                assert_eq!(fill.cursors[&name], expected, "seed {seed}, step {step}");
            }
        }
        let told = told.lock().unwrap();
        assert!(told.iter().all(|it| matches!(it, Told::Dropped { .. })), "seed {seed}: {told:?}");
        drops += told.len();
    }
    assert!(drops > 100 && in_hand > 100, "the bound was met: {drops}, in hand {in_hand}");
}

/// The power goes at any write or sync, and the disk keeps some of what was not synced: what was answered is there, and what was
/// under way is there as a whole or not at all.
#[test]
fn what_was_kept_survives_every_cut_of_the_power() {
    const CUTS: u64 = 200;
    const MOST: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let disk = Lossy::insert();
    let (tell, told) = quiet();
    let open = || {
        let (path, tell) = (dir.path().join("q"), Arc::clone(&tell));
        Core::open_on(path, MOST, &names(), tell, on_this_threads_disk).unwrap()
    };
    let mut random = Random::seeded(5);
    let mut model = Model { next: 1, ..Model::default() };
    model.at = names().into_iter().map(|it| (it, 1)).collect();
    let mut core = open();
    let (mut number, mut whole, mut absent) = (0, 0, 0);
    for cut in 0..CUTS {
        disk.cut_after(random.below(60));
        let mut interrupted = None;
        for _ in 0..30 {
            let added: Vec<_> = (0..random.below(4))
                .map(|_| {
                    number += 1;
                    Entry { origin: Some(("s".into(), number)), ..entry(number, 1 + random.below(300)) }
                })
                .collect();
            let advances: Vec<_> = names().into_iter().map(|it| (it, random.below(model.next + 2))).collect();
            let mut with = model.clone();
            added.iter().for_each(|it| with.push(it.clone()));
            for (name, to) in &advances {
                let at = with.at.get_mut(name).unwrap();
                *at = (*at).max((*to).min(with.next));
            }
            with.trim(MOST);
            match core.commit(&added, &advances) {
                Ok(kept) => {
                    assert!(kept.iter().all(|it| *it == Kept::Now), "cut {cut}: {kept:?}");
                    model = with;
                }
                Err(_) => {
                    interrupted = Some((with, added));
                    break;
                }
            }
        }
        drop(core);
        let keeps_all = random.below(2) == 0;
        disk.restart(|| keeps_all || random.below(3) > 0);
        core = open();
        let mut seen = |model: &Model| {
            let found = |name: &String| {
                let (all, _) = core.look(name, ALL, Of::All).unwrap();
                all.into_iter().map(|it| (it.place, it.bytes)).collect::<Vec<_>>()
            };
            names().iter().all({
                let mut found = found;
                move |name| found(name) == model.seen(name)
            })
        };
        match interrupted {
            Some((with, added)) if !added.is_empty() && seen(&with) && !seen(&model) => {
                model = with;
                whole += 1;
                // Its sender had no answer, and sends it again.
                let again = core.commit(&added, &[]).unwrap();
                assert!(again.iter().all(|it| *it == Kept::Before), "cut {cut}: {again:?}");
            }
            Some((with, _)) if seen(&with) => model = with,
            Some(_) => {
                assert!(seen(&model), "cut {cut}");
                absent += 1;
            }
            None => assert!(seen(&model), "cut {cut}"),
        }
    }
    assert!(absent > 10 && whole > 0, "{absent} absent, {whole} whole");
    let told = told.lock().unwrap();
    assert!(told.iter().all(|it| matches!(it, Told::Dropped { .. })), "{told:?}");
}

/// Cuts and overwrites the file at random places: it opens, what comes out is what was put in or is told, and it goes on.
#[test]
fn a_damaged_file_is_set_aside_and_told_and_never_stops_a_start() {
    let whole = tempfile::tempdir().unwrap();
    {
        let mut core = Core::open(whole.path().join("q"), 1 << 30, &names(), quiet().0).unwrap();
        for number in 0..300 {
            core.commit(&[entry(number, 50)], &[]).unwrap();
        }
    }
    let length = std::fs::metadata(whole.path().join("q")).unwrap().len();
    let mut set_aside = 0;
    for seed in 0..60 {
        let mut random = Random::seeded(seed);
        let spoiled = killed(whole.path());
        let path = spoiled.path().join("q");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        if seed % 2 == 0 {
            file.set_len(random.below(length)).unwrap();
        } else {
            use std::os::unix::fs::FileExt;
            for _ in 0..8 {
                file.write_all_at(&random.below(u64::MAX).to_le_bytes(), random.below(length)).unwrap();
            }
        }
        let (tell, told) = quiet();
        let mut core = Core::open(path.clone(), 1 << 30, &names(), tell).unwrap();
        let read = core.read("a", ALL).unwrap();
        let intact = read.iter().filter(|it| it.points > 0).all(|it| number(it) + 1 == it.place);
        assert!(intact, "seed {seed}");
        let told = told.lock().unwrap().clone();
        let aside = told.iter().any(|it| matches!(it, Told::SetAside { .. }));
        assert!(
            aside || read.len() == 300 || !told.is_empty(),
            "seed {seed}: {} left, and {told:?}",
            read.len()
        );
        if aside {
            assert!(path.with_extension("redb.damaged").exists());
            set_aside += 1;
        }
        core.commit(&[entry(7, 1)], &[]).unwrap();
        drop(core);
        let mut again = Core::open(path, 1 << 30, &names(), quiet().0).unwrap();
        let (all, _) = again.look("a", ALL, Of::All).unwrap();
        assert_eq!(all.last().map(number), Some(7), "seed {seed}");
    }
    assert!(set_aside > 20, "{set_aside}");
}

#[test]
fn a_batch_that_comes_again_is_kept_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let from = |who: &str, sequence| Entry { origin: Some((who.to_owned(), sequence)), ..entry(sequence, 1) };
    let mut core = Core::open(dir.path().join("q"), 1 << 30, &names(), quiet().0).unwrap();
    let kept = core.commit(&[from("x", 1), from("x", 1), from("y", 1), from("x", 2)], &[]).unwrap();
    assert_eq!(kept, [Kept::Now, Kept::Before, Kept::Now, Kept::Now]);
    // What all have passed is deleted, and still known.
    let all = |name: &str| (name.to_owned(), 99);
    core.commit(&[], &[all("a"), all("b")]).unwrap();
    let next = killed(dir.path());
    let mut core = Core::open(next.path().join("q"), 1 << 30, &names(), quiet().0).unwrap();
    assert_eq!(core.commit(&[from("x", 2), from("x", 3)], &[]).unwrap(), [Kept::Before, Kept::Now]);
    assert_eq!(
        core.read("b", Most { points: 1, bytes: 1 }).unwrap().iter().map(number).collect::<Vec<_>>(),
        [3]
    );
}

/// A backup that is put back, or an image that two hosts are made of: none may be taken for what another has sent.
#[test]
fn what_is_put_into_two_copies_of_a_file_has_different_names_and_what_was_in_it_the_same() {
    let original = tempfile::tempdir().unwrap();
    let open = |at: &Path| Core::open(at.join("q"), 1 << 30, &names(), quiet().0).unwrap();
    let sent = |core: &mut Core| {
        let (all, _) = core.look("a", ALL, Of::All).unwrap();
        all.into_iter().map(|it| (it.sender.to_string(), it.place)).collect::<Vec<_>>()
    };
    let mut core = open(original.path());
    core.commit(&[entry(1, 1), entry(2, 1)], &[]).unwrap();
    let before = sent(&mut core);
    drop(core);
    let copy = killed(original.path());
    let mut of_each = [original.path(), copy.path()].map(|path| {
        let mut core = open(path);
        core.commit(&[entry(3, 1)], &[]).unwrap();
        // An output is given no batch of two senders.
        let first: Vec<_> = core.read("a", ALL).unwrap().iter().map(|it| it.place).collect();
        assert_eq!(first, [1, 2]);
        sent(&mut core)
    });
    assert_eq!(of_each.each_mut().map(|it| it.drain(..2).collect::<Vec<_>>()), [before.clone(), before]);
    assert_ne!(of_each[0], of_each[1]);
    // Whoever receives from both keeps both.
    let receiver = tempfile::tempdir().unwrap();
    let from = |(sender, place): &(String, u64)| Entry {
        origin: Some((sender.clone(), *place)),
        ..entry(*place, 1)
    };
    let received: Vec<_> = of_each.iter().flatten().map(from).collect();
    assert_eq!(open(receiver.path()).commit(&received, &[]).unwrap(), [Kept::Now, Kept::Now]);
}

#[test]
fn a_new_cursor_begins_with_what_comes_next_and_one_that_is_gone_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let open = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|it| (*it).to_owned()).collect();
        Core::open(dir.path().join("q"), 1 << 30, &names, quiet().0).unwrap()
    };
    let mut core = open(&["a"]);
    let id = core.id().to_owned();
    core.commit(&[entry(1, 1)], &[]).unwrap();
    drop(core);
    let mut core = open(&["a", "c"]);
    assert_eq!(core.id(), id);
    core.commit(&[entry(2, 1)], &[]).unwrap();
    assert_eq!(core.look("a", ALL, Of::All).unwrap().0.len(), 2);
    assert_eq!(core.look("c", ALL, Of::All).unwrap().0.len(), 1);
    drop(core);
    let mut core = open(&["c"]);
    core.commit(&[], &[("c".to_owned(), 3)]).unwrap();
    assert_eq!(core.fill().bytes, 0, "nobody waits for it");
}

#[tokio::test]
async fn many_are_kept_at_once_and_nothing_waits_for_a_slow_reader() {
    let dir = tempfile::tempdir().unwrap();
    let backlog = Backlog::open(dir.path(), 1 << 30, &names(), quiet().0).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let backlog = backlog.clone();
        tasks.spawn(async move { backlog.append(entry(number, 1)).await.unwrap() });
    }
    while let Some(kept) = tasks.join_next().await {
        assert_eq!(kept.unwrap(), Kept::Now);
    }
    let mut fill = backlog.fill();
    fill.wait_for(|it| it.next == 201).await.unwrap();
    let some = backlog.read("a", Most { bytes: 80, ..ALL }).await.unwrap();
    assert_eq!(some.len(), 10, "bounded by bytes");
    backlog.advance("a", some[9].place + 1).await.unwrap();
    fill.wait_for(|it| it.cursors["a"].waiting == 190 && it.cursors["b"].waiting == 200).await.unwrap();
    assert!(matches!(Backlog::open(dir.path(), 1, &names(), quiet().0), Err(BacklogError::InUse(_))));
}

#[test]
fn the_disk_gets_back_what_an_empty_queue_took() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let mut core = Core::open(path.clone(), 1 << 30, &names(), quiet().0).unwrap();
    let size = || std::fs::metadata(&path).unwrap().len();
    for number in 0..60 {
        core.commit(&[entry(number, 128 << 10)], &[]).unwrap();
    }
    let full = size();
    assert!(full > 60 << 20, "{full}");
    core.commit(&[], &[("a".to_owned(), 61), ("b".to_owned(), 60)]).unwrap();
    core.shrink();
    assert_eq!(size(), full, "one waits");
    core.commit(&[], &[("b".to_owned(), 61)]).unwrap();
    core.shrink();
    assert!(size() < 4 << 20, "{}", size());
    core.commit(&[entry(7, 1)], &[]).unwrap();
    drop(core);
    let mut core = Core::open(path, 1 << 30, &names(), quiet().0).unwrap();
    assert_eq!(core.read("a", ALL).unwrap().iter().map(number).collect::<Vec<_>>(), [7]);
}

/// An error says what was tried and where.
#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told_and_the_file_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("not-a-folder");
    std::fs::write(&blocked, "x").unwrap();
    let told = Backlog::open(&blocked, 1, &names(), quiet().0).unwrap_err().to_string();
    assert!(told.starts_with("open the backlog") && told.contains("not-a-folder"), "{told}");
    let backlog = Backlog::open(dir.path(), 1 << 30, &names(), quiet().0).unwrap();
    let mode = std::fs::metadata(dir.path().join("backlog.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    backlog.append(entry(1, 1)).await.unwrap();
}
