//! Access tokens: a real token server, many who ask, rotation, and each kind of refusal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use outrider_protocol::action::OAuthParams;
use outrider_protocol::control::OAuthAccessToken;
use outrider_protocol::integration::OAuthAccessTokenReply;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::harness::{FakeAgent, Rig, within};
use crate::Limits;
use crate::admin::OAuthRegistration;

const CLIENT_SECRET: &str = "client-s3cret";
const FIRST_REFRESH: &str = "refresh-0";

/// A token server that answers as it is told, and counts.
#[derive(Default)]
struct TokenServer {
    answers: Mutex<VecDeque<(StatusCode, Value)>>,
    /// The forms that came in, and where.
    asked: Mutex<Vec<(String, String)>>,
    /// Held back until it is told, where it is to be.
    hold: Mutex<Option<Arc<Notify>>>,
    came: Notify,
}

impl TokenServer {
    async fn start() -> (Arc<Self>, String) {
        let server = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token?tenant=t1", listener.local_addr().unwrap());
        let router = Router::new().route("/token", post(Self::token)).with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, url)
    }

    async fn token(
        State(server): State<Arc<Self>>,
        uri: Uri,
        headers: HeaderMap,
        form: String,
    ) -> (StatusCode, axum::Json<Value>) {
        assert!(!headers.contains_key("authorization"));
        server.asked.lock().unwrap().push((uri.to_string(), form));
        server.came.notify_one();
        let hold = server.hold.lock().unwrap().clone();
        if let Some(hold) = hold {
            hold.notified().await;
        }
        let (status, answer) = server.answers.lock().unwrap().pop_front().expect("nobody expected this call");
        (status, axum::Json(answer))
    }

    fn will_say(&self, status: u16, answer: Value) {
        self.answers.lock().unwrap().push_back((StatusCode::from_u16(status).unwrap(), answer));
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The refresh token that the last call sent.
    fn last_refresh(&self) -> String {
        let asked = self.asked.lock().unwrap();
        let (_, form) = asked.last().unwrap();
        let mut pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == "refresh_token").unwrap().1.to_owned()
    }
}

fn registration(url: &str) -> OAuthRegistration {
    OAuthRegistration {
        token_url: url.into(),
        client_id: "client-1".into(),
        client_secret: Some(CLIENT_SECRET.into()),
        refresh_token: FIRST_REFRESH.into(),
        scopes: vec!["read".into()],
    }
}

async fn register(rig: &Rig, agent: &FakeAgent, url: &str) {
    let info =
        rig.client.register_oauth(&agent.id, &"hub".parse().unwrap(), &registration(url)).await.unwrap();
    assert!(info.token_url.ends_with("/token") && info.refused.is_none(), "{info:?}");
}

async fn ask(agent: &FakeAgent, refused: Option<u64>) -> Result<OAuthAccessTokenReply, Value> {
    let params = OAuthParams { integration: "hub".parse().unwrap(), refused };
    within(agent.call::<OAuthAccessToken>(&params)).await
}

fn good(access: &str, refresh: Option<&str>) -> Value {
    json!({ "access_token": access, "token_type": "bearer", "expires_in": 3600, "refresh_token": refresh })
}

#[tokio::test]
async fn many_who_ask_share_one_refresh_and_its_token() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (server, url) = TokenServer::start().await;
    register(&rig, &agent, &url).await;
    let hold = Arc::new(Notify::new());
    *server.hold.lock().unwrap() = Some(Arc::clone(&hold));
    server.will_say(200, good("access-1", None));
    let all = futures_util::future::join_all((0..20).map(|_| ask(&agent, None)));
    let release = async {
        within(server.came.notified()).await;
        hold.notify_one();
    };
    let (all, ()) = tokio::join!(all, release);
    for reply in all {
        let reply = reply.unwrap();
        assert_eq!((reply.access_token.as_str(), reply.generation), ("access-1", 1));
        assert!(reply.expires_at.is_some());
    }
    assert_eq!(server.asked(), 1);
    // A lost answer, asked again.
    assert_eq!(ask(&agent, None).await.unwrap().generation, 1);
    // One that was refused is not given again, and the next serves all who had the refused one.
    *server.hold.lock().unwrap() = None;
    server.will_say(200, good("access-2", None));
    for _ in 0..3 {
        assert_eq!(ask(&agent, Some(1)).await.unwrap().access_token, "access-2");
    }
    assert_eq!((server.asked(), ask(&agent, None).await.unwrap().generation), (2, 2));
    let asked = server.asked.lock().unwrap();
    let (path, form) = &asked[0];
    assert_eq!(path, "/token?tenant=t1");
    assert!(form.contains("grant_type=refresh_token") && form.contains("scope=read"), "{form}");
    assert!(form.contains(&format!("client_secret={CLIENT_SECRET}")), "{form}");
}

#[tokio::test]
async fn a_new_refresh_token_is_durable_and_generations_go_on_after_a_restart() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (server, url) = TokenServer::start().await;
    register(&rig, &agent, &url).await;
    server.will_say(200, good("access-1", Some("refresh-1")));
    assert_eq!(ask(&agent, None).await.unwrap().generation, 1);
    assert_eq!(server.last_refresh(), FIRST_REFRESH);
    let rig = Rig::in_folder(rig.stop().await, Limits::default()).await;
    let agent = agent.at(&rig.url);
    server.will_say(200, good("access-2", None));
    assert_eq!(ask(&agent, None).await.unwrap().generation, 2);
    assert_eq!(server.last_refresh(), "refresh-1");
    // No access token is on disk.
    let dir = rig.stop().await;
    for name in ["outrider.db", "outrider.db-wal"] {
        let bytes = std::fs::read(dir.path().join("data").join(name)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"access-"), "{name}");
        assert!(!bytes.windows(9).any(|window| window == FIRST_REFRESH.as_bytes()), "{name}");
    }
}

