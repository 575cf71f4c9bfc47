//! Secrets of sources: told to the backend once, and from then on only their host can read them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrider_backend::admin::{Command, CommandState};
use outrider_home::{Root, keys};
use outrider_protocol::action::{AgentConfig, ExportOrder, IntegrationConfig, Order, ValidateOrder};
use outrider_protocol::report::{ActionReport, Failure, ValidateReport};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::redaction::{files, unzipped};
use crate::support::{BACKEND, Stack, integration, printed, run, until};

fn validate(stack: &Stack, integration: IntegrationConfig) -> ValidateReport {
    let order = ValidateOrder { agent: AgentConfig::default(), integration, seal: true };
    let id = stack.order(Order::ValidateConfig(order));
    match stack.until_state(&id, CommandState::Done).report {
        Some(ActionReport::ValidateConfig(report)) => report,
        other => panic!("expected a validation, found {other:?}"),
    }
}

/// As the backend keeps it, which takes it out of the report: encrypted on the agent's host.
fn sealed(stack: &Stack, integration: &IntegrationConfig) -> IntegrationConfig {
    let secrets = ["/pin", "/token"].map(str::to_owned);
    keys::seal(&Root::at(stack.root()), integration, &secrets).unwrap()
}

fn export(stack: &Stack, integration: &IntegrationConfig, state: CommandState) -> Command {
    let id = stack.order(Order::Export(ExportOrder {
        agent: AgentConfig::default(),
        integrations: vec![integration.clone()],
        reprocess_historical: false,
    }));
    stack.until_state(&id, state)
}

/// Why the only integration of an export failed.
fn failure(command: Command) -> Failure {
    let Some(ActionReport::Export(report)) = command.report else {
        panic!("no report of an export: {command:?}")
    };
    report.integrations.into_iter().next().and_then(|it| it.error).expect("a failure")
}

fn config(integration: &IntegrationConfig) -> Value {
    serde_json::from_str(integration.config.get()).unwrap()
}

/// The key of the root is in nothing that the backend keeps or prints, neither as it is nor as text.
fn the_key_stays(stack: &Stack) {
    let text = std::fs::read_to_string(stack.root().join("secrets.key")).unwrap();
    let key = STANDARD.decode(text.trim()).unwrap();
    assert_eq!(key.len(), 32);
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let forms = [key.as_slice(), text.trim().trim_end_matches('=').as_bytes(), hex.as_bytes()];
    let mut kept = files(&stack.dir.path().join("backend"));
    kept.push(stack.dir.path().join("backend.out"));
    assert!(kept.iter().any(|it| it.ends_with("outrider.db")), "{kept:?}");
    for file in kept {
        let bytes = unzipped(&file, std::fs::read(&file).unwrap_or_default());
        assert!(
            forms.iter().all(|form| memchr::memmem::find(&bytes, form).is_none()),
            "{} holds the key",
            file.display()
        );
    }
}

#[test]
fn a_validated_configuration_comes_back_encrypted_and_works_on_its_host_alone() {
    let stack = Stack::start(&json!({}));
    let plain = integration(&json!({ "name": "mock", "config": {
        "token": "t0ken-of-the-source", "pin": "by-the-schema", "repos": 1, "url": "https://source.example.com"
    }}));
    let report = validate(&stack, plain.clone());
    assert_eq!(report.errors, []);
    let sealed = sealed(&stack, &plain);
    assert_eq!(config(&sealed), json!({ "repos": 1, "url": "https://source.example.com" }));
    assert!(!sealed.secrets.as_deref().unwrap().contains("t0ken"));
    // As the backend sends it from then on: it opens, and may be sealed anew.
    export(&stack, &sealed, CommandState::Done);
    assert_eq!(validate(&stack, sealed.clone()).errors, []);

    let mut elsewhere = sealed.clone();
    let address = json!({ "repos": 1, "url": "https://evil.example.com" });
    elsewhere.config = serde_json::value::to_raw_value(&address).unwrap();
    let refused = failure(export(&stack, &elsewhere, CommandState::Failed));
    assert!(refused.message.contains("/url was https://source.example.com"), "{refused:?}");

    the_key_stays(&stack);
    std::fs::remove_file(stack.root().join("secrets.key")).unwrap();
    let lost = export(&stack, &sealed, CommandState::Failed);
    let page = Browser::log_in(&stack.login_link()).get(&format!("/commands/{}", lost.summary.id));
    assert!(page.contains("a root that was lost"), "{page}");
    assert!(page.contains("enter the secrets of this integration again"), "{page}");
    let lost = failure(lost);
    assert!(lost.message.contains("a root that was lost"), "{lost:?}");
    assert!(lost.hint.unwrap().contains("outrider-backend integration set"));
    // Entered again, they work again.
    let again = self::sealed(&stack, &plain);
    export(&stack, &again, CommandState::Done);
}

