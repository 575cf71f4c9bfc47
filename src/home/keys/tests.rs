//! What opens, and what does not, and what is said then.

use super::*;
use crate::testing::fresh;
use outrider_protocol::fault::chain;

fn integration(config: &str) -> IntegrationConfig {
    serde_json::from_str(&format!(r#"{{"name":"gitlab","id":"work","config":{config}}}"#)).unwrap()
}

const CONFIG: &str = r#"{"url":"https://gitlab.example.com","token":"glpat-0123456789","proxies":["https://u:p@proxy:1",null],
    "auth":{"~/key":{"pem":"-----"}},"page":100,"groups":["a/b"]}"#;
const SECRETS: [&str; 3] = ["/auth/~0~1key", "/proxies/0", "/token"];

fn sealed(root: &Root) -> IntegrationConfig {
    seal(root, &integration(CONFIG), &SECRETS.map(str::to_owned)).unwrap()
}

fn value(integration: &IntegrationConfig) -> Value {
    serde_json::from_str(integration.config.get()).unwrap()
}

/// The error of opening a sealed integration after a change of it.
fn refused(root: &Root, change: impl FnOnce(&mut IntegrationConfig)) -> String {
    let mut integration = sealed(root);
    change(&mut integration);
    let err = open(root, &integration).unwrap_err();
    let told = chain(&err);
    assert!(!told.contains("glpat") && !format!("{err:?}").contains("glpat"), "{told}");
    assert_eq!(err.hint().is_some(), !matches!(err, KeyError::Config { .. } | KeyError::File(_)));
    told
}

fn with(integration: &mut IntegrationConfig, pointer: &str, to: Value) {
    let mut config = value(integration);
    *config.pointer_mut(pointer).unwrap() = to;
    integration.config = raw(&config).unwrap();
}

#[test]
fn secrets_leave_the_configuration_and_come_back() {
    let (_folder, root) = fresh();
    let sealed = sealed(&root);
    let expected =
        r#"{"url":"https://gitlab.example.com","proxies":[null,null],"auth":{},"page":100,"groups":["a/b"]}"#;
    assert_eq!(value(&sealed), serde_json::from_str::<Value>(expected).unwrap());
    let text = sealed.secrets.clone().unwrap();
    assert!(text.starts_with("outrider-sealed:1:") && !text.contains("glpat"), "{text}");
    let opened = open(&root, &sealed).unwrap();
    assert_eq!((value(&opened), opened.secrets.clone()), (value(&integration(CONFIG)), None));
    let again = seal(&root, &opened, &SECRETS.map(str::to_owned)).unwrap();
    assert_ne!(text, again.secrets.unwrap(), "each time with another nonce");
}

#[test]
fn without_secrets_nothing_is_made() {
    let (_folder, root) = fresh();
    let plain = seal(&root, &integration(CONFIG), &[]).unwrap();
    assert_eq!((value(&plain), &plain.secrets), (value(&integration(CONFIG)), &None));
    assert_eq!(value(&open(&root, &plain).unwrap()), value(&plain));
    assert!(!root.secrets_key().exists());
}

#[cfg(unix)]
#[test]
fn the_key_is_its_owners_alone_and_stays_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, root) = fresh();
    let first = sealed(&root);
    let key = std::fs::read(root.secrets_key()).unwrap();
    assert_eq!(std::fs::metadata(root.secrets_key()).unwrap().permissions().mode() & 0o777, 0o600);
    sealed(&root);
    assert_eq!(std::fs::read(root.secrets_key()).unwrap(), key);
    open(&root, &first).unwrap();
}

#[test]
fn of_many_that_make_the_key_at_once_all_have_the_same() {
    let (_folder, root) = fresh();
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| sealed(&root))).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    all.iter().for_each(|it| drop(open(&root, it).unwrap()));
}

#[test]
fn a_lost_or_other_key_is_told() {
    let (_folder, root) = fresh();
    let (_other_folder, other) = fresh();
    let mine = sealed(&root);
    assert!(chain(&open(&other, &mine).unwrap_err()).contains("and this root has none"));
    sealed(&other);
    let told = chain(&open(&other, &mine).unwrap_err());
    assert!(told.contains("they belong to another host, or to a root that was lost"), "{told}");
    std::fs::write(root.secrets_key(), "short").unwrap();
    assert!(chain(&open(&root, &mine).unwrap_err()).contains("found no key of 32 bytes"));
}

#[test]
fn a_changed_text_is_refused() {
    let (_folder, root) = fresh();
    let flip = |it: &mut IntegrationConfig| {
        let text = it.secrets.take().unwrap();
        let (head, body) = text.rsplit_once(':').unwrap();
        let mut bytes = STANDARD.decode(body).unwrap();
        bytes[20] ^= 1;
        it.secrets = Some(format!("{head}:{}", STANDARD.encode(bytes)));
    };
    assert!(refused(&root, flip).contains("the text was changed"));
    let cut = |it: &mut IntegrationConfig| {
        it.secrets = it.secrets.take().map(|text| text[..text.len() - 8].to_owned());
    };
    assert!(refused(&root, cut).contains("the text was changed"));
    assert!(refused(&root, |it| it.secrets = Some("age-encryption.org".into())).contains("expected a text"));
    assert!(refused(&root, |it| it.secrets = Some("outrider-sealed:1:".into())).contains("expected a text"));
}

#[test]
fn another_integration_does_not_get_them() {
    let (_folder, root) = fresh();
    let told = refused(&root, |it| it.id = Some(outrider_protocol::ids::IntegrationId::new("play").unwrap()));
    assert!(told.contains("they were encrypted for work (gitlab)"), "{told}");
    let told = refused(&root, |it| it.name = outrider_protocol::ids::IntegrationName::new("mock").unwrap());
    assert!(told.contains("they were encrypted for work (gitlab)"), "{told}");
}

#[test]
fn another_address_does_not_get_them() {
    let (_folder, root) = fresh();
    let told = refused(&root, |it| with(it, "/url", "https://evil.example.com".into()));
    assert!(
        told.contains(
            "/url was https://gitlab.example.com when they were entered, and is https://evil.example.com now"
        ),
        "{told}"
    );
    let told = refused(&root, |it| with(it, "/auth", serde_json::json!({ "proxy": "evil" })));
    assert!(told.contains("/auth/proxy was missing when"), "{told}");
    for addition in ["evil.example.com:8080/x", "git@evil:a", "10.0.0.1", "localhost", "//evil/x", "[::1]:80"]
    {
        let told = refused(&root, |it| with(it, "/groups/0", addition.into()));
        assert!(told.contains("/groups/0 was missing"), "{addition}: {told}");
    }
    // What is no address may change.
    let mut other = sealed(&root);
    with(&mut other, "/page", 7.into());
    with(&mut other, "/groups", serde_json::json!(["c/d", "e"]));
    assert_eq!(value(&open(&root, &other).unwrap())["token"], "glpat-0123456789");
}

#[test]
fn a_place_that_is_taken_or_gone_is_told() {
    let (_folder, root) = fresh();
    let told = refused(&root, |it| with(it, "/auth", serde_json::json!({ "~/key": "new" })));
    assert!(told.contains("/auth/~0~1key: found another value"), "{told}");
    assert!(
        refused(&root, |it| with(it, "/proxies", serde_json::json!([]))).contains("found a shorter array")
    );
    assert!(refused(&root, |it| with(it, "/auth", 1.into())).contains("found nothing that could hold it"));
}
