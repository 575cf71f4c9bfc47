//! The faults themselves.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::link::{End, Link};
use crate::say;

/// Declares [`Fault`] and the names that the outside uses.
macro_rules! faults {
    ($($fault:ident = $name:literal,)*) => {
        /// A way to misbehave; the program's own documentation describes each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault { $($fault,)* }

        const NAMES: &[(&str, Fault)] = &[$(($name, Fault::$fault),)*];
    };
}

faults! {
    Good = "good",
    ExitBeforeHello = "exit-before-hello",
    NoHello = "no-hello",
    WrongVersion = "wrong-version",
    Chatter = "chatter",
    StderrFlood = "stderr-flood",
    DuplicateIds = "duplicate-ids",
    UnknownIds = "unknown-ids",
    UnknownMethod = "unknown-method",
    BatchArray = "batch-array",
    WrongSession = "wrong-session",
    TornLine = "torn-line",
    LongLine = "long-line",
    EndlessLine = "endless-line",
    DiesInBatch = "dies-in-batch",
    Killed = "killed",
    PanicLike = "panic-like",
    Silent = "silent",
    IgnoreTerm = "ignore-term",
    CloseStdout = "close-stdout",
    Grandchild = "grandchild",
    GrandchildEscapes = "grandchild-escapes",
}

impl Fault {
    /// The fault of that name; the error lists the names there are.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault).ok_or_else(|| {
            let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
            format!("unknown fault {name:?}, expected one of {}", known.join(", "))
        })
    }
}

/// What to do in a call.
pub(crate) struct Plan {
    fault: Fault,
    bytes: Option<u64>,
    /// The call in which the fault is played.
    pub(crate) within: String,
}

impl Plan {
    pub(crate) fn new(fixed: Option<Fault>, config: &Value) -> Result<Self, End> {
        let named = config["fault"].as_str().map_or(Ok(Fault::Good), Fault::named);
        let invalid = |message| End::Refused { code: -32602, message };
        let fault = fixed.map_or(named, Ok).map_err(invalid)?;
        let within = config["in"].as_str().unwrap_or("export").to_owned();
        Ok(Self { fault, bytes: config["bytes"].as_u64(), within })
    }
}

/// Bytes of a line that is longer than the agent takes by default.
const LONG: u64 = 64 * 1024 * 1024;

/// Objects of a good export.
const OBJECTS: u64 = 10;

/// Plays the plan in an export and answers its result.
pub(crate) fn export(link: &mut Link, plan: &Plan) -> Result<Value, End> {
    if plan.within == "export" {
        without_session(link, plan)?;
    }
    let session = start(link)?;
    if plan.within == "export" {
        within_session(link, plan, session)?;
    }
    if plan.fault != Fault::DuplicateIds {
        let sent = link.call("session.send", &batch(session, 0, OBJECTS))?;
        expect("session.send to accept", &sent["accepted"], OBJECTS)?;
    }
    link.notify("session.progress", &json!({"session": session, "current": OBJECTS, "total": OBJECTS}))?;
    link.notify(
        "log",
        &json!({"level": "info", "message": "All things were sent.", "fields": {"things": OBJECTS}}),
    )?;
    let done =
        link.call("session.done", &json!({"session": session, "last_processed": {"things": OBJECTS}}))?;
    expect("session.done to count", &done["objects"], OBJECTS)?;
    if plan.fault == Fault::WrongSession {
        refused(link, "session.done", &json!({"session": session}))?;
    }
    Ok(json!({"projects": [{"id": "things", "name": "Things", "state": "done"}]}))
}

fn start(link: &mut Link) -> Result<u64, End> {
    let started = link.call("session.start", &json!({"kind": "model", "name": "mock.Thing"}))?;
    started["session"].as_u64().ok_or_else(|| End::Failed(format!("expected a session, found {started}")))
}

fn batch(session: u64, from: u64, to: u64) -> Value {
    let objects: Vec<Value> = (from..to)
        .map(|n| json!({"id": format!("thing-{n}"), "name": format!("Thing {n}"), "number": n}))
        .collect();
    json!({"session": session, "objects": objects})
}

fn expect(what: &str, found: &Value, expected: u64) -> Result<(), End> {
    if *found == expected {
        return Ok(());
    }
    Err(End::Failed(format!("expected {what} {expected}, found {found}")))
}

