//! Free ports, and plain requests to whoever listens there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// A free port; somebody else may take it before it is used, which the start would say.
pub(super) fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A request without a body; nothing where nobody answers.
pub(super) fn ask(http: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", http)).ok()?;
    write!(stream, "{request} HTTP/1.0\r\nhost: x\r\ncontent-length: 0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}
