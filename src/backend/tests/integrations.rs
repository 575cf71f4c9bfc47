//! Installed integrations, the check of configurations, and configured integrations with sealed secrets.

use jiff::Timestamp;
use outrider_protocol::Raw;
use outrider_protocol::action::{
    AgentConfig, ExportOrder, IntegrationConfig, OnboardOrder, Order, ValidateOrder,
};
use outrider_protocol::control::{EndState, Ended, EndedParams, Envelope, Integrations, Outcome};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::integration::{InitializeReply, SourceInfo};
use outrider_protocol::report::{
    ActionReport, BrokenIntegration, DescribeReport, Failure, InstalledIntegration, ValidateReport,
};
use serde_json::{Value, json};

use super::harness::{FakeAgent, Rig, within};
use crate::admin::{CommandState, NewCommand};
use crate::client::ClientError;

/// Encrypted for nobody, but no plain text either.
const SEALED: &str = "age-sealed-for-this-host";

fn raw(value: &Value) -> Raw {
    serde_json::value::to_raw_value(value).unwrap()
}

/// What a mock with a secret says of itself.
fn about() -> DescribeReport {
    let schema = json!({
        "type": "object",
        "properties": {
            "url": { "type": "string" },
            "token": { "type": "string", "writeOnly": true },
        },
        "required": ["url", "token"],
        "additionalProperties": false,
    });
    let about = InitializeReply {
        protocol: 1,
        name: "mock".into(),
        version: "1.2.3".into(),
        models: Vec::new(),
        onboard_kinds: vec!["repos".into()],
        config_schema: Some(raw(&schema)),
        features: Vec::new(),
    };
    let error = Failure {
        message: "it exited with status 3".into(),
        fault: Fault::Peer,
        retry: Retry::No,
        hint: None,
        last_lines: vec!["no libc".into()],
    };
    DescribeReport {
        integrations: vec![InstalledIntegration { name: "mock".parse().unwrap(), about }],
        failed: vec![BrokenIntegration { name: "old".parse().unwrap(), error }],
    }
}

fn mock(id: &str, config: &Value) -> IntegrationConfig {
    let id = Some(id.parse().unwrap());
    IntegrationConfig { name: "mock".parse().unwrap(), id, config: raw(config), secrets: None }
}

fn export(agent: &FakeAgent, integrations: Vec<IntegrationConfig>, configured: bool) -> NewCommand {
    let agent_config = AgentConfig::default();
    let order = ExportOrder { agent: agent_config, integrations, reprocess_historical: false };
    command(agent, Order::Export(order), configured)
}

fn command(agent: &FakeAgent, order: Order, configured: bool) -> NewCommand {
    NewCommand { configured, ..NewCommand::new(agent.id.clone(), order) }
}

fn refusal(answer: Result<crate::admin::Command, ClientError>) -> (u16, String) {
    match answer.unwrap_err() {
        ClientError::Refused { status, message, hint } => (status, format!("{message} ({hint:?})")),
        other => panic!("expected a refusal, found {other}"),
    }
}

/// What the agent is told to run.
async fn told(agent: &FakeAgent) -> Vec<(CommandId, Order)> {
    let orders = agent.poll(0).await.into_iter().filter_map(|order| match order {
        Envelope::Run(command) => Some((command.id, command.order)),
        Envelope::Cancel { .. } => None,
    });
    orders.collect()
}

/// Answers a validation as an agent that seals.
async fn answer(agent: &FakeAgent, command: &CommandId, sealed: Option<IntegrationConfig>) {
    let report = ValidateReport {
        integration: "hub".parse().unwrap(),
        integration_version: "1.2.3".into(),
        errors: Vec::new(),
        source: Some(SourceInfo { account: Some("bot".into()), ..SourceInfo::default() }),
        sealed,
    };
    let report = Some(ActionReport::ValidateConfig(report));
    let outcome = Outcome { state: EndState::Done, report, error: None };
    let params = EndedParams { command: command.clone(), outcome, ended_at: Timestamp::now() };
    agent.call::<Ended>(&params).await.unwrap();
}

fn sealed(config: &Value) -> IntegrationConfig {
    IntegrationConfig { secrets: Some(SEALED.into()), ..mock("hub", config) }
}

/// Orders a validation that seals, and answers it.
async fn configure(rig: &Rig, agent: &FakeAgent, back: IntegrationConfig) -> CommandId {
    let integration = mock("hub", &json!({ "url": "u", "token": "hunter2" }));
    let order = ValidateOrder { agent: AgentConfig::default(), integration, seal: true };
    let new = command(agent, Order::ValidateConfig(order), false);
    let id = rig.client.create_command(&new).await.unwrap().summary.id;
    agent.accept(&id).await;
    answer(agent, &id, Some(back)).await;
    id
}

