//! `integration-faulty`: an integration that misbehaves by instruction, to hold the agent against.
//!
//! It speaks the protocol's link C as raw JSON lines and shares no type with the agent, so that it also notices when the
//! protocol's crate and the wire drift apart.
//!
//! The fault is chosen by the member `fault` of the configuration that `export` brings:
//! `{"fault": "torn-line"}`. Faults that come before any configuration is known are chosen by the program's own file
//! name: a link or copy named `integration-faulty-no-hello` plays `no-hello`. Every fault may be chosen by file name,
//! which goes before the configuration. Without either, it plays `good`.
//!
//! | fault | what happens |
//! | --- | --- |
//! | `exit-before-hello` | exits with status 1 before it reads anything |
//! | `no-hello` | never answers `initialize`, nor anything else; exits at the end of stdin |
//! | `wrong-version` | answers `initialize` with protocol version 99 |
//! | `good` | exports 10 objects of `mock.Thing` in one session |
//! | `chatter` | prints text, a blank line and JSON that is no message between its messages; exports as `good` |
//! | `stderr-flood` | writes 100 MB to stderr; exports as `good` |
//! | `duplicate-ids` | sends two halves of the objects in two requests with one id at once; ends as `good` |
//! | `unknown-ids` | answers requests that nobody made (a number, a text, null); exports as `good` |
//! | `unknown-method` | calls and notifies methods that do not exist, expects -32601; exports as `good` |
//! | `batch-array` | sends an array of messages; exports as `good` |
//! | `wrong-session` | sends to a session that is not open and finishes one twice, expects errors; ends as `good` |
//! | `torn-line` | sends one batch, then half a message without its end, and exits with status 0 |
//! | `long-line` | sends one object of 64 MiB in one line, expects -32600; ends as `good` |
//! | `endless-line` | writes 64 MiB of text without a line feed |
//! | `dies-in-batch` | exits with status 1 after 3 of 10 batches, with the fourth sent and not answered |
//! | `killed` | the same, by a SIGKILL to itself |
//! | `panic-like` | sends one batch, writes the text of a panic to stderr and exits with status 101 |
//! | `silent` | never answers `export`, ignores `cancel`; exits at the end of stdin |
//! | `ignore-term` | the same, and ignores the end of stdin and SIGTERM too |
//! | `close-stdout` | closes stdout and lives on |
//! | `grandchild` | starts a process that keeps stdout and stderr open and ignores SIGTERM, then exits with status 0 |
//! | `grandchild-escapes` | the same in a process group of its own, where the agent's signals miss it; it ends by itself after 15 s |
//!
//! Where `good` finds that the agent did not behave as the protocol says (such as -32601 for an unknown method), it
//! answers `export` with an error that tells what it expected.
//!
//! Further members of the configuration: `bytes` (a number; how much `stderr-flood`, `long-line` and `endless-line` write) and `in`
//! (`validate_config` or `onboard_export`: play the fault in that call instead; for those that open no session, and `killed` and
//! `panic-like`).

mod faults;
mod link;

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use faults::{Fault, Plan};
use link::{End, Link, Message};

/// The end of stdin came before the end of the work.
const ORPHANED: u8 = 3;

fn main() -> ExitCode {
    let end = by_file_name().and_then(|fault| serve(&mut Link::stdio(), fault));
    match end {
        Ok(()) | Err(End::Exit(0)) => ExitCode::SUCCESS,
        Err(End::Exit(status)) => ExitCode::from(status),
        Err(End::Gone) => ExitCode::from(ORPHANED),
        Err(other) => {
            say(&format!("integration-faulty: {other}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The fault in the name under which this program was started. The first argument is taken, since the system's own
/// answer follows symbolic links.
fn by_file_name() -> Result<Option<Fault>, End> {
    let program = env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_stem().and_then(OsStr::to_str).unwrap_or_default();
    match name.split_once("faulty-") {
        Some((_, fault)) => Fault::named(fault).map(Some).map_err(End::Failed),
        None => Ok(None),
    }
}

/// Answers the agent's calls until the end of stdin or `shutdown`.
fn serve(link: &mut Link, fixed: Option<Fault>) -> Result<(), End> {
    if fixed == Some(Fault::ExitBeforeHello) {
        say("integration-faulty: no licence found\n");
        return Err(End::Exit(1));
    }
    if fixed == Some(Fault::NoHello) {
        return link.ignore_all();
    }
    while let Some(message) = link.read()? {
        let Message::Request { id, method, params } = message else { continue };
        if method == "shutdown" {
            return link.answer(&id, Ok(json!({})));
        }
        let result = match method.as_str() {
            "initialize" => Ok(hello(fixed)),
            "export" | "validate_config" | "onboard_export" => call(link, fixed, &method, &params),
            _ => Err(End::Refused { code: -32601, message: format!("unknown method {method}") }),
        };
        match result {
            Err(end) => link.answer(&id, Err(end.into_answer()?))?,
            Ok(result) => link.answer(&id, Ok(result))?,
        }
    }
    Ok(())
}

fn hello(fixed: Option<Fault>) -> Value {
    let protocol = if fixed == Some(Fault::WrongVersion) { 99 } else { 1 };
    json!({
        "protocol": protocol,
        "name": "faulty",
        "version": env!("CARGO_PKG_VERSION"),
        "models": [{"model": "mock.Thing", "needs_id": true}],
        "onboard_kinds": ["projects"],
        "config_schema": {
            "type": "object",
            "properties": {
                "fault": {"type": "string"},
                "bytes": {"type": "integer", "minimum": 0},
                "in": {"enum": ["export", "validate_config", "onboard_export"]},
            },
        },
        "features": [],
    })
}

fn call(link: &mut Link, fixed: Option<Fault>, method: &str, params: &Value) -> Result<Value, End> {
    let plan = Plan::new(fixed, &params["config"])?;
    if method == "export" {
        return faults::export(link, &plan);
    }
    if plan.within == method {
        faults::without_session(link, &plan)?;
    }
    if method == "validate_config" {
        return Ok(json!({"errors": []}));
    }
    match params["kind"].as_str() {
        Some("projects") => Ok(json!({"records": [{"id": "things", "name": "Things"}]})),
        kind => Err(End::Refused { code: -32002, message: format!("no onboarding data of kind {kind:?}") }),
    }
}

/// Writes to stderr; where it goes is not this program's concern.
fn say(text: &str) {
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}
