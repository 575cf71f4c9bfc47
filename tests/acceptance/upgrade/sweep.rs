//! The whole upgrade action is killed, or gets an error, at each call that it makes of the system; then the machine starts
//! the agent as it would.
//!
//! `OUTRIDER_CASES=1000 cargo nextest run --workspace -E 'test(upgrade_action)' --no-capture` tries so many.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use outrider_upgrade::{check_in_place, keep_list, list_folder};
use outrider_versions::{Link, Phase, Points, Versions};

use super::system::kill_below;
use super::world::{World, identity, make_program, name};
use crate::source;
use crate::support::{OUTRIDER, outrider, printed, run, until};

/// Cases unless `OUTRIDER_CASES` says otherwise.
const CASES: usize = 160;
/// At a time.
const SIDE_BY_SIDE: usize = 2;
/// Calls that touch files, each with its names on the machines that there are.
pub(super) const CALLS: &str = "?open,openat,?creat,read,write,pwrite64,close,fsync,fdatasync,flock,fcntl,ftruncate,lseek,\
                     fchmod,?chmod,fchmodat,?rename,?renameat,renameat2,?symlink,symlinkat,?unlink,unlinkat,?mkdir,\
                     mkdirat,?rmdir,?readlink,readlinkat,getdents64,?stat,?lstat,?newfstatat,statx,?statfs,fstatfs,\
                     copy_file_range,sendfile";
const FAULTS: [&str; 4] = ["signal=KILL", "error=ENOSPC", "error=EIO", "error=EROFS"];
const CHANGES: [&str; 11] = [
    "write",
    "pwrite",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fchmod",
    "rename",
    "symlink",
    "unlink",
    "mkdir",
    "rmdir",
];

#[derive(Debug, Clone)]
pub(super) struct Case {
    call: String,
    number: usize,
    pub(super) fault: &'static str,
}

impl Case {
    /// What strace is to be told.
    pub(super) fn flags(&self) -> [String; 4] {
        let Self { call, number, fault } = self;
        let inject = format!("inject={call}:{fault}:when={number}");
        ["-e".into(), format!("trace={call}"), "-e".into(), inject]
    }

    /// Whether it came to pass.
    pub(super) fn came(output: &Output, trace: &str) -> bool {
        let killed = output.status.signal().is_some() || output.status.code() == Some(128 + 9);
        killed || trace.contains("(INJECTED)")
    }
}

/// Runs a program under strace; answers what it printed and what strace wrote.
pub(super) fn traced(
    trace: &Path,
    flags: &[String],
    program: &Path,
    args: impl FnOnce(&mut Command) -> Output,
) -> (Output, String) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(trace).args(flags).arg(program);
    let output = args(&mut command);
    let text = fs::read_to_string(trace).unwrap_or_else(|_| {
        panic!("strace wrote nothing: install it, and allow ptrace: {}", printed(&output))
    });
    fs::remove_file(trace).unwrap();
    (output, text)
}

/// A root with a version, an export that nobody has fetched, and a mirror with the next version.
struct Place {
    world: World,
    /// In memory where the system has such a folder: a killed process takes nothing with it that it has written.
    dir: tempfile::TempDir,
    kept: BTreeMap<PathBuf, Vec<u8>>,
}

/// A version's folder that weighs nothing: its program is the built one.
fn contents(folder: &Path, version: &str) {
    fs::create_dir_all(folder.join("integrations/more")).unwrap();
    make_program(&folder.join("outrider"), &format!("#!/bin/sh\n# {version}\nexec {OUTRIDER} \"$@\"\n"));
    make_program(&folder.join("integrations/integration-none"), "#!/bin/sh\nexit 1\n");
    fs::write(folder.join("integrations/more/data"), version.repeat(30_000)).unwrap();
}

