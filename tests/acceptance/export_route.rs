//! The whole way: a backend orders an export of a real git repository, and has its data, progress and logs.

use outrider_backend::admin::CommandState;
use outrider_protocol::action::{OnboardOrder, Order, ValidateOrder};
use outrider_protocol::report::{ActionReport, ExportMode, ExportReport, OnboardOutcome};
use serde_json::{Value, json};

use crate::support::{Stack, commit, export, git, integration, make_repository};

fn report(command: &outrider_backend::admin::Command) -> &ExportReport {
    match &command.report {
        Some(ActionReport::Export(report)) => report,
        other => panic!("expected the report of an export, found {other:?}"),
    }
}

/// Lines added and deleted in all of a history, as git counts them.
fn numstat(repository: &std::path::Path) -> (u64, u64) {
    let text = git(repository, &["log", "--all", "--numstat", "--format="]);
    let rows = text.lines().filter_map(|line| {
        let mut numbers = line.split('\t').map(|it| it.parse().unwrap_or(0));
        Some((numbers.next()?, numbers.next()?))
    });
    rows.fold((0, 0), |sum, row: (u64, u64)| (sum.0 + row.0, sum.1 + row.1))
}

fn lines_of(commits: &[Value]) -> (u64, u64) {
    let files = commits.iter().flat_map(|it| it["files"].as_array().into_iter().flatten());
    files.fold((0, 0), |sum, it| {
        let number = |name: &str| it[name].as_u64().unwrap_or(0);
        (sum.0 + number("additions"), sum.1 + number("deletions"))
    })
}

#[test]
fn a_git_repository_arrives_at_the_backend_and_then_only_what_is_new() {
    let stack = Stack::start(&json!({}));
    let repository = stack.dir.path().join("repository");
    make_repository(&repository);
    let integrations = json!([{ "name": "git", "config": { "repositories": [repository] } }]);

    let first = stack.order(export(&integrations));
    let done = stack.until_state(&first, CommandState::Done);
    stack.until_uploaded();
    let commits = stack.objects(&first, "sourcecode.Commit");
    let count: usize = git(&repository, &["rev-list", "--all", "--count"]).trim().parse().unwrap();
    assert_eq!(commits.len(), count);
    assert_eq!(lines_of(&commits), numstat(&repository));
    for (model, expected) in
        [("sourcecode.Repo", 1), ("sourcecode.Branch", 2), ("sourcecode.Tag", 1), ("sourcecode.User", 1)]
    {
        assert_eq!(stack.objects(&first, model).len(), expected, "{model}");
    }
    let it = &report(&done).integrations[0];
    assert_eq!(it.mode, ExportMode::Historical);
    let counted = it.models.iter().find(|it| it.model.as_str() == "sourcecode.Commit").unwrap();
    assert_eq!(counted.objects, count as u64);

    let received = stack.command(&first);
    let counts = received.counts.expect("an export with a report");
    assert_eq!((counts.sealed_files, counts.fault), (Some(received.summary.files), None));
    let git = &counts.integrations[0];
    assert_eq!((git.reported, git.received), (received.summary.objects, received.summary.objects));

    let nothing_new = stack.order(export(&integrations));
    let done = stack.until_state(&nothing_new, CommandState::Done);
    assert_eq!(report(&done).integrations[0].mode, ExportMode::Incremental);
    stack.until_uploaded();
    assert_eq!(stack.objects(&nothing_new, "sourcecode.Commit").len(), 0);

    commit(&repository, "later.txt", "one\ntwo\n");
    let one_new = stack.order(export(&integrations));
    stack.until_state(&one_new, CommandState::Done);
    stack.until_uploaded();
    let commits = stack.objects(&one_new, "sourcecode.Commit");
    assert_eq!(commits.len(), 1);
    assert_eq!(lines_of(&commits), (2, 0));
}

