//! A backend in trouble, or a way to it that is: answers of 500 and 429, bodies that are cut, stalls, requests that arrive
//! twice, a database from yesterday. Whatever it does, the backend ends with what the source holds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outrider_backend::admin::CommandState;
use outrider_protocol::action::Order;
use serde_json::json;

use crate::random::Random;
use crate::source;
use crate::support::{Stack, export, outrider, printed, run, until};

/// Cases of a build that is not optimized, and of one that is.
const CASES: u64 = if cfg!(debug_assertions) { 3 } else { 60 };
/// Of ten requests, so many go through untouched.
const UNTOUCHED: u64 = 7;
/// A stall is longer than the agent waits.
const STALL: Duration = Duration::from_millis(2_500);

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// Nothing.
    None,
    /// It never arrives, and is answered with 500.
    Broken,
    /// It never arrives, and is answered with 429.
    TooMany,
    /// It arrives in part.
    CutRequest,
    /// It arrives, and a part of the answer comes back.
    CutAnswer,
    /// It arrives, and nothing comes back for a long time.
    Stalled,
    /// It arrives twice.
    Twice,
}

const TROUBLES: [Trouble; 6] = [
    Trouble::Broken,
    Trouble::TooMany,
    Trouble::CutRequest,
    Trouble::CutAnswer,
    Trouble::Stalled,
    Trouble::Twice,
];

/// A reverse proxy that makes trouble.
#[derive(Debug)]
struct Proxy {
    /// The backend; set once it is known.
    backend: Mutex<Option<SocketAddr>>,
    random: Mutex<Random>,
    /// Whether it makes trouble now.
    active: Mutex<bool>,
    made: Mutex<std::collections::BTreeMap<Trouble, u64>>,
}

impl Proxy {
    /// Listens; answers with its address.
    fn start(seed: u64) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this = Arc::new(Self {
            backend: Mutex::default(),
            random: Mutex::new(Random::new(seed)),
            active: Mutex::default(),
            made: Mutex::default(),
        });
        let proxy = this.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let proxy = proxy.clone();
                // A connection that breaks is what this is about.
                std::thread::spawn(move || drop(proxy.serve(&client)));
            }
        });
        (this, url)
    }

    /// Serves one request; every answer ends its connection.
    fn serve(&self, client: &TcpStream) -> std::io::Result<()> {
        let Some(request) = read_request(client)? else { return Ok(()) };
        let trouble = self.choose(&request);
        match trouble {
            Trouble::Broken => return refuse(client, "500 Internal Server Error", ""),
            Trouble::TooMany => return refuse(client, "429 Too Many Requests", "retry-after: 1\r\n"),
            Trouble::CutRequest => {
                let mut backend = self.connect()?;
                backend.write_all(&request[..request.len() * 2 / 3])?;
                backend.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
            Trouble::Twice => {
                let mut first = self.connect()?;
                first.write_all(&request)?;
                first.read_to_end(&mut Vec::new())?;
            }
            Trouble::None | Trouble::CutAnswer | Trouble::Stalled => {}
        }
        let mut backend = self.connect()?;
        backend.write_all(&request)?;
        if trouble == Trouble::Stalled {
            std::thread::sleep(STALL);
            return client.shutdown(Shutdown::Both);
        }
        answer(&mut backend, client, trouble == Trouble::CutAnswer)
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.backend.lock().unwrap().unwrap())
    }

    fn choose(&self, request: &[u8]) -> Trouble {
        // Twice at the stream of orders would wait for ever for the end of the first.
        let streams = request.starts_with(b"GET /agent/v1/orders");
        if !*self.active.lock().unwrap() || streams {
            return Trouble::None;
        }
        let mut random = self.random.lock().unwrap();
        if random.below(10) < UNTOUCHED {
            return Trouble::None;
        }
        let trouble = TROUBLES[usize::try_from(random.below(6)).unwrap()];
        *self.made.lock().unwrap().entry(trouble).or_default() += 1;
        trouble
    }
}

/// The request, with a header that ends the connection after its answer.
fn read_request(client: &TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut reader = BufReader::new(client);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        assert!(!lower.starts_with("transfer-encoding:"), "the agent says how long its bodies are");
        if lower.starts_with("connection:") {
            continue;
        }
        if line == "\r\n" {
            break;
        }
        head.extend_from_slice(line.as_bytes());
    }
    head.extend_from_slice(b"connection: close\r\n\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    head.extend_from_slice(&body);
    Ok(Some(head))
}

fn refuse(mut client: &TcpStream, status: &str, headers: &str) -> std::io::Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
    client.write_all(answer.as_bytes())?;
    client.shutdown(Shutdown::Write)
}

/// Passes an answer on as it comes, or a part of it.
fn answer(backend: &mut TcpStream, mut client: &TcpStream, cut: bool) -> std::io::Result<()> {
    let mut buffer = [0; 16_384];
    loop {
        let read = backend.read(&mut buffer)?;
        if read == 0 || cut {
            client.write_all(&buffer[..read / 2])?;
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&buffer[..read])?;
    }
}

