//! What the store does when time has passed, which a test over HTTP could only wait for.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::ids::{AgentId, CommandId};
use tempfile::TempDir;

use super::{Reported, Store};
use crate::admin::{Command, CommandState, NewCode};
use crate::tests::harness::{enroll_request, new_command};

/// A store with an agent and a command that it has accepted.
async fn accepted() -> (TempDir, Store, AgentId, CommandId) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("outrider.db")).await.unwrap();
    let now = Timestamp::now();
    let code = store.create_code(NewCode::default(), now + Duration::from_secs(60), now).await.unwrap().code;
    let agent = store.enroll(&enroll_request(&code, "request-0123456789"), now).await.unwrap().reply.agent;
    let command = store.create_command(&new_command(&agent), None, 10, now).await.unwrap();
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
    assert!(store.interrupt_forgotten(&agent, known, later).await.unwrap().is_empty());
    assert_eq!(store.interrupt_forgotten(&agent, &[], later).await.unwrap(), known);
    assert!(store.interrupt_forgotten(&agent, &[], later).await.unwrap().is_empty());
    let interrupted = read(&store, &command).await;
    assert_eq!(interrupted.summary.state, CommandState::Interrupted);
    assert_eq!(interrupted.error.unwrap().message, "the agent no longer knows this command");
    assert_eq!(store.command_running(&agent, &command, later, later).await.unwrap(), Reported::Known);
    assert_eq!(read(&store, &command).await.summary.state, CommandState::Interrupted);
}

#[tokio::test]
async fn only_commands_that_have_ended_are_forgotten_with_time() {
    let (_dir, store, agent, command) = accepted().await;
    let later = Timestamp::now() + Duration::from_secs(120);
    let everything = (later + Duration::from_secs(1)).as_millisecond();
    assert_eq!(store.forget_commands(everything).await.unwrap(), 0);
    store.interrupt_forgotten(&agent, &[], later).await.unwrap();
    assert_eq!(store.forget_commands(everything).await.unwrap(), 1);
    assert!(store.command(&command).await.unwrap().is_none());
}
