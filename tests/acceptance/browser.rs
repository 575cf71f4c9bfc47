//! Pages as somebody who is logged in gets them.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A browser with its cookie.
pub(crate) struct Browser {
    address: String,
    cookie: String,
}

impl Browser {
    /// Opens a link that logs in.
    pub(crate) fn log_in(link: &str) -> Self {
        let (address, secret) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut browser = Self { address: address.to_owned(), cookie: String::new() };
        let answer = browser.get(&format!("/{secret}"));
        let cookie = answer.lines().find_map(|it| it.strip_prefix("set-cookie: ")).unwrap();
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        browser
    }

    /// The whole answer, headers included.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (host, cookie) = (&self.address, &self.cookie);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}
