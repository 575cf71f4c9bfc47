//! The states of commands, their progress and logs.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::action::{LogBatch, Order};
use outrider_protocol::control::{
    self, Accepted, CommandParams, EndState, Ended, EndedParams, Envelope, Log, LogParams, Outcome, Ping,
    PingParams, ProgressChanged, ProgressParams,
};
use outrider_protocol::fault::{Fault, Retry, code};
use outrider_protocol::ids::{CommandId, SessionId};
use outrider_protocol::integration::SessionKind;
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::progress::{Progress, SessionProgress, SessionState};
use outrider_protocol::report::{ActionReport, ExportReport, Failure};

use serde_json::json;

use super::harness::{FakeAgent, Rig, cancel_id, new_command, run_id, within};
use crate::Limits;
use crate::admin::{CommandFilter, CommandState, LogRange, NewCommand, WatchQuery};
use crate::client::ClientError;

async fn state(rig: &Rig, command: &CommandId) -> CommandState {
    rig.client.command(command).await.unwrap().summary.state
}

fn lines(texts: &[String]) -> LogBatch {
    let line = |text: &String| LogLine {
        time: Timestamp::now(),
        level: Level::Info,
        source: "mock".into(),
        message: text.clone(),
        fields: Fields::new(),
    };
    LogBatch { lines: texts.iter().map(line).collect(), dropped: 0 }
}

async fn log(agent: &FakeAgent, command: &CommandId, batch: u64, log: LogBatch) {
    agent.call::<Log>(&LogParams { command: command.clone(), batch, log }).await.unwrap();
}

fn session(id: u64, parent: Option<u64>, state: SessionState) -> SessionProgress {
    SessionProgress {
        session: SessionId(id),
        parent: parent.map(SessionId),
        integration: "mock".parse().unwrap(),
        kind: SessionKind::Model,
        name: "sourcecode.Repo".into(),
        object: None,
        state,
        current: id,
        total: None,
        objects: 0,
        children_done: 0,
    }
}

async fn progress(agent: &FakeAgent, command: &CommandId, sessions: Vec<SessionProgress>) {
    let progress = Progress { sessions, ..Progress::default() };
    agent.call::<ProgressChanged>(&ProgressParams { command: command.clone(), progress }).await.unwrap();
}

#[tokio::test]
async fn a_command_passes_its_states_and_keeps_its_report() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    assert_eq!(state(&rig, &command).await, CommandState::Queued);
    agent.accept(&command).await;
    assert_eq!(state(&rig, &command).await, CommandState::Delivered);
    agent.run(&command).await;
    assert_eq!(state(&rig, &command).await, CommandState::Running);
    let report = ExportReport {
        export: command.clone().into(),
        started_at: Timestamp::now(),
        duration_ms: 5,
        integrations: Vec::new(),
        files: None,
        continued: None,
    };
    let failure = Failure {
        message: "the disk is full".into(),
        fault: Fault::Host,
        retry: Retry::Later,
        hint: None,
        last_lines: vec!["bye".into()],
    };
    let outcome = Outcome {
        state: EndState::Failed,
        report: Some(ActionReport::Export(report)),
        error: Some(failure.clone()),
    };
    let ended = EndedParams { command: command.clone(), outcome, ended_at: Timestamp::now() };
    agent.call::<Ended>(&ended).await.unwrap();
    // Again, as if the answer had been lost.
    agent.call::<Ended>(&ended).await.unwrap();
    let shown = rig.client.command(&command).await.unwrap();
    assert_eq!((shown.summary.state, shown.error), (CommandState::Failed, Some(failure)));
    assert!(matches!(shown.report, Some(ActionReport::Export(report)) if report.duration_ms == 5));
    let filter = CommandFilter { state: Some(CommandState::Failed), ..CommandFilter::default() };
    assert_eq!(rig.client.commands(&filter).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_listing_never_shows_a_configuration() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await;
    let shown = serde_json::to_string(&command).unwrap();
    assert!(shown.contains("\"name\":\"mock\"") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn cancelling_a_queued_command_ends_it_at_once_even_if_the_agent_just_took_it() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let mut orders = agent.orders().await;
    let command = rig.order(&agent).await.summary.id;
    assert_eq!(run_id(&orders.next().await.unwrap()), &command);
    let cancelled = rig.client.cancel(&command, "").await.unwrap();
    assert_eq!(cancelled.summary.state, CommandState::Cancelled);
    agent.accept(&command).await;
    assert_eq!(cancel_id(&orders.next().await.unwrap()), &command);
    agent.end(&command, EndState::Done).await;
    assert_eq!(state(&rig, &command).await, CommandState::Cancelled);
    assert!(agent.poll(0).await.is_empty());
    let again = rig.client.cancel(&command, "").await.unwrap_err();
    assert!(again.to_string().contains("has ended already: it is cancelled"), "{again}");
}

#[tokio::test]
async fn a_command_that_nobody_came_for_expires() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let new = NewCommand { expires_in_s: Some(0), ..new_command(&agent.id) };
    let command = rig.client.create_command(&new).await.unwrap().summary.id;
    let query = WatchQuery { mark: None, after_line: 0, wait_ms: 30_000 };
    let mut watched = rig.client.watch(&command, &query).await.unwrap();
    while !watched.command.summary.state.is_end() {
        let query = WatchQuery { mark: Some(watched.mark), ..query.clone() };
        watched = within(rig.client.watch(&command, &query)).await.unwrap();
    }
    assert_eq!(watched.command.summary.state, CommandState::Expired);
    assert!(agent.poll(0).await.is_empty());
}

