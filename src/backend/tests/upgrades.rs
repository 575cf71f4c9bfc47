//! Upgrades: how they are ordered, followed, shown, and how their ends are kept.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use outrider_protocol::action::Order;
use outrider_protocol::control::{
    EndState, Ended, EndedParams, Envelope, Hello, HelloParams, HostInfo, Outcome, ProgressChanged,
    ProgressParams,
};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::progress::Progress;
use outrider_protocol::report::{ActionReport, Failure};
use outrider_protocol::upgrade::{Build, UpgradeOrder, UpgradeProgress, UpgradeReport, UpgradeState};
use outrider_protocol::version::CONTROL;
use reqwest::StatusCode;

use super::harness::{FakeAgent, Rig};
use crate::Limits;
use crate::admin::{CommandState, NewCommand};
use crate::client::ClientError;

fn build(version: &str) -> Build {
    Build { version: version.into(), snapshot: false, hash: "0123abcd4567".into() }
}

fn upgrade(agent: &FakeAgent, order: UpgradeOrder) -> NewCommand {
    NewCommand::new(agent.id.clone(), Order::Upgrade(order))
}

async fn ordered(rig: &Rig, agent: &FakeAgent) -> CommandId {
    let order = UpgradeOrder { version: Some("1.4.2".into()), ..UpgradeOrder::default() };
    let command = rig.client.create_command(&upgrade(agent, order)).await.unwrap().summary.id;
    agent.accept(&command).await;
    agent.run(&command).await;
    command
}

fn far(command: &CommandId, state: UpgradeState) -> UpgradeProgress {
    UpgradeProgress::new(command.to_string(), state)
}

async fn tell(agent: &FakeAgent, command: &CommandId, upgrade: UpgradeProgress) {
    let progress = Progress { upgrade: Some(upgrade), ..Progress::default() };
    agent.call::<ProgressChanged>(&ProgressParams { command: command.clone(), progress }).await.unwrap();
}

fn ended(command: &CommandId, state: UpgradeState, reason: Option<&str>) -> EndedParams {
    let is_good = state.is_good();
    let report = UpgradeReport {
        attempt: command.to_string(),
        command: Some(command.clone()),
        state,
        from: Some(build("1.4.1")),
        to: Some(build("1.4.2")),
        reason: reason.map(str::to_owned),
        failed_at: (!is_good).then_some(UpgradeState::Watching),
        retryable: false,
        started_at: Timestamp::now(),
        ended_at: Timestamp::now(),
    };
    let error = (!is_good).then(|| Failure {
        message: format!("upgrade: {}", report.outcome()),
        fault: Fault::Host,
        retry: Retry::No,
        hint: Some("look into upgrade/failed/".into()),
        last_lines: Vec::new(),
    });
    EndedParams {
        command: command.clone(),
        outcome: Outcome {
            state: if is_good { EndState::Done } else { EndState::Failed },
            report: Some(ActionReport::Upgrade(report)),
            error,
        },
        ended_at: Timestamp::now(),
    }
}

fn in_(duration: SignedDuration) -> Timestamp {
    Timestamp::now() + duration
}

#[tokio::test]
async fn an_order_reaches_the_agent_with_its_window() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let (start, end) = (in_(SignedDuration::from_hours(1)), in_(SignedDuration::from_hours(2)));
    let order = UpgradeOrder {
        version: Some("1.5.0-SNAPSHOT".into()),
        sources: vec!["https://mirror.example/releases".into(), "/srv/releases".into()],
        start_at: Some(start),
        allow_downgrade: true,
        force: true,
        ..UpgradeOrder::default()
    };
    let new = NewCommand { expires_at: Some(end), ..upgrade(&agent, order) };
    let command = rig.client.create_command(&new).await.unwrap();
    assert_eq!(command.summary.action, "upgrade");
    assert_eq!(command.summary.expires_at.unwrap().as_millisecond(), end.as_millisecond());
    let orders = agent.poll(0).await;
    let [Envelope::Run(told)] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!(told.expires_at, command.summary.expires_at);
    let Order::Upgrade(told) = &told.order else { panic!("{told:?}") };
    assert_eq!(told.start_at, Some(start));
    assert_eq!(told.version.as_deref(), Some("1.5.0-SNAPSHOT"));
    assert_eq!(told.sources, ["https://mirror.example/releases", "/srv/releases"]);
    assert!(told.allow_downgrade && told.force);
}

#[tokio::test]
async fn without_an_end_an_upgrade_expires_a_while_after_its_start() {
    let hour = Duration::from_secs(3600);
    let rig = Rig::with(Limits { command_expiry: hour, ..Limits::default() }).await;
    let agent = rig.agent().await;
    let start = in_(SignedDuration::from_hours(5));
    let order = UpgradeOrder { start_at: Some(start), ..UpgradeOrder::default() };
    let command = rig.client.create_command(&upgrade(&agent, order)).await.unwrap();
    assert_eq!(command.summary.expires_at.unwrap().as_millisecond(), (start + hour).as_millisecond());
    let command = rig.client.create_command(&upgrade(&agent, UpgradeOrder::default())).await.unwrap();
    assert!(command.summary.expires_at.unwrap() < start);
}

