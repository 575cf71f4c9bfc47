//! The root's paths, folders, lock and whole files.

use std::path::Path;

use outrider_protocol::ids::IntegrationId;

use crate::testing::fresh;
use crate::{LockError, Root, atomic};

#[test]
fn paths_are_those_of_the_design() {
    let root = Root::at("/srv/outrider");
    let git = IntegrationId::new("git").unwrap();
    let inside =
        |path: std::path::PathBuf| path.strip_prefix("/srv/outrider").unwrap().to_str().unwrap().to_owned();
    assert_eq!(inside(root.config_path()), "config.json");
    assert_eq!(inside(root.log_file("service-run")), "logs/service-run");
    assert_eq!(inside(root.integration_log(&git)), "logs/integrations/git");
    assert_eq!(inside(root.spool()), "spool");
    assert_eq!(inside(root.exports()), "state/exports");
    assert_eq!(inside(root.commands_db()), "state/commands.redb");
    assert_eq!(inside(root.checkpoints_db()), "state/checkpoints.redb");
}

#[test]
fn a_relative_root_is_taken_from_the_current_folder() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(Root::at(".").path(), here);
    assert_eq!(Root::at("").path(), here);
    assert_eq!(Root::at("a/./b").path(), here.join("a/b"));
}

#[test]
fn creating_a_root_twice_changes_nothing() {
    let (_folder, root) = fresh();
    std::fs::write(root.log_file("export"), "kept").unwrap();
    root.create().unwrap();
    assert_eq!(std::fs::read_to_string(root.log_file("export")).unwrap(), "kept");
}

#[cfg(unix)]
#[test]
fn folders_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, root) = fresh();
    for folder in
        [root.path(), &root.logs(), &root.logs().join("integrations"), &root.spool(), &root.exports()]
    {
        let mode = std::fs::metadata(folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
    }
}

#[test]
fn a_root_that_cannot_be_made_is_named() {
    let (folder, _) = fresh();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let err = Root::at(file.join("root")).create().unwrap_err().to_string();
    assert!(err.starts_with(&format!("make the folder {}", file.join("root").display())), "{err}");
}

#[test]
fn a_second_service_is_told_who_has_the_root() {
    let (_folder, root) = fresh();
    let lock = root.lock().unwrap();
    for err in [root.lock().unwrap_err(), root.in_use().unwrap_err()] {
        let LockError::InUse { pid, .. } = &err else { panic!("{err}") };
        assert_eq!(*pid, Some(std::process::id()));
        let text = err.to_string();
        assert!(
            text.contains(&format!("in use by the service with process id {}", std::process::id())),
            "{text}"
        );
    }
    drop(lock);
    root.in_use().unwrap();
    drop(root.lock().unwrap());
}

#[test]
fn a_lock_file_that_a_killed_service_left_is_no_lock() {
    let (_folder, root) = fresh();
    std::fs::write(root.path().join("lock"), "1\n").unwrap();
    root.in_use().unwrap();
    drop(root.lock().unwrap());
}

#[test]
fn a_root_that_is_not_there_is_not_in_use_and_cannot_be_locked() {
    let (folder, _) = fresh();
    let root = Root::at(folder.path().join("missing"));
    root.in_use().unwrap();
    let LockError::File(err) = root.lock().unwrap_err() else { panic!() };
    assert!(err.to_string().starts_with("open "), "{err}");
}

#[test]
fn a_whole_file_replaces_the_old_one() {
    let (_folder, root) = fresh();
    let path = root.exports().join("e1.json");
    atomic::write(&path, b"one", atomic::PRIVATE).unwrap();
    atomic::write(&path, b"two", atomic::PRIVATE).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(names(&root.exports()), ["e1.json"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        atomic::write(&path, b"three", 0o640).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
    let (_folder, root) = fresh();
    // A folder cannot be replaced by a file.
    let path = root.exports().join("e1.json");
    std::fs::create_dir(&path).unwrap();
    let err = atomic::write(&path, b"new", atomic::PRIVATE).unwrap_err();
    assert!(
        err.to_string().starts_with("rename into place ") && err.to_string().contains("e1.json"),
        "{err}"
    );
    assert_eq!(names(&root.exports()), ["e1.json"]);
}

#[test]
fn the_next_service_sweeps_up_what_a_killed_writer_left() {
    let (_folder, root) = fresh();
    std::fs::write(root.path().join(".config.json.x1y2z3.tmp"), "half").unwrap();
    std::fs::write(root.state().join(".service.json.x1y2z3.tmp"), "half").unwrap();
    std::fs::write(root.exports().join(".e1.json.x1y2z3.tmp"), "half").unwrap();
    std::fs::write(root.exports().join("e2.json"), "whole").unwrap();
    std::fs::write(root.crashes().join(".c1.json.x1y2z3.tmp"), "half").unwrap();
    drop(root.lock().unwrap());
    assert_eq!(names(&root.exports()), ["e2.json"]);
    assert_eq!(names(&root.crashes()), [""; 0]);
    let mut state = names(&root.state());
    state.sort();
    assert_eq!(state, ["crashes", "exports", "schema.json"]);
    assert!(!root.path().join(".config.json.x1y2z3.tmp").exists());
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}
