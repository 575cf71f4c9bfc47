//! The whole watcher, from the armed version to the end of the attempt.

use std::time::Duration;

use outrider_protocol::local::{BackendLink, SelfTest};
use outrider_supervisor::{Child, Environment, Spawn};
use outrider_versions::{BootId, Link, OldReach, Phase, Points, Post, Reason, Record, TRIES};
use tokio::time::sleep;

use super::super::{TakenBack, Watched, run, take_back};
use super::host::{Host, NEW, OLD, Play, Service, away, linked, name, refused, reply, says, until, well};

/// The root that this program, started once more, is to hold without a word.
const HANGS: &str = "OUTRIDER_TEST_HANGS";
const SOON: Duration = Duration::from_millis(300);

fn current(host: &Host) -> Points {
    host.versions.see().unwrap().links.current
}

/// Taken back, with this reason and detail, to an old version that nobody but the watcher starts.
async fn taken_back(host: &Host, service: Option<Service>, reason: Reason, detail: &str) {
    let record = host.until_phase(Phase::RolledBack).await;
    drop(service);
    assert_eq!(record.reason, Some(reason), "{}", record.detail);
    assert!(record.detail.contains(detail), "{}", record.detail);
    assert_eq!(current(host), Points::To(name(OLD)));
    let started = host.until_started().await;
    let root = host.root.path().display();
    assert_eq!(
        started.lines().next().unwrap(),
        format!("{root}/versions/{OLD}/outrider service-run --root {root}")
    );
    assert!(host.diagnosis("health").exists() && host.diagnosis("rolled-back").exists());
}

#[tokio::test]
async fn a_good_version_stays_and_the_watcher_ends() {
    let host = Host::new();
    host.arm(OldReach::Reached);
    let watched = host.watch();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(host.record().phase, Phase::Armed, "it waits for the switch");
    host.go_over();
    let service = Service::start(&host, says(SelfTest::Pending, BackendLink::Unknown));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(host.record().phase, Phase::Probation, "not well yet");
    service.plays(well());
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(host.record().phase, Phase::Committed);
    assert_eq!(current(&host), Points::To(name(NEW)));
    assert!(!host.diagnosis("health").exists());
}

#[tokio::test]
async fn the_answer_of_another_build_is_not_its_own() {
    let host = Host::on_trial(OldReach::Unknown, |_| {});
    let old = Play::Answer(reply("1.0.0", "00000000", SelfTest::Answered, BackendLink::Unknown));
    let service = Service::start(&host, old);
    let watched = host.watch();
    sleep(SOON).await;
    assert_eq!(host.record().phase, Phase::Probation);
    service.plays(well());
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(host.record().phase, Phase::Committed);
}

#[tokio::test]
async fn a_version_that_gives_no_answer_is_taken_back() {
    let host = Host::on_trial(OldReach::Reached, |it| {
        (it.settings.hang, it.settings.answer_within) = (SOON, Duration::from_millis(50));
    });
    let service = Service::start(&host, Play::Nothing);
    let watched = host.watch();
    taken_back(&host, Some(service), Reason::Hang, "gives no answer").await;
    host.stop_watchers();
    assert_eq!(watched.await.unwrap(), Watched::Ended, "the attempt has, whoever runs");
}

#[tokio::test]
async fn answers_that_come_too_late_are_none() {
    let host = Host::on_trial(OldReach::Reached, |it| {
        (it.settings.hang, it.settings.answer_within) = (SOON, Duration::from_millis(50));
    });
    let good = reply("2.0.0", "11111111", SelfTest::Answered, BackendLink::Unknown);
    let service = Service::start(&host, Play::Slowly(Duration::from_secs(1), good));
    drop(host.watch());
    taken_back(&host, Some(service), Reason::Hang, "no answer within").await;
}

/// Not a test of its own: a process that holds a root, answers nothing and does not heed SIGTERM.
#[tokio::test]
async fn the_process_that_hangs() {
    let Some(root) = std::env::var_os(HANGS) else { return };
    let root = outrider_home::Root::at(root);
    let _lock = root.lock().unwrap();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    std::fs::write(root.path().join("hangs"), "").unwrap();
    loop {
        term.recv().await;
    }
}

#[tokio::test]
async fn a_process_that_hangs_is_stopped_before_the_old_version_runs() {
    let host = Host::on_trial(OldReach::Reached, |it| it.settings.hang = SOON);
    std::fs::write(host.root.log_file("service-run"), "its last words\n").unwrap();
    let mut child = hung(&host).await;
    drop(host.watch());
    taken_back(&host, None, Reason::Hang, &format!("process {}", child.pid())).await;
    assert!(host.root.in_use().is_ok(), "it let the root go before the old version was started");
    let ended = child.wait().await;
    assert!(ended.to_string().contains("SIGKILL"), "{ended}");
    let read = |file: &str| std::fs::read_to_string(host.diagnosis(file)).unwrap();
    assert_eq!(read("service-run"), "its last words\n");
    assert!(read("process").contains(&format!("Pid:\t{}", child.pid())));
    assert!(read("health").contains("service.sock"), "{}", read("health"));
}

