//! What becomes of commands: once each, and one outcome each, whatever happens.

use jiff::Timestamp;
use outrider_home::{Journal, State};
use outrider_protocol::control::Command;
use serde_json::{Value, json};

use super::action::DONE;
use super::backend::command;
use super::*;

fn journal(agent: &Agent) -> Journal {
    Journal::open(&agent.root(), Duration::from_secs(10)).unwrap()
}

fn record(journal: &Journal, id: &str, order: &Value) {
    let mut text = command(id, order);
    text.as_object_mut().unwrap().remove("kind");
    let command: Command = serde_json::from_value(text).unwrap();
    journal.record(&command).unwrap();
}

#[tokio::test]
async fn a_command_is_carried_out_and_everything_is_told_in_order() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
log("first")
notify("progress", {"integrations": [{"integration": "mock", "state": "running", "objects": 5, "bytes": 50}]})
log(json.dumps([it.get("id", it["name"]) for it in order["integrations"]]))
log("last")
answer(report())"#;
    let mut agent = Agent::new(&server, script);
    agent.config.extra_integrations = serde_json::from_str(r#"[{"name": "mock"}]"#).unwrap();
    let running = agent.start();
    backend.run("c1", &export());
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert_eq!(backend.log_of("c1"), ["first", r#"["mock", "extra-mock"]"#, "last"]);
    let told = backend.told_of("c1");
    assert_eq!(told[..2], ["command.accepted", "command.running"]);
    assert!(told.contains(&"command.progress".to_owned()), "{told:?}");
    assert_eq!(told.last().unwrap(), "command.ended");
    let kept = until_file(&agent.root().exports().join("c1.json")).await;
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap()["state"], "done");
    let stopped = running.stop().await;
    assert_eq!((stopped.unreported, stopped.queued), (0, 0));
    assert!(matches!(journal(&agent).open_entries().unwrap()[..], []));
}

#[tokio::test]
async fn a_command_that_is_delivered_again_and_again_runs_once() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    for _ in 0..3 {
        backend.run("c1", &export());
    }
    backend.ended("c1").await;
    // A backend that has forgotten everything delivers it once more, also after a restart.
    running.stop().await;
    let running = agent.start();
    backend.run("c1", &export());
    let again = |it: &Backend| (it.taken("command.ended").len() >= 2).then_some(());
    backend.until("the outcome, told again", again).await;
    running.stop().await;
    assert_eq!(agent.started(), ["c1"]);
}

#[tokio::test]
async fn no_command_begins_before_the_kept_state_has_lost_its_name() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = "kept = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'state.kept')\n\
                  log(str(os.path.exists(kept)))\nanswer(report())";
    let agent = Agent::new(&server, script);
    let (kept, scrap) = (agent.dir.path().join("state.kept"), agent.dir.path().join("state.scrap"));
    std::fs::create_dir(&kept).unwrap();
    // What cannot be deleted as a folder has the name that is needed.
    std::fs::write(&scrap, "").unwrap();
    let running = agent.start();
    backend.run("c1", &export());
    backend.until("the agent", |it| (!it.taken("agent.hello").is_empty()).then_some(())).await;
    assert!(kept.exists());
    std::fs::remove_file(scrap).unwrap();
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert_eq!(backend.log_of("c1"), ["False"]);
    running.stop().await;
}

#[tokio::test]
async fn each_command_gets_what_config_json_says_when_it_starts() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = "log(' '.join(it.get('id', it['name']) for it in order['integrations']))\nanswer(report())";
    let mut agent = Agent::new(&server, script);
    let running = agent.start();
    backend.run("c1", &export());
    backend.ended("c1").await;
    assert_eq!(backend.log_of("c1"), ["mock"]);
    agent.config.extra_integrations = serde_json::from_str(r#"[{"name": "git"}]"#).unwrap();
    agent.config.save(&agent.root()).unwrap();
    backend.run("c2", &export());
    backend.ended("c2").await;
    assert_eq!(backend.log_of("c2"), ["mock extra-git"]);
    // Nobody else is given what that one stores.
    let with = |id: &str| json!({"action": "export", "integrations": [{"name": "mock", "id": id}]});
    backend.run("c3", &with("extra-git"));
    let outcome = backend.ended("c3").await;
    assert_eq!(outcome["state"], "failed");
    let message = outcome["error"]["message"].as_str().unwrap();
    assert!(message.contains("the id extra-git"), "{message}");
    backend.run("c4", &with("git"));
    assert_eq!(backend.ended("c4").await["state"], "done");
    assert_eq!(backend.log_of("c4"), ["git extra-git"]);
    running.stop().await;
}

