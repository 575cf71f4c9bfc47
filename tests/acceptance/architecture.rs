//! What holds for the tree as a whole: who may use whom, that every module says what it is for, that no test and no
//! fixture is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::repository;

/// Who may use whom of ours. `docs/architecture.md` shows the same table with the reasons.
const MAY_USE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("peer", &["protocol"]),
    ("supervisor", &[]),
    ("home", &["protocol"]),
    ("logs", &["protocol"]),
    ("spool", &[]),
    ("releases", &[]),
    ("integration", &["protocol", "peer"]),
    (
        "actions",
        &[
            "protocol",
            "peer",
            "supervisor",
            "home",
            "logs",
            "spool",
            "releases",
            "upgrade",
            "versions",
            "collect",
        ],
    ),
    ("service", &["protocol", "peer", "supervisor", "home", "logs", "spool", "upgrade", "versions"]),
    ("aggregator", &["protocol", "collect"]),
    ("backend", &["protocol"]),
    ("collect", &["protocol", "logs"]),
    ("upgrade", &["protocol", "home", "releases"]),
    ("testkit", &["protocol", "peer"]),
    ("versions", &[]),
];

/// Crates of others that only some of ours may use, and why.
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("clap", &["outrider"], "arguments are parsed in cmd only"),
    (
        "reqwest",
        &["outrider-service", "outrider-backend", "outrider-upgrade", "outrider-collect"],
        "only the uplink, the admin client, the fetching of packages, the outputs of metrics and the polling of APIs speak HTTP",
    ),
    ("process-wrap", &["outrider-supervisor"], "only the supervisor starts processes"),
    (
        "redb",
        &["outrider-home", "outrider-collect", "outrider-testkit"],
        "the small store is home's, the backlog of points is collect's, and the testkit has a disk for both that loses what was not synced",
    ),
    ("async-nats", &["outrider-collect"], "the stream of batches is collect's, as the backlog is"),
    ("sqlx", &["outrider-backend"], "the database is the backend's"),
    ("tough", &["outrider-releases"], "signed metadata are read and made in one place"),
    ("jsonrpsee", &["outrider-peer", "outrider-backend"], "the links are peer's"),
];

/// What may stand at the top of the repository, besides dot-files.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "cmd",
    "docs",
    "fixtures",
    "schemas",
    "src",
    "target",
    "tests",
];

fn metadata() -> Vec<Value> {
    let run = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let metadata: Value = serde_json::from_slice(&run.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The names of a package's dependencies that are part of the program (`kind` null) or of its tests (`kind` dev).
fn dependencies(package: &Value, dev: bool) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().unwrap();
    let wanted = all.iter().filter(|it| (it["kind"] == "dev") == dev);
    wanted.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let table: BTreeMap<_, BTreeSet<_>> =
        MAY_USE.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let mut seen = BTreeSet::new();
    for package in metadata() {
        let Some(name) = package["name"].as_str().unwrap().strip_prefix("outrider-") else { continue };
        let allowed = table.get(name).unwrap_or_else(|| panic!("the table has no row for {name}"));
        seen.insert(name.to_owned());
        for used in dependencies(&package, false) {
            if let Some(used) = used.strip_prefix("outrider-") {
                assert!(allowed.contains(used), "{name} must not use {used}");
            }
        }
        let tests_with = dependencies(&package, true);
        let (service, actions) = ("outrider-service", "outrider-actions");
        assert!(
            !(name == "actions" && tests_with.contains(service)),
            "actions and service never see each other"
        );
        assert!(
            !(name == "service" && tests_with.contains(actions)),
            "actions and service never see each other"
        );
    }
    let rows: BTreeSet<_> = table.keys().map(|it| (*it).to_owned()).collect();
    assert_eq!(rows, seen, "rows of the table, and crates in src/");
}

#[test]
fn crates_of_others_stay_where_they_belong() {
    for package in metadata() {
        let name = package["name"].as_str().unwrap();
        for (krate, users, why) in RESERVED {
            let uses = dependencies(&package, false).contains(*krate);
            assert!(!uses || users.contains(&name), "{name} must not use {krate}: {why}");
        }
    }
}

#[test]
fn the_launcher_is_built_of_nothing_else() {
    let packages = metadata();
    let versions = packages.iter().find(|it| it["name"] == "outrider-versions").unwrap();
    let all = versions["dependencies"].as_array().unwrap();
    let others: Vec<_> = all.iter().filter(|it| it["kind"] != "dev").map(|it| &it["name"]).collect();
    assert!(others.is_empty(), "versions uses std alone, and not {others:?}");
}

#[test]
fn every_module_says_what_it_is_for() {
    let repository = repository();
    for folder in ["src", "cmd", "tests"] {
        for file in files(&repository.join(folder)) {
            if file.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&file).unwrap();
                let first = text.lines().find(|line| !line.starts_with("#!/")).unwrap_or_default();
                assert!(first.starts_with("//! "), "{} does not begin with its doc", file.display());
            }
        }
    }
}

#[test]
fn no_acceptance_test_is_forgotten() {
    let folder = repository().join("tests/acceptance");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for file in files(&folder) {
        let Some(module) = file.strip_prefix(&folder).unwrap().to_str().unwrap().strip_suffix(".rs") else {
            continue;
        };
        if !module.contains('/') && module != "main" {
            assert!(
                main.contains(&format!("mod {module};")),
                "{module} is no module of the acceptance tests"
            );
        }
    }
}

#[test]
fn every_fixture_is_claimed_by_a_test() {
    let repository = repository();
    let sources: Vec<String> = ["src", "cmd", "tests"]
        .iter()
        .flat_map(|folder| files(&repository.join(folder)))
        .filter(|file| file.extension().is_some_and(|it| it == "rs"))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for boundary in std::fs::read_dir(repository.join("fixtures")).unwrap() {
        let boundary = boundary.unwrap();
        let claim = format!("fixtures/{}", boundary.file_name().to_str().unwrap());
        assert!(sources.iter().any(|text| text.contains(&claim)), "no test claims {claim}");
        for kind in std::fs::read_dir(boundary.path()).unwrap() {
            let kind = kind.unwrap().file_name().into_string().unwrap();
            // One that people are pointed to stands by itself.
            let is_claimed = || sources.iter().any(|text| text.contains(&format!("{claim}/{kind}")));
            assert!(
                kind == "valid" || kind == "invalid" || is_claimed(),
                "{claim}/{kind} is neither valid nor invalid, and no test claims it"
            );
        }
    }
}

#[test]
fn the_top_of_the_repository_is_tidy() {
    for entry in std::fs::read_dir(repository()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || TOP.contains(&name.as_str()), "{name} does not belong at the top");
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}
