//! A server of HTTP whose answers a test decides on, request by request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// `GET /path?query`.
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1.as_str())
    }

    /// The value of a parameter of the query, as it stands there.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let query = self.line.split_once('?')?.1;
        query.split('&').find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
    }

    pub(super) fn is(&self, start: &str) -> bool {
        self.line.starts_with(start)
    }
}

/// What is answered.
pub(super) enum Answer {
    /// A status, headers, a body.
    With(u16, Vec<(String, String)>, String),
    /// Nothing, ever.
    Hang,
    /// A body without an end.
    Endless,
}

impl Answer {
    pub(super) fn ok(body: impl Into<String>) -> Self {
        Self::With(200, Vec::new(), body.into())
    }

    pub(super) fn status(status: u16) -> Self {
        Self::With(status, Vec::new(), format!("status {status}"))
    }
}

/// A running one. Its threads end with the test.
#[derive(Clone)]
pub(super) struct Simulator {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Simulator {
    /// On a free port.
    pub(super) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let it = Self { port, asked: Arc::default() };
        let (asked, answer) = (Arc::clone(&it.asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                std::thread::spawn(move || while serve(&stream, &asked, &*answer).is_some() {});
            }
        });
        it
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// All requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests that begin so.
    pub(super) fn of(&self, start: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|it| it.is(start)).collect()
    }
}

/// One request; nothing when the connection is over.
fn serve(
    stream: &TcpStream,
    asked: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Answer + Send + Sync),
) -> Option<()> {
    // One request at a time: nothing is read ahead that would be lost with it.
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        let read = reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let line = next()?;
    let mut headers = Vec::new();
    while let Some((name, value)) = next()?.split_once(": ") {
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut it = Asked { line: line.rsplit_once(' ')?.0.to_owned(), headers, body: String::new() };
    let length: u64 = it.header("content-length").and_then(|it| it.parse().ok()).unwrap_or_default();
    reader.take(length).read_to_string(&mut it.body).ok()?;
    asked.lock().unwrap().push(it.clone());
    let mut stream = stream;
    match answer(&it) {
        Answer::With(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
            headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()
        }
        Answer::Hang => {
            // Until the other end lets go.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).ok()?;
            None
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n").ok()?;
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
            while stream.write_all(&chunk).is_ok() {}
            None
        }
    }
}
