//! Enrollment and tokens.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::control::{Hello, HelloParams, HostInfo, Ping, PingParams};
use outrider_protocol::version::Versions;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::harness::{FakeAgent, Rig, enroll_request, sealed};
use crate::admin::{CodeState, NewCode};

#[tokio::test]
async fn a_code_makes_one_agent_that_knows_its_host() {
    let rig = Rig::new().await;
    let new = NewCode { customer_id: Some("c1".into()), ..NewCode::default() };
    let created = rig.client.create_code(&new).await.unwrap();
    let reply =
        rig.enroll(&enroll_request(&created.code.to_lowercase(), "request-0123456789")).await.unwrap();
    assert_eq!(reply.customer_id.as_deref(), Some("c1"));
    assert!(reply.agent.as_str().starts_with("build-host-example-"), "{}", reply.agent);
    let agents = rig.client.agents().await.unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!((&agents[0].id, agents[0].online, agents[0].seen_at), (&reply.agent, false, None));
    assert_eq!(rig.client.codes().await.unwrap()[0].state, CodeState::UsedUp);
    let (status, text) = rig.enroll(&enroll_request(&created.code, "another-request-01")).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("was used up: it was good for 1 enrollment"), "{text}");
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_agent_until_that_agent_has_called() {
    let rig = Rig::new().await;
    let code = rig.client.create_code(&NewCode::default()).await.unwrap().code;
    let request = enroll_request(&code, "request-0123456789");
    let lost = rig.enroll(&request).await.unwrap();
    let again = rig.enroll(&request).await.unwrap();
    assert_eq!(lost.agent, again.agent);
    assert_eq!(rig.client.agents().await.unwrap().len(), 1);
    let agent = FakeAgent::new(&rig.url, again);
    agent.hello(Vec::new()).await;
    let (status, text) = rig.enroll(&request).await.unwrap_err();
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("that agent is in use"), "{text}");
    // The first answer's token was replaced: whoever caught it has nothing.
    let stale = FakeAgent::new(&rig.url, lost);
    assert_eq!(stale.head(&sealed(&"c1".parse().unwrap(), 1, b"x")).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn codes_count_expire_and_are_revoked() {
    let rig = Rig::new().await;
    let three = rig.client.create_code(&NewCode { uses: 3, ..NewCode::default() }).await.unwrap();
    for n in 0..3 {
        rig.enroll(&enroll_request(&three.code, &format!("request-of-agent-{n}"))).await.unwrap();
    }
    assert!(rig.enroll(&enroll_request(&three.code, "request-of-agent-3")).await.is_err());
    let expired = rig.client.create_code(&NewCode { expires_in_s: 0, ..NewCode::default() }).await.unwrap();
    let refused = rig.enroll(&enroll_request(&expired.code, "request-of-agent-4")).await.unwrap_err();
    assert!(refused.1.contains("the enrollment code expired at 20"), "{}", refused.1);
    let revoked = rig.client.create_code(&NewCode::default()).await.unwrap();
    let taken_back = rig.client.revoke_code(&revoked.stored.id).await.unwrap();
    assert_eq!(taken_back.state, CodeState::Revoked);
    let refused = rig.enroll(&enroll_request(&revoked.code, "request-of-agent-5")).await.unwrap_err();
    assert!(refused.1.contains("was revoked"), "{}", refused.1);
    let unknown = rig.enroll(&enroll_request("NO-SUCH-CODE", "request-of-agent-6")).await.unwrap_err();
    assert!(unknown.1.contains("is not known"), "{}", unknown.1);
    assert_eq!(rig.client.agents().await.unwrap().len(), 3);
}

#[tokio::test]
async fn tokens_of_agents_and_of_admins_open_nothing_of_the_other() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let admin = crate::DataFolder::at(rig.dir.path().join("data")).admin_token().unwrap();
    let http = reqwest::Client::new();
    let status = async |path: &str, token: &str| {
        let request = http.get(format!("{}{path}", rig.url)).bearer_auth(token);
        request.send().await.unwrap().status()
    };
    assert_eq!(status("/admin/v1/agents", &admin).await, StatusCode::OK);
    assert_eq!(status("/admin/v1/agents", &agent.token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/agent/v1/orders", &admin).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/agent/v1/orders", &format!("{}.guess", agent.id)).await, StatusCode::UNAUTHORIZED);
    let bare = http.get(format!("{}/admin/v1/agents", rig.url)).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(bare.headers()["www-authenticate"], "Bearer");
    let secrets = [agent.token.as_str(), admin.as_str()];
    let database = std::fs::read(rig.stop().await.path().join("data/outrider.db")).unwrap();
    for secret in secrets {
        let secret = secret.rsplit('.').next().unwrap().as_bytes();
        assert!(
            !database.windows(secret.len()).any(|window| window == secret),
            "a secret stands in the database"
        );
    }
}

#[tokio::test]
async fn a_revoked_agent_is_cut_off() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let mut orders = agent.orders().await;
    rig.client.revoke_agent(&agent.id).await.unwrap();
    assert!(orders.next().await.is_none());
    assert_eq!(agent.head(&sealed(&"c1".parse().unwrap(), 1, b"x")).await.0, StatusCode::FORBIDDEN);
    let refused = rig.client.create_command(&super::harness::new_command(&agent.id)).await.unwrap_err();
    assert!(refused.to_string().contains("was revoked"), "{refused}");
}

