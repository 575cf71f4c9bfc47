//! config.json: every file of fixtures/config/valid is taken, every one of fixtures/config/invalid is refused with the
//! text that stands beside it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use outrider_protocol::fault::chain;
use outrider_protocol::ids::AgentId;

use crate::atomic::{self, PRIVATE};
use crate::config::settled;
use crate::testing::{fixtures, fresh};
use crate::{Config, ConfigErrors, Limits, Root, Secret};

fn put(root: &Root, bytes: &[u8]) {
    atomic::write(&root.config_path(), bytes, PRIVATE).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

/// The same, written at a time of its own.
fn put_at(time: SystemTime, root: &Root, bytes: &[u8]) {
    put(root, bytes);
    let file = std::fs::File::options().write(true).open(root.config_path()).unwrap();
    file.set_modified(time).unwrap();
}

/// The same, as a file that nobody is writing any more.
fn put_long_ago(root: &Root, bytes: &[u8]) {
    put_at(SystemTime::now() - HOUR, root, bytes);
}

fn json_files(kind: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(fixtures(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// What a person reads, without where this test's root happens to lie.
fn told(err: &ConfigErrors, root: &Root) -> String {
    chain(err).replace(&root.path().display().to_string(), "ROOT") + "\n"
}

#[test]
fn every_invalid_file_is_refused_with_the_text_beside_it() {
    for file in json_files("invalid") {
        let (_folder, root) = fresh();
        put_long_ago(&root, &std::fs::read(&file).unwrap());
        let err = Config::load(&root).expect_err(&file.display().to_string());
        let expected = std::fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        assert_eq!(told(&err, &root), expected, "{}", file.display());
    }
}

#[test]
fn no_text_is_without_its_file() {
    for entry in std::fs::read_dir(fixtures("invalid")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("json").exists(), "{}", path.display());
    }
}

#[test]
fn every_valid_file_is_taken_and_saved_without_a_loss() {
    for file in json_files("valid") {
        let (_folder, root) = fresh();
        std::fs::write(root.path().join("ca.pem"), "").unwrap();
        put(&root, &std::fs::read(&file).unwrap());
        let loaded = Config::load(&root).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        loaded.save(&root).unwrap();
        let again = Config::load(&root).unwrap();
        assert_eq!(format!("{loaded:?}"), format!("{again:?}"), "{}", file.display());
        assert_eq!(loaded.token, again.token);
        let raw = |config: &Config| serde_json::to_string(&config.extra_integrations).unwrap();
        assert_eq!(raw(&loaded), raw(&again));
    }
}

#[test]
fn everything_that_can_be_set_is_read() {
    let (_folder, root) = fresh();
    std::fs::write(root.path().join("ca.pem"), "").unwrap();
    put(&root, &std::fs::read(fixtures("valid").join("everything.json")).unwrap());
    let config = Config::load(&root).unwrap();
    assert_eq!(config.agent.as_str(), "agent-1");
    assert_eq!(config.customer_id.as_deref(), Some("c1"));
    assert_eq!(config.backend, "https://backend.example:8443");
    assert_eq!(config.token.expose(), "not-a-real-token");
    assert_eq!(config.channel, "edge");
    assert_eq!(config.integrations_dir.as_deref(), Some(Path::new("/opt/integrations")));
    assert_eq!(config.ca_file, Some(root.path().join("ca.pem")));
    assert!(!config.backend_collect && config.share_last_processed);
    assert_eq!(config.limits.line_bytes, 1 << 20);
    assert_eq!(config.limits.cancel_grace().as_secs(), 3);
    assert_eq!(config.limits.object_bytes, Limits::default().object_bytes);
    let [first, second] = &config.extra_integrations[..] else { panic!() };
    assert_eq!((first.name.as_str(), first.id().as_str()), ("git", "monorepo"));
    // Not a digit is lost, and the order of the members stays.
    assert_eq!(first.config.get(), r#"{ "z": 12345678901234567890123, "a": 1.10 }"#);
    assert_eq!((second.name.as_str(), second.config.get()), ("mock", "{}"));
}

#[test]
fn a_missing_file_means_not_enrolled() {
    let (_folder, root) = fresh();
    let err = Config::load(&root).unwrap_err();
    assert!(err.not_enrolled());
    let expected = "this root is not enrolled: ROOT/config.json is missing; enroll it with `outrider enroll CODE --backend URL`\n";
    assert_eq!(told(&err, &root).replace('\\', "/"), expected);
}

#[test]
fn a_file_cut_off_anywhere_is_refused_and_said_to_be_half() {
    let (_folder, root) = fresh();
    std::fs::write(root.path().join("ca.pem"), "").unwrap();
    let whole = std::fs::read(fixtures("valid").join("everything.json")).unwrap();
    let end = whole.iter().rposition(|byte| *byte == b'}').unwrap();
    for cut in 0..end {
        put_long_ago(&root, &whole[..cut]);
        let err = Config::load(&root).unwrap_err();
        let ConfigErrors::Invalid { faults, .. } = &err else { panic!("cut at {cut}: {err}") };
        assert_eq!(faults.len(), 1, "cut at {cut}: {err}");
        assert!(
            faults[0].advice.as_deref().unwrap_or_default().contains("enroll again"),
            "cut at {cut}: {err}"
        );
    }
}

#[test]
fn a_file_that_is_just_being_written_is_waited_for() {
    let (_folder, root) = fresh();
    let whole = std::fs::read(fixtures("valid").join("everything.json")).unwrap();
    // A time to come, since a slow machine may need long between two looks.
    let put_now = |bytes: &[u8]| put_at(SystemTime::now() + HOUR, &root, bytes);
    // What a reader may see of a file that is emptied and then filled.
    let mut states = [&whole[..0], &whole[..1], &whole[..whole.len() / 2], &whole].into_iter();
    let mut write = || states.next().map(put_now).is_some();
    assert!(write());
    assert_eq!(settled(&root.config_path(), &mut write).unwrap().1, whole);
    // Nobody is asked to wait for one that is whole, or that was half before.
    let never = || -> bool { panic!("waited") };
    settled(&root.config_path(), never).unwrap();
    put_long_ago(&root, &whole[..9]);
    assert_eq!(settled(&root.config_path(), never).unwrap().1, &whole[..9]);
    // Of one that stays half, that is said in the end.
    put_now(&whole[..9]);
    let mut looks = 0;
    let thrice = || {
        looks += 1;
        looks < 3
    };
    assert_eq!(settled(&root.config_path(), thrice).unwrap().1, &whole[..9]);
    assert_eq!(looks, 3);
}

#[test]
fn no_message_repeats_a_token() {
    let (_folder, root) = fresh();
    for token in ["\"hush hush\"", "[\"hush\"]", "{\"hush\": 1}"] {
        put(
            &root,
            format!(r#"{{"version": 1, "agent": "a", "backend": "ftp://u:hush@h", "token": {token}}}"#)
                .as_bytes(),
        );
        let err = Config::load(&root).unwrap_err();
        assert!(!chain(&err).contains("hush") && !format!("{err:?}").contains("hush"), "{err}");
    }
}

#[test]
fn a_configuration_prints_without_its_secrets() {
    let (_folder, root) = fresh();
    let text = r#"{"version": 1, "agent": "a", "backend": "http://localhost", "token": "hush",
        "extra_integrations": [{"name": "git", "config": {"password": "hush"}}]}"#;
    put(&root, text.as_bytes());
    let shown = format!("{:#?}", Config::load(&root).unwrap());
    assert!(!shown.contains("hush") && shown.contains("***") && shown.contains("git"), "{shown}");
    assert_eq!(format!("{} {:?}", Secret::new("hush"), Secret::new("hush")), "*** ***");
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_read_is_refused_along_with_its_other_faults() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, root) = fresh();
    put(&root, br#"{"version": 1, "agent": "a", "backend": "http://localhost", "token": ""}"#);
    std::fs::set_permissions(root.config_path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let expected = "ROOT/config.json cannot be used:
  the file: found permissions 0644, expected 0600, since it holds the agent's token; run `chmod 600 ROOT/config.json`
  /token: found an empty text, expected the agent's token from the backend\n";
    assert_eq!(told(&Config::load(&root).unwrap_err(), &root), expected);
}

#[test]
fn what_could_not_be_read_again_is_not_saved() {
    let (_folder, root) = fresh();
    let good = Config {
        version: crate::CONFIG_VERSION,
        agent: AgentId::new("a").unwrap(),
        customer_id: None,
        backend: "http://127.0.0.1:7878".to_owned(),
        token: Secret::new("not-a-real-token"),
        channel: "stable".to_owned(),
        integrations_dir: None,
        ca_file: None,
        extra_integrations: Vec::new(),
        collect: None,
        backend_collect: true,
        share_last_processed: false,
        limits: Limits::default(),
    };
    good.save(&root).unwrap();
    let before = std::fs::read(root.config_path()).unwrap();
    let bad = Config { token: Secret::new("two\nlines"), backend: "localhost:1".to_owned(), ..good };
    let ConfigErrors::Invalid { faults, .. } = bad.save(&root).unwrap_err() else { panic!() };
    assert_eq!(faults.iter().map(|it| it.pointer.as_str()).collect::<Vec<_>>(), ["/backend", "/token"]);
    assert_eq!(std::fs::read(root.config_path()).unwrap(), before);
}

#[test]
fn every_limit_works_at_its_bounds_and_not_beyond() {
    for field in Limits::FIELDS {
        assert!((field.min..=field.max).contains(&field.default), "{}", field.name);
        let set = |value: u64| {
            Limits::default().with(&serde_json::Map::from_iter([(field.name.to_owned(), value.into())]))
        };
        for value in [field.min, field.max] {
            let limits = set(value).unwrap();
            assert_eq!(serde_json::to_value(&limits).unwrap()[field.name], value, "{}", field.name);
        }
        let err = set(field.max + 1).unwrap_err();
        assert!(
            err.starts_with(field.name)
                && err.contains(&format!("expected a whole number from {}", field.min)),
            "{err}"
        );
    }
}

#[test]
fn an_orders_limits_are_told_all_at_once() {
    let order = serde_json::json!({"line_bytes": "big", "lines": 1, "cancel_grace_s": 2});
    let err = Limits::default().with(order.as_object().unwrap()).unwrap_err();
    assert_eq!(
        err,
        "line_bytes: found \"big\", expected a whole number from 65536 to 1073741824; lines is not known"
    );
    let limits =
        Limits::default().with(serde_json::json!({"cancel_grace_s": 2}).as_object().unwrap()).unwrap();
    assert_eq!(limits, Limits { cancel_grace_s: 2, ..Limits::default() });
}

#[test]
fn a_file_of_no_sensible_size_is_refused() {
    let (_folder, root) = fresh();
    put(&root, &vec![b' '; (4 << 20) + 1]);
    let err = Config::load(&root).unwrap_err();
    assert!(err.to_string().contains("the file: found more than 4194304 bytes"), "{err}");
}

#[test]
fn the_section_of_what_is_collected_is_read_and_shows_no_secret() {
    use outrider_protocol::collect::{InfluxStore, OtlpProtocol, Target, To};
    let (_folder, root) = fresh();
    put(&root, &std::fs::read(fixtures("valid").join("collect.json")).unwrap());
    let collect = Config::load(&root).unwrap().collect.unwrap();
    let settings = &collect.settings;
    assert_eq!(settings.target, Target::Path("/system.slice".into()));
    assert_eq!(
        (settings.interval_ms, settings.intervals.details_s, settings.intervals.limits_s),
        (1000, 5, 60)
    );
    assert_eq!(settings.tags, [("env".to_owned(), "prod".to_owned())]);
    let names: Vec<_> = collect.outputs.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "stdout",
            "json_lines",
            "statsd",
            "influx",
            "influx2",
            "datadog",
            "aggregator",
            "publish",
            "remote_write",
            "otlp",
            "grpc",
            "elasticsearch"
        ]
    );
    let queue_bytes = collect.outputs[6].queue_bytes;
    let To::Aggregator { tls: Some(tls), .. } = &collect.outputs[6].to else {
        panic!("{:?}", collect.outputs[6])
    };
    assert_eq!((queue_bytes, tls.identity.is_some()), (Some(1 << 20), true));
    let grpc = &collect.outputs[10];
    assert!(matches!(&grpc.to, To::Otlp { protocol: OtlpProtocol::Grpc, .. }));
    assert_eq!(
        (grpc.ca_file.as_deref(), grpc.queue_bytes),
        (Some(&*root.path().join("otlp.pem")), Some(2 << 20))
    );
    assert!(collect.outputs[9].queue_bytes.is_none(), "in memory where nothing is said");
    assert!(matches!(&collect.outputs[7].to, To::Publish { tls: None, .. }));
    let To::JsonLines { path, .. } = &collect.outputs[1].to else { panic!("{:?}", collect.outputs[1]) };
    assert_eq!(*path, root.path().join("collect/samples.jsonl"), "relative paths begin at the root");
    assert!(matches!(&collect.outputs[4].to, To::Influx { store: InfluxStore::V2 { .. }, .. }));
    let secrets: Vec<_> = collect.secrets().collect();
    assert_eq!(secrets, ["not-a-real-influx-token", "not-a-real-password", "not-a-real-key"]);
    assert!(!format!("{:?}", Config::load(&root).unwrap()).contains("not-a-real"));
}

#[test]
fn a_section_in_a_file_of_its_own_is_read_alike() {
    let (_folder, root) = fresh();
    let read = |text: &str| crate::CollectConfig::read(text, &root);
    assert_eq!(read("{}").unwrap().settings.interval_ms, 30_000);
    let faults = read(r#"{"interval_ms": 1, "x": 1}"#).unwrap_err();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/x: found the unknown field \"x\", expected a known one; known are target, cgroup_path, proc_path, \
             mount_path, interval_ms, intervals, rescan_s, max_cgroups, tags, apis, outputs",
            "/interval_ms: found 1, expected a whole number from 100 to 86400000"
        ]
    );
    assert!(read("{").unwrap_err()[0].to_string().contains("broken JSON"));
}