/// Calls what must be answered with an error, and answers its code.
fn refused(link: &mut Link, method: &str, params: &Value) -> Result<i64, End> {
    match link.call(method, params) {
        Err(End::Refused { code, .. }) => Ok(code),
        Err(other) => Err(other),
        Ok(found) => Err(End::Failed(format!("expected {method} {params} to be refused, found {found}"))),
    }
}

/// Faults that open no session. Those that can go on answer `Ok`.
pub(crate) fn without_session(link: &mut Link, plan: &Plan) -> Result<(), End> {
    match plan.fault {
        Fault::Chatter => link.chatter = true,
        Fault::StderrFlood => flood(plan.bytes.unwrap_or(100_000_000))?,
        Fault::UnknownIds => unknown_ids(link)?,
        Fault::UnknownMethod => unknown_method(link)?,
        Fault::BatchArray => batch_array(link)?,
        Fault::Silent => {
            link.ignore_all()?;
            return Err(End::Gone);
        }
        Fault::Killed if plan.within != "export" => return Err(turn_into("kill -9 $$")),
        Fault::PanicLike if plan.within != "export" => return Err(panic_like()),
        // An ignored signal stays ignored when a process becomes another program.
        Fault::IgnoreTerm => return Err(turn_into("trap '' TERM INT HUP; exec sleep 100000")),
        Fault::CloseStdout => return Err(turn_into("exec >&-; exec sleep 100000")),
        Fault::Grandchild => return Err(leave_behind(&mut shell("trap '' TERM HUP; exec sleep 100000"))),
        Fault::GrandchildEscapes => return Err(leave_behind(own_group(&mut shell("exec sleep 15")))),
        _ => {}
    }
    Ok(())
}