#[tokio::test]
async fn an_agent_of_another_protocol_is_told_so() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let host = HostInfo { hostname: "h".into(), os: "linux".into(), arch: "x86_64".into() };
    let params = HelloParams {
        protocol: Versions { min: 8, max: 9 },
        version: "9.0.0".into(),
        build: None,
        host,
        started_at: Timestamp::now(),
        commands: Vec::new(),
    };
    let error = agent.call::<Hello>(&params).await.unwrap_err();
    assert_eq!(error["code"], outrider_protocol::fault::code::VERSION);
    assert!(error["message"].as_str().unwrap().contains("no common protocol version"), "{error}");
}

#[tokio::test]
async fn what_an_agent_says_of_its_spool_is_shown() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    agent.hello(Vec::new()).await;
    let ping = PingParams {
        running: Vec::new(),
        commands: Vec::new(),
        spool_files: 3,
        spool_bytes: 4096,
        refused_files: 0,
        lost_files: 0,
    };
    agent.call::<Ping>(&ping).await.unwrap();
    let shown = rig.client.agent(&agent.id).await.unwrap();
    assert_eq!((shown.spool_files, shown.spool_bytes, shown.online), (3, 4096, true));
    assert!(shown.seen_at.is_some() && shown.service_started_at.is_some());
}

#[tokio::test]
async fn files_that_the_backend_lost_are_shown_with_their_agent_and_the_remedy() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    agent.hello(Vec::new()).await;
    let page = format!("/agents/{}", agent.id);
    for lost_files in [3, 0] {
        let ping = PingParams {
            running: Vec::new(),
            commands: Vec::new(),
            spool_files: 0,
            spool_bytes: 0,
            refused_files: 0,
            lost_files,
        };
        agent.call::<Ping>(&ping).await.unwrap();
        assert_eq!(rig.client.agent(&agent.id).await.unwrap().lost_files, lost_files);
        let shown = rig.page(&page).await;
        assert_eq!(shown.contains("This backend has lost 3 files of the agent"), lost_files > 0, "{shown}");
        assert_eq!(shown.contains("reprocess_historical"), lost_files > 0, "{shown}");
    }
}

#[tokio::test]
async fn files_that_the_backend_refuses_are_shown_with_their_agent_until_it_names_none() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    agent.hello(Vec::new()).await;
    let page = format!("/agents/{}", agent.id);
    let ping = |refused: Option<u64>| {
        let mut params = json!({"running": [], "commands": [], "spool_files": 2, "spool_bytes": 9});
        if let Some(refused) = refused {
            params["refused_files"] = refused.into();
        }
        json!({"jsonrpc": "2.0", "id": 1, "method": "agent.ping", "params": params}).to_string()
    };
    agent.call_raw(ping(Some(2))).await;
    assert_eq!(rig.client.agent(&agent.id).await.unwrap().refused_files, 2);
    let shown = rig.page(&page).await;
    assert!(shown.contains("This backend refuses 2 files of the agent"), "{shown}");
    // An agent that does not know of it yet says nothing.
    agent.call_raw(ping(None)).await;
    assert_eq!(rig.client.agent(&agent.id).await.unwrap().refused_files, 0);
    assert!(!rig.page(&page).await.contains("refuses"));
}

#[tokio::test]
async fn calls_that_are_none_are_answered_as_the_standard_says() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let code = |answer: &Value| answer["error"]["code"].as_i64();
    assert_eq!(code(&agent.call_raw("{ not json".into()).await), Some(-32700));
    assert_eq!(code(&agent.call_raw("[]".into()).await), Some(-32600));
    assert_eq!(code(&agent.call_raw(r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#.into()).await), Some(-32600));
    assert_eq!(code(&agent.call_raw(r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#.into()).await), Some(-32601));
    let wrong =
        agent.call_raw(r#"{"jsonrpc":"2.0","id":"a","method":"agent.ping","params":{}}"#.into()).await;
    assert_eq!((code(&wrong), wrong["id"].as_str()), (Some(-32602), Some("a")));
}

#[tokio::test]
async fn an_enrollment_of_wrong_shape_or_size_is_refused() {
    let rig = Rig::new().await;
    let mut request = enroll_request("code", "short");
    let (status, text) = rig.enroll(&request).await.unwrap_err();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("`request` is too short"), "{text}");
    request.request = "request-0123456789".into();
    request.host.hostname = "h".repeat(1000);
    let (_, text) = rig.enroll(&request).await.unwrap_err();
    assert!(text.contains("`host.hostname` has 1000 bytes; at most 256"), "{text}");
    request.host.hostname = "h".repeat(200_000);
    assert_eq!(rig.enroll(&request).await.unwrap_err().0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_backend_stops_in_time_with_a_connection_that_says_nothing() {
    let limits = crate::Limits { stop: Duration::from_millis(200), ..crate::Limits::default() };
    let rig = Rig::with(limits).await;
    let address = rig.url.strip_prefix("http://").unwrap().to_owned();
    let silent = tokio::net::TcpStream::connect(address).await.unwrap();
    rig.stop().await;
    drop(silent);
}