/// The version on trial as a process that hangs and holds the root.
async fn hung(host: &Host) -> Child {
    let child = Spawn::new(std::env::current_exe().unwrap())
        .args(["--exact", "watch::tests::whole::the_process_that_hangs"])
        .env(Environment::default().set(HANGS, host.path()))
        .start();
    until("a process holds the root", || host.path().join("hangs").exists()).await;
    child.unwrap()
}

#[tokio::test]
async fn a_person_takes_a_version_back_that_hangs_and_the_watcher_sees_that_the_one_before_runs() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    let mut child = hung(&host).await;
    // Set anew at the end of the watcher's first look.
    let is_set = |record: &Record| record.deadline.as_ref().is_some_and(|it| it.boot.0 != "another");
    let reset = |it: &mut Record| it.deadline.as_mut().unwrap().boot = BootId("another".into());
    host.versions.write(SOON).unwrap().update(reset).unwrap();
    let watched = host.watch();
    until("the watcher has asked", || is_set(&host.record())).await;
    let taken = take_back(&host.root, &host.record(), "a person wanted it").await.unwrap();
    assert_eq!(taken, TakenBack::Back { ran: Some(child.pid()), ended: true });
    taken_back(&host, None, Reason::ByHand, "a person wanted it").await;
    assert!(child.wait().await.to_string().contains("SIGKILL"));
    host.stop_watchers();
    watched.await.unwrap();
}

#[tokio::test]
async fn a_person_who_goes_back_while_nothing_runs_has_nothing_started() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    host.versions.write(SOON).unwrap().stopped_on_purpose().unwrap();
    let watched = host.watch();
    sleep(Duration::from_millis(50)).await;
    let taken = take_back(&host.root, &host.record(), "a person wanted it").await.unwrap();
    assert_eq!(taken, TakenBack::Back { ran: None, ended: false });
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(current(&host), Points::To(name(OLD)));
    assert!(!host.path().join("started").exists(), "it was stopped on purpose");
}

#[tokio::test]
async fn what_is_not_switched_yet_is_given_up_and_the_version_that_runs_is_left_alone() {
    let host = Host::new();
    host.arm(OldReach::Reached);
    let running = host.root.lock().unwrap();
    host.versions.write(SOON).unwrap().enter(Phase::Switched, None).unwrap();
    let taken = take_back(&host.root, &host.record(), "a person wanted it").await.unwrap();
    assert_eq!(taken, TakenBack::Back { ran: None, ended: false });
    assert_eq!((host.record().phase, current(&host)), (Phase::RolledBack, Points::To(name(OLD))));
    assert_eq!(host.launch(), name(OLD));
    drop(running);
}

#[tokio::test]
async fn a_person_does_not_go_back_to_what_is_damaged_and_nothing_is_ended() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    let before = host.record();
    std::fs::write(host.versions.layout().version(&name(OLD)).join("more"), "of somebody else").unwrap();
    let service = Service::start(&host, Play::Nothing);
    let taken = take_back(&host.root, &before, "a person wanted it").await.unwrap();
    let TakenBack::Stays { why } = taken else { panic!("{taken:?}") };
    assert!(why.contains("damaged") && why.contains("a person wanted it"), "{why}");
    assert!(host.root.in_use().is_err());
    let again = take_back(&host.root, &before, "a person wanted it").await.unwrap();
    assert_eq!(again, TakenBack::Moved, "it has ended");
    drop(service);
}

#[tokio::test]
async fn a_version_that_dies_and_is_not_started_again_is_taken_back() {
    let host = Host::on_trial(OldReach::Reached, |it| {
        it.settings.hang = SOON;
        it.green_for = Duration::from_secs(60);
    });
    let service = Service::start(&host, well());
    let watched = host.watch();
    sleep(SOON).await;
    assert_eq!(host.record().phase, Phase::Probation);
    drop(service);
    taken_back(&host, None, Reason::Hang, "nobody started it again").await;
    let service = Service::start(&host, Play::Answer(reply("1.0.0", "00000000", SelfTest::Pending, away())));
    assert_eq!(watched.await.unwrap(), Watched::Ended, "the old version runs");
    drop(service);
}

