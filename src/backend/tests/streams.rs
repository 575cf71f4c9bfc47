//! Orders on their way: by stream and by poll.

use outrider_protocol::control::EndState;

use super::harness::{Rig, cancel_id, run_id, within};
use crate::admin::CommandState;

#[tokio::test]
async fn an_order_comes_by_the_stream_while_it_is_open() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let mut orders = agent.orders().await;
    let command = rig.order(&agent).await;
    assert_eq!(run_id(&orders.next().await.unwrap()), &command.summary.id);
}

#[tokio::test]
async fn an_agent_that_was_away_gets_its_orders_in_order_and_again_until_it_answers() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let first = rig.order(&agent).await.summary.id;
    let second = rig.order(&agent).await.summary.id;
    for _ in 0..2 {
        let mut orders = agent.orders().await;
        assert_eq!(run_id(&orders.next().await.unwrap()), &first);
        assert_eq!(run_id(&orders.next().await.unwrap()), &second);
    }
    agent.accept(&first).await;
    let mut orders = agent.orders().await;
    assert_eq!(run_id(&orders.next().await.unwrap()), &second);
}

#[tokio::test]
async fn a_poll_waits_for_an_order_and_repeats_it() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    assert!(agent.poll(0).await.is_empty());
    let (orders, command) = tokio::join!(within(agent.poll(60_000)), rig.order(&agent));
    assert_eq!(run_id(&orders[0]), &command.summary.id);
    assert_eq!(run_id(&agent.poll(0).await[0]), &command.summary.id);
}

#[tokio::test]
async fn a_cancel_is_told_until_the_command_has_ended() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let mut orders = agent.orders().await;
    orders.next().await.unwrap();
    agent.accept(&command).await;
    agent.run(&command).await;
    let asked = rig.client.cancel(&command, "not needed").await.unwrap();
    assert_eq!(asked.summary.state, CommandState::Running);
    assert_eq!(cancel_id(&orders.next().await.unwrap()), &command);
    let mut again = agent.orders().await;
    assert_eq!(cancel_id(&again.next().await.unwrap()), &command);
    agent.end(&command, EndState::Cancelled).await;
    assert!(agent.poll(0).await.is_empty());
    assert_eq!(rig.client.command(&command).await.unwrap().summary.state, CommandState::Cancelled);
}

#[tokio::test]
async fn streams_end_when_the_backend_stops() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let mut orders = agent.orders().await;
    let waiting = tokio::spawn(async move { orders.next().await });
    rig.stop().await;
    assert!(within(waiting).await.unwrap().is_none());
}

#[tokio::test]
async fn an_open_stream_makes_an_agent_online() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    assert!(!rig.client.agent(&agent.id).await.unwrap().online);
    let orders = agent.orders().await;
    assert!(rig.client.agent(&agent.id).await.unwrap().online);
    drop(orders);
}
