//! What the store does when time has passed, which a test over HTTP could only wait for.

use std::time::Duration;

use jiff::Timestamp;
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
