//! The SDK against an agent in the same process.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use outrider_peer::CallError;
use outrider_protocol::fault::{RpcError, code};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::testing::Agent;
use crate::*;

type Work = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// An integration that does what a test says.
struct Scripted<F>(F);

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    step: u64,
    #[serde(default)]
    hosts: Vec<Host>,
}

#[derive(Debug, serde::Deserialize)]
struct Host {
    port: u16,
}

impl<F: Fn(Run, u64) -> Work + Send + Sync + 'static> Integration for Scripted<F> {
    type Config = Config;

    fn about(&self) -> About {
        About::new("scripted", "1.2.3")
            .models(["a.B"])
            .models_without_id(["a.C"])
            .onboard_kinds(["users", "failing"])
    }

    async fn export(&self, run: Run, config: Config) -> Result<ExportReply, Error> {
        (self.0)(run, config.step).await?;
        Ok(ExportReply { projects: vec![ProjectResult::done("p", "P")], new_config: None })
    }

    async fn validate(&self, context: Context, config: Config) -> Result<ValidateConfigReply, Error> {
        let account = Some(context.integration().to_string());
        match config.hosts.first() {
            Some(host) if host.port < 1024 => Err(Error::config("/hosts/0/port", "expected 1024 or more")),
            _ => Ok(ValidateConfigReply {
                errors: vec![],
                source: Some(SourceInfo { account, ..Default::default() }),
            }),
        }
    }

    async fn onboard(&self, _: Context, kind: &str, _: Config) -> Result<Vec<Raw>, Error> {
        match kind {
            "users" => Ok(vec![record(&json!({ "id": "u", "name": "U" }))?]),
            _ => Err(Error::source("list the users")
                .caused_by(std::io::Error::other("no route"))
                .hint("plug it in")),
        }
    }
}