#[test]
fn the_backend_sees_sessions_logs_and_what_is_kept_on_disk() {
    let stack = Stack::start(&json!({}));
    let config =
        json!([{ "name": "mock", "config": { "organizations": 1, "repos": 3, "pull_requests": 4 } }]);
    let id = stack.order(export(&config));
    let done = stack.until_state(&id, CommandState::Done);
    stack.until_uploaded();
    assert_eq!(stack.objects(&id, "sourcecode.PullRequest").len(), 12);
    let received = stack.command(&id).summary.objects;
    assert_eq!(received, report(&done).integrations[0].models.iter().map(|it| it.objects).sum::<u64>());

    let log = stack.log(&id);
    assert!(log.iter().any(|line| line.contains("mock: mock ")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("integration done")), "{log:#?}");
    for file in ["export", "service-run", "integrations/mock"] {
        let text = std::fs::read_to_string(stack.root().join("logs").join(file)).unwrap();
        assert!(text.contains(" started"), "logs/{file}: {text}");
    }
    let kept = std::fs::read_to_string(stack.root().join(format!("state/exports/{id}.json"))).unwrap();
    assert!(kept.contains("\"integration\""), "{kept}");
    let sent = stack.root().join("spool/sent").join(id.as_str()).join("sourcecode.PullRequest");
    assert!(sent.read_dir().is_ok_and(|mut it| it.next().is_some()), "{}", sent.display());
}

#[test]
fn configurations_are_tried_and_lists_are_made() {
    let stack = Stack::start(&json!({}));
    let repository = stack.dir.path().join("repository");
    make_repository(&repository);
    let validate = |config: Value| {
        let integration = integration(&json!({ "name": "git", "config": config }));
        let id = stack.order(Order::ValidateConfig(ValidateOrder {
            agent: Default::default(),
            integration,
            seal: false,
        }));
        match stack.until_state(&id, CommandState::Done).report {
            Some(ActionReport::ValidateConfig(report)) => report,
            other => panic!("expected a validation, found {other:?}"),
        }
    };
    let valid = validate(json!({ "repositories": [repository] }));
    assert_eq!(valid.errors, []);
    assert!(valid.source.and_then(|it| it.version).is_some(), "git says its version");
    let invalid = validate(json!({ "repositories": [stack.dir.path().join("nowhere")] }));
    assert!(invalid.errors[0].path.starts_with("/repositories/0"), "{invalid:?}");

    let list = |kind: &str| {
        let integration = integration(&json!({ "name": "git", "config": { "repositories": [repository] } }));
        let object_type = kind.to_owned();
        let order = OnboardOrder { agent: Default::default(), integration, object_type };
        let id = stack.order(Order::ExportOnboardData(order));
        match stack.until_state(&id, CommandState::Done).report {
            Some(ActionReport::ExportOnboardData(report)) => report.outcome,
            other => panic!("expected onboarding data, found {other:?}"),
        }
    };
    assert!(matches!(list("repos"), OnboardOutcome::Records { records } if records.len() == 1));
    assert!(matches!(list("calendars"), OnboardOutcome::NotSupported));
}

#[test]
fn extra_integrations_join_every_export() {
    let mut stack = Stack::start(&json!({}));
    stack.until_connected();
    stack.service.signal("TERM");
    assert_eq!(stack.service.ended(), Some(0), "{}", stack.service.printed());
    crate::support::edit_config(&stack.root(), |config| {
        config["extra_integrations"] =
            json!([{ "name": "mock", "config": { "repos": 1, "pull_requests": 2 } }]);
    });
    stack.start_service();
    let repository = stack.dir.path().join("repository");
    make_repository(&repository);
    let id = stack.order(export(&json!([{ "name": "git", "config": { "repositories": [repository] } }])));
    let done = stack.until_state(&id, CommandState::Done);
    let names: Vec<_> = report(&done).integrations.iter().map(|it| it.integration.as_str()).collect();
    assert_eq!(names, ["git", "extra-mock"]);
}