impl Place {
    fn new() -> Self {
        let mut world = World::start();
        world.stop_system();
        world.stack.stop_backend();
        kill_below(&world.root());
        let root = world.root();
        let old = root.join("versions").join(name("1.0.0"));
        let manifest = fs::read(old.join("manifest.yaml")).unwrap();
        fs::remove_dir_all(&old).unwrap();
        contents(&old, "1.0.0");
        fs::write(old.join("manifest.yaml"), manifest).unwrap();
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let list = list_folder(&old, identity("1.0.0"), os, arch, 1 << 30).unwrap();
        keep_list(&root, &name("1.0.0"), &list).unwrap();
        let new = world.stack.dir.path().join("contents");
        contents(&new, "1.1.0");
        world.publish("1.1.0", &new);
        let integrations = format!("--integrations-json={}", source::integrations("kept"));
        let exported = run(outrider(&root).args(["export", &integrations]));
        assert!(exported.status.success(), "{}", printed(&exported));
        fs::remove_dir_all(root.join("logs")).unwrap();
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let kept = kept(&root);
        assert!(kept.len() > 2, "{:?}", kept.keys());
        Self { world, dir, kept }
    }

    /// A root like that, for one case.
    fn root(&self, case: usize) -> PathBuf {
        let root = self.dir.path().join(case.to_string());
        let copied = run(Command::new("cp").arg("-a").arg(self.world.root()).arg(&root));
        assert!(copied.status.success(), "{}", printed(&copied));
        root
    }

    fn upgrade(&self, command: &mut Command, root: &Path) -> Output {
        command.args(["upgrade", "--version", "1.1.0", "--force", "--source"]).arg(self.world.mirror());
        run(command.arg("--root").arg(root).env_remove("OUTRIDER_ROOT"))
    }

    /// Upgrades under strace; answers what it printed and what strace wrote.
    fn traced(&self, root: &Path, flags: &[String]) -> (Output, String) {
        let upgrade = |command: &mut Command| self.upgrade(command, root);
        traced(&root.with_extension("trace"), flags, Path::new(OUTRIDER), upgrade)
    }

    /// Every fault at every call of an upgrade.
    fn cases(&self) -> Vec<Case> {
        let root = self.root(0);
        let (output, text) = self.traced(&root, &["-e".into(), format!("trace={CALLS}")]);
        assert!(output.status.success(), "{}", printed(&output));
        assert_eq!(ended(&root), (name("1.1.0"), Some(Phase::Probation)));
        cases(&text)
    }

    /// Answers whether the fault came to pass, and where the first start found the root.
    fn check(&self, number: usize, case: &Case) -> (bool, Option<Phase>) {
        let root = self.root(number);
        let (output, text) = self.traced(&root, &case.flags());
        let told = || format!("{case:?}: {}", printed(&output));
        let (_, found) = ended(&root);
        start(&root);
        let (version, phase) = ended(&root);
        check_in_place(&root, &version).unwrap_or_else(|err| panic!("{}: {version}: {err}", told()));
        assert_eq!(kept(&root), self.kept, "{}: spool and checkpoints", told());
        match phase {
            Some(Phase::Probation) => assert_eq!(version, name("1.1.0"), "{}", told()),
            None | Some(Phase::Failed) => assert_eq!(version, name("1.0.0"), "{}", told()),
            other => panic!("{}: {other:?}", told()),
        }
        if output.status.success() {
            assert_eq!(version, name("1.1.0"), "{}: it said that it did", told());
        }
        if version == name("1.0.0") {
            let again = self.upgrade(&mut Command::new(OUTRIDER), &root);
            assert!(again.status.success(), "{}: again: {}", told(), printed(&again));
            assert_eq!(ended(&root), (name("1.1.0"), Some(Phase::Probation)), "{}", told());
            check_in_place(&root, &name("1.1.0")).unwrap();
        }
        fs::remove_dir_all(root).unwrap();
        (Case::came(&output, &text), found)
    }
}

