//! The guide's example, in Python, against the same agent: the protocol needs no SDK.

use std::path::Path;

use outrider_peer::CallError;
use outrider_protocol::fault::code;
use outrider_supervisor::{Child, How, Spawn, StopBudget};
use serde_json::json;

use crate::testing::{Agent, MAX_LINE_BYTES};

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/integration/valid/hello.py");

/// Nothing where the machine has no Python.
async fn hello() -> Option<(Agent, Child)> {
    let path = std::env::var_os("PATH")?;
    let python = std::env::split_paths(&path).map(|dir| dir.join("python3")).find(|it| it.is_file())?;
    let mut child = Spawn::new(python).arg(HELLO).start().unwrap();
    let (stdin, stdout) = (child.take_stdin().unwrap(), child.take_stdout().unwrap());
    let agent = Agent::greet_over(stdout, stdin, MAX_LINE_BYTES).await.unwrap();
    Some((agent, child))
}

#[tokio::test]
async fn the_example_in_python_does_all_that_the_guide_says() {
    let Some((agent, mut child)) = hello().await else { return };
    assert_eq!(agent.about().name, "hello");
    let errors = agent.validate(&json!({ "names": "Ada" })).await.unwrap().errors;
    assert_eq!(errors[0].path, "/names");
    let refused = agent.onboard("users", &json!({})).await.unwrap_err();
    assert!(matches!(refused, CallError::Rpc(err) if err.code == code::NOT_SUPPORTED));

    let config = json!({ "names": ["Ada", "Zoë"] });
    let reply = agent.export(&config).await.unwrap();
    assert_eq!(reply.projects.len(), 2);
    agent.export(&config).await.unwrap();
    let ids: Vec<_> = agent.objects("example.Greeting").iter().map(|it| it["id"].clone()).collect();
    assert_eq!(ids, ["Ada-1", "Zoë-1", "Ada-2", "Zoë-2"]);
    assert_eq!(agent.checkpoint(&[("people", None), ("example.Greeting", Some("Zoë"))]), Some(json!(2)));
    assert_eq!(agent.progress().last().map(|it| (it.current, it.total)), Some((2, Some(2))));
    assert_eq!(agent.log()[0].message, "greeting 2 people");

    agent.shut_down().await.unwrap();
    assert!(matches!(child.wait().await.how, How::Ok));
}

#[tokio::test]
async fn the_example_in_python_ends_with_its_agent() {
    let Some((agent, mut child)) = hello().await else { return };
    agent.cancel("nothing runs").await.unwrap();
    agent.hang_up().await;
    let ended = child.stop(std::future::pending(), StopBudget::default()).await;
    assert!(matches!(ended.how, How::Failed { code: 3 }), "{ended:?}");
}

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/README.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let example = std::fs::read_to_string(HELLO).unwrap();
    assert!(
        guide.contains(&example),
        "schemas/README.md shows another hello.py than fixtures/integration/valid/hello.py"
    );
}
