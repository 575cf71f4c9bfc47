//! The watcher killed, the machine restarted, and the clock set, each in a trial.

use std::fs;
use std::path::PathBuf;

use outrider_versions::Phase;
use serde_json::{Value, json};

use super::ends::{is_taken_back, stays};
use super::ill::library;
use super::world::{World, programs};
use crate::support::until;

#[test]
fn a_watcher_that_is_killed_is_at_its_post_again_and_a_good_version_stays() {
    let world = World::with(&json!({ "upgrade_green_s": 3 }));
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    let killed = world.kill_watcher();
    let ended = world.outcome(&id);
    stays(&world, &ended);
    assert!(world.watchers().iter().all(|it| !killed.contains(it)));
}

#[test]
fn a_watcher_that_is_killed_is_at_its_post_again_and_a_bad_version_is_taken_back() {
    let world = World::with(&json!({ "upgrade_bound_s": 8 }));
    world.publish_lied_to("1.1.0", "ILL_UNREACHABLE=1");
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    world.kill_watcher();
    let ended = world.outcome(&id);
    is_taken_back(&world, &ended, "deadline");
}

#[test]
fn where_a_version_hangs_and_its_watcher_is_killed_the_next_start_takes_it_back() {
    let world = World::start();
    world.publish_script("1.1.0", "#!/bin/sh\nexec sleep 1000\n");
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    world.kill_watcher();
    world.kill_everything();
    let ended = world.outcome(&id);
    is_taken_back(&world, &ended, "hang");
}

/// A world on a machine whose starts and whose clock can be set.
struct Machine {
    world: World,
    boot: PathBuf,
    clock: PathBuf,
}

impl Machine {
    fn new(limits: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let (boot, clock) = (dir.join("boot"), dir.join("clock"));
        fs::copy("/proc/sys/kernel/random/boot_id", &boot).unwrap();
        fs::write(&clock, "0").unwrap();
        let variables = [("LD_PRELOAD", library()), ("ILL_BOOT", boot.clone()), ("ILL_CLOCK", clock.clone())];
        let world = World::behind(limits, str::to_owned, &variables);
        Self { world, boot, clock }
    }

    /// Everything ends at once, and the machine starts anew.
    fn restart(&self, number: u32) {
        let text = format!("{number:08x}-0000-4000-8000-000000000000\n");
        let new = self.boot.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.boot).unwrap();
        self.world.kill_everything();
    }

    /// Waits until the start after a restart is counted, and the new version has begun to run.
    fn until_started(&self, number: u32) {
        let boot = format!("{number:08x}");
        until("a start after the restart", || {
            let record = self.world.record()?;
            record.tried_in.filter(|it| it.0.starts_with(&boot)).map(drop)
        });
    }

    fn set_clock(&self, seconds: i64) {
        let new = self.clock.with_extension("new");
        fs::write(&new, seconds.to_string()).unwrap();
        fs::rename(&new, &self.clock).unwrap();
    }
}

#[test]
fn a_restart_of_the_machine_in_a_trial_changes_nothing_of_its_end() {
    let machine = Machine::new(&json!({ "upgrade_green_s": 3 }));
    let world = &machine.world;
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    machine.restart(1);
    machine.until_started(1);
    let ended = world.outcome(&id);
    stays(world, &ended);
}

#[test]
fn a_machine_that_is_restarted_more_than_five_times_in_a_trial_goes_back() {
    let machine = Machine::new(&json!({ "upgrade_green_s": 60, "upgrade_bound_s": 90 }));
    let world = &machine.world;
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    until("its first start", || world.record()?.tried_in);
    for number in 1..=5 {
        machine.restart(number);
        machine.until_started(number);
        assert_eq!(world.record().unwrap().phase, Phase::Probation, "after restart {number}");
    }
    machine.restart(6);
    let ended = world.outcome(&id);
    is_taken_back(world, &ended, "reboots");
}

#[test]
fn a_clock_that_is_set_a_year_ahead_and_back_neither_ends_a_trial_nor_lets_it_pass() {
    const YEAR: i64 = 366 * 24 * 3600;
    /// A small part of what it has to be well for.
    const PART: std::time::Duration = std::time::Duration::from_secs(1);
    let machine = Machine::new(&json!({ "upgrade_green_s": 6, "upgrade_bound_s": 40 }));
    let world = &machine.world;
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    // Whoever watches from now on is started by the launcher, and sees the clock as the version does.
    machine.restart(1);
    machine.until_started(1);
    world.until_says("logs/watch", "All is well");
    machine.set_clock(YEAR);
    std::thread::sleep(PART);
    assert_eq!(world.record().unwrap().phase, Phase::Probation, "a year ahead: {}", world.told());
    machine.set_clock(-YEAR);
    std::thread::sleep(PART);
    assert_eq!(world.record().unwrap().phase, Phase::Probation, "a year back: {}", world.told());
    let ended = world.outcome(&id);
    stays(world, &ended);
    // The backend hears of it from the new version, maybe before the watcher has said so.
    let watched = world.until_says("logs/watch", "The new version stays");
    let year = jiff::Zoned::now().saturating_sub(jiff::SignedDuration::from_secs(YEAR)).year().to_string();
    let last = watched.lines().find(|it| it.contains("The new version stays")).unwrap();
    assert!(last.contains(&year), "the watcher saw the other clock: {last}");
}