#[tokio::test]
async fn an_agent_cannot_touch_the_commands_of_another() {
    let rig = Rig::new().await;
    let (one, two) = (rig.agent().await, rig.agent_again("request-of-the-second").await);
    let command = rig.order(&one).await.summary.id;
    assert!(two.poll(0).await.is_empty());
    let params = CommandParams { command: command.clone(), at: Timestamp::now() };
    let error = two.call::<Accepted>(&params).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("has no command"), "{error}");
    assert_eq!((&error["code"], &error["data"]["retry"]), (&code::NO_COMMAND.into(), &"no".into()));
    // So does the end of a command that nobody has: the agent can tell it from an outcome that is not taken.
    let outcome = Outcome { state: EndState::Done, report: None, error: None };
    for command in [command.clone(), "nobody-has-this".parse().unwrap()] {
        let ended = EndedParams { command, outcome: outcome.clone(), ended_at: Timestamp::now() };
        assert_eq!(two.call::<Ended>(&ended).await.unwrap_err()["code"], code::NO_COMMAND);
    }
    assert_eq!(state(&rig, &command).await, CommandState::Queued);
}

#[tokio::test]
async fn a_command_of_which_the_agent_still_knows_is_not_given_up_by_a_hello() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (known, fresh) = (rig.order(&agent).await.summary.id, rig.order(&agent).await.summary.id);
    agent.accept(&known).await;
    agent.accept(&fresh).await;
    // `fresh` was accepted this moment: its acceptance may have crossed the hello.
    agent.hello(vec![known.clone()]).await;
    assert_eq!(state(&rig, &known).await, CommandState::Delivered);
    assert_eq!(state(&rig, &fresh).await, CommandState::Delivered);
}

#[tokio::test]
async fn a_ping_that_does_not_list_an_accepted_command_ends_it() {
    let rig = Rig::with(Limits { lost_after: Duration::ZERO, ..Limits::default() }).await;
    let agent = rig.agent().await;
    let (known, lost) = (rig.order(&agent).await.summary.id, rig.order(&agent).await.summary.id);
    let queued = rig.order(&agent).await.summary.id;
    for command in [&known, &lost] {
        agent.accept(command).await;
        agent.run(command).await;
    }
    let ping = PingParams {
        running: Vec::new(),
        commands: vec![known.clone()],
        spool_files: 0,
        spool_bytes: 0,
        refused_files: 0,
        lost_files: 0,
    };
    agent.call::<Ping>(&ping).await.unwrap();
    assert_eq!(state(&rig, &known).await, CommandState::Running);
    assert_eq!(state(&rig, &queued).await, CommandState::Queued);
    let shown = rig.client.command(&lost).await.unwrap();
    assert_eq!(shown.summary.state, CommandState::Interrupted);
    let error = shown.error.unwrap();
    assert!(error.message.contains("no longer lists it"), "{}", error.message);
}