#[tokio::test]
async fn a_configuration_that_broke_is_named_by_a_command_that_fails_and_the_last_good_one_serves() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = "
log(' '.join(it.get('id', it['name']) for it in order['integrations']))
answer(report('failed' if command == 'c1' else 'done'))";
    let mut agent = Agent::new(&server, script);
    agent.config.extra_integrations = serde_json::from_str(r#"[{"name": "git"}]"#).unwrap();
    let running = agent.start();
    backend.run("c0", &export());
    backend.ended("c0").await;
    std::fs::write(agent.root().config_path(), "{\"version\": ").unwrap();
    backend.run("c1", &export());
    let outcome = backend.ended("c1").await;
    assert_eq!(backend.log_of("c1"), ["mock extra-git"]);
    let hint = outcome["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("config.json could not be used: "), "{hint}");
    backend.run("c2", &export());
    assert_eq!(backend.ended("c2").await["error"], Value::Null, "what is done needs no advice");
    // Another agent's orders are not for this configuration.
    agent.config.agent = "a2".parse().unwrap();
    agent.config.save(&agent.root()).unwrap();
    backend.run("c1-2", &export());
    backend.ended("c1-2").await;
    assert_eq!(backend.log_of("c1-2"), ["mock extra-git"]);
    running.stop().await;
}

#[tokio::test]
async fn after_a_crash_a_validation_that_ran_is_interrupted_and_what_waited_runs() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let journal = journal(&agent);
    record(&journal, "ran", &validate());
    record(&journal, "waited", &export());
    journal.started(&"ran".parse().unwrap(), Timestamp::now()).unwrap();
    drop(journal);
    let running = agent.start();
    assert_eq!(backend.ended("ran").await["state"], "interrupted");
    assert_eq!(backend.ended("waited").await["state"], "done");
    let hello = &backend.taken("agent.hello")[0];
    let mut told: Vec<_> =
        hello["commands"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, ["ran", "waited"]);
    running.stop().await;
    assert_eq!(agent.started(), ["waited"]);
}

#[tokio::test]
async fn a_service_that_is_killed_takes_its_processes_with_it_and_reports_after_the_next_start() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "note('pid', os.getpid())\nreceive()");
    let running = agent.start();
    backend.run("c1", &validate());
    let pid = until_file(&agent.dir.path().join("pid")).await;
    running.kill().await;
    until_gone(pid.trim()).await;
    let running = agent.start();
    assert_eq!(backend.ended("c1").await["state"], "interrupted");
    running.stop().await;
    assert_eq!(agent.started(), ["c1"]);
}

#[tokio::test]
async fn a_cancelled_command_keeps_what_its_action_answers() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "until_cancelled()\nanswer(report('cancelled'))");
    let running = agent.start();
    backend.run("c1", &export());
    backend.run("c2", &export());
    backend.until("the start", |it| it.told_of("c1").contains(&"command.running".into()).then_some(())).await;
    backend.order(json!({"kind": "cancel", "command": "c2", "reason": "not that one"}));
    backend.order(json!({"kind": "cancel", "command": "c1", "reason": "not needed"}));
    let outcome = backend.ended("c1").await;
    assert_eq!(outcome["state"], "cancelled");
    assert_eq!(outcome["report"]["integrations"][0]["state"], "cancelled");
    assert!(outcome["error"]["message"].as_str().unwrap().starts_with("not needed"), "{outcome}");
    assert_eq!(backend.ended("c2").await["error"]["message"], "not that one");
    running.stop().await;
    assert_eq!(agent.started(), ["c1"], "what was cancelled while it waited is never started");
}

#[tokio::test]
async fn an_action_that_ignores_everything_is_killed_with_the_children_it_told_of() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
notify("child.started", {"pid": child.pid, "program": "sleep", "started_at": "2026-11-21T08:00:00Z"})
note("pids", os.getpid())
note("pids", child.pid)
while True:
    time.sleep(1000)"#;
    let mut agent = Agent::new(&server, script);
    agent.config.limits.cancel_grace_s = 0;
    agent.config.limits.term_grace_s = 0;
    let running = agent.start();
    backend.run("c1", &export());
    until_file(&agent.dir.path().join("pids")).await;
    backend.order(json!({"kind": "cancel", "command": "c1"}));
    let outcome = backend.ended("c1").await;
    assert_eq!(outcome["state"], "cancelled");
    assert!(outcome["error"]["message"].as_str().unwrap().contains("SIGKILL"), "{outcome}");
    for pid in std::fs::read_to_string(agent.dir.path().join("pids")).unwrap().lines() {
        until_gone(pid).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_command_may_run_for_its_time_limit() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "until_cancelled()\nanswer(report('cancelled'))");
    let running = agent.start();
    let mut order = command("c1", &export());
    order["time_limit_ms"] = 100.into();
    backend.order(order);
    let outcome = backend.ended("c1").await;
    assert_eq!(outcome["state"], "failed");
    assert!(outcome["error"]["message"].as_str().unwrap().contains("time limit of 0.1 s"), "{outcome}");
    running.stop().await;
}