#[tokio::test]
async fn what_no_agent_could_carry_out_is_refused_with_what_was_expected() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let refused = async |new: NewCommand| match rig.client.create_command(&new).await {
        Err(ClientError::Refused { status, message, hint }) => (status, message, hint.unwrap_or_default()),
        other => panic!("{other:?}"),
    };
    let order = |version: Option<&str>, source: Option<&str>| UpgradeOrder {
        version: version.map(str::to_owned),
        sources: source.map(str::to_owned).into_iter().collect(),
        ..UpgradeOrder::default()
    };
    let (status, message, _) = refused(upgrade(&agent, order(Some("newest"), None))).await;
    assert_eq!(status, 422);
    assert!(
        message.contains("\"newest\" is no version of the agent; expected one such as 1.4.2"),
        "{message}"
    );
    let (_, message, hint) = refused(upgrade(&agent, order(None, Some("releases")))).await;
    assert!(
        message.contains("is no place of releases") && hint.contains("the full path of a folder"),
        "{message}: {hint}"
    );
    let many = UpgradeOrder { sources: vec!["/srv/releases".to_owned(); 17], ..UpgradeOrder::default() };
    let (_, message, _) = refused(upgrade(&agent, many)).await;
    assert!(message.contains("names 17 places of releases, expected at most 16"), "{message}");
    let previous = UpgradeOrder { previous: true, ..UpgradeOrder::default() };
    let (_, message, _) = refused(upgrade(&agent, previous)).await;
    assert!(message.contains("only a person on the host may"), "{message}");
    let hour = SignedDuration::from_hours(1);
    let past = NewCommand { expires_at: Some(in_(-hour)), ..upgrade(&agent, order(None, None)) };
    let (_, message, _) = refused(past).await;
    assert!(message.contains("it is too late already"), "{message}");
    let late = UpgradeOrder { start_at: Some(in_(hour * 2)), ..UpgradeOrder::default() };
    let (_, message, hint) =
        refused(NewCommand { expires_at: Some(in_(hour)), ..upgrade(&agent, late) }).await;
    assert!(message.contains("not to begin before") && hint.contains("after the start"), "{message}: {hint}");
    assert!(agent.poll(0).await.is_empty());
}

#[tokio::test]
async fn how_far_an_upgrade_is_is_kept_and_shown() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = ordered(&rig, &agent).await;
    assert!(rig.page(&format!("/commands/{command}")).await.contains("It may begin until"));
    let download = UpgradeProgress {
        to: Some(build("1.4.2")),
        percent: Some(42),
        bytes_per_s: Some(3_250_586),
        retry_error: Some("connection <reset>".into()),
        retry_until: Some(in_(SignedDuration::from_hours(1))),
        ..far(&command, UpgradeState::Downloading)
    };
    tell(&agent, &command, download.clone()).await;
    assert_eq!(rig.client.progress(&command).await.unwrap().upgrade, Some(download.clone()));
    for page in [format!("/agents/{}", agent.id), format!("/commands/{command}")] {
        let html = rig.page(&page).await;
        for shown in [
            "to 1.4.2 (0123abcd)",
            "downloading",
            "<progress value=\"42\" max=\"100\">",
            "42 % · 3.1 MiB/s",
            "It is tried again until",
            "connection &lt;reset&gt;",
        ] {
            assert!(html.contains(shown), "{page}: {shown}\n{html}");
        }
        assert!(!html.contains("It may begin until"), "{page}");
    }
    // What it upgrades to stays known, though the agent does not repeat it; the rest is the latest.
    tell(&agent, &command, far(&command, UpgradeState::Watching)).await;
    let told = rig.client.progress(&command).await.unwrap().upgrade.unwrap();
    assert_eq!((told.state, told.to, told.percent), (UpgradeState::Watching, Some(build("1.4.2")), None));
    let html = rig.page(&format!("/commands/{command}")).await;
    assert!(html.contains("The new version has to prove itself now") && !html.contains("Cancel"), "{html}");
}

#[tokio::test]
async fn a_version_that_was_taken_back_is_shown_as_such_at_once() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = ordered(&rig, &agent).await;
    tell(&agent, &command, far(&command, UpgradeState::Watching)).await;
    agent.call::<Ended>(&ended(&command, UpgradeState::RolledBack, Some("it <hangs>"))).await.unwrap();
    // A word from before that comes late changes nothing.
    tell(&agent, &command, far(&command, UpgradeState::Watching)).await;
    let html = rig.page(&format!("/commands/{command}")).await;
    let line = "rolled back to 1.4.1 (0123abcd) while watching: it &lt;hangs&gt;";
    assert!(html.contains(line) && html.contains("look into upgrade/failed/"), "{html}");
    assert!(!html.contains("has to prove itself"), "{html}");
    let html = rig.page(&format!("/agents/{}", agent.id)).await;
    assert!(html.contains("1.4.1 (0123abcd) → 1.4.2 (0123abcd)"), "{html}");
    assert!(html.contains("<span class=\"chip failed\">rolled back</span>"), "{html}");
    assert!(html.contains("while watching: it &lt;hangs&gt;") && !html.contains(">watching<"), "{html}");
}