/// Short waits, so that a case takes seconds.
fn limits() -> serde_json::Value {
    json!({
        "reconnect_max_s": 1, "request_timeout_s": 2, "retry_first_s": 1, "spool_file_age_s": 1, "spool_file_bytes": 65_536,
        "upload_chunk_bytes": 65_536,
    })
}

#[test]
fn a_backend_in_trouble_ends_with_what_the_source_holds() {
    let cases = std::env::var("OUTRIDER_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(CASES);
    let truth = source::truth();
    let (proxy, url) = Proxy::start(1);
    let stack = Stack::start_by(&limits(), |backend| {
        *proxy.backend.lock().unwrap() =
            Some(backend.trim_start_matches("http://").trim_end_matches('/').parse().unwrap());
        url
    });
    stack.until_connected();
    for case in 0..cases {
        let (id, case) = (format!("mock-{case}"), format!("case {case}"));
        *proxy.active.lock().unwrap() = true;
        let exported = stack.order(export(&source::integrations(&id)));
        stack.until_state(&exported, CommandState::Done);
        stack.until_uploaded();
        *proxy.active.lock().unwrap() = false;
        let repeated = source::compare(&stack, &case, &[exported], &truth);
        assert_eq!(repeated, 0, "{case}: nobody died, so nothing came twice");
        source::nothing_is_new(&stack, &case, &id);
    }
    println!("{cases} cases; troubles: {:?}", proxy.made.lock().unwrap());
    assert!(!proxy.made.lock().unwrap().is_empty(), "there was trouble");
}

fn copy(from: &Path, to: &Path) {
    let copied = run(std::process::Command::new("cp").arg("-a").arg(from).arg(to));
    assert!(copied.status.success(), "copy {}", from.display());
}

/// Where the backend's data is, and where it is saved.
fn database(stack: &Stack) -> (PathBuf, PathBuf) {
    (stack.dir.path().join("backend"), stack.dir.path().join("saved"))
}

fn save_database(stack: &mut Stack) {
    stack.stop_backend();
    let (data, saved) = database(stack);
    copy(&data, &saved);
    stack.start_backend_again();
}

/// The backend must not run.
fn put_database_back(stack: &Stack) {
    let (data, saved) = database(stack);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(saved, data).unwrap();
}

#[test]
fn a_backend_that_comes_back_with_an_older_database_gets_the_files_that_it_lost() {
    let truth = source::truth();
    let mut stack = Stack::start(&limits());
    let before = stack.order(export(&source::integrations("before")));
    stack.until_state(&before, CommandState::Done);
    stack.until_uploaded();
    save_database(&mut stack);

    let lost = stack.order(export(&source::integrations("lost")));
    stack.until_state(&lost, CommandState::Done);
    stack.until_uploaded();
    source::compare(&stack, "before the loss", std::slice::from_ref(&lost), &truth);
    stack.stop_backend();
    put_database_back(&stack);
    stack.start_backend_again();

    let models = ["sourcecode.User", "sourcecode.Repo", "sourcecode.PullRequest"];
    until("the files that the backend lost", || {
        let objects: usize = models.iter().map(|model| stack.objects(&lost, model).len()).sum();
        (objects >= truth.len()).then_some(())
    });
    assert_eq!(source::compare(&stack, "after the loss", std::slice::from_ref(&lost), &truth), 0);
    assert_eq!(source::compare(&stack, "what it had", std::slice::from_ref(&before), &truth), 0);
    let after = stack.order(export(&source::integrations("after")));
    stack.until_state(&after, CommandState::Done);
}

#[test]
fn files_that_an_older_database_lost_and_nobody_keeps_are_told_until_all_is_exported_again() {
    let mut limits = limits();
    limits["sent_keep_hours"] = 0.into();
    let mut stack = Stack::start(&limits);
    stack.until_connected();
    save_database(&mut stack);
    let lost = stack.order(export(&source::integrations("lost")));
    stack.until_state(&lost, CommandState::Done);
    stack.until_uploaded();
    stack.stop_backend();
    put_database_back(&stack);
    // A service removes at its start what was sent before.
    stack.kill_service();
    stack.start_service();
    until("what was sent to go", || {
        stack.root().join("spool/sent").read_dir().unwrap().next().is_none().then_some(())
    });
    stack.start_backend_again();

    let told = until("the backend to be told", || Some(stack.agent().lost_files).filter(|it| *it > 0));
    let is_lost = || {
        let status = printed(&run(outrider(&stack.root()).arg("status")));
        status.contains(&format!("{told} files, which the backend lost"))
    };
    // What checkpoints leave out is still missing.
    let rest = stack.order(export(&source::integrations("lost")));
    stack.until_state(&rest, CommandState::Done);
    assert!(is_lost());

    let mut again = export(&source::integrations("lost"));
    if let Order::Export(order) = &mut again {
        order.reprocess_historical = true;
    }
    let again = stack.order(again);
    stack.until_state(&again, CommandState::Done);
    until("the agent to know that all is there again", || (!is_lost()).then_some(()));
    stack.until_uploaded();
    assert_eq!(source::compare(&stack, "again", &[again], &source::truth()), 0);
}
