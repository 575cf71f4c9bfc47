//! The admin API as a document and as a client meets it, and the pages' door.

use axum::http::StatusCode;
use jiff::Timestamp;
use outrider_protocol::action::{Compression, SealedFile};
use outrider_protocol::ids::CommandId;
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use super::harness::{FakeAgent, Rig, compressed, sealed};
use crate::client::{Client, ClientError};
use crate::openapi;

#[test]
fn the_openapi_document_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/openapi.json");
    let expected = serde_json::to_string_pretty(&openapi::document()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "schemas/openapi.json is not what the types say: run `UPDATE_SCHEMAS=1 cargo test -p outrider-backend openapi`"
    );
}

#[test]
fn every_reference_of_the_openapi_document_leads_somewhere() {
    fn check(root: &Value, value: &Value) {
        if let Some(path) = value.get("$ref").and_then(|path| path.as_str()) {
            assert!(root.pointer(path.trim_start_matches('#')).is_some(), "{path}");
        }
        match value {
            Value::Object(members) => members.values().for_each(|value| check(root, value)),
            Value::Array(values) => values.iter().for_each(|value| check(root, value)),
            _ => {}
        }
    }
    let document = openapi::document();
    check(&document, &document);
}

#[tokio::test]
async fn every_operation_of_the_document_is_answered_and_no_other_path() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let content = compressed(&[&b"x\n".repeat(3)[..], &[b' '; 294]].concat(), Compression::Gzip);
    let file = SealedFile { objects: 4, ..sealed(&command, 1, &content) };
    assert!(agent.patch(&file, 0, content).await.2);
    let token = crate::DataFolder::at(rig.dir.path().join("data")).admin_token().unwrap();
    let http = reqwest::Client::new();
    let document = openapi::document();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{agent}", agent.id.as_str())
            .replace("{command}", command.as_str())
            .replace("{export}", command.as_str())
            .replace("{model}", "sourcecode.Repo")
            .replace("{number}", "1")
            .replace("{code}", "no-such-code")
            .replace("{integration}", "no-such-integration");
        for method in operations.as_object().unwrap().keys() {
            let method: reqwest::Method = method.to_uppercase().parse().unwrap();
            let request = http.request(method.clone(), format!("{}{path}", rig.url)).bearer_auth(&token);
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert!(status != StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(!text.contains("has no such path"), "{method} {path}");
            assert!(!status.is_server_error(), "{method} {path}: {text}");
        }
    }
    let other = http.get(format!("{}/admin/v1/nothing", rig.url)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_client_says_what_is_wrong() {
    let rig = Rig::new().await;
    let stranger = Client::new(&rig.url, "wrong", None).unwrap();
    let err = stranger.agents().await.unwrap_err();
    assert!(err.to_string().contains("not the admin token"), "{err}");
    assert!(err.hint().is_some());
    assert!(matches!(Client::new("localhost:1", "t", None), Err(ClientError::Url { .. })));
    let url = rig.url.clone();
    rig.stop().await;
    let err = Client::new(&url, "t", None).unwrap().agents().await.unwrap_err();
    assert!(err.to_string().contains("is it running?"), "{err}");
}

/// A browser that follows no redirects.
fn browser() -> reqwest::Client {
    reqwest::Client::builder().redirect(Policy::none()).build().unwrap()
}

#[tokio::test]
async fn a_login_link_works_once_and_opens_the_pages() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let browser = browser();
    let closed = browser.get(&rig.url).send().await.unwrap();
    assert_eq!(
        (closed.status(), &closed.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/login".parse().unwrap())
    );
    let link = rig.client.login_link().await.unwrap();
    let opened = browser.get(&link).send().await.unwrap();
    assert_eq!(opened.status(), StatusCode::SEE_OTHER);
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert_eq!(browser.get(&link).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let cookie = cookie.split(';').next().unwrap();
    let pages = [
        "/".to_owned(),
        format!("/agents/{}", agent.id),
        format!("/commands/{command}"),
        "/nothing".to_owned(),
    ];
    let mut shown = Vec::new();
    for page in pages {
        let answer = browser.get(format!("{}{page}", rig.url)).header("cookie", cookie).send().await.unwrap();
        assert!(
            answer.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'")
        );
        shown.push((answer.status(), answer.text().await.unwrap()));
    }
    for (status, text) in &shown[..3] {
        assert_eq!(*status, StatusCode::OK);
        assert!(text.contains(command.as_str()) && !text.contains("hunter2"), "{text}");
    }
    assert_eq!(shown[3].0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_form_on_another_site_cancels_nothing() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let browser = browser();
    let opened = browser.get(rig.client.login_link().await.unwrap()).send().await.unwrap();
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let cancel = async |site: &'static str| {
        let url = format!("{}/commands/{command}/cancel", rig.url);
        let request = browser.post(url).header("cookie", &cookie).header("sec-fetch-site", site);
        request.send().await.unwrap().status()
    };
    assert_eq!(cancel("cross-site").await, StatusCode::FORBIDDEN);
    assert_eq!(rig.client.command(&command).await.unwrap().summary.state.as_str(), "queued");
    assert_eq!(cancel("same-origin").await, StatusCode::SEE_OTHER);
    assert_eq!(rig.client.command(&command).await.unwrap().summary.state.as_str(), "cancelled");
}

/// What no page may carry over as it is.
const MARK: &str = "<script>alert('1')</script>\"'&";

/// The reports of three commands, with a mark wherever an agent may say what it likes.
fn marked_outcomes(export: &CommandId) -> [Value; 3] {
    let now = Timestamp::now();
    let failure = json!({
        "message": MARK, "fault": "peer", "retry": "no", "hint": MARK, "last_lines": [MARK, MARK],
    });
    let project = json!({ "id": MARK, "name": MARK, "state": "failed", "error": failure,
        "mode": "historical", "objects": 1, "bytes": 1, "duration_ms": 1,
    });
    let integration = json!({
        "integration": "mock", "name": "mock", "state": "failed", "mode": "historical", "duration_ms": 1,
        "models": [], "projects": [project], "error": failure, "config_changed": true,
        "last_processed": { "values": [
            { "path": [[MARK, null], [MARK, MARK]], "bytes": 1, "value": { MARK: MARK } },
            { "path": [[MARK, MARK]], "bytes": 5000 },
        ] },
    });
    let export = json!({
        "action": "export", "export": export, "started_at": now, "duration_ms": 1, "integrations": [integration],
    });
    let validation = json!({
        "action": "validate-config", "integration": "mock", "integration_version": MARK,
        "errors": [{ "path": MARK, "message": MARK }],
    });
    let records = json!({
        "action": "export-onboard-data", "integration": "mock", "kind": MARK,
        "outcome": { "outcome": "records", "records": [{ "id": MARK, "name": MARK }] },
    });
    [export, validation, records]
        .map(|report| json!({ "state": "failed", "report": report, "error": failure }))
}

#[tokio::test]
async fn what_an_agent_says_is_text_on_the_pages() {
    let rig = Rig::new().await;
    let code = rig.client.create_code(&crate::admin::NewCode::default()).await.unwrap().code;
    let mut request = super::harness::enroll_request(&code, "request-0123456789");
    request.host.hostname = MARK.into();
    let agent = FakeAgent::new(&rig.url, rig.enroll(&request).await.unwrap());
    let mut pages = vec!["/".to_owned(), format!("/agents/{}", agent.id)];
    for at in 0..3 {
        let command = rig.order(&agent).await.summary.id;
        let session = json!({
            "session": 1, "parent": null, "integration": "mock", "kind": "model", "name": MARK,
            "object": { "id": MARK, "name": MARK }, "state": "open", "current": 1, "objects": 1, "children_done": 0,
        });
        let state = json!({ "integration": "mock", "state": "running", "objects": 1, "bytes": 1 });
        let progress = json!({ "integrations": [state], "sessions": [session] });
        let line = json!({
            "time": Timestamp::now(), "level": "info", "source": MARK, "message": MARK, "fields": { MARK: MARK },
        });
        let outcome = marked_outcomes(&command)[at].clone();
        let calls = [
            ("command.progress", json!({ "command": command, "progress": progress })),
            ("command.log", json!({ "command": command, "batch": 0, "log": { "lines": [line] } })),
            (
                "command.ended",
                json!({ "command": command, "outcome": outcome, "ended_at": Timestamp::now() }),
            ),
        ];
        for (method, params) in calls {
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
            let answer = agent.call_raw(call.to_string()).await;
            assert!(answer["error"].is_null(), "{method}: {answer}");
        }
        pages.push(format!("/commands/{command}"));
    }
    let browser = browser();
    let opened = browser.get(rig.client.login_link().await.unwrap()).send().await.unwrap();
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    for page in pages {
        let request = browser.get(format!("{}{page}", rig.url)).header("cookie", &cookie);
        let text = request.send().await.unwrap().text().await.unwrap();
        assert!(text.contains("&lt;script&gt;alert") && !text.contains("<script>alert"), "{page}: {text}");
        // In an attribute, a quote would end it.
        assert!(!text.contains("</script>\"") && !text.contains("script&gt;\"'"), "{page}: {text}");
    }
}
