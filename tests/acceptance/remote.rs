//! A git repository by its address, the whole way through the agent: the clone lies in the integration's cache, the next
//! export takes what is new, and a secret that stands in an address is shown nowhere.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{commit, git, make_repository, outrider, printed, run, spooled};

fn by_hand(root: &Path, action: &str, config: &Value) -> (Option<i32>, String) {
    let integrations = json!([{ "name": "git", "id": "code", "config": config }]);
    let output = run(outrider(root).arg(action).arg(format!("--integrations-json={integrations}")));
    (output.status.code(), printed(&output))
}

#[test]
fn a_clone_is_kept_in_the_cache_and_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let (root, made) = (dir.path().join("root"), dir.path().join("made"));
    make_repository(&made);
    let config = json!({ "repositories": [format!("file://{}", made.display())] });
    let (code, text) = by_hand(&root, "validate-config", &config);
    assert_eq!(code, Some(0), "{text}");
    let count = || git(&made, &["rev-list", "--all", "--count"]).trim().parse::<usize>().unwrap();
    for more in 0..2 {
        if more > 0 {
            commit(&made, "new.txt", "new\n");
        }
        let (code, text) = by_hand(&root, "export", &config);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(spooled(&root, "sourcecode.Commit").len(), count(), "{text}");
    }
    let clones = root.join("cache/code/clones");
    assert!(clones.is_dir(), "{}", clones.display());
    // A cache may be deleted at any time between two runs.
    std::fs::remove_dir_all(root.join("cache")).unwrap();
    commit(&made, "newer.txt", "new\n");
    let (code, text) = by_hand(&root, "export", &config);
    assert_eq!((code, spooled(&root, "sourcecode.Commit").len()), (Some(0), count()), "{text}");
}

#[test]
fn the_secret_of_an_address_stands_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "s3cr3t-t0ken-of-the-source";
    let config = json!({ "repositories": [
        format!("http://me:{secret}@127.0.0.1:1/x.git"),
        { "url": "http://127.0.0.1:1/y.git", "token": secret },
    ]});
    for action in ["validate-config", "export"] {
        let (code, text) = by_hand(dir.path(), action, &config);
        assert!(code == Some(1) && text.contains("127.0.0.1:1/y.git"), "{action}: {code:?} {text}");
        let logs =
            [action, "integrations/code"].map(|it| std::fs::read_to_string(dir.path().join("logs").join(it)));
        let told = logs.map(Result::unwrap_or_default).concat() + &text;
        assert!(!told.contains(secret), "{action}: {told}");
    }
}
