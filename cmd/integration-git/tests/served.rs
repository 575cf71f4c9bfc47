//! A web server for repositories: git's own, `git http-backend`, behind basic authentication. While it answers, it looks at
//! every process of the machine for the secret.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::made::Made;

pub(crate) const USER: &str = "reader";
pub(crate) const SECRET: &str = "s3cr3t+/of=the?source";
/// `reader:s3cr3t+/of=the?source`.
const AUTHORIZATION: &str = "authorization: Basic cmVhZGVyOnMzY3IzdCsvb2Y9dGhlP3NvdXJjZQ==";

/// Serves the folder that a repository lies in, as long as the test runs.
pub(crate) struct Served {
    address: SocketAddr,
    leaks: Arc<Mutex<Vec<String>>>,
    stalled: Arc<AtomicBool>,
}

impl Served {
    pub(crate) fn new(made: &Made) -> Self {
        let root = PathBuf::from(made.path()).parent().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let leaks = Arc::<Mutex<Vec<String>>>::default();
        let seen = leaks.clone();
        let stalled = Arc::<AtomicBool>::default();
        let stalls = stalled.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, seen, stalls) = (root.clone(), seen.clone(), stalls.clone());
                std::thread::spawn(move || {
                    seen.lock().unwrap().extend(leaked());
                    // A client that goes away is none of the server's trouble.
                    drop(answer(stream, &root, &stalls));
                });
            }
        });
        Self { address, leaks, stalled }
    }

    /// The address of a repository by its folder's name.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// From now on it takes wishes for objects and does not answer them, or does again.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Processes in whose arguments or environment the secret stood.
    pub(crate) fn leaks(&self) -> Vec<String> {
        self.leaks.lock().unwrap().clone()
    }
}

/// Where there is no `/proc`, nothing is found.
fn leaked() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let files = processes.flat_map(|it| [it.path().join("cmdline"), it.path().join("environ")]);
    let texts = files.filter_map(|it| Some((it.clone(), std::fs::read(it).ok()?)));
    texts
        .filter(|(_, text)| memchr::memmem::find(text, SECRET.as_bytes()).is_some())
        .map(|(path, text)| format!("{}: {}", path.display(), String::from_utf8_lossy(&text)))
        .collect()
}

fn answer(stream: TcpStream, root: &std::path::Path, stalled: &AtomicBool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut stream = stream;
    if !head.iter().any(|it| it.eq_ignore_ascii_case(AUTHORIZATION) || it.ends_with(&AUTHORIZATION[15..])) {
        return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let field = |name: &str| {
        let found = head.iter().find(|it| it.to_ascii_lowercase().starts_with(&format!("{name}: ")));
        found.map(|it| it[name.len() + 2..].to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; field("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    while stalled.load(Ordering::SeqCst) && memchr::memmem::find(&body, b"command=fetch").is_some() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let made = backend(
        root,
        &[
            ("REQUEST_METHOD", method),
            ("PATH_INFO", path),
            ("QUERY_STRING", query),
            ("CONTENT_TYPE", &field("content-type")),
            ("CONTENT_LENGTH", &body.len().to_string()),
            ("HTTP_CONTENT_ENCODING", &field("content-encoding")),
            ("GIT_PROTOCOL", &field("git-protocol")),
        ],
        &body,
    );
    let end = memchr::memmem::find(&made, b"\r\n\r\n").unwrap_or(0);
    let headers = String::from_utf8_lossy(&made[..end]).into_owned();
    let status = headers.lines().find_map(|it| it.strip_prefix("Status: ")).unwrap_or("200 OK");
    stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n").as_bytes())?;
    stream.write_all(&made)
}

#[expect(clippy::disallowed_methods, reason = "the tests serve repositories with git itself")]
fn backend(root: &std::path::Path, variables: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut git = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("REMOTE_USER", USER)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(body).unwrap();
    git.wait_with_output().unwrap().stdout
}