#[tokio::test]
async fn an_action_that_dies_fails_its_command_with_its_last_words_and_the_next_one_runs() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
if command == "bad":
    sys.stderr.write("thread main panicked: oh no\n")
    sys.stderr.flush()
    os._exit(101)
answer(report())"#;
    let agent = Agent::new(&server, script);
    let running = agent.start();
    backend.run("bad", &export());
    backend.run("good", &export());
    let outcome = backend.ended("bad").await;
    assert_eq!(outcome["state"], "failed");
    assert!(outcome["error"]["message"].as_str().unwrap().contains("it panicked"), "{outcome}");
    assert_eq!(outcome["error"]["last_lines"], json!(["thread main panicked: oh no"]));
    assert_eq!(backend.log_of("bad"), ["thread main panicked: oh no"]);
    assert_eq!(backend.ended("good").await["state"], "done");
    running.stop().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_fails_the_command_and_says_why() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    std::fs::remove_file(agent.program()).unwrap();
    let running = agent.start();
    backend.run("c1", &validate());
    let outcome = backend.ended("c1").await;
    assert_eq!((&outcome["state"], &outcome["error"]["fault"]), (&json!("failed"), &json!("host")));
    assert!(outcome["error"]["message"].as_str().unwrap().contains("program.py"), "{outcome}");
    running.stop().await;
}

#[tokio::test]
async fn a_command_that_is_too_old_expires() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    let mut order = command("c1", &export());
    order["expires_at"] = "2026-01-01T00:00:00Z".into();
    backend.order(order);
    assert_eq!(backend.ended("c1").await["state"], "expired");
    running.stop().await;
    assert!(agent.started().is_empty());
}

#[tokio::test]
async fn a_command_of_a_later_version_is_answered() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    backend.run("c1", &json!({"action": "brew-coffee"}));
    let outcome = backend.ended("c1").await;
    assert!(outcome["error"]["message"].as_str().unwrap().contains("cannot read the command"), "{outcome}");
    running.stop().await;
}

#[tokio::test]
async fn no_order_opts_in_to_share_last_processed_values() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "log(json.dumps(order))\nanswer(report())");
    let running = agent.start();
    let mut order = export();
    order["agent"] = json!({"share_last_processed": true});
    backend.run("c1", &order);
    let refused = backend.ended("c1").await["error"]["message"].to_string();
    assert!(refused.contains("unknown field") && refused.contains("share_last_processed"), "{refused}");
    // Beside the agent's configuration it is nothing that an order has, and no action hears of it.
    let mut order = export();
    order["share_last_processed"] = true.into();
    backend.run("c2", &order);
    assert_eq!(backend.ended("c2").await["state"], "done");
    let heard = backend.log_of("c2");
    assert!(heard[0].contains("integrations") && !heard[0].contains("share_last_processed"), "{heard:?}");
    running.stop().await;
    assert_eq!(agent.started(), ["c2"]);
}

#[tokio::test]
async fn a_service_that_stops_cancels_what_runs_and_keeps_what_waits() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "until_cancelled()\nanswer(report('cancelled'))");
    let running = agent.start();
    backend.run("c1", &validate());
    backend.run("e1", &export());
    backend.run("c2", &export());
    for id in ["c1", "e1"] {
        backend
            .until("the start", |it| it.told_of(id).contains(&"command.running".into()).then_some(()))
            .await;
    }
    backend
        .until("the second", |it| it.told_of("c2").contains(&"command.accepted".into()).then_some(()))
        .await;
    let stopped = running.stop().await;
    assert_eq!((stopped.unreported, stopped.queued), (0, 2));
    assert_eq!(backend.ended("c1").await["state"], "interrupted");
    let open = journal(&agent).open_entries().unwrap();
    let queued: Vec<_> =
        open.iter().filter(|it| matches!(it.state, State::Queued(_))).map(|it| it.id.as_str()).collect();
    assert_eq!(queued, ["e1", "c2"], "the export that ran waits in its old place");
    assert!(open.iter().all(|it| it.starts.is_empty()), "{open:?}");
}

#[tokio::test]
async fn what_the_backend_did_not_hear_before_a_stop_it_hears_after_the_next_start() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let journal = journal(&agent);
    record(&journal, "c1", &export());
    drop(journal);
    let addr = server.addr;
    drop(server);
    let running = agent.start();
    let report = agent.root().exports().join("c1.json");
    until_file(&report).await;
    let stopped = running.stop().await;
    assert_eq!(stopped.unreported, 1);
    let _server = backend.serve(Some(addr));
    let running = agent.start();
    assert_eq!(backend.ended("c1").await["state"], "done");
    running.stop().await;
    assert_eq!(agent.started(), ["c1"]);
}

/// Waits until a process is no more, or only a zombie.
async fn until_gone(pid: &str) {
    for _ in 0..3000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z'));
        if state.unwrap_or(true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} lives on since {}", Timestamp::now());
}