#[tokio::test]
async fn a_refresh_goes_on_when_whoever_asked_is_gone() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (server, url) = TokenServer::start().await;
    register(&rig, &agent, &url).await;
    let hold = Arc::new(Notify::new());
    *server.hold.lock().unwrap() = Some(Arc::clone(&hold));
    server.will_say(200, good("access-1", Some("refresh-1")));
    tokio::select! {
        answer = ask(&agent, None) => panic!("it cannot have been answered: {answer:?}"),
        () = within(server.came.notified()) => {}
    }
    hold.notify_one();
    assert_eq!(ask(&agent, None).await.unwrap().access_token, "access-1");
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_refused_refresh_token_needs_a_person_and_is_not_tried_again() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (server, url) = TokenServer::start().await;
    assert_eq!(ask(&agent, None).await.unwrap_err()["data"]["retry"], "no");
    register(&rig, &agent, &url).await;
    let description = format!("the token {FIRST_REFRESH} was revoked");
    server.will_say(400, json!({ "error": "invalid_grant", "error_description": description }));
    for _ in 0..3 {
        let error = ask(&agent, None).await.unwrap_err();
        assert_eq!(error["data"]["retry"], "no");
        let text = error.to_string();
        assert!(text.contains("invalid_grant") && text.contains("authorize again"), "{text}");
        assert!(!text.contains(FIRST_REFRESH) && !text.contains(CLIENT_SECRET), "{text}");
    }
    assert_eq!(server.asked(), 1);
    let known = rig.client.integrations(&agent.id).await.unwrap();
    assert_eq!(known.oauth[0].refused.as_deref(), Some("invalid_grant"));
    let told = serde_json::to_string(&known).unwrap();
    let page = rig.page(&format!("/agents/{}", agent.id)).await;
    assert!(page.contains("authorize again"), "{page}");
    for secret in [FIRST_REFRESH, CLIENT_SECRET, "tenant=t1"] {
        assert!(!page.contains(secret) && !told.contains(secret), "{secret}");
    }
    register(&rig, &agent, &url).await;
    server.will_say(200, good("access-1", None));
    assert_eq!(ask(&agent, None).await.unwrap().access_token, "access-1");
}

#[tokio::test]
async fn what_may_pass_by_itself_is_tried_again_later() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (server, url) = TokenServer::start().await;
    register(&rig, &agent, &url).await;
    for status in [500, 503, 429] {
        server.will_say(status, json!({ "error": "invalid_grant" }));
        let error = ask(&agent, None).await.unwrap_err();
        assert_eq!(error["data"]["retry"], "later", "{error}");
        assert!(error["message"].as_str().unwrap().contains(&status.to_string()), "{error}");
    }
    server.will_say(401, json!({ "error": "invalid_client" }));
    let error = ask(&agent, None).await.unwrap_err();
    assert_eq!((&error["data"]["retry"], &error["data"]["fault"]), (&json!("no"), &json!("caller")));
    server.will_say(200, good("access-1", None));
    assert_eq!(ask(&agent, None).await.unwrap().generation, 1);
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    register(&rig, &agent, &format!("http://{free}/token")).await;
    let error = ask(&agent, None).await.unwrap_err();
    assert_eq!(error["data"]["retry"], "later", "{error}");
}

#[tokio::test]
async fn a_token_that_has_ended_is_not_given_again() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (server, url) = TokenServer::start().await;
    register(&rig, &agent, &url).await;
    server.will_say(200, json!({ "access_token": "access-1", "expires_in": "0" }));
    server.will_say(200, json!({ "access_token": "access-2" }));
    assert_eq!(ask(&agent, None).await.unwrap().access_token, "access-1");
    assert_eq!(ask(&agent, None).await.unwrap().access_token, "access-2");
    // Nobody knows when this one ends.
    assert_eq!(ask(&agent, None).await.unwrap().generation, 2);
    // An agent that remembers more than this database does.
    server.will_say(200, good("access-3", None));
    assert_eq!(ask(&agent, Some(70)).await.unwrap().generation, 71);
}

#[tokio::test]
async fn registrations_are_checked_and_say_no_secret() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let token = crate::DataFolder::at(rig.dir.path().join("data")).admin_token().unwrap();
    let put = async |body: String| {
        let url = format!("{}/admin/v1/agents/{}/integrations/hub/oauth", rig.url, agent.id);
        let answer = reqwest::Client::new().put(url).bearer_auth(&token).body(body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let right = serde_json::to_value(registration("https://id.example/token")).unwrap();
    for (member, value) in [
        ("token_url", json!("http://id.example/hunter2")),
        ("token_url", json!("https://me:hunter2@id.example/")),
        ("refresh_token", json!(["hunter2"])),
        ("scopes", json!("hunter2")),
        ("refresh_token", json!("")),
        ("hunter2", json!("x")),
    ] {
        let mut wrong = right.clone();
        wrong[member] = value;
        let (status, text) = put(wrong.to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{member}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(put(right.to_string()).await.0, StatusCode::OK);
    assert!(!format!("{:?}", registration("https://id.example/")).contains(FIRST_REFRESH));
    rig.client.remove_oauth(&agent.id, &"hub".parse().unwrap()).await.unwrap();
    assert!(rig.client.integrations(&agent.id).await.unwrap().oauth.is_empty());
    register(&rig, &agent, "https://id.example/token").await;
    rig.client.revoke_agent(&agent.id).await.unwrap();
    assert!(rig.client.integrations(&agent.id).await.unwrap().oauth.is_empty());
}