/// An agent that has greeted a scripted integration; each export runs one step of the script.
async fn agent<W>(work: impl Fn(Run, u64) -> W + Send + Sync + 'static) -> Agent
where
    W: Future<Output = Result<(), Error>> + Send + 'static,
{
    Agent::greet(Scripted(move |run, step| Box::pin(work(run, step)) as Work)).await.unwrap()
}

async fn idle() -> Agent {
    agent(|_, _| async { Ok(()) }).await
}

fn step(step: u64) -> Value {
    json!({ "step": step })
}

fn rpc(err: CallError) -> RpcError {
    match err {
        CallError::Rpc(err) => err,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_greeting_tells_everything_about_the_integration() {
    let agent = idle().await;
    let about = agent.about();
    assert_eq!((about.protocol, about.name.as_str(), about.version.as_str()), (1, "scripted", "1.2.3"));
    let models: Vec<_> = about.models.iter().map(|it| (it.model.as_str(), it.needs_id)).collect();
    assert_eq!(models, [("a.B", true), ("a.C", false)]);
    assert!(matches!(agent.shut_down().await, Ok(Served::Finished)));
}

#[tokio::test]
async fn a_checkpoint_comes_back_to_the_same_session_only() {
    let agent = agent(|run, step| async move {
        let root = run.tracking("repo", None).await?;
        for id in ["x", "y/z"] {
            let mut session = root.model("a.B", object(id, "Name")).await?;
            let before: Option<u64> = session.last_processed()?;
            assert_eq!(before, (step > 1).then(|| step - 1));
            session.send(&json!({ "id": format!("{id}{step}") })).await?;
            assert_eq!(session.done_with(&step).await?, Sent { accepted: 1, unchanged: 0, rejected: 0 });
        }
        assert_eq!(root.last_processed::<String>()?, None);
        root.done().await
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    assert_eq!(agent.checkpoint(&[("repo", None), ("a.B", Some("y/z"))]), Some(json!(1)));
    agent.export(&step(2)).await.unwrap();
    assert_eq!(agent.objects("a.B").len(), 4);
}

#[tokio::test]
async fn a_checkpoint_in_another_shape_is_told() {
    let agent = agent(|run, step| async move {
        let session = run.model("a.B", None).await?;
        if step == 1 {
            return session.done_with("text").await.map(drop);
        }
        session.last_processed::<u64>().map(drop)
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    let err = agent.export(&step(2)).await.unwrap_err().to_string();
    assert!(err.starts_with("read the last-processed value \"text\" of session a.B: invalid type"), "{err}");
}

#[tokio::test]
async fn a_dropped_session_is_rolled_back_and_does_not_block_its_parent() {
    let agent = agent(|run, _| async move {
        let root = run.tracking("repo", None).await?;
        let mut half = root.model("a.B", object("1", "One")).await?;
        let below = half.tracking("page", object("p", "P")).await?;
        half.send(&json!({ "id": "lost" })).await?;
        half.flush().await?;
        drop((half, below));
        // The same path is free again.
        let mut whole = root.model("a.B", object("1", "One")).await?;
        whole.send(&json!({ "id": "kept" })).await?;
        whole.done().await?;
        let undone = root.model("a.B", object("2", "Two")).await?;
        undone.rollback().await?;
        root.done().await
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    assert_eq!(agent.objects("a.B"), [json!({ "id": "kept" })]);
}

#[tokio::test]
async fn a_parent_cannot_end_before_its_children() {
    let agent = agent(|run, _| async move {
        let root = run.tracking("repo", None).await?;
        let child = root.model("a.B", object("1", "One")).await?;
        let ended = root.done().await;
        drop(child);
        ended
    })
    .await;
    let err = rpc(agent.export(&step(1)).await.unwrap_err());
    assert_eq!(err.code, code::SESSION);
    assert_eq!(err.message, "session.done for session 1 (repo): session 1 still has open sessions below it");
}

#[tokio::test]
async fn objects_travel_in_batches_by_count_and_by_bytes() {
    let agent = agent(|run, _| async move {
        let mut session = run.model("a.B", None).await?;
        for n in 0..401 {
            session.send(&json!({ "id": n.to_string() })).await?;
        }
        session.done().await?;
        let mut session = run.model("a.B", object("large", "Large")).await?;
        session.set_batching(Batching { bytes: 1000, ..Batching::default() });
        for n in 0..3 {
            session.send(&json!({ "id": n.to_string(), "text": "x".repeat(600) })).await?;
        }
        session.done().await.map(drop)
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    assert_eq!(agent.objects("a.B").len(), 404);
    assert_eq!(agent.batches(), 3 + 3);
    let first: Vec<_> = agent.objects("a.B")[..3].iter().map(|it| it["id"].clone()).collect();
    assert_eq!(first, ["0", "1", "2"], "in the order in which they were sent");
}

#[tokio::test]
async fn objects_of_every_size_arrive_whole_and_in_order() {
    /// Around what fits into a batch, what is written at once, and what is in memory once.
    const SIZES: [usize; 9] = [1, 30_000, 65_500, 65_536, 65_600, 262_000, 300_000, 2, 1_000_000];
    let agent = agent(|run, _| async move {
        let mut session = run.model("a.B", None).await?;
        for n in 0..200 {
            let text = "ü".repeat(SIZES[n % SIZES.len()] / 2);
            if n % 5 == 3 {
                session.send_json(&json!({ "id": n.to_string(), "text": text }).to_string()).await?;
            } else {
                session.send(&json!({ "id": n.to_string(), "text": text })).await?;
            }
        }
        session.done().await.map(drop)
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    let found: Vec<_> =
        agent.objects("a.B").iter().map(|it| (it["id"].clone(), it["text"].clone())).collect();
    assert_eq!(found.len(), 200);
    for (n, (id, text)) in found.into_iter().enumerate() {
        assert_eq!((id, text), (json!(n.to_string()), json!("ü".repeat(SIZES[n % SIZES.len()] / 2))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_still_shows_its_objects_once_a_second() {
    let agent = agent(|run, _| async move {
        let mut session = run.model("a.B", None).await?;
        for n in 0..10 {
            session.send(&json!({ "id": n.to_string() })).await?;
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        session.done().await.map(drop)
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    assert_eq!(agent.batches(), 4, "three, three, three and the last one");
}

#[tokio::test]
async fn an_object_that_no_line_can_carry_is_refused_alone() {
    let script = |run: Run, _| {
        Box::pin(async move {
            let mut session = run.model("a.B", None).await?;
            let err = session.send(&json!({ "id": "1", "text": "x".repeat(70_000) })).await.unwrap_err();
            assert!(err.to_string().contains("has 70020 bytes; expected at most 64512"), "{err}");
            session.send(&json!({ "id": "2", "text": "x".repeat(60_000) })).await?;
            session.send(&json!({ "id": "3", "text": "x".repeat(60_000) })).await?;
            session.done().await.map(drop)
        }) as Work
    };
    let agent = Agent::greet_with(Scripted(script), 64 * 1024).await.unwrap();
    agent.export(&step(1)).await.unwrap();
    assert_eq!((agent.objects("a.B").len(), agent.batches()), (2, 2));
}

#[tokio::test]
async fn rejected_objects_are_counted_and_the_first_ones_logged() {
    let agent = agent(|run, _| async move {
        let mut session = run.model("a.B", None).await?;
        for n in 0..30 {
            let object = if n % 2 == 0 { json!({ "id": n.to_string() }) } else { json!({ "no": "id" }) };
            session.send(&object).await?;
        }
        session.flush().await?;
        assert_eq!(session.objects(), 15);
        assert_eq!(session.done().await?, Sent { accepted: 15, unchanged: 0, rejected: 15 });
        Ok(())
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    let log = agent.log();
    assert_eq!(log.len(), 11);
    assert!(log[0].message.contains("(without id): found no text member `id`"), "{:?}", log[0]);
    assert!(log[10].message.contains("15 objects of a.B were rejected"), "{:?}", log[10]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_held_back_and_the_last_one_is_told() {
    let agent = agent(|run, _| async move {
        let session = run.tracking("repo", None).await?;
        for n in 0..=1000 {
            session.progress(n, 1000).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        session.done().await
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    let told = agent.progress();
    assert!((3..=6).contains(&told.len()), "{told:?}");
    assert_eq!(told.last().map(|it| (it.current, it.total)), Some((1000, Some(1000))));
}

#[tokio::test]
async fn a_cancel_unwinds_the_call_and_what_was_done_is_kept() {
    let agent = agent(|run, _| async move {
        let mut done = run.model("a.B", object("1", "One")).await?;
        done.send(&json!({ "id": "kept" })).await?;
        done.done().await?;
        let mut endless = run.model("a.B", object("2", "Two")).await?;
        run.info("endless").await;
        loop {
            endless.send(&json!({ "id": "x" })).await?;
        }
    })
    .await;
    let config = json!({});
    let export = agent.export(&config);
    tokio::pin!(export);
    wait_for_line(&agent, "endless", &mut export).await;
    agent.cancel("enough").await.unwrap();
    let err = rpc(export.await.unwrap_err());
    assert_eq!((err.code, err.message.as_str()), (code::CANCELLED, "cancelled: enough"));
    assert_eq!(agent.objects("a.B"), [json!({ "id": "kept" })]);
    // The next call is welcome.
    assert!(agent.validate(&json!({})).await.unwrap().errors.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_hear_a_cancel_is_dropped_after_the_grace() {
    let agent = agent(|run, _| async move {
        run.info("deaf").await;
        std::future::pending().await
    })
    .await;
    let config = json!({});
    let export = agent.export(&config);
    tokio::pin!(export);
    wait_for_line(&agent, "deaf", &mut export).await;
    let told = tokio::time::Instant::now();
    agent.cancel("enough").await.unwrap();
    assert_eq!(rpc(export.await.unwrap_err()).code, code::CANCELLED);
    assert!(told.elapsed() >= CANCEL_GRACE);
}

/// Drives an export until the integration logged a line.
async fn wait_for_line<T: std::fmt::Debug>(
    agent: &Agent,
    line: &str,
    export: &mut (impl Future<Output = T> + Unpin),
) {
    while !agent.log().iter().any(|it| it.message == line) {
        tokio::select! {
            reply = &mut *export => panic!("{reply:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test]
async fn a_pause_is_told_waited_for_and_ended_by_a_cancel() {
    let agent = agent(|run, step| async move {
        let wait = if step == 1 { Duration::from_millis(30) } else { Duration::from_secs(3600) };
        run.pause(Timestamp::now() + wait, "rate limit").await?;
        run.info("resumed").await;
        Ok(())
    })
    .await;
    agent.export(&step(1)).await.unwrap();
    assert_eq!(agent.pauses()[0].reason, "rate limit");
    assert_eq!(agent.log().len(), 1);

    let before = agent.pauses().len();
    let long = step(2);
    let export = agent.export(&long);
    tokio::pin!(export);
    while agent.pauses().len() == before {
        tokio::select! {
            reply = &mut export => panic!("{reply:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    agent.cancel("enough").await.unwrap();
    assert_eq!(rpc(export.await.unwrap_err()).code, code::CANCELLED);
}

#[tokio::test]
async fn a_panic_is_answered_and_ends_the_program_with_101() {
    let agent = agent(|_, _| async { panic!("index {} is out", 7) }).await;
    let err = rpc(agent.export(&step(1)).await.unwrap_err());
    assert_eq!(err.code, code::INTERNAL);
    assert_eq!(err.message, "export: the integration panicked: index 7 is out");
    let served = agent.hang_up().await;
    assert_eq!(served.exit_status(), 101);
}

#[tokio::test]
async fn a_second_call_while_one_runs_is_refused() {
    let agent = agent(|run, _| async move {
        run.info("running").await;
        run.cancelled().await;
        run.check()
    })
    .await;
    let config = json!({});
    let export = agent.export(&config);
    tokio::pin!(export);
    wait_for_line(&agent, "running", &mut export).await;
    let err = rpc(agent.validate(&json!({})).await.unwrap_err());
    assert_eq!(err.code, code::INVALID_REQUEST);
    assert!(err.message.contains("export is still running"), "{err}");
    agent.cancel("enough").await.unwrap();
    export.await.unwrap_err();
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_is_told_with_its_place() {
    let agent = idle().await;
    for (config, path, message) in [
        (
            json!({ "hosts": [{ "port": 1 }, { "port": "x" }] }),
            "/hosts/1/port",
            "invalid type: string \"x\", expected u16",
        ),
        (json!({ "hosts": [{}] }), "/hosts/0", "missing field `port`"),
        (json!({ "hosts": [{ "port": 80 }] }), "/hosts/0/port", "expected 1024 or more"),
        (json!({ "a/b~c": 1 }), "/a~1b~0c", "unknown field `a/b~c`, expected `step` or `hosts`"),
        (json!("secret"), "", "found a text; expected a JSON object"),
    ] {
        let errors = agent.validate(&config).await.unwrap().errors;
        assert_eq!(errors, [ConfigError { path: path.into(), message: message.into() }]);
    }
    let err = rpc(agent.export(&json!({ "step": -1 })).await.unwrap_err());
    assert_eq!(err.code, code::INVALID_PARAMS);
    assert!(
        err.message.starts_with("the configuration is not valid: /step: invalid value: integer `-1`"),
        "{err}"
    );
    assert_eq!(err.data.unwrap().fault, Some(Fault::Caller));
}

#[tokio::test]
async fn onboarding_answers_with_records_or_says_why_not() {
    let agent = idle().await;
    assert_eq!(agent.onboard("users", &json!({})).await.unwrap(), [json!({ "id": "u", "name": "U" })]);
    let err = rpc(agent.onboard("calendars", &json!({})).await.unwrap_err());
    assert_eq!(err.code, code::NOT_SUPPORTED);
    let err = rpc(agent.onboard("failing", &json!({})).await.unwrap_err());
    assert_eq!((err.code, err.message.as_str()), (code::FAILED, "list the users: no route"));
    let data = err.data.unwrap();
    assert_eq!(
        (data.fault, data.retry, data.hint.as_deref()),
        (Some(Fault::Source), Some(Retry::Later), Some("plug it in"))
    );
}

#[tokio::test]
async fn an_agent_that_dies_leaves_an_orphan_that_ends_soon() {
    // One that waits for its agent fails at once when the agent is gone; that is no answer either.
    let agent = agent(|run, _| async move {
        run.info("running").await;
        Err(Error::source(format!("link lost: {}", run.peer().closed().await)))
    })
    .await;
    {
        let config = json!({});
        let export = agent.export(&config);
        tokio::pin!(export);
        wait_for_line(&agent, "running", &mut export).await;
    }
    assert!(matches!(agent.hang_up().await, Served::Orphaned));
    assert!(matches!(idle().await.hang_up().await, Served::Finished));
}

#[tokio::test]
async fn what_a_shell_pipes_in_is_answered_after_the_end_of_input() {
    let started = std::sync::Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let script = move |_: Run, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        }) as Work
    };
    let (ours, theirs) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(theirs);
    let served = tokio::spawn(serve_on(Scripted(script), reader, writer));
    let (reader, mut writer) = tokio::io::split(ours);
    let lines = [
        json!({ "jsonrpc": "2.0", "id": 0, "method": "export", "params": { "export": "e", "config": {} } }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocol": { "min": 1, "max": 9 }, "agent_version": "1", "integration": "i",
            "max_line_bytes": 1000, "cache_dir": "/none" } }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {
            "protocol": { "min": 2, "max": 9 }, "agent_version": "1", "integration": "i",
            "max_line_bytes": 1000, "cache_dir": "/none" } }),
        json!({ "jsonrpc": "2.0", "id": 3, "method": "export", "params": { "export": "e", "config": {} } }),
    ];
    for line in lines {
        writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
    writer.shutdown().await.unwrap();
    let mut answers = Vec::new();
    let mut read = BufReader::new(reader);
    let mut line = String::new();
    while read.read_line(&mut line).await.unwrap() > 0 {
        answers.push(serde_json::from_str::<Value>(&line).unwrap());
        line.clear();
    }
    answers.sort_by_key(|it| it["id"].as_u64());
    let codes: Vec<_> = answers.iter().map(|it| it["error"]["code"].as_i64()).collect();
    assert_eq!(
        codes,
        [Some(code::INVALID_REQUEST.into()), None, Some(code::VERSION.into()), None],
        "{answers:?}"
    );
    assert!(answers[0]["error"]["message"].as_str().unwrap().contains("call initialize first"));
    assert_eq!(answers[3]["result"]["projects"][0]["id"], "p");
    assert_eq!(started.load(Ordering::SeqCst), 1);
    assert!(matches!(served.await.unwrap(), Served::Finished));
    let mut rest = Vec::new();
    read.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
