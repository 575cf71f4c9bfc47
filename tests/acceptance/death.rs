//! Sudden death: integration, action, service and backend are killed at random moments of an export and started again as
//! a system would start them; then what the backend holds is held against what the source holds.
//!
//! Every case has a seed, which chooses who dies and when. A debug build runs a few cases, a release build many:
//! `cargo test --release --test acceptance death -- --nocapture`; `OUTRIDER_CASES` sets another number.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outrider_backend::admin::CommandState;
use outrider_protocol::ids::CommandId;
use serde_json::json;

use crate::random::Random;
use crate::source::{self, Objects};
use crate::support::{SOON, Stack, descendants, export, run};

/// Cases of a build that is not optimized, and of one that is.
const CASES: u64 = if cfg!(debug_assertions) { 16 } else { 520 };
/// Stacks side by side; a case mostly waits.
const SIDE_BY_SIDE: usize = 4;
/// An export without deaths takes about this long; a death comes within it, or a little later.
const SPAN_MS: u64 = 450;
/// Deaths of one case.
const DEATHS: u64 = 4;
/// Orders that a backend gives until an export is done. Each death can end one.
const ORDERS: u64 = DEATHS + 2;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Integration,
    Action,
    Service,
    Backend,
}

const VICTIMS: [Victim; 4] = [Victim::Integration, Victim::Action, Victim::Service, Victim::Backend];

/// One stack that lives through many cases.
struct Place {
    stack: Stack,
    /// Deaths by victim, and how often there was nobody to kill.
    killed: BTreeMap<Victim, u64>,
    missed: u64,
    orders: u64,
    repeated: u64,
    /// Exports whose counts were compared, and how many of them had files of earlier lives.
    judged: u64,
    continued: u64,
}

impl Place {
    fn new() -> Self {
        // Short pauses, so that a case takes a second and not a minute; the pauses themselves are tested elsewhere.
        let limits = json!({
            "reconnect_max_s": 1, "retry_first_s": 1, "spool_file_age_s": 1, "spool_file_bytes": 65_536,
            "command_attempts": 20, "integration_attempts": 2,
        });
        let stack = Stack::start(&limits);
        stack.until_connected();
        Self { stack, killed: BTreeMap::new(), missed: 0, orders: 0, repeated: 0, judged: 0, continued: 0 }
    }

    /// Exports until it is done, with deaths meanwhile, and looks at what arrived.
    fn case(&mut self, seed: u64, truth: &Objects) {
        let id = format!("mock-{seed}");
        let mut random = Random::new(seed);
        let mut exports = vec![self.stack.order(export(&source::integrations(&id)))];
        self.kill(&mut random);
        let mut last = self.until_ended(&exports[0]);
        while last != CommandState::Done {
            assert!((exports.len() as u64) < ORDERS, "seed {seed}: {exports:?} and still {last}");
            exports.push(self.stack.order(export(&source::integrations(&id))));
            last = self.until_ended(exports.last().unwrap());
        }
        self.orders += exports.len() as u64;
        self.stack.until_uploaded();
        for export in &exports {
            let ended = self.stack.command(export);
            let is_done = ended.summary.state == CommandState::Done;
            let Some(counts) = ended.counts else {
                assert!(!is_done, "seed {seed}: {export} is done and counted nothing");
                continue;
            };
            assert_eq!(counts.fault, None, "seed {seed}: nothing was lost, whatever died");
            assert!(counts.judged || !is_done, "seed {seed}: {export} is done and not judged: {counts:?}");
            self.judged += u64::from(counts.judged);
            self.continued += u64::from(counts.judged && counts.earlier_files > 0);
        }
        self.repeated += source::compare(&self.stack, &format!("seed {seed}"), &exports, truth);
        source::nothing_is_new(&self.stack, &format!("seed {seed}"), &id);
    }

    /// Kills somebody a few times.
    fn kill(&mut self, random: &mut Random) {
        let started = Instant::now();
        let mut moments: Vec<u64> =
            (0..1 + random.below(DEATHS)).map(|_| random.below(SPAN_MS + SPAN_MS / 4)).collect();
        moments.sort_unstable();
        for moment in moments {
            let victim = VICTIMS[usize::try_from(random.below(4)).unwrap()];
            std::thread::sleep(Duration::from_millis(moment).saturating_sub(started.elapsed()));
            if self.kill_one(victim) {
                *self.killed.entry(victim).or_default() += 1;
            } else {
                self.missed += 1;
            }
        }
    }

    /// Whether there was somebody to kill.
    fn kill_one(&mut self, victim: Victim) -> bool {
        match victim {
            Victim::Service => {
                self.stack.kill_service();
                self.stack.start_service();
                true
            }
            Victim::Backend => {
                self.stack.backend.child.kill().unwrap();
                self.stack.backend.child.wait().unwrap();
                self.stack.start_backend_again();
                true
            }
            Victim::Action => self.kill_child("export --link"),
            Victim::Integration => self.kill_child("integration-mock"),
        }
    }

    fn kill_child(&self, whose_command_line_has: &str) -> bool {
        let found = descendants(self.stack.service.pid()).into_iter().find(|pid| {
            let line = run(Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]));
            String::from_utf8_lossy(&line.stdout).contains(whose_command_line_has)
        });
        // It may have ended by itself meanwhile, which the exit status of kill tells.
        found.is_some_and(|pid| run(Command::new("kill").args(["-9", &pid.to_string()])).status.success())
    }

    fn until_ended(&self, export: &CommandId) -> CommandState {
        let started = Instant::now();
        loop {
            let state = self.stack.command(export).summary.state;
            if state.is_end() {
                return state;
            }
            assert!(started.elapsed() < SOON, "{export} is still {state}:\n{}", self.stack.service.printed());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn whoever_dies_at_whatever_moment_nothing_is_lost() {
    let cases = std::env::var("OUTRIDER_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(CASES);
    let truth = source::truth();
    let next = AtomicU64::new(0);
    let places = Mutex::new(Vec::new());
    let started = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|_| {
                scope.spawn(|| {
                    let mut place = Place::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= cases {
                            break;
                        }
                        place.case(seed, &truth);
                    }
                    places.lock().unwrap().push(place);
                })
            })
            .collect();
        workers.into_iter().for_each(|it| it.join().unwrap_or_else(|err| std::panic::resume_unwind(err)));
    });
    let places = places.into_inner().unwrap();
    let sum = |of: fn(&Place) -> u64| places.iter().map(of).sum::<u64>();
    let killed = |victim| places.iter().filter_map(|it| it.killed.get(&victim)).sum::<u64>();
    println!(
        "{cases} cases in {:.0} s: killed {} integrations, {} actions, {} services, {} backends ({} came too late); {} orders; \
         {} objects came twice with the same id; the counts of {} exports agree, {} of them over several lives",
        started.elapsed().as_secs_f64(),
        killed(Victim::Integration),
        killed(Victim::Action),
        killed(Victim::Service),
        killed(Victim::Backend),
        sum(|it| it.missed),
        sum(|it| it.orders),
        sum(|it| it.repeated),
        sum(|it| it.judged),
        sum(|it| it.continued),
    );
    assert_eq!(sum(|it| it.repeated), 0, "each object is exported once, whoever dies");
    assert!(sum(|it| it.judged) >= cases, "each case has an export that is done, and so is judged");
    // So that few cases are enough to have everybody among the dead.
    if cases >= CASES.min(16) {
        assert!(VICTIMS.into_iter().all(|it| killed(it) > 0), "everybody died at least once");
    }
}