#[tokio::test]
async fn a_ping_without_a_list_of_commands_ends_none() {
    let rig = Rig::with(Limits { lost_after: Duration::ZERO, ..Limits::default() }).await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    agent.accept(&command).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"agent.ping","params":{"running":[],"spool_files":0,"spool_bytes":0}}"#;
    assert_eq!(agent.call_raw(ping.into()).await["error"]["code"], code::INVALID_PARAMS);
    assert_eq!(state(&rig, &command).await, CommandState::Delivered);
}

#[tokio::test]
async fn an_order_that_no_agent_could_take_is_refused_at_once() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let limit = Limits::default().order_bytes;
    // An agent's events may have 16 MiB, with what is around an order.
    assert!(limit <= 8 << 20);
    let err = rig.client.create_command(&order_with(&agent, &"x".repeat(limit))).await.unwrap_err();
    assert!(matches!(err, ClientError::Refused { status: 413, .. }), "{err}");
    assert!(err.to_string().contains(&format!("at most {limit} are taken")), "{err}");
    assert!(err.hint().unwrap().contains("fewer integrations at once"));
    let beyond_all = "x".repeat(Limits::default().message_bytes);
    let refused = rig.client.create_command(&order_with(&agent, &beyond_all)).await;
    assert!(refused.is_err());
    rig.client.create_command(&order_with(&agent, &"x".repeat(limit - 1000))).await.unwrap();
    assert_eq!(agent.poll(0).await.len(), 1);
}

#[tokio::test]
async fn an_order_with_an_id_of_a_hosts_own_integrations_is_refused() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let mut new = new_command(&agent.id);
    new.order.integrations_mut()[0].id = Some("extra-mock".parse().unwrap());
    let err = rig.client.create_command(&new).await.unwrap_err();
    assert!(matches!(err, ClientError::Refused { status: 400, .. }), "{err}");
    assert!(err.to_string().contains("extra-mock") && err.hint().unwrap().contains("another `id`"), "{err}");
}

fn order_with(agent: &FakeAgent, text: &str) -> NewCommand {
    let mut new = new_command(&agent.id);
    if let Order::Export(order) = &mut new.order {
        order.integrations[0].config = serde_json::value::to_raw_value(text).unwrap();
    }
    new
}

#[tokio::test]
async fn the_line_breaks_of_a_configuration_cost_nothing_on_the_way() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let mut new = new_command(&agent.id);
    if let Order::Export(order) = &mut new.order {
        let text = format!("{{{}\"a\": \"b\\n\"\r\n}}", "\n".repeat(1000));
        order.integrations[0].config = serde_json::value::RawValue::from_string(text).unwrap();
    }
    rig.client.create_command(&new).await.unwrap();
    let told = agent.orders().await.next().await.unwrap();
    let Envelope::Run(control::Command { order: Order::Export(order), .. }) = &told else {
        panic!("expected a run, found {told:?}")
    };
    assert_eq!(order.integrations[0].config.get(), "{\"a\": \"b\\n\"}");
}

