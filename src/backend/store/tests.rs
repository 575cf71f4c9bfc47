//! What the store does when time has passed, which a test over HTTP could only wait for.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::control::{EndState, EndedParams, Outcome};
use outrider_protocol::ids::{AgentId, CommandId};
use tempfile::TempDir;

use super::{OrderBounds, Reported, Store};
use crate::admin::{Command, CommandState, NewCode};
use crate::tests::harness::{enroll_request, new_command};

const BOUNDS: OrderBounds = OrderBounds { open: 10, bytes: 10_000 };
const LOST_AFTER: Duration = Duration::from_secs(60);

/// A store with an agent and a command that it has accepted.
async fn accepted() -> (TempDir, Store, AgentId, CommandId) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("outrider.db")).await.unwrap();
    let now = Timestamp::now();
    let code = store.create_code(NewCode::default(), now + Duration::from_secs(60), now).await.unwrap().code;
    let agent = store.enroll(&enroll_request(&code, "request-0123456789"), now).await.unwrap().reply.agent;
    let command = store.create_command(&new_command(&agent), None, BOUNDS, now).await.unwrap();
    assert_eq!(store.command_accepted(&agent, &command, now).await.unwrap(), Reported::New);
    (dir, store, agent, command)
}

async fn read(store: &Store, command: &CommandId) -> Command {
    store.command(command).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_command_that_its_agent_has_lost_is_interrupted_and_stays_so() {
    let (_dir, store, agent, command) = accepted().await;
    let later = Timestamp::now() + Duration::from_secs(120);
    let known = std::slice::from_ref(&command);
    assert!(store.interrupt_forgotten(&agent, known, LOST_AFTER, later).await.unwrap().is_empty());
    assert_eq!(store.interrupt_forgotten(&agent, &[], LOST_AFTER, later).await.unwrap(), known);
    assert!(store.interrupt_forgotten(&agent, &[], LOST_AFTER, later).await.unwrap().is_empty());
    let interrupted = read(&store, &command).await;
    assert_eq!(interrupted.summary.state, CommandState::Interrupted);
    let said = interrupted.error.unwrap();
    assert!(said.message.contains("no longer lists it"), "{}", said.message);
    assert!(said.hint.unwrap().contains("cannot know why"));
    assert_eq!(store.command_running(&agent, &command, later, later).await.unwrap(), Reported::Known);
    assert_eq!(read(&store, &command).await.summary.state, CommandState::Interrupted);
}

#[tokio::test]
async fn only_commands_that_have_ended_are_forgotten_with_time() {
    let (_dir, store, agent, command) = accepted().await;
    let later = Timestamp::now() + Duration::from_secs(120);
    let everything = (later + Duration::from_secs(1)).as_millisecond();
    assert_eq!(store.forget_commands(everything).await.unwrap(), 0);
    store.interrupt_forgotten(&agent, &[], LOST_AFTER, later).await.unwrap();
    assert_eq!(store.forget_commands(everything).await.unwrap(), 1);
    assert!(store.command(&command).await.unwrap().is_none());
}

#[tokio::test]
async fn configurations_go_when_the_command_has_ended_and_names_stay() {
    let (dir, store, agent, command) = accepted().await;
    let now = Timestamp::now();
    let waiting = store.create_command(&new_command(&agent), None, BOUNDS, now).await.unwrap();
    let stored = async |command: &CommandId| {
        let order: (String,) = sqlx::query_as("SELECT order_json FROM command WHERE id = $1")
            .bind(command.as_str())
            .fetch_one(&store.read)
            .await
            .unwrap();
        order.0
    };
    assert_eq!(store.drop_configs().await.unwrap(), 0);
    let later = now + Duration::from_secs(120);
    store.interrupt_forgotten(&agent, &[], LOST_AFTER, later).await.unwrap();
    assert_eq!(store.drop_configs().await.unwrap(), 1);
    assert_eq!(store.drop_configs().await.unwrap(), 0);
    assert!(stored(&waiting).await.contains("hunter2"));
    let left = stored(&command).await;
    assert!(left.contains(r#""name":"mock""#) && !left.contains("hunter2"), "{left}");
    assert_eq!(read(&store, &command).await.summary.integrations[0].id.as_str(), "mock");
    // A queued command that is cancelled has ended, too; then no file of the database holds a word of it.
    store.cancel_command(&waiting, "", later).await.unwrap();
    assert_eq!(store.drop_configs().await.unwrap(), 1);
    store.fold_log().await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{}", path.display());
    }
}

#[tokio::test]
async fn a_poll_is_told_as_many_orders_as_fit_and_the_first_in_any_case() {
    let (_dir, store, agent, _command) = accepted().await;
    let now = Timestamp::now();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(store.create_command(&new_command(&agent), None, BOUNDS, now).await.unwrap());
    }
    let one = serde_json::to_string(&new_command(&agent).order).unwrap().len();
    let told = async |bytes: usize| store.open_orders(&agent, now, bytes).await.unwrap().len();
    assert_eq!((told(1).await, told(2 * one).await, told(usize::MAX).await), (1, 2, 3));
}

/// A database as the first two migrations left it, with a command in each state of then.
async fn old_database(path: &std::path::Path) -> Vec<&'static str> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = sqlx::sqlite::SqlitePool::connect_with(options.foreign_keys(true)).await.unwrap();
    let mut migrations = sqlx::migrate!("./migrations");
    migrations.migrations = migrations.iter().filter(|it| it.version <= 2).cloned().collect();
    migrations.run(&pool).await.unwrap();
    let run = async |sql: &'static str| sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    run("INSERT INTO code (id, hash, uses, created_at, expires_at) VALUES ('c', x'01', 1, 1, 2);
         INSERT INTO agent (id, token_hash, request_hash, code, hostname, os, arch, version, channel, enrolled_at)
         VALUES ('a', x'01', x'01', 'c', 'h', 'linux', 'x86_64', '0.1.0', 'dev', 1);
         INSERT INTO file VALUES ('a', 'e', 'm.M', 1, 'mock', 3, 300, 30, 'hash', 1);")
    .await;
    let states = ["queued", "delivered", "running", "done", "failed", "cancelled", "interrupted", "expired"];
    for state in states {
        sqlx::query(
            "INSERT INTO command (id, agent, action, order_json, state, created_at, accepted_at)
             VALUES ($1, 'a', 'export', '{\"action\":\"export\",\"integrations\":[]}', $1, 1, 1)",
        )
        .bind(state)
        .execute(&pool)
        .await
        .unwrap();
    }
    run("INSERT INTO log_batch SELECT id, 0 FROM command;
         INSERT INTO log_line SELECT id, 1, '{}' FROM command;
         INSERT INTO progress_session SELECT id, 1, NULL, 1, '{}' FROM command;")
    .await;
    pool.close().await;
    states.to_vec()
}

#[tokio::test]
async fn an_old_database_is_brought_to_this_version_without_losing_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outrider.db");
    let states = old_database(&path).await;
    // Twice, as at the next start.
    Store::open(&path).await.unwrap().close().await;
    let store = Store::open(&path).await.unwrap();
    for state in &states {
        let command = read(&store, &state.parse().unwrap()).await;
        assert_eq!(command.summary.state.as_str(), *state);
    }
    let counts: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM log_batch), (SELECT COUNT(*) FROM log_line), (SELECT COUNT(*) FROM progress_session)",
    )
    .fetch_one(&store.read)
    .await
    .unwrap();
    let all = i64::try_from(states.len()).unwrap();
    assert_eq!(counts, (all, all, all));
    let agent: AgentId = "a".parse().unwrap();
    assert_eq!(store.count_files(&agent).await.unwrap(), 1);
    let files = store.files(&crate::admin::FileFilter::default()).await.unwrap();
    assert_eq!((files[0].objects, files[0].compression.extension()), (3, "gz"));
    let outcome = Outcome { state: EndState::SetAside, report: None, error: None };
    let ended = EndedParams { command: "running".parse().unwrap(), outcome, ended_at: Timestamp::now() };
    assert_eq!(store.command_ended(&agent, &ended, None, Timestamp::now()).await.unwrap(), Reported::New);
    assert_eq!(read(&store, &ended.command).await.summary.state, CommandState::SetAside);
    // The rows of others still go with their command, and no state is taken that there is not.
    assert!(store.forget_commands(i64::MAX).await.unwrap() > 0);
    let left: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM log_line WHERE command = 'running'")
        .fetch_one(&store.read)
        .await
        .unwrap();
    assert_eq!(left, (0,));
    sqlx::query("UPDATE command SET state = 'lost'").execute(&store.write).await.unwrap_err();
}

#[tokio::test]
async fn folding_the_log_fails_no_transaction_that_has_begun() {
    let (_dir, store, agent, _command) = accepted().await;
    let now = Timestamp::now();
    let (new, bounds) = (new_command(&agent), OrderBounds { open: 100, ..BOUNDS });
    for _ in 0..50 {
        let (taken, folded) = tokio::join!(store.create_command(&new, None, bounds, now), store.fold_log());
        taken.unwrap();
        folded.unwrap();
    }
    assert!(store.fold_log().await.unwrap());
}