/// Faults amid a session. Those that can go on answer `Ok`.
fn within_session(link: &mut Link, plan: &Plan, session: u64) -> Result<(), End> {
    match plan.fault {
        Fault::DuplicateIds => duplicate_ids(link, session)?,
        Fault::WrongSession => {
            refused(link, "session.send", &batch(session + 424_242, 0, 1))?;
        }
        Fault::TornLine => {
            link.call("session.send", &batch(session, 0, OBJECTS))?;
            link.write(br#"{"jsonrpc":"2.0","id":77,"method":"session.send","params":{"session":"#)?;
            return Err(End::Exit(0));
        }
        Fault::LongLine => long_line(link, session, plan.bytes.unwrap_or(LONG))?,
        Fault::EndlessLine => {
            write_text(link, plan.bytes.unwrap_or(LONG))?;
            return Err(End::Failed("expected that nobody reads text without an end".to_owned()));
        }
        Fault::DiesInBatch => {
            three_of_ten(link, session)?;
            say("integration-faulty: fatal: the source went away\n");
            return Err(End::Exit(1));
        }
        Fault::Killed => {
            three_of_ten(link, session)?;
            return Err(turn_into("kill -9 $$"));
        }
        Fault::PanicLike => {
            link.call("session.send", &batch(session, 0, OBJECTS))?;
            return Err(panic_like());
        }
        _ => {}
    }
    Ok(())
}

fn panic_like() -> End {
    say("\nthread 'main' (1) panicked at src/things.rs:42:7:\n\
        index out of bounds: the len is 3 but the index is 7\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n");
    End::Exit(101)
}

fn batch_array(link: &mut Link) -> Result<(), End> {
    let id = link.new_id();
    link.write_line(&json!([
        {"jsonrpc": "2.0", "id": id, "method": "resume", "params": {}},
        {"jsonrpc": "2.0", "method": "log", "params": {"level": "info", "message": "in an array"}},
    ]))
}

/// Writes `bytes` of lines to stderr, as fast as they are taken.
fn flood(bytes: u64) -> Result<(), End> {
    let line = b"a line of stderr that says nothing of interest, and says it again and again\n";
    let chunk = line.repeat(800);
    let mut left = bytes;
    let mut stderr = io::stderr().lock();
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        stderr.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    Ok(stderr.write_all(b"\nthe flood is over\n")?)
}

fn unknown_ids(link: &mut Link) -> Result<(), End> {
    for id in [json!(999_999), json!("never-asked"), Value::Null] {
        link.write_line(&json!({"jsonrpc": "2.0", "id": id, "result": {}}))?;
        link.write_line(
            &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": "to nobody"}}),
        )?;
    }
    Ok(())
}

fn unknown_method(link: &mut Link) -> Result<(), End> {
    link.notify("no.such.notice", &json!({}))?;
    let code = refused(link, "no.such.method", &json!({"a": 1}))?;
    if code == -32601 {
        return Ok(());
    }
    Err(End::Failed(format!("expected -32601 for an unknown method, found {code}")))
}

/// Two requests with one id at once: an id belongs to whoever asks, so both are to be answered.
fn duplicate_ids(link: &mut Link, session: u64) -> Result<(), End> {
    let id = link.new_id();
    let half = OBJECTS / 2;
    link.request(id, "session.send", &batch(session, 0, half))?;
    link.request(id, "session.send", &batch(session, half, OBJECTS))?;
    for _ in 0..2 {
        let sent = link.wait_for(id)?;
        expect("session.send to accept", &sent["accepted"], half)?;
    }
    Ok(())
}

/// One object in a line of at least `bytes`, written piece by piece. It is refused, and what follows is taken.
fn long_line(link: &mut Link, session: u64, bytes: u64) -> Result<(), End> {
    let id = link.new_id();
    let head = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"session.send","params":{{"session":{session},"objects":[{{"id":"long","text":""#
    );
    link.write(head.as_bytes())?;
    write_text(link, bytes)?;
    link.write(b"\"}]}}\n")?;
    match link.wait_for(id) {
        Err(End::Refused { code: -32600, message }) if message.starts_with("session.send: the line has ") => {
            Ok(())
        }
        Err(End::Refused { code, message }) => Err(End::Failed(format!(
            "expected the line of {bytes} bytes to be refused with -32600, found {code}: {message}"
        ))),
        Err(other) => Err(other),
        Ok(sent) => {
            Err(End::Failed(format!("expected the line of {bytes} bytes to be refused, found {sent}")))
        }
    }
}

/// Writes `bytes` of text piece by piece, with no line feed.
fn write_text(link: &mut Link, bytes: u64) -> Result<(), End> {
    let piece = vec![b'x'; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        link.write(&piece[..part])?;
        left -= part as u64;
    }
    Ok(())
}

/// Three batches that are answered, and a fourth that is on its way.
fn three_of_ten(link: &mut Link, session: u64) -> Result<(), End> {
    for n in 0..3 {
        link.call("session.send", &batch(session, n * OBJECTS, (n + 1) * OBJECTS))?;
    }
    let id = link.new_id();
    link.request(id, "session.send", &batch(session, 3 * OBJECTS, 4 * OBJECTS))
}

#[expect(clippy::disallowed_methods, reason = "a fault is to do what the agent's own code may not")]
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

/// Becomes a shell with the same process id and pipes. Answers only if that fails.
#[cfg(unix)]
fn turn_into(script: &str) -> End {
    use std::os::unix::process::CommandExt;
    End::Failed(format!("become a shell: {}", shell(script).exec()))
}

#[cfg(not(unix))]
fn turn_into(_script: &str) -> End {
    End::Failed("this fault needs a Unix shell".to_owned())
}

/// Takes the command out of this program's process group, as a daemon does.
fn own_group(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command
}

/// Starts a process that holds stdout and stderr, and exits as if all were well.
fn leave_behind(command: &mut Command) -> End {
    match command.stdin(Stdio::null()).spawn() {
        Ok(grandchild) => {
            say(&format!("integration-faulty: left process {} behind\n", grandchild.id()));
            End::Exit(0)
        }
        Err(err) => End::Failed(format!("start a grandchild: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found_by_its_name_and_documented() {
        for (name, fault) in NAMES {
            assert_eq!(Fault::named(name), Ok(*fault));
            assert!(include_str!("main.rs").contains(&format!("//! | `{name}` |")), "{name}");
        }
        assert!(Fault::named("tornline").unwrap_err().contains("expected one of good, "));
    }

    #[test]
    fn a_file_name_goes_before_the_configuration() {
        let config = json!({"fault": "silent", "bytes": 5});
        let plan = |fixed, config| Plan::new(fixed, config).map(|plan| (plan.fault, plan.bytes)).unwrap();
        assert_eq!(plan(None, &config), (Fault::Silent, Some(5)));
        assert_eq!(plan(Some(Fault::Killed), &config), (Fault::Killed, Some(5)));
        assert_eq!(plan(None, &json!({})), (Fault::Good, None));
        assert!(Plan::new(None, &json!({"fault": "no"})).is_err());
    }
}
