//! `outrider data`: objects are found wherever they are by now, nothing is shown twice, what cannot be read is told and hides
//! nothing else; checkpoints are listed and dropped, as are files that nobody is to have.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use outrider_backend::admin::CommandState;
use outrider_home::{Checkpoints, Root};
use serde_json::{Value, json};

use crate::support::{Stack, export, outrider, printed, run, sealed};

/// Exports by hand, and expects it to work.
fn exported(root: &Path, integrations: &Value) {
    let output = run(outrider(root).arg("export").arg(format!("--integrations-json={integrations}")));
    assert!(output.status.success(), "{}", printed(&output));
}

fn mock(id: &str, pull_requests: u32) -> Value {
    json!({ "name": "mock", "id": id, "config": { "repos": 2, "users": 3, "pull_requests": pull_requests } })
}

/// `outrider data …`: the exit status, stdout, stderr.
fn data(root: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run(outrider(root).arg("data").args(args));
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The same, which is expected to work and to have nothing to say on stderr.
fn shown(root: &Path, args: &[&str]) -> String {
    let (code, out, err) = data(root, args);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}: {out}");
    out
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn file_of(root: &Path, model: &str) -> PathBuf {
    let mut files = sealed(&root.join("spool"));
    files.retain(|path| path.parent().is_some_and(|it| it.ends_with(model)));
    files.sort();
    files.remove(0)
}

#[test]
fn objects_of_a_spool_are_listed_shown_filtered_and_counted() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let (code, out, err) = data(root, &["count"]);
    assert_eq!((code, out.as_str()), (Some(0), "model  objects\n"), "no root, no objects");
    assert!(err.contains("no file of an export is in ") && err.contains("spool"), "{err}");
    exported(root, &json!([mock("one", 50), mock("two", 20)]));
    let model = ["--model", "sourcecode.PullRequest"];
    let count = |more: &[&str]| {
        let text = shown(root, &[&["count", "--json"], &model[..], more].concat());
        objects(&text).iter().map(|it| it["objects"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(count(&[]), 2 * 50 + 2 * 20);
    assert_eq!((count(&["--integration", "two"]), count(&["--waiting"])), (40, 140));
    // Somebody who mistypes is told what there is.
    for absent in [["--integration", "none"], ["--model", "sourcecode.PulRequest"], ["--export", "zzz"]] {
        let (code, out, err) = data(root, &[&["count", "--json"], &absent[..]].concat());
        assert_eq!((code, out.as_str()), (Some(0), ""));
        assert!(err.contains("is what was asked for; there are the models "), "{err}");
        assert!(err.contains("sourcecode.PullRequest") && err.contains(" and the exports "), "{err}");
    }

    let all = objects(&shown(root, &["cat", model[0], model[1]]));
    let fitting = |is: &dyn Fn(&Value) -> bool| all.iter().filter(|it| is(it)).cloned().collect::<Vec<_>>();
    let cat = |more: &[&str]| objects(&shown(root, &[&["cat"], &model[..], more].concat()));
    assert_eq!(cat(&["--where", "status=open"]), fitting(&|it| it["status"] == "open"));
    assert_eq!(
        cat(&["--where", "status!=open", "--where", "number=7"]),
        fitting(&|it| it["status"] != "open" && it["number"] == 7)
    );
    assert_eq!(cat(&["--where", "id~r2-p4"]), fitting(&|it| it["id"].as_str().unwrap().contains("r2-p4")));
    assert_eq!(cat(&["--limit", "3"]), all[..3]);
    let grep = shown(root, &["grep", r#""number":1\d,"#, model[0], model[1]]);
    assert_eq!(objects(&grep), fitting(&|it| (10..20).contains(&it["number"].as_u64().unwrap())));
    assert_eq!(shown(root, &["grep", "-F", r"\d"]), "");

    let table = shown(
        root,
        &[
            "cat",
            "--fields",
            "id,author_id,none",
            "--where",
            "number=1",
            model[0],
            model[1],
            "--integration",
            "one",
        ],
    );
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["id", "author_id", "none"]);
    assert_eq!((words.len(), words[1][0]), (3, "o1-r1-p1"), "{table}");

    let listed = objects(&shown(root, &["ls", "--json", model[0], model[1]]));
    let told: Vec<_> = listed
        .iter()
        .map(|it| {
            (it["integration"].as_str().unwrap(), it["state"].as_str().unwrap(), it["objects"].as_u64())
        })
        .collect();
    assert_eq!(told, [("one", "waiting", Some(100)), ("two", "waiting", Some(40))]);
    let table = shown(root, &["ls"]);
    assert!(table.starts_with("export ") && table.contains("sourcecode.PullRequest"), "{table}");
    let refused = data(root, &["cat", "--where", "status"]);
    assert!(refused.0 == Some(2) && refused.2.contains("expected FIELD=VALUE"), "{}", refused.2);
}

#[test]
fn who_stops_reading_ends_it_quietly() {
    let root = tempfile::tempdir().unwrap();
    let many = json!([{ "name": "mock", "config": { "repos": 1, "pull_requests": 20_000 } }]);
    exported(root.path(), &many);
    for more in [&["cat"][..], &["grep", "id"], &["cat", "--fields", "id,body"]] {
        let mut cat = outrider(root.path());
        cat.arg("data").args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut cat = cat.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(cat.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut said = String::new();
        cat.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((cat.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{more:?}");
        assert!(!line.is_empty());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_hides_no_other() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    exported(root, &json!([mock("one", 50)]));
    let file = file_of(root, "sourcecode.PullRequest");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 4]).unwrap();
    let (code, out, err) = data(root, &["cat"]);
    assert_eq!(code, Some(1), "{err}");
    let said = format!("{}: it ends at byte {}, in the middle", file.display(), whole.len() - 4);
    assert!(err.contains(&said), "{err}");
    assert_eq!(
        objects(&out).iter().filter(|it| it["id"].as_str().unwrap().contains("-u")).count(),
        3,
        "users follow"
    );

    // The same bytes in a file that is being written are what its writer has not committed yet.
    let open = file.with_extension("gz.open");
    std::fs::rename(&file, &open).unwrap();
    std::fs::write(&open, [whole.as_slice(), &whole[..40]].concat()).unwrap();
    let (code, out, err) = data(root, &["count", "--model", "sourcecode.PullRequest", "--json"]);
    assert_eq!((code, objects(&out)[0]["objects"].as_u64()), (Some(0), Some(100)), "{err}");
    assert!(err.contains(&format!("is being written: read up to byte {}", whole.len())), "{err}");
}

#[test]
fn what_has_moved_to_sent_and_to_the_backend_is_there_once() {
    let stack = Stack::start(&json!({}));
    let id = stack.order(export(&json!([mock("one", 50)])));
    stack.until_state(&id, CommandState::Done);
    stack.until_uploaded();
    let root = stack.root();
    let here = shown(&root, &["cat"]);
    assert_eq!(objects(&here).len(), 2 * 50 + 2 + 3);
    assert_eq!(shown(&root, &["cat", "--sent", "--export", &id.as_str()[..8]]), here);
    assert_eq!(shown(&root, &["count", "--waiting"]), "model  objects\n");
    let backend = stack.dir.path().join("backend");
    let there = shown(&root, &["cat", "--dir", backend.to_str().unwrap()]);
    assert_eq!(there, here);
    let listed = objects(&shown(&root, &["ls", "--json", "--dir", backend.to_str().unwrap()]));
    assert!(
        listed.iter().all(|it| it["agent"] == stack.agent.as_str() && it["state"] == "received"),
        "{listed:?}"
    );
    let (code, _, err) = data(&root, &["ls", "--dir", root.to_str().unwrap()]);
    assert!(code == Some(2) && err.contains("data folder of an outrider-backend"), "{err}");
}

#[test]
fn checkpoints_are_listed_and_dropped() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let (code, out, err) = data(root, &["checkpoints"]);
    assert!(code == Some(0) && out.is_empty() && err.contains("no last-processed value is stored"), "{err}");
    assert!(!root.join("state").exists(), "a look makes nothing");
    exported(root, &json!([mock("one", 5), mock("two", 5)]));
    let all = objects(&shown(root, &["checkpoints", "--json"]));
    let of = |id: &str| all.iter().filter(|it| it["path"][0] == id).count();
    assert!(of("one") > 2 && of("one") == of("two") && of("one") + of("two") == all.len(), "{all:?}");
    assert!(all.iter().all(|it| it["bytes"] == it["value"].to_string().len()));
    let table = shown(root, &["checkpoints", "--integration", "one"]);
    assert_eq!(table.lines().count(), 1 + of("one"), "{table}");
    assert!(table.starts_with("integration  session") && table.contains("sourcecode.PullRequest"), "{table}");

    // Nothing is dropped without a yes.
    let (code, _, err) = data(root, &["checkpoints", "--drop"]);
    assert!(code == Some(2) && err.contains("--integration"), "{err}");
    let (code, _, err) = data(root, &["checkpoints", "--drop", "--integration", "one"]);
    assert!(code == Some(2) && err.contains("--yes"), "{err}");
    assert_eq!(objects(&shown(root, &["checkpoints", "--json"])), all);
    // An export holds the store.
    let held = Checkpoints::open(&Root::at(root), Duration::ZERO).unwrap();
    let (code, _, err) = data(root, &["checkpoints"]);
    assert!(code == Some(4) && err.contains("an export is running"), "{err}");
    drop(held);

    let path = all.iter().find(|it| it["path"].as_array().unwrap().len() == 4).unwrap()["path"].to_string();
    let said = shown(root, &["checkpoints", "--drop", "--yes", "--path", &path]);
    assert!(said.contains("Dropped 1 last-processed value of one / "), "{said}");
    let said = shown(root, &["checkpoints", "--drop", "--yes", "--integration", "two"]);
    assert!(said.contains(&format!("Dropped {} last-processed values of two", of("two"))), "{said}");
    let left = objects(&shown(root, &["checkpoints", "--json"]));
    assert_eq!(left.len(), of("one") - 1);
}

#[test]
fn values_of_integrations_that_are_configured_no_more_are_dropped() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    exported(root, &json!([mock("one", 1), mock("two", 1)]));
    let reports = root.join("state/exports");
    std::fs::remove_dir_all(&reports).unwrap();
    let (code, _, err) = data(root, &["checkpoints", "--drop-removed", "--yes"]);
    assert!(code == Some(1) && err.contains("it is not known which integrations are configured"), "{err}");
    std::fs::create_dir(&reports).unwrap();
    let integration = json!({ "integration": "two" });
    let report = json!({ "state": "done", "report": { "action": "export", "started_at": "2026-01-02T03:04:05Z", "integrations": [integration] } });
    std::fs::File::create(reports.join("x.json")).unwrap().write_all(report.to_string().as_bytes()).unwrap();
    let said = shown(root, &["checkpoints", "--drop-removed", "--yes"]);
    assert!(
        said.contains("of one: the next export begins there from nothing") && !said.contains("two"),
        "{said}"
    );
    let left = objects(&shown(root, &["checkpoints", "--json"]));
    assert!(!left.is_empty() && left.iter().all(|it| it["path"][0] == "two"), "{left:?}");
    assert!(shown(root, &["checkpoints", "--drop-removed", "--yes"]).contains("Nothing to drop"));
}

#[test]
fn an_old_export_that_nobody_uploads_is_dropped_by_a_person_and_the_next_one_runs() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    // What the backend has is left out: of this it has nothing.
    let mut one = mock("one", 50);
    one["config"]["skip_unchanged"] = true.into();
    let export_it = || run(outrider(root).arg("export").arg(format!("--integrations-json=[{one}]")));
    assert!(export_it().status.success());
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(31 * 24 * 3600);
    for file in sealed(&root.join("spool")) {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    let row = objects(&shown(root, &["ls", "--json"])).remove(0);
    let export = row["export"].as_str().unwrap();
    let refused = printed(&export_it());
    assert!(refused.contains("limits.spool_age_s") && refused.contains(export), "{refused}");
    assert!(refused.contains("outrider data drop --export ID"), "{refused}");

    let drop = |more: &[&str]| data(root, &[&["drop", "--export"], more].concat());
    let (code, _, err) = drop(&["none"]);
    assert!(code == Some(2) && err.contains("found no export"), "{err}");
    let (code, said, _) = drop(&[export, "--refused"]);
    assert!(code == Some(0) && said.contains("Nothing to drop"), "{said}");
    let (code, _, err) = drop(&[export]);
    assert!(code == Some(2) && err.contains("expected --yes"), "{err}");
    let count = || {
        let rows = objects(&data(root, &["count", "--json"]).1);
        rows.iter().map(|it| it["objects"].as_u64().unwrap()).sum::<u64>()
    };
    let all = count();
    let (code, said, err) = drop(&[&export[..export.len() - 1], "--yes"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(said.contains(&format!("with {all} objects in ")), "{said}");
    assert!(said.contains("reprocess_historical"), "{said}");
    assert_eq!(count(), 0);
    shown(root, &["checkpoints", "--drop", "--integration", "one", "--yes"]);
    let output = export_it();
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(count(), all, "none of the objects that were dropped is left out as unchanged");
}