#[tokio::test]
async fn a_version_that_was_never_started_is_taken_back() {
    let mut host = Host::new();
    host.settings.hang = SOON;
    host.arm(OldReach::Reached);
    host.versions.write(SOON).unwrap().switch().unwrap();
    drop(host.watch());
    taken_back(&host, None, Reason::Hang, "nobody started it").await;
}

#[tokio::test]
async fn a_version_that_the_launcher_took_back_leaves_its_diagnosis() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    let watched = host.watch();
    sleep(Duration::from_millis(50)).await;
    while host.launch() == name(NEW) {}
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(host.record().reason, Some(Reason::CrashLoop));
    assert!(host.diagnosis("health").exists());
    assert!(!host.path().join("started").exists(), "the launcher runs the old version itself");
}

#[tokio::test]
async fn a_failed_self_test_and_a_refusal_take_it_back_at_once() {
    for (play, detail) in [
        (says(SelfTest::Failed { why: "exec".into() }, BackendLink::Unknown), "self-test failed: exec"),
        (linked(refused()), "refuses it, and took the version before: 401"),
    ] {
        let host = Host::on_trial(OldReach::Reached, |_| {});
        let service = Service::start(&host, play);
        drop(host.watch());
        taken_back(&host, Some(service), Reason::Unhealthy, detail).await;
    }
}

#[tokio::test]
async fn a_backend_that_is_away_counts_only_if_the_old_version_reached_it() {
    let host = Host::on_trial(OldReach::Reached, |it| it.bound = SOON);
    let service = Service::start(&host, linked(away()));
    drop(host.watch());
    taken_back(&host, Some(service), Reason::Deadline, "does not reach the backend, as the version before")
        .await;
    for (reach, backend) in
        [(OldReach::Unreached, away()), (OldReach::Unknown, away()), (OldReach::Unreached, refused())]
    {
        let host = Host::on_trial(reach, |_| {});
        let _service = Service::start(&host, linked(backend));
        assert_eq!(host.watch().await.unwrap(), Watched::Ended);
        assert_eq!(host.record().phase, Phase::Committed, "{reach:?}");
    }
}

#[tokio::test]
async fn a_stop_on_purpose_is_waited_for_and_costs_nothing() {
    let host = Host::on_trial(OldReach::Reached, |it| {
        (it.settings.hang, it.bound) = (SOON, Duration::from_secs(2));
        it.green_for = Duration::from_secs(1);
    });
    let service = Service::start(&host, well());
    let watched = host.watch();
    sleep(SOON).await;
    host.versions.write(SOON).unwrap().stopped_on_purpose().unwrap();
    drop(service);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(host.record().phase, Phase::Probation, "longer than its bound");
    assert_eq!(host.record().tries_left, TRIES);
    host.launch();
    let _service = Service::start(&host, well());
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(host.record().phase, Phase::Committed);
}

#[tokio::test]
async fn its_own_bounds_end_it() {
    let host = Host::on_trial(OldReach::Reached, |it| it.settings.stopped_for = SOON);
    host.versions.write(SOON).unwrap().stopped_on_purpose().unwrap();
    assert_eq!(host.watch().await.unwrap(), Watched::GivenUp);
    assert_eq!(host.record().phase, Phase::Probation);
    let mut host = Host::new();
    host.settings.armed_for = SOON;
    assert_eq!(host.watch().await.unwrap(), Watched::Ended, "there is no attempt");
    host.arm(OldReach::Reached);
    assert_eq!(host.watch().await.unwrap(), Watched::GivenUp);
    assert_eq!(host.record().phase, Phase::Armed);
}

