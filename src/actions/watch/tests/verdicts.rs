//! Every kind of course that a trial takes, a letter a look and a second.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::local::{BackendLink, HealthReply, SelfTest};
use outrider_protocol::upgrade::Build;
use outrider_versions::{OldReach, Reason};

use super::super::verdict::{Observation, Terms, Trial, Verdict};

const REACHES: [OldReach; 3] = [OldReach::Reached, OldReach::Unreached, OldReach::Unknown];

fn build(version: &str) -> Build {
    Build { version: version.into(), snapshot: false, hash: "0123456789".into() }
}

fn answer(version: &str, self_test: SelfTest, backend: BackendLink) -> Observation {
    let build = Some(build(version));
    let started_at = Timestamp::UNIX_EPOCH;
    Observation::Answer(Box::new(HealthReply {
        version: version.into(),
        build,
        pid: 1,
        started_at,
        self_test,
        backend,
    }))
}

/// | `g` | `p` | `f` | `o` | `u` | `a` | `b` | `r` | `s` | `x` | `n` | `-` |
/// | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
/// | good | self-test pending | failed | old build | no check-in | away | busy | refused | silent | gone | not started | stopped |
fn seen(letter: char) -> Observation {
    let error = || "E".to_owned();
    let linked = |backend| answer("2.0.0", SelfTest::Answered, backend);
    let checked_in = || BackendLink::CheckedIn { at: Timestamp::UNIX_EPOCH };
    match letter {
        'g' => linked(checked_in()),
        'p' => answer("2.0.0", SelfTest::Pending, checked_in()),
        'f' => answer("2.0.0", SelfTest::Failed { why: error() }, checked_in()),
        'o' => answer("1.0.0", SelfTest::Answered, checked_in()),
        'u' => linked(BackendLink::Unknown),
        'a' => linked(BackendLink::Away { error: error() }),
        'b' => linked(BackendLink::Busy { error: error() }),
        'r' => linked(BackendLink::Refused { error: error() }),
        's' => Observation::Silent { why: error() },
        'x' => Observation::Gone,
        'n' => Observation::NotStarted,
        '-' => Observation::Stopped,
        other => panic!("no observation is called {other}"),
    }
}

fn trial(old_reach: OldReach, [green, hang, left]: [u64; 3]) -> Trial {
    let terms = Terms {
        build: Some(build("2.0.0")),
        old_reach,
        green_for: Duration::from_secs(green),
        hang: Duration::from_secs(hang),
        refusals: 3,
        longest_step: Duration::from_secs(2),
    };
    Trial::new(terms, Duration::from_secs(left))
}

/// How a trial ends, with the number of the look. `J` lets an hour pass before the next look, which counts for two seconds.
fn course(reach: OldReach, script: &str) -> String {
    let mut trial = trial(reach, [5, 4, 20]);
    let (mut passed, mut looks) = (Duration::ZERO, 0);
    for letter in script.chars() {
        if letter == 'J' {
            passed = Duration::from_secs(3600);
            continue;
        }
        looks += 1;
        let verdict = trial.judge(passed, &seen(letter));
        passed = Duration::from_secs(1);
        match verdict {
            Verdict::GoOn => {}
            Verdict::Commit => return format!("commit {looks}"),
            Verdict::RollBack { reason, detail } => return format!("{reason} {looks}: {detail}"),
        }
    }
    "on".into()
}

