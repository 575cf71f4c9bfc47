//! Tests with repositories that git makes, and with an agent in the same process.

mod counts;
mod faults;
mod fixtures;
mod incremental;
mod made;
mod named;
mod remote;
mod served;
mod validate;

use outrider_integration::testing::Agent;
use serde_json::{Value, json};

use made::Made;

/// An agent that serves this integration.
async fn agent() -> Agent {
    Agent::greet_with(crate::Git, 32 << 20).await.unwrap()
}

fn config(repositories: &[&Made]) -> Value {
    json!({ "repositories": repositories.iter().map(|it| it.path()).collect::<Vec<_>>() })
}

/// Exports repositories that are expected not to fail, and forgets nothing.
async fn export(agent: &Agent, repositories: &[&Made]) {
    let reply = agent.export(&config(repositories)).await.unwrap();
    for project in &reply.projects {
        assert_ne!(project.state, outrider_integration::ProjectState::Failed, "{:?}", project.error);
    }
}

fn commits(agent: &Agent) -> Vec<Value> {
    agent.objects(crate::export::COMMIT)
}

/// One member of each object, as text.
fn each(objects: &[Value], member: &str) -> Vec<String> {
    objects.iter().map(|it| it[member].as_str().unwrap_or_default().to_owned()).collect()
}

/// The lines of each commit's files, summed up.
fn lines(commits: &[Value]) -> (u64, u64) {
    let sum = |member: &str| {
        let files = commits.iter().flat_map(|it| it["files"].as_array().unwrap());
        files.map(|it| it[member].as_u64().unwrap_or(0)).sum()
    };
    (sum("additions"), sum("deletions"))
}

/// What was exported is what git counts, and every commit's own sums are those of its files.
fn assert_counts_are_gits(agent: &Agent, made: &Made) {
    let commits = commits(agent);
    assert_eq!(commits.len().to_string(), made.git(&["rev-list", "--all", "--count"]));
    assert_eq!(lines(&commits), made.numstat());
    for commit in &commits {
        let own = (commit["additions"].as_u64().unwrap(), commit["deletions"].as_u64().unwrap());
        assert_eq!(lines(std::slice::from_ref(commit)), own, "{commit}");
        assert_eq!(commit["files_changed"], commit["files"].as_array().unwrap().len(), "{commit}");
    }
}
