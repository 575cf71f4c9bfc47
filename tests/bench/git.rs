//! An export of a repository of 12,000 commits, beside `git log --all --numstat | gzip -1`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::measure::{OUTRIDER, Table, best, shell};

const COMMITS: usize = 12_000;
const FILES: usize = 400;

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let repository = dir.path().join("repository");
    make(&repository);
    let config = format!(r#"[{{"name":"git","config":{{"repositories":["{}"]}}}}]"#, repository.display());
    let log = format!("git -C {} log --all --numstat | gzip -1 > /dev/null", repository.display());
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for n in 0..3 {
        theirs = theirs.min(best(1, || shell(&log)));
        let root = dir.path().join(format!("root-{n}"));
        ours = ours.min(best(1, || {
            let status = Command::new(OUTRIDER)
                .args(["export", "--integrations-json", &config, "--root"])
                .arg(&root)
                .stdout(Stdio::null())
                .status();
            assert!(status.is_ok_and(|it| it.success()), "the export failed");
        }));
    }
    table.row(
        &format!("git export of {COMMITS} commits"),
        format!(
            "{:.2} s, {:.2} × the time of `git log --all --numstat | gzip -1` ({:.2} s)",
            ours.as_secs_f64(),
            ours.as_secs_f64() / theirs.as_secs_f64(),
            theirs.as_secs_f64()
        ),
        "at most 1 ×",
    );
}

/// A made-up history, always the same: each commit changes a few of the files.
fn make(repository: &Path) {
    shell(&format!("git init -q {}", repository.display()));
    let mut import = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("start git fast-import");
    let mut stream = std::io::BufWriter::new(import.stdin.take().expect("a pipe"));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap_or_default()
    };
    let mut contents: Vec<Vec<String>> = (0..FILES).map(|_| Vec::new()).collect();
    for n in 0..COMMITS {
        let mut changes = String::new();
        for _ in 0..=next(3) {
            let file = next(FILES);
            let lines = &mut contents[file];
            for _ in 0..=next(12) {
                let at = next(lines.len() + 1);
                lines.insert(at, format!("line {n} {} of file {file}", next(1_000_000)));
            }
            if lines.len() > 300 {
                lines.drain(..next(100));
            }
            let text = lines.join("\n") + "\n";
            // Writing to a String cannot fail.
            let _ = write!(
                changes,
                "M 100644 inline src/module{}/file{file}.rs\ndata {}\n{text}\n",
                file % 20,
                text.len()
            );
        }
        let message = format!("change number {n}\n\nwhy it was made\n");
        let author = next(40);
        let time = 1_600_000_000 + n * 600;
        write!(
            stream,
            "commit refs/heads/main\ncommitter Person {author} <person{author}@example.com> {time} +0000\ndata {}\n{message}{changes}\n",
            message.len()
        )
        .expect("write to git fast-import");
    }
    stream.flush().expect("write to git fast-import");
    drop(stream);
    assert!(import.wait().expect("an exit").success());
}