#[tokio::test]
async fn an_end_that_only_its_progress_tells_is_no_upgrade_in_progress() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = ordered(&rig, &agent).await;
    tell(&agent, &command, far(&command, UpgradeState::RolledBack)).await;
    let html = rig.page(&format!("/agents/{}", agent.id)).await;
    assert!(
        html.contains("<span class=\"chip failed\">rolled back</span>") && !html.contains("prove itself"),
        "{html}"
    );
}

#[tokio::test]
async fn an_outcome_that_is_told_twice_is_taken_once() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = ordered(&rig, &agent).await;
    let first = ended(&command, UpgradeState::Done, None);
    agent.call::<Ended>(&first).await.unwrap();
    let kept = rig.client.command(&command).await.unwrap();
    // The answer was lost: it is said again, and answered again. Even another end would change nothing.
    agent.call::<Ended>(&first).await.unwrap();
    agent.call::<Ended>(&ended(&command, UpgradeState::Failed, Some("late"))).await.unwrap();
    let again = rig.client.command(&command).await.unwrap();
    assert_eq!(again.summary, kept.summary);
    assert_eq!(again.summary.state, CommandState::Done);
    assert!(again.error.is_none());
    let Some(ActionReport::Upgrade(report)) = again.report else { panic!("{again:?}") };
    assert_eq!(report.outcome(), "upgraded to 1.4.2 (0123abcd)");
    assert!(rig.page(&format!("/commands/{command}")).await.contains("upgraded to 1.4.2 (0123abcd)"));
}

#[tokio::test]
async fn which_build_an_agent_runs_is_listed_and_shown() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    assert_eq!(rig.client.agent(&agent.id).await.unwrap().build, None);
    let hello = HelloParams {
        protocol: CONTROL,
        version: "1.4.2".into(),
        build: Some(build("1.4.2")),
        host: HostInfo { hostname: "h".into(), os: "linux".into(), arch: "x86_64".into() },
        started_at: Timestamp::now(),
        commands: Vec::new(),
    };
    agent.call::<Hello>(&hello).await.unwrap();
    assert_eq!(rig.client.agents().await.unwrap()[0].build.as_deref(), Some("1.4.2 (0123abcd)"));
    for page in ["/".to_owned(), format!("/agents/{}", agent.id)] {
        assert!(rig.page(&page).await.contains("1.4.2 (0123abcd)"), "{page}");
    }
}

#[tokio::test]
async fn the_form_on_an_agents_page_orders_as_the_command_line_does() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let page = format!("/agents/{}", agent.id);
    assert!(rig.page(&page).await.contains(&format!("action=\"{page}/upgrade\"")));
    let (browser, cookie) = rig.browser().await;
    let send = async |body: &'static str| {
        let request = browser.post(format!("{}{page}/upgrade", rig.url)).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header("cookie", &cookie).send().await.unwrap()
    };
    let answer = send("version=1.4.2&start=30m&until=2h&force=on").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert!(answer.headers()["location"].to_str().unwrap().starts_with("/commands/"));
    let orders = agent.poll(0).await;
    let [Envelope::Run(told)] = orders.as_slice() else { panic!("{orders:?}") };
    let Order::Upgrade(order) = &told.order else { panic!("{told:?}") };
    assert_eq!((order.version.as_deref(), order.force, order.allow_downgrade), (Some("1.4.2"), true, false));
    assert_eq!(told.expires_at.unwrap().duration_since(order.start_at.unwrap()).as_mins(), 89);
    for (body, expected) in [
        ("start=soon", "Not before: &quot;soon&quot; is no time"),
        ("start=2h&until=1h", "not to begin before"),
        ("version=v1", "is no version of the agent"),
    ] {
        let answer = send(body).await;
        assert!(answer.status().is_client_error(), "{body}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(expected), "{body}: {text}");
    }
    let (stranger, _) = rig.browser().await;
    let answer = stranger.post(format!("{}{page}/upgrade", rig.url)).body("").send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/login");
    assert_eq!(agent.poll(0).await.len(), 1);
}

#[tokio::test]
async fn an_upgrade_is_cancelled_like_any_command() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = ordered(&rig, &agent).await;
    tell(&agent, &command, far(&command, UpgradeState::Downloading)).await;
    assert!(
        rig.page(&format!("/agents/{}", agent.id)).await.contains(&format!("/commands/{command}/cancel"))
    );
    rig.client.cancel(&command, "not today").await.unwrap();
    assert!(matches!(agent.poll(0).await.as_slice(), [Envelope::Cancel { .. }]));
    assert!(rig.page(&format!("/agents/{}", agent.id)).await.contains("cancel asked for"));
}
