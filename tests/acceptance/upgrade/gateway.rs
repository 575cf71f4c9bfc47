//! What stands between agent and backend, and can fail. Its threads end with the test's process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Passes everything on.
    Pass,
    /// Answers every request with this status, without asking the backend.
    Status(u16),
    /// Cuts a connection on which the agent says that it has taken an order.
    NotTaken,
}

#[derive(Debug, Clone)]
pub(super) struct Gateway {
    mode: Arc<Mutex<Mode>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// Requests that were answered with a status, and connections that were cut.
    refused: Arc<Mutex<u32>>,
}

impl Gateway {
    pub(super) fn new() -> Self {
        Self {
            mode: Arc::new(Mutex::new(Mode::Pass)),
            open: Arc::new(Mutex::new(Vec::new())),
            refused: Arc::new(Mutex::new(0)),
        }
    }

    /// Changes what it does; what is connected is cut.
    pub(super) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
        for it in self.open.lock().unwrap().drain(..) {
            drop(it.shutdown(Shutdown::Both));
        }
    }

    pub(super) fn refused(&self) -> u32 {
        *self.refused.lock().unwrap()
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    /// Stands in front of a backend; answers its own address.
    pub(super) fn before(&self, backend: &str) -> String {
        let backend = backend.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let this = self.clone();
        std::thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                let (this, backend) = (this.clone(), backend.clone());
                std::thread::spawn(move || this.connected(agent, &backend));
            }
        });
        format!("http://{address}")
    }

    fn connected(&self, mut agent: TcpStream, backend: &str) {
        if let Mode::Status(status) = self.mode() {
            let mut request = [0; 65_536];
            if agent.read(&mut request).is_ok() {
                *self.refused.lock().unwrap() += 1;
                let answer =
                    format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                drop(agent.write_all(answer.as_bytes()));
            }
            return;
        }
        let Ok(backend) = TcpStream::connect(backend) else { return };
        let copies = [agent.try_clone(), backend.try_clone()];
        self.open.lock().unwrap().extend(copies.into_iter().flatten());
        let ways = [(agent.try_clone().unwrap(), backend.try_clone().unwrap()), (backend, agent)];
        for (way, (mut from, mut to)) in ways.into_iter().enumerate() {
            let this = self.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    if way == 0 && this.mode() == Mode::NotTaken && says_taken(&buffer[..read]) {
                        *this.refused.lock().unwrap() += 1;
                        break;
                    }
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                drop(to.shutdown(Shutdown::Both));
                drop(from.shutdown(Shutdown::Both));
            });
        }
    }
}

fn says_taken(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"command.accepted").is_some()
}
