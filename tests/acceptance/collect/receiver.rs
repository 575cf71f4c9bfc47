//! A receiver of HTTP that answers what it is told to, and keeps what it was sent.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// A receiver on a port of its own, until the test ends.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    /// Gives these answers in order, then takes everything.
    pub(super) fn answering(answers: &[(u16, &str)]) -> Self {
        let answers = answers.iter().map(|(status, text)| (*status, (*text).to_owned())).collect();
        Self::start(Some(answers))
    }

    /// Never answers.
    pub(super) fn hanging() -> Self {
        Self::start(None)
    }

    /// Takes everything, on a port on which nobody answered before.
    pub(super) fn at(port: u16) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), Some(VecDeque::new()))
    }

    fn start(answers: Option<VecDeque<(u16, String)>>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answers)
    }

    fn on(listener: TcpListener, answers: Option<VecDeque<(u16, String)>>) -> Self {
        let it = Self { port: listener.local_addr().unwrap().port(), got: Arc::default() };
        let got = Arc::clone(&it.got);
        std::thread::spawn(move || {
            let mut answers = answers;
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                got.lock().unwrap().push(request);
                match &mut answers {
                    Some(answers) => answer(&mut stream, answers.pop_front()),
                    None => open.push(stream),
                }
            }
        });
        it
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

/// A request; nothing when the other end leaves.
fn read(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|it| it.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Got { head, body })
}

fn answer(stream: &mut TcpStream, answer: Option<(u16, String)>) {
    let (status, text) = answer.unwrap_or((204, String::new()));
    let length = text.len();
    // Whoever left does not want to know.
    drop(write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    ));
}
