//! A program that migrates the state is killed, or gets an error, at each call that it makes of the system; then it is started
//! again: one by hand, which keeps nothing; a service on trial, which keeps the state before; and the version before, which
//! puts that back.
//!
//! `OUTRIDER_CASES=1000 cargo nextest run --workspace -E 'test(/state_sweep/)' --no-capture` tries so many of each.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use outrider_home::CONFIG_VERSION;
use outrider_versions::{Phase, Record, Versions};
use serde_json::json;

use super::sweep::{CALLS, Case, cases, choose, traced};
use super::world::{make_program, name};
use crate::source;
use crate::support::{OUTRIDER, outrider, printed, run};

/// Cases unless `OUTRIDER_CASES` says otherwise.
const CASES: usize = 100;

/// A root that was used by hand, and the same program with a later schema.
struct Place {
    dir: tempfile::TempDir,
    next: PathBuf,
    /// The values of the root's sessions.
    values: String,
}

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let root = dir.path().join("used");
        let integrations = format!("--integrations-json={}", source::integrations("kept"));
        let exported = run(outrider(&root).args(["export", &integrations]));
        assert!(exported.status.success(), "{}", printed(&exported));
        let next = dir.path().join("next/outrider");
        fs::create_dir(dir.path().join("next")).unwrap();
        let stripped = run(Command::new("strip").arg("-o").arg(&next).arg(OUTRIDER));
        assert!(stripped.status.success(), "{}", printed(&stripped));
        fs::write(next.with_file_name("played-state-schema"), "2 well").unwrap();
        let values = values(&mut outrider(&root));
        assert!(values.lines().count() > 2, "{values}");
        fs::copy(root.join("state/checkpoints.redb"), dir.path().join("before")).unwrap();
        Self { dir, next, values }
    }

    fn root(&self, case: usize) -> PathBuf {
        let root = self.dir.path().join(case.to_string());
        let copied = run(Command::new("cp").arg("-a").arg(self.dir.path().join("used")).arg(&root));
        assert!(copied.status.success(), "{}", printed(&copied));
        root
    }

    /// What migrates and does nothing else.
    fn migrate(command: &mut Command, root: &Path) -> Output {
        command.args(["data", "checkpoints", "--drop", "--integration", "none"]).env("OUTRIDER_ROOT", root);
        run(command)
    }

    fn traced(&self, root: &Path, flags: &[String]) -> (Output, String) {
        traced(&root.with_extension("trace"), flags, &self.next, |it| Self::migrate(it, root))
    }

    /// The root becomes that of an agent whose service has a version on trial, and gets no further than its state.
    fn put_on_trial(&self) {
        let root = self.dir.path().join("used");
        let config = json!({
            "version": CONFIG_VERSION, "agent": "a1", "backend": "http://127.0.0.1:9", "token": "t",
            // Where there is no certificate.
            "ca_file": "config.json",
        });
        fs::write(root.join("config.json"), config.to_string()).unwrap();
        fs::set_permissions(root.join("config.json"), fs::Permissions::from_mode(0o600)).unwrap();
        let (old, new) = (name("1.0.0"), name("1.1.0"));
        for version in [&old, &new] {
            fs::create_dir_all(root.join("versions").join(version)).unwrap();
            make_program(&root.join("versions").join(version).join("outrider"), "#!/bin/sh\n");
        }
        symlink(format!("versions/{old}"), root.join("current")).unwrap();
        let versions = Versions::of(&root);
        let writer = versions.write(Duration::ZERO).unwrap();
        let record = Record::new("a".into(), String::new(), old.parse().unwrap(), new.parse().unwrap());
        writer.begin(record).unwrap();
        writer.enter(Phase::Staged, None).unwrap();
        writer.enter(Phase::Armed, None).unwrap();
        writer.switch().unwrap();
    }

    /// The service settles the state, and ends.
    fn serve(command: &mut Command, root: &Path) -> Output {
        run(command.arg("service-run").env("OUTRIDER_ROOT", root))
    }

    fn goes_forth(&self, root: &Path, after: &str) {
        let served = Self::serve(&mut Command::new(&self.next), root);
        let told = format!("{after}: then {}", printed(&served));
        assert!(told.contains("holds no certificate"), "{told}");
        let before = fs::read(self.dir.path().join("before")).unwrap();
        assert!(is_of_schema(root, 2) && root.join("state/played-1").exists(), "{told}");
        assert!(fs::read(root.join("state.kept/checkpoints.redb")).unwrap() == before, "{told}");
    }

    fn goes_back(&self, root: &Path, after: &str) {
        let told = format!("{after}: then {}", printed(&Self::serve(&mut outrider(root), root)));
        assert!(told.contains("holds no certificate"), "{told}");
        assert!(is_of_schema(root, 1) && !root.join("state/played-1").exists(), "{told}");
        assert_eq!(values(&mut outrider(root)), self.values, "{told}");
        let beside = fs::read_dir(root).unwrap().flatten().map(|it| it.file_name());
        let beside: Vec<_> = beside.filter(|it| it.to_string_lossy().starts_with("state.")).collect();
        assert!(beside.is_empty() || beside == ["state.undone"], "{beside:?}: {told}");
    }

    /// A service that is cut short, and then either version; answers whether the fault came to pass.
    fn check_service(&self, program: &Path, number: usize, case: &Case) -> bool {
        let root = self.root(number);
        let trace = root.with_extension("trace");
        let (output, trace) = traced(&trace, &case.flags(), program, |it| Self::serve(it, &root));
        let after = format!("{case:?}: {}", printed(&output));
        if number.is_multiple_of(2) {
            self.goes_forth(&root, &after);
        }
        self.goes_back(&root, &after);
        fs::remove_dir_all(root).unwrap();
        Case::came(&output, &trace)
    }

    /// Answers how many there were of what.
    fn sweep_service(&self, program: &Path, what: &str) -> String {
        let root = self.root(0);
        let (trace, flags) = (root.with_extension("trace"), ["-e".into(), format!("trace={CALLS}")]);
        let (output, trace) = traced(&trace, &flags, program, |it| Self::serve(it, &root));
        assert!(printed(&output).contains("holds no certificate"), "{}", printed(&output));
        let all = cases(&trace);
        let chosen = choose(&all, CASES);
        let hits = chosen.iter().enumerate().filter(|(at, it)| self.check_service(program, at + 1, it));
        let hit = hits.count();
        let (cases, all) = (chosen.len(), all.len());
        assert!(hit * 10 >= cases * 7, "{hit} of {cases}");
        format!("{cases} of {all} cases of a fault at a call of a service that {what}; {hit} came to pass")
    }

    /// Answers whether the fault came to pass, and what was found afterwards.
    fn check(&self, number: usize, case: &Case) -> (bool, &'static str) {
        let root = self.root(number);
        let (output, trace) = self.traced(&root, &case.flags());
        let told = || format!("{case:?}: {}", printed(&output));
        let is_new = fs::read_to_string(root.join("state/schema.json")).is_ok_and(|it| it.contains('2'));
        let found = match (root.join("state/checkpoints.redb").exists(), is_new) {
            (true, false) => {
                assert_eq!(values(&mut outrider(&root)), self.values, "{}", told());
                "the old state"
            }
            (true, true) => "the new state",
            (false, _) => {
                let kept = fs::read(root.join("state.kept/checkpoints.redb")).unwrap();
                let before = fs::read(self.dir.path().join("before")).unwrap();
                assert!(kept == before, "{}", told());
                "between"
            }
        };
        let again = Self::migrate(&mut Command::new(&self.next), &root);
        assert!(again.status.success(), "{}: again: {}", told(), printed(&again));
        assert_eq!(values(Command::new(&self.next).env("OUTRIDER_ROOT", &root)), self.values, "{}", told());
        let beside = fs::read_dir(&root).unwrap().flatten();
        let beside = beside.filter(|it| it.file_name().to_string_lossy().starts_with("state.")).count();
        assert_eq!(beside, 0, "{}", told());
        fs::remove_dir_all(root).unwrap();
        (Case::came(&output, &trace), found)
    }
}