/// Starts the launcher as the system would, until the service is there and nothing is half done; then everything is killed.
fn start(root: &Path) {
    let child = Command::new(Path::new(OUTRIDER).with_file_name("outrider-launcher"))
        .arg("--root")
        .arg(root)
        .arg("service-run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap();
    until("the service to answer", || UnixStream::connect(root.join("state/service.sock")).ok());
    until("nothing to be half done", || {
        let phase = ended(root).1;
        phase.is_none_or(|it| it.is_terminal() || it == Phase::Probation).then_some(())
    });
    kill_below(root);
    drop(child.wait());
}

/// What `current` points to, and how far the attempt is.
fn ended(root: &Path) -> (String, Option<Phase>) {
    let seen = Versions::of(root).see().unwrap();
    let Points::To(version) = seen.links.current else { panic!("{:?} of {seen:?}", Link::Current) };
    (version.to_string(), seen.journal.record().map(|it| it.phase))
}

/// Spool and checkpoints, byte for byte.
fn kept(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let listed = run(Command::new("find")
        .arg("spool")
        .args(["state/checkpoints.redb", "-type", "f"])
        .current_dir(root));
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().map(|it| (PathBuf::from(it), fs::read(root.join(it)).unwrap())).collect()
}

/// Every fault at every call that a trace has, as often as one of its threads makes it.
pub(super) fn cases(trace: &str) -> Vec<Case> {
    let mut calls: BTreeMap<_, usize> = BTreeMap::new();
    for line in trace.lines() {
        let (Some((thread, rest)), false) = (line.split_once(' '), line.contains("resumed>")) else {
            continue;
        };
        let call = rest.trim_start().split_once('(').map(|it| it.0);
        if let Some(call) = call.filter(|it| it.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')) {
            *calls.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((call, _), times) in calls {
        let known = most.entry(call).or_default();
        *known = times.max(*known);
    }
    most.into_iter()
        .flat_map(|(call, times)| (1..=times).map(move |number| (call.clone(), number)))
        .flat_map(|(call, number)| FAULTS.map(|fault| Case { call: call.clone(), number, fault }))
        .collect()
}

/// About so many of the cases, unless `OUTRIDER_CASES` says otherwise; most of them at calls that change something.
pub(super) fn choose(all: &[Case], usual: usize) -> Vec<&Case> {
    let most = std::env::var("OUTRIDER_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(usual);
    let changes = |it: &&Case| CHANGES.iter().any(|change| it.call.starts_with(change));
    let (changing, looking): (Vec<_>, Vec<_>) = all.iter().partition(changes);
    let first = pick(&changing, most * 3 / 4);
    pick(&looking, most.saturating_sub(first.len())).into_iter().chain(first).collect()
}

/// About `most` of the cases, evenly spread; the stride is odd, so that it meets every kind of fault.
fn pick<'a>(cases: &[&'a Case], most: usize) -> Vec<&'a Case> {
    let stride = if most >= cases.len() { 1 } else { (cases.len() / most.max(1)) | 1 };
    cases.iter().step_by(stride).copied().collect()
}

#[test]
fn an_upgrade_action_survives_a_kill_and_an_error_at_each_of_its_calls() {
    let place = Place::new();
    let all = place.cases();
    let chosen = choose(&all, CASES);
    let (began, next) = (Instant::now(), Mutex::new(chosen.iter().enumerate()));
    let (hit, found) = (Mutex::new(BTreeMap::new()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((number, case)) = { next.lock().unwrap().next() } {
                    let (came, phase) = place.check(number + 1, case);
                    if came {
                        *hit.lock().unwrap().entry(case.fault).or_insert(0_usize) += 1;
                    }
                    let phase = phase.map_or("nothing written", Phase::as_str);
                    *found.lock().unwrap().entry(phase).or_insert(0_usize) += 1;
                }
            });
        }
    });
    let (hit, found) = (hit.into_inner().unwrap(), found.into_inner().unwrap());
    println!(
        "{} of {} cases of a fault at a call of an upgrade in {:.0} s; came to pass: {hit:?}; the next start found: {found:?}",
        chosen.len(),
        all.len(),
        began.elapsed().as_secs_f64(),
    );
    assert!(hit.values().sum::<usize>() * 10 >= chosen.len() * 8, "{hit:?} of {}", chosen.len());
}