#[tokio::test]
async fn what_is_installed_is_kept_and_replaced() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    assert!(rig.client.integrations(&agent.id).await.unwrap().told_at.is_none());
    for _ in 0..2 {
        agent.call::<Integrations>(&about()).await.unwrap();
    }
    let known = rig.client.integrations(&agent.id).await.unwrap();
    assert_eq!((known.installed.len(), known.failed.len()), (1, 1));
    assert_eq!(known.installed[0].about.version, "1.2.3");
    assert!(known.installed[0].about.config_schema.as_ref().unwrap().get().contains("writeOnly"));
    assert!(known.told_at.is_some());
    let page = rig.page(&format!("/agents/{}", agent.id)).await;
    assert!(page.contains("1.2.3") && page.contains("it exited with status 3"), "{page}");
    agent.call::<Integrations>(&DescribeReport::default()).await.unwrap();
    assert!(rig.client.integrations(&agent.id).await.unwrap().installed.is_empty());
}

#[tokio::test]
async fn a_configuration_is_checked_before_it_is_sent() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let wrong =
        || export(&agent, vec![mock("a", &json!({ "url": 5, "token": "hunter2", "tokn": 1 }))], false);
    // Nothing is known of the integration yet: the agent will check.
    rig.client.create_command(&wrong()).await.unwrap();
    agent.call::<Integrations>(&about()).await.unwrap();
    let (status, text) = refusal(rig.client.create_command(&wrong()).await);
    assert_eq!(status, 422);
    assert!(text.contains("of a is not what mock 1.2.3 on agent"), "{text}");
    assert!(text.contains(r#"/url: value is not of type "string""#) && text.contains("'tokn'"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let (_, text) =
        refusal(rig.client.create_command(&export(&agent, vec![mock("a", &json!({}))], false)).await);
    assert!(
        text.contains("\"url\" is a required property") && text.contains("\"token\" is a required"),
        "{text}"
    );
    // The host has the secrets of this one: they are not missing.
    let here = IntegrationConfig { secrets: Some(SEALED.into()), ..mock("a", &json!({ "url": "u" })) };
    rig.client.create_command(&export(&agent, vec![here.clone()], false)).await.unwrap();
    let here = IntegrationConfig { config: raw(&json!({ "url": ["hunter2"] })), ..here };
    let (_, text) = refusal(rig.client.create_command(&export(&agent, vec![here], false)).await);
    assert!(text.contains("/url: ") && !text.contains("hunter2"), "{text}");
    // Programs of another folder are others.
    let mut elsewhere = wrong();
    elsewhere.order.agent_mut().integrations_dir = Some("/opt/others".into());
    rig.client.create_command(&elsewhere).await.unwrap();
}

#[tokio::test]
async fn a_sealed_configuration_is_kept_used_and_removed_and_the_plain_one_is_gone() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    agent.call::<Integrations>(&about()).await.unwrap();
    let id = configure(&rig, &agent, sealed(&json!({ "url": "https://me:hunter2@u" }))).await;
    let known = rig.client.integrations(&agent.id).await.unwrap().configured;
    assert_eq!((known[0].id.as_str(), known[0].has_secrets), ("hub", true));
    assert_eq!(known[0].config.get(), r#"{"url":"https://***@u"}"#);
    assert_eq!(known[0].source.as_ref().unwrap().account.as_deref(), Some("bot"));
    let shown = serde_json::to_string(&rig.client.command(&id).await.unwrap()).unwrap();
    assert!(!shown.contains(SEALED) && !shown.contains("hunter2"), "{shown}");
    let page = rig.page(&format!("/agents/{}", agent.id)).await;
    assert!(page.contains("hub") && page.contains("encrypted for this agent's host"), "{page}");
    assert!(!page.contains(SEALED) && !page.contains("hunter2"), "{page}");

    // All of them, one by its id, and for another action.
    let configured = IntegrationConfig { config: raw(&json!({})), ..mock("hub", &json!({})) };
    let onboard = OnboardOrder {
        agent: AgentConfig::default(),
        integration: configured.clone(),
        object_type: "repos".into(),
    };
    let validate =
        ValidateOrder { agent: AgentConfig::default(), integration: configured.clone(), seal: false };
    for new in [
        export(&agent, Vec::new(), true),
        export(&agent, vec![configured], true),
        command(&agent, Order::ExportOnboardData(onboard), true),
        command(&agent, Order::ValidateConfig(validate), true),
    ] {
        let id = rig.client.create_command(&new).await.unwrap().summary.id;
        let (_, order) = told(&agent).await.into_iter().find(|(told, _)| *told == id).unwrap();
        let sent = &order.integrations()[0];
        assert_eq!((sent.id().as_str(), sent.secrets.as_deref()), ("hub", Some(SEALED)));
        assert_eq!(sent.config.get(), r#"{"url":"https://me:hunter2@u"}"#);
        agent.accept(&id).await;
        agent.end(&id, EndState::Done).await;
    }
    let (status, text) =
        refusal(rig.client.create_command(&export(&agent, vec![mock("hubb", &json!({}))], true)).await);
    assert!(status == 404 && text.contains("no configured integration hubb; it has: hub"), "{text}");
    let both = export(&agent, vec![mock("hub", &json!({ "url": "u" }))], true);
    assert_eq!(refusal(rig.client.create_command(&both).await).0, 400);

    rig.client.remove_integration(&agent.id, &"hub".parse().unwrap()).await.unwrap();
    let (status, text) = refusal(rig.client.create_command(&export(&agent, Vec::new(), true)).await);
    assert!(status == 409 && text.contains("integration set"), "{text}");
    let dir = rig.stop().await;
    for name in ["outrider.db", "outrider.db-wal"] {
        let bytes = std::fs::read(dir.path().join("data").join(name)).unwrap_or_default();
        for gone in ["hunter2", SEALED] {
            assert!(!bytes.windows(gone.len()).any(|window| window == gone.as_bytes()), "{name}: {gone}");
        }
    }
}

#[tokio::test]
async fn the_plain_secret_is_gone_while_the_backend_runs_on() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    configure(&rig, &agent, sealed(&json!({ "url": "u" }))).await;
    let stands_in = |name: &str| {
        let bytes = std::fs::read(rig.dir.path().join("data").join(name)).unwrap_or_default();
        bytes.windows(7).any(|window| window == b"hunter2")
    };
    within(async {
        while stands_in("outrider.db") || stands_in("outrider.db-wal") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(rig.client.integrations(&agent.id).await.unwrap().configured[0].has_secrets);
}

#[tokio::test]
async fn only_what_was_asked_for_and_is_sealed_is_kept() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    agent.call::<Integrations>(&about()).await.unwrap();
    let configured = async || rig.client.integrations(&agent.id).await.unwrap().configured.len();
    // Sealed, but the secret still stands there.
    let id = configure(&rig, &agent, sealed(&json!({ "url": "u", "token": "hunter2" }))).await;
    let shown = rig.client.command(&id).await.unwrap();
    assert_eq!(shown.summary.state, CommandState::Failed);
    let text = format!("{shown:?}");
    assert!(text.contains("still holds the secrets at /token") && !text.contains("hunter2"), "{text}");
    assert_eq!(configured().await, 0);
    // Another one than was asked for.
    let other = IntegrationConfig { id: Some("other".parse().unwrap()), ..sealed(&json!({ "url": "u" })) };
    configure(&rig, &agent, other).await;
    assert_eq!(configured().await, 0);
    // Nobody asked to seal.
    let integration = mock("hub", &json!({ "url": "u", "token": "hunter2" }));
    let order = ValidateOrder { agent: AgentConfig::default(), integration, seal: false };
    let new = command(&agent, Order::ValidateConfig(order), false);
    let id = rig.client.create_command(&new).await.unwrap().summary.id;
    agent.accept(&id).await;
    answer(&agent, &id, Some(sealed(&json!({ "url": "u" })))).await;
    assert_eq!(configured().await, 0);
    // A new agent of the same host has none of it.
    configure(&rig, &agent, sealed(&json!({ "url": "u" }))).await;
    assert_eq!(configured().await, 1);
    let anew = rig.agent_again("request-of-the-second").await;
    assert!(rig.client.integrations(&anew.id).await.unwrap().configured.is_empty());
    let page = rig.page(&format!("/agents/{}", anew.id)).await;
    assert!(page.contains("does not carry over") && page.contains(agent.id.as_str()), "{page}");
}

#[tokio::test]
async fn the_page_orders_an_export_of_what_is_configured() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (browser, cookie) = rig.browser().await;
    let order = async |site: &'static str| {
        let url = format!("{}/agents/{}/export", rig.url, agent.id);
        let request = browser.post(url).header("cookie", &cookie).header("sec-fetch-site", site);
        request.send().await.unwrap()
    };
    let nothing = order("same-origin").await;
    assert_eq!(nothing.status().as_u16(), 409);
    assert!(nothing.text().await.unwrap().contains("no configured integration"));
    configure(&rig, &agent, sealed(&json!({ "url": "u" }))).await;
    assert_eq!(order("cross-site").await.status().as_u16(), 403);
    let taken = order("same-origin").await;
    assert_eq!(taken.status().as_u16(), 303);
    let told = told(&agent).await;
    assert_eq!(taken.headers()["location"], format!("/commands/{}", told[0].0).as_str());
    assert_eq!(told[0].1.integrations()[0].secrets.as_deref(), Some(SEALED));
}