fn is_of_schema(root: &Path, schema: u32) -> bool {
    fs::read_to_string(root.join("state/schema.json"))
        .is_ok_and(|it| it == format!(r#"{{"schema":{schema}}}"#))
}

fn values(program: &mut Command) -> String {
    let listed = run(program.args(["data", "checkpoints", "--json"]));
    assert!(listed.status.success(), "{}", printed(&listed));
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn a_migration_survives_a_kill_and_an_error_at_each_of_its_calls() {
    let place = Place::new();
    let root = place.root(0);
    let (output, trace) = place.traced(&root, &["-e".into(), format!("trace={CALLS}")]);
    assert!(output.status.success(), "{}", printed(&output));
    assert!(root.join("state/played-1").exists() && !root.join("state.kept").exists());
    let all = cases(&trace);
    let chosen = choose(&all, CASES);
    let (mut hit, mut found) = (0, BTreeMap::new());
    for (number, case) in chosen.iter().enumerate() {
        let (came, after) = place.check(number + 1, case);
        hit += usize::from(came);
        *found.entry(after).or_insert(0_usize) += 1;
    }
    println!(
        "{} of {} cases of a fault at a call of a migration; {hit} came to pass; then there was {found:?}",
        chosen.len(),
        all.len()
    );
    assert!(hit * 10 >= chosen.len() * 8, "{hit} of {}", chosen.len());
}

#[test]
fn a_service_on_trial_that_is_cut_short_keeps_the_state_before_whole() {
    let place = Place::new();
    place.put_on_trial();
    println!("{}", place.sweep_service(&place.next, "migrates and keeps"));
}

#[test]
fn the_version_before_that_is_cut_short_puts_the_kept_state_back_in_the_end() {
    let place = Place::new();
    place.put_on_trial();
    let used = place.dir.path().join("used");
    // So that one was undone before.
    place.goes_forth(&used, "at first");
    place.goes_back(&used, "at first");
    // Who reads a store may write in it.
    fs::copy(used.join("state/checkpoints.redb"), place.dir.path().join("before")).unwrap();
    place.goes_forth(&used, "at first");
    println!("{}", place.sweep_service(Path::new(OUTRIDER), "puts the kept state back"));
}
