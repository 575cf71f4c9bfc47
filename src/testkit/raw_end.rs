//! The other end of a link, by hand: a test says and hears lines, right ones and wrong ones.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

use crate::soon;

/// The other end of a link, by hand.
#[derive(Debug)]
pub struct RawEnd {
    reader: Option<BufReader<DuplexStream>>,
    writer: Option<DuplexStream>,
}

/// A request that [`RawEnd::asked`] heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// To answer with.
    pub id: Value,
    /// What it asks for.
    pub method: String,
    /// `null` where they were left out.
    pub params: Value,
}

/// A link of which the test has one end. The two streams, to read from and to write to, are for whoever is tested.
/// Each way holds `room` bytes that nobody has read yet, as a pipe does.
#[must_use]
pub fn raw_link(room: usize) -> (RawEnd, DuplexStream, DuplexStream) {
    let (their_writer, reader) = tokio::io::duplex(room);
    let (writer, their_reader) = tokio::io::duplex(room);
    (RawEnd { reader: Some(BufReader::new(reader)), writer: Some(writer) }, their_reader, their_writer)
}

impl RawEnd {
    /// Writes one line.
    ///
    /// # Panics
    /// When nobody reads it, or the end was closed.
    pub async fn say(&mut self, line: &str) {
        self.say_bytes(format!("{line}\n").as_bytes()).await;
    }

    /// Writes exactly these bytes.
    ///
    /// # Panics
    /// As [`RawEnd::say`].
    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        let Err(err) = self.try_say(bytes).await else { return };
        panic!("cannot write to the tested end: {err}");
    }

    /// The same, where the other end may be gone. Waits as long as nobody reads.
    ///
    /// # Errors
    /// Of the stream.
    pub async fn try_say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(writer) = &mut self.writer else { panic!("the writing side was closed by the test") };
        writer.write_all(bytes).await
    }

    /// Writes a request.
    pub async fn call(&mut self, id: impl Into<Value>, method: &str, params: Value) {
        let request = json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params});
        self.say(&request.to_string()).await;
    }

    /// Writes a notification.
    pub async fn notice(&mut self, method: &str, params: Value) {
        self.say(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()).await;
    }

    /// Answers a request.
    pub async fn answer(&mut self, id: &Value, result: Value) {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()).await;
    }

    /// Answers a request with an error.
    pub async fn refuse(&mut self, id: &Value, code: i32, message: &str) {
        let error = json!({"code": code, "message": message});
        self.say(&json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()).await;
    }

    /// The next line, without its line feed; `None` at the end.
    ///
    /// # Panics
    /// When none comes, the stream fails, or the test does not listen any more.
    pub async fn try_hear(&mut self) -> Option<String> {
        let Some(reader) = &mut self.reader else { panic!("the reading side was closed by the test") };
        let mut line = String::new();
        match soon("a line of the tested end", reader.read_line(&mut line)).await {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end_matches('\n').to_owned()),
            Err(err) => panic!("cannot read from the tested end: {err}"),
        }
    }

    /// The next line.
    ///
    /// # Panics
    /// As [`RawEnd::try_hear`], and at the end.
    pub async fn hear(&mut self) -> String {
        let Some(line) = self.try_hear().await else {
            panic!("expected a line, found the end of the stream")
        };
        line
    }

    /// The next line as JSON.
    ///
    /// # Panics
    /// As [`RawEnd::hear`], and when it is no JSON.
    pub async fn hear_json(&mut self) -> Value {
        let line = self.hear().await;
        match serde_json::from_str(&line) {
            Ok(value) => value,
            Err(err) => panic!("the tested end wrote a line that is no JSON ({err}): {line}"),
        }
    }

    /// The next line, which must be a request.
    ///
    /// # Panics
    /// When it is something else.
    pub async fn asked(&mut self, method: &str) -> Asked {
        let mut heard = self.hear_json().await;
        assert_eq!(heard["method"], method, "expected a request, found {heard}");
        assert!(heard.get("id").is_some(), "expected a request, found the notification {heard}");
        Asked { id: heard["id"].take(), method: method.to_owned(), params: heard["params"].take() }
    }

    /// The parameters of the next line, which must be a notification.
    ///
    /// # Panics
    /// When it is something else.
    pub async fn told(&mut self, method: &str) -> Value {
        let mut heard = self.hear_json().await;
        assert_eq!(heard["method"], method, "expected a notification, found {heard}");
        assert!(heard.get("id").is_none(), "expected a notification, found the request {heard}");
        heard["params"].take()
    }

    /// The end of the stream must come next.
    ///
    /// # Panics
    /// When a line comes.
    pub async fn hear_end(&mut self) {
        if let Some(line) = self.try_hear().await {
            panic!("expected the end of the stream, found {line}");
        }
    }

    /// Closes the side that says: the tested end reads the end of its stream.
    pub fn hang_up(&mut self) {
        self.writer = None;
    }

    /// Closes the side that hears: the tested end cannot write any more.
    pub fn stop_listening(&mut self) {
        self.reader = None;
    }
}