#[tokio::test]
async fn after_a_restart_of_the_machine_the_deadline_is_set_anew() {
    let host = Host::on_trial(OldReach::Reached, |it| it.green_for = Duration::from_secs(60));
    let set = |change: &dyn Fn(&mut Record)| {
        host.versions.write(SOON).unwrap().update(|it| change(it)).unwrap();
    };
    for passed in [false, true] {
        set(&|it| {
            let mut deadline = it.deadline.clone().unwrap();
            if passed {
                deadline.ms = 1;
            } else {
                deadline.boot = BootId("another".into());
            }
            it.deadline = Some(deadline);
        });
        let before = host.record().deadline;
        let service = Service::start(&host, well());
        let watched = host.watch();
        until("a new deadline", || host.record().deadline != before).await;
        assert_eq!(host.record().phase, Phase::Probation);
        host.stop_watchers();
        assert_eq!(watched.await.unwrap(), Watched::Stopped);
        drop(service);
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_tried_until_it_can() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    let _service = Service::start(&host, well());
    // A folder where the next record is written.
    let trap = host.versions.layout().upgrade().join("journal.new");
    std::fs::create_dir(&trap).unwrap();
    let watched = host.watch();
    sleep(SOON).await;
    assert_eq!(host.record().phase, Phase::Probation);
    std::fs::remove_dir(&trap).unwrap();
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(host.record().phase, Phase::Committed);

    let host = Host::on_trial(OldReach::Reached, |it| it.bound = SOON);
    let trap = host.versions.layout().upgrade().join("journal.new");
    std::fs::create_dir(&trap).unwrap();
    let service = Service::start(&host, linked(away()));
    drop(host.watch());
    sleep(SOON * 3).await;
    assert_eq!(host.record().phase, Phase::Probation);
    // What it was taken back for stays, also when the service is well by then.
    service.plays(well());
    std::fs::remove_dir(&trap).unwrap();
    taken_back(&host, Some(service), Reason::Deadline, "does not reach the backend").await;
}

#[tokio::test]
async fn where_there_is_nothing_to_go_back_to_the_new_version_stays() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    std::fs::remove_dir_all(host.versions.layout().version(&name(OLD))).unwrap();
    let service = Service::start(&host, linked(refused()));
    let watched = host.watch();
    let record = host.until_phase(Phase::Failed).await;
    assert_eq!(record.reason, Some(Reason::RollbackImpossible));
    assert_eq!(current(&host), Points::To(name(NEW)));
    assert_eq!(watched.await.unwrap(), Watched::Ended, "the new version runs on");
    drop(service);
}

#[tokio::test]
async fn where_the_version_before_has_changed_the_new_one_stays_and_is_not_stopped() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    std::fs::write(host.versions.layout().version(&name(OLD)).join("more"), "of somebody else").unwrap();
    let service = Service::start(&host, linked(refused()));
    let watched = host.watch();
    let record = host.until_phase(Phase::Failed).await;
    assert_eq!(record.reason, Some(Reason::RollbackImpossible));
    assert!(
        record.detail.contains("not what they were") && record.detail.contains("401"),
        "{}",
        record.detail
    );
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(current(&host), Points::To(name(NEW)));
    assert!(host.root.in_use().is_err(), "the service was not stopped for it");
    drop(service);
}

#[tokio::test]
async fn a_version_that_died_is_started_anew_where_there_is_nothing_to_go_back_to() {
    for damage in [true, false] {
        let host = Host::on_trial(OldReach::Reached, |it| it.settings.hang = SOON);
        let old = host.versions.layout().version(&name(OLD));
        if damage {
            std::fs::write(old.join("more"), "of somebody else").unwrap();
        } else {
            std::fs::remove_dir_all(old).unwrap();
        }
        drop(host.watch());
        host.until_phase(Phase::Failed).await;
        let started = host.until_started().await;
        assert!(started.contains(&format!("/{NEW}/outrider service-run")), "{started}");
    }
}

#[tokio::test]
async fn a_trial_whose_journal_is_lost_goes_on() {
    let host = Host::on_trial(OldReach::Reached, |it| it.green_for = SOON);
    let service = Service::start(&host, says(SelfTest::Pending, BackendLink::Unknown));
    let watched = host.watch();
    for slot in host.versions.layout().slots() {
        std::fs::write(slot, "garbage").unwrap();
    }
    host.until_phase(Phase::Probation).await;
    assert_eq!(host.versions.slot_faults(), []);
    service.plays(well());
    assert_eq!(watched.await.unwrap(), Watched::Ended);
    assert_eq!(host.record().phase, Phase::Committed);
    drop(service);
}

#[tokio::test]
async fn an_act_that_was_cut_short_is_finished() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    let writer = host.versions.write(SOON).unwrap();
    writer.enter(Phase::RollingBack, Some((Reason::ByHand, "a person wanted it"))).unwrap();
    drop(writer);
    drop(host.watch());
    taken_back(&host, None, Reason::ByHand, "a person").await;
    assert_eq!(host.versions.see().unwrap().links.previous, Points::To(name(OLD)), "{:?}", Link::Previous);
}

#[tokio::test]
async fn a_second_watcher_ends_at_once_and_leaves_the_log_alone() {
    let host = Host::on_trial(OldReach::Reached, |_| {});
    let post = host.versions.take(Post::Watcher, SOON).unwrap();
    let log = host.root.log_file("watch");
    std::fs::write(&log, "of the first\n").unwrap();
    let never = std::future::pending::<&'static str>;
    assert_eq!(run(host.root.clone(), never()).await.unwrap(), Watched::ByAnother);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "of the first\n");
    drop(post);
    let watched = tokio::spawn(run(host.root.clone(), async {
        sleep(SOON).await;
        "SIGTERM"
    }));
    until("the post is taken", || host.versions.take(Post::Watcher, Duration::ZERO).is_err()).await;
    assert_eq!(watched.await.unwrap().unwrap(), Watched::Stopped);
}