#[tokio::test]
async fn no_configuration_of_an_integration_stays_here() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    agent.accept(&command).await;
    // As an agent of another version may say it.
    let integration = json!({
        "integration": "mock", "name": "mock", "state": "done", "mode": "historical", "duration_ms": 1,
        "models": [], "projects": [], "config_changed": true, "new_config": { "token": "swordfish" },
    });
    let now = Timestamp::now();
    let report = json!({
        "action": "export", "export": command, "started_at": now, "duration_ms": 1, "integrations": [integration],
    });
    let params =
        json!({ "command": command, "outcome": { "state": "done", "report": report }, "ended_at": now });
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "command.ended", "params": params });
    let answer = agent.call_raw(call.to_string()).await;
    assert!(answer["error"].is_null(), "{answer}");
    let shown = serde_json::to_string(&rig.client.command(&command).await.unwrap()).unwrap();
    assert!(shown.contains(r#""config_changed":true"#) && !shown.contains("swordfish"), "{shown}");
    let dir = rig.stop().await;
    for name in ["outrider.db", "outrider.db-wal"] {
        let bytes = std::fs::read(dir.path().join("data").join(name)).unwrap_or_default();
        for secret in ["swordfish", "hunter2"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
}

#[tokio::test]
async fn a_batch_of_log_lines_is_kept_once_and_the_newest_lines_stay() {
    let rig = Rig::with(Limits { log_lines: 5, log_message_bytes: 10, ..Limits::default() }).await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let texts: Vec<String> = (0..4).map(|n| format!("line {n}")).collect();
    log(&agent, &command, 0, lines(&texts)).await;
    log(&agent, &command, 0, lines(&texts)).await;
    let shown = rig.client.logs(&command, LogRange::default()).await.unwrap();
    assert_eq!(shown.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let mut more = lines(&["äöü äöü äöü".into()]);
    more.dropped = 12;
    log(&agent, &command, 1, more).await;
    let shown = rig.client.logs(&command, LogRange { after: Some(3), limit: None }).await.unwrap();
    let texts: Vec<&str> = shown.iter().map(|line| line.line.message.as_str()).collect();
    assert_eq!(texts[0], "line 3");
    assert!(texts[1].starts_with("12 lines "), "{texts:?}");
    assert_eq!(texts[2], "äöü ä… (11 bytes cut off)");
    let newest = rig.client.logs(&command, LogRange::default()).await.unwrap();
    assert_eq!(newest.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn the_latest_state_of_a_session_wins_and_old_finished_ones_go() {
    let rig = Rig::with(Limits { finished_sessions: 3, ..Limits::default() }).await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    progress(&agent, &command, vec![session(1, None, SessionState::Open)]).await;
    let mut parent = session(1, None, SessionState::Open);
    for id in 2..=8 {
        parent.children_done += 1;
        // A grandchild under each: it goes with its parent.
        let below = session(id * 100, Some(id), SessionState::Done);
        progress(&agent, &command, vec![parent.clone(), session(id, Some(1), SessionState::Done), below])
            .await;
    }
    let shown = rig.client.progress(&command).await.unwrap().sessions;
    let ids: Vec<u64> = shown.iter().map(|session| session.session.0).collect();
    assert_eq!(ids, [1, 6, 7, 8, 600, 700, 800]);
    assert_eq!(shown[0].children_done, 7);
}

#[tokio::test]
async fn an_agent_takes_only_so_many_open_commands() {
    let rig = Rig::with(Limits { open_commands: 2, ..Limits::default() }).await;
    let agent = rig.agent().await;
    let first = rig.order(&agent).await.summary.id;
    rig.order(&agent).await;
    let refused = rig.client.create_command(&new_command(&agent.id)).await.unwrap_err();
    assert!(refused.to_string().contains("2 commands that have not ended; at most 2"), "{refused}");
    rig.client.cancel(&first, "").await.unwrap();
    rig.order(&agent).await;
}

#[tokio::test]
async fn commands_survive_a_restart_of_the_backend() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    log(&agent, &command, 0, lines(&["kept".into()])).await;
    let rig = Rig::in_folder(rig.stop().await, Limits::default()).await;
    let agent = agent.at(&rig.url);
    assert_eq!(run_id(&agent.poll(0).await[0]), &command);
    assert_eq!(rig.client.logs(&command, LogRange::default()).await.unwrap()[0].line.message, "kept");
}

#[tokio::test]
async fn a_watch_answers_when_something_changes() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let first = rig.client.watch(&command, &WatchQuery::default()).await.unwrap();
    let query = WatchQuery { mark: Some(first.mark), after_line: 0, wait_ms: 30_000 };
    let (next, ()) = tokio::join!(within(rig.client.watch(&command, &query)), agent.accept(&command));
    assert_eq!(next.unwrap().command.summary.state, CommandState::Delivered);
}