#[test]
fn a_configuration_that_is_not_valid_is_not_encrypted() {
    let stack = Stack::start(&json!({}));
    let wrong =
        integration(&json!({ "name": "mock", "config": { "token": "t0ken-of-the-source", "repos": -1 } }));
    let report = validate(&stack, wrong);
    assert_eq!(report.errors[0].path, "/repos");
    assert!(!stack.root().join("secrets.key").exists(), "nothing was encrypted");
}

/// Runs the backend's program against the stack's backend.
fn backend(stack: &Stack, args: &[&str]) -> std::process::Output {
    let data = stack.dir.path().join("backend");
    run(std::process::Command::new(BACKEND).args(args).arg("--data").arg(data))
}

/// Files of the backend that hold a text.
fn holding(stack: &Stack, text: &str) -> String {
    let found =
        run(std::process::Command::new("grep").args(["-rla", text]).arg(stack.dir.path().join("backend")));
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn what_is_configured_at_the_backend_is_exported_and_its_secret_stays_on_the_host() {
    let stack = Stack::start(&json!({}));
    let (file, secret) = (stack.dir.path().join("mock.json"), "t0ken-of-the-source");
    let config =
        json!({ "token": secret, "repos": 2, "pull_requests": 3, "url": "https://source.example.com" });
    std::fs::write(&file, config.to_string()).unwrap();
    let config = format!("@{}", file.display());
    // The agent tells the schemas of its integrations by itself.
    until("the agent's integrations", || {
        let told = backend(&stack, &["integration", "schema", "mock"]);
        told.status.success().then_some(())
    });

    let wrong =
        backend(&stack, &["integration", "set", "--integration", "mock", "--config", r#"{"repos":"two"}"#]);
    assert_eq!(wrong.status.code(), Some(1), "{}", printed(&wrong));
    assert!(printed(&wrong).contains("/repos"), "the fault has a path: {}", printed(&wrong));

    let set = backend(&stack, &["integration", "set", "--integration", "mock", "--config", &config]);
    assert!(set.status.success(), "{}", printed(&set));
    until("the secret to be nowhere at the backend", || holding(&stack, secret).is_empty().then_some(()));
    let listed = printed(&backend(&stack, &["integration", "list"]));
    assert!(listed.contains("mock") && !listed.contains(secret), "{listed}");

    let exported = backend(&stack, &["command", "export", "--follow"]);
    assert!(exported.status.success(), "{}", printed(&exported));
    stack.until_uploaded();
    assert_eq!(holding(&stack, secret), "");
    the_key_stays(&stack);
    let page = Browser::log_in(&stack.login_link()).get(&format!("/agents/{}", stack.agent));
    assert!(page.contains("Whoever loses the agent's root"), "{page}");
    assert!(page.contains("has to enter them again"), "{page}");
    let data = printed(&run(std::process::Command::new("find").arg(stack.dir.path().join("backend"))));
    assert!(data.contains("sourcecode.PullRequest"), "{data}");
}
