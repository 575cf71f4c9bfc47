//! A program that migrates the state is killed, or gets an error, at each call that it makes of the system; then it is started
//! again.
//!
//! `OUTRIDER_CASES=1000 cargo nextest run --workspace -E 'test(migration_survives)' --no-capture` tries so many.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::sweep::{CALLS, Case, cases, choose, traced};
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
                let before = fs::read(self.dir.path().join("used/state/checkpoints.redb")).unwrap();
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
