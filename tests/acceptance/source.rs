//! A made-up source of a few hundred objects, and what arrived of it at the backend.

use std::collections::BTreeMap;
use std::path::Path;

use outrider_backend::admin::CommandState;
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::{ActionReport, ExportMode};
use serde_json::{Value, json};

use crate::support::{Stack, export, outrider, printed, run, spooled};

/// Objects by model and id, each as often as it is there.
pub(crate) type Objects = BTreeMap<(String, String), Vec<Value>>;

const MODELS: [&str; 3] = ["sourcecode.User", "sourcecode.Repo", "sourcecode.PullRequest"];

/// The source as an integration with this id. An export takes about half a second.
pub(crate) fn integrations(id: &str) -> Value {
    json!([{
        "name": "mock", "id": id,
        "config": { "users": 5, "repos": 6, "pull_requests": 40, "object_bytes": 300, "delay_ms": 1, "batch": 10 },
    }])
}

/// What the source holds: exported once on a good day.
pub(crate) fn truth() -> Objects {
    let dir = tempfile::tempdir().unwrap();
    let integrations = format!("--integrations-json={}", integrations("truth"));
    let exported = run(outrider(dir.path()).args(["export", &integrations]));
    assert!(exported.status.success(), "{}", printed(&exported));
    let objects = spooled_objects(dir.path());
    assert_eq!(objects.len(), 5 + 6 + 6 * 40, "what the mock integration makes up");
    objects
}

/// What exports by hand left in a root's spool.
pub(crate) fn spooled_objects(root: &Path) -> Objects {
    let mut objects = Objects::new();
    for model in MODELS {
        add(&mut objects, model, spooled(root, model));
    }
    objects
}

/// What is durable in a root's spool, files that wait for their names included.
pub(crate) fn stored_objects(root: &Path) -> Objects {
    let mut objects = Objects::new();
    for model in MODELS {
        let shown = run(outrider(root).args(["data", "cat", "--model", model]));
        assert!(shown.status.success(), "{}", printed(&shown));
        let lines = String::from_utf8(shown.stdout).unwrap();
        add(&mut objects, model, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
    }
    objects
}

fn add(objects: &mut Objects, model: &str, found: Vec<Value>) {
    for object in found {
        let id = object["id"].as_str().unwrap().to_owned();
        objects.entry((model.to_owned(), id)).or_default().push(object);
    }
}

/// Nothing is missing, and nothing is other than at the source. Answers how many objects came again with the same id.
pub(crate) fn compare(stack: &Stack, case: &str, exports: &[CommandId], truth: &Objects) -> u64 {
    let mut arrived = Objects::new();
    for export in exports {
        for model in MODELS {
            add(&mut arrived, model, stack.objects(export, model));
        }
    }
    compare_objects(case, &arrived, truth)
}

/// The same for objects from anywhere.
pub(crate) fn compare_objects(case: &str, arrived: &Objects, truth: &Objects) -> u64 {
    let missing: Vec<_> = truth.keys().filter(|key| !arrived.contains_key(*key)).collect();
    assert!(missing.is_empty(), "{case}: {} objects are missing: {missing:?}", missing.len());
    let mut repeated = 0;
    for (key, copies) in arrived {
        let expected = truth.get(key).unwrap_or_else(|| panic!("{case}: {key:?} is not at the source"));
        for copy in copies {
            assert_eq!(copy, &expected[0], "{case}: {key:?} is not as it is at the source");
        }
        repeated += copies.len() as u64 - 1;
    }
    repeated
}

/// The checkpoints are those of a complete export: the next one finds nothing new.
pub(crate) fn nothing_is_new(stack: &Stack, case: &str, id: &str) {
    let again = stack.order(export(&integrations(id)));
    let ended = stack.until_state(&again, CommandState::Done);
    let Some(ActionReport::Export(report)) = ended.report else { panic!("{case}: {ended:?}") };
    assert_eq!(report.integrations[0].mode, ExportMode::Incremental, "{case}");
    let objects: u64 = report.integrations[0].models.iter().map(|it| it.objects).sum();
    assert_eq!(objects, 0, "{case}: an export after a complete one has objects: {report:?}");
}