#[test]
fn each_course_has_its_verdict() {
    use OldReach::{Reached, Unknown, Unreached};
    let late = |missing: &str| format!("deadline 21: it had not proved itself in time: {missing}");
    let rows: Vec<(OldReach, String, String)> = [
        (Reached, "gggggg", "commit 6"),
        (Reached, "ggggg", "on"),
        (Reached, "sssgggggg", "commit 9"),
        (Reached, "pppugggggg", "commit 10"),
        (Reached, "gggggaggggg", "on"),
        (Reached, "gggggaggggggg", "commit 12"),
        (Reached, "gggggsgggggg", "commit 12"),
        (Reached, "ggggg-gggggg", "commit 12"),
        // Silence, of whatever kind, one after another.
        (Reached, "sssss", "hang 5: for 4 s, it gives no answer: E"),
        (Reached, "gssss", "hang 5: for 4 s, it gives no answer: E"),
        (Reached, "gsxsx", "hang 5: for 4 s, it ended, and nobody started it again"),
        (Reached, "nnnnn", "hang 5: for 4 s, nobody started it"),
        (Reached, "sssgsssgsss", "on"),
        (Unreached, "gssss", "hang 5: for 4 s, it gives no answer: E"),
        // Stopped on purpose.
        (Reached, "gxx----------------------------", "on"),
        (Reached, "----------------------------gggggg", "commit 34"),
        (Reached, "gxx--xxx", "on"),
        // Not well.
        (Reached, "f", "unhealthy 1: its self-test failed: E"),
        (Unknown, "ggf", "unhealthy 3: its self-test failed: E"),
        (Reached, "rrr", "unhealthy 3: the backend refuses it, and took the version before: E"),
        (Reached, "rrsr", "unhealthy 4: the backend refuses it, and took the version before: E"),
        (Reached, "rrarrgrr", "on"),
        (Reached, "rr-rr", "on"),
        (Unreached, "rrrrrr", "commit 6"),
        (Unknown, "rrrrrr", "commit 6"),
        (Unreached, "aaaaaa", "commit 6"),
        (Unknown, "uuuuuu", "commit 6"),
        (Unreached, "aarrug", "commit 6"),
        (Unreached, "aaapaaaaaa", "commit 10"),
        // A backend in trouble of its own is waited for, and says nothing against it.
        (Reached, "bbbbbbbbbb", "on"),
        (Reached, "bbbbbbg", "commit 7"),
        (Reached, "bbabbbg", "on"),
        (Unreached, "bbbbbb", "commit 6"),
        (Reached, "bbbbbbbf", "unhealthy 8: its self-test failed: E"),
        // A clock that jumps, a machine that slept.
        (Reached, "gJg", "on"),
        (Reached, "gJgggg", "commit 5"),
        (Reached, "gJs", "on"),
        (Reached, "pJp", "on"),
        (Reached, "gJJsJs", "hang 3: for 4 s, it gives no answer: E"),
    ]
    .map(|(reach, script, expected)| (reach, script.to_owned(), expected.to_owned()))
    .into_iter()
    .chain([
        (Reached, "p".repeat(21), late("its self-test has not ended")),
        (Unreached, "p".repeat(21), late("its self-test has not ended")),
        (Reached, "u".repeat(21), late("the backend has not answered its check-in")),
        (Reached, "a".repeat(21), late("it does not reach the backend, as the version before did: E")),
        (Reached, "b".repeat(21), "commit 21".into()),
        (Reached, "a".repeat(19) + "bbbbbb", "commit 25".into()),
        (Reached, "o".repeat(21), late("1.0.0 (01234567) answers, expected 2.0.0 (01234567)")),
        (Reached, "rra".repeat(7), late("it does not reach the backend, as the version before did: E")),
        (Reached, "sss".to_owned() + &"p".repeat(15) + "sss", late("it gives no answer: E")),
        // Nothing is missing when the time is over: it may finish, and only that.
        (Reached, "p".repeat(19) + "gggggg", "commit 25".into()),
        (
            Reached,
            "p".repeat(19) + "gggp",
            "deadline 23: it had not proved itself in time: its self-test has not ended".into(),
        ),
        // An hour of sleep takes no time from it.
        (Reached, "p".repeat(10) + "J" + "ppppp" + "gggggg", "commit 21".into()),
        // A stop takes no time either.
        (Reached, "p".repeat(18) + &"-".repeat(100) + "gggggg", "commit 124".into()),
    ])
    .collect();
    for (reach, script, expected) in &rows {
        assert_eq!(course(*reach, script), *expected, "{reach:?} {script}");
    }
    println!("{} courses", rows.len());
}

#[test]
fn whoever_was_found_not_well_stays_so() {
    let mut trial = trial(OldReach::Reached, [5, 4, 20]);
    let found = trial.judge(Duration::ZERO, &seen('f'));
    assert!(matches!(found, Verdict::RollBack { reason: Reason::Unhealthy, .. }));
    for letter in "gggggggg-xsng".chars() {
        assert_eq!(trial.judge(Duration::from_secs(1), &seen(letter)), found);
    }
}

/// All courses of five looks: what must hold of any, found without the rules of the verdict.
#[test]
fn every_short_course_keeps_the_promises() {
    const LETTERS: [char; 11] = ['g', 'p', 'f', 'o', 'u', 'a', 'r', 's', 'x', 'n', '-'];
    const LOOKS: u32 = 5;
    let mut cases = 0_u32;
    for reach in REACHES {
        let well = if reach == OldReach::Reached { "g" } else { "guar" };
        let is_well = |it: &char| well.contains(*it);
        let is_silent = |it: &char| "sxn".contains(*it);
        for number in 0..11_usize.pow(LOOKS) {
            let letters: Vec<char> = (0..LOOKS).map(|at| LETTERS[number / 11_usize.pow(at) % 11]).collect();
            let mut trial = trial(reach, [2, 2, 100]);
            let mut over = None;
            for (at, letter) in letters.iter().enumerate() {
                let verdict = trial.judge(Duration::from_secs(u64::from(at > 0)), &seen(*letter));
                let before = &letters[..=at];
                let last = |count: usize, is: &dyn Fn(&char) -> bool| {
                    before.len() >= count && before.iter().rev().take(count).all(is)
                };
                match &verdict {
                    _ if over.is_some() => assert_eq!(Some(&verdict), over.as_ref(), "{letters:?}"),
                    Verdict::Commit => assert!(last(3, &is_well), "{letters:?}"),
                    Verdict::RollBack { reason: Reason::Hang, .. } => {
                        assert!(last(2, &is_silent), "{letters:?}");
                    }
                    Verdict::RollBack { reason: Reason::Unhealthy, .. } => {
                        let refused = before.iter().filter(|it| **it == 'r').count();
                        assert!(
                            *letter == 'f' || (well == "g" && *letter == 'r' && refused >= 3),
                            "{letters:?}"
                        );
                    }
                    Verdict::RollBack { reason, .. } => panic!("{reason}: {letters:?}"),
                    Verdict::GoOn => {
                        assert!(!last(3, &is_well) && !last(3, &is_silent) && *letter != 'f', "{letters:?}");
                    }
                }
                match verdict {
                    Verdict::Commit => break,
                    Verdict::RollBack { .. } => over = Some(verdict),
                    Verdict::GoOn => {}
                }
                cases += 1;
            }
        }
    }
    println!("{cases} looks of all courses of {LOOKS}");
}
