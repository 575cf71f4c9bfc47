//! Raw JSON-RPC lines on stdin and stdout, written and read by hand.

use std::fmt;
use std::io::{self, BufRead, StdinLock, Stdout, Write};

use serde_json::{Value, json};

/// Why the work in hand ended early.
#[derive(Debug)]
pub(crate) enum End {
    /// The agent is gone: end of stdin, or nobody reads stdout.
    Gone,
    /// Exit with this status.
    Exit(u8),
    /// The agent cancelled the call.
    Cancelled,
    /// Something went wrong, or the agent did not behave as the protocol says.
    Failed(String),
    /// A call that is answered with this error, or was.
    Refused { code: i64, message: String },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the agent is gone"),
            Self::Exit(status) => write!(f, "exit with status {status}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Failed(message) | Self::Refused { message, .. } => f.write_str(message),
        }
    }
}

impl From<io::Error> for End {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::BrokenPipe => Self::Gone,
            _ => Self::Failed(err.to_string()),
        }
    }
}

impl End {
    /// The `error` member of an answer; those ends that can only be told by exiting stay errors.
    pub(crate) fn into_answer(self) -> Result<Value, Self> {
        match self {
            Self::Gone | Self::Exit(_) => Err(self),
            Self::Cancelled => Ok(json!({"code": -32800, "message": "cancelled"})),
            Self::Failed(message) => Ok(json!({"code": -32004, "message": message})),
            Self::Refused { code, message } => Ok(json!({"code": code, "message": message})),
        }
    }
}

/// What the agent sent.
#[derive(Debug)]
pub(crate) enum Message {
    /// A call to answer.
    Request { id: Value, method: String, params: Value },
    /// A notification.
    Notice { method: String },
    /// An answer, or an error without an id.
    Answer { id: Value, result: Result<Value, (i64, String)> },
}

/// Both pipes to the agent.
pub(crate) struct Link {
    stdin: StdinLock<'static>,
    stdout: Stdout,
    last_id: u64,
    /// Print things that are no messages before each message.
    pub(crate) chatter: bool,
}

impl Link {
    pub(crate) fn stdio() -> Self {
        Self { stdin: io::stdin().lock(), stdout: io::stdout(), last_id: 0, chatter: false }
    }

    /// The next message; none at the end of stdin. Lines that are none are skipped.
    pub(crate) fn read(&mut self) -> Result<Option<Message>, End> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.stdin.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if let Some(message) = serde_json::from_slice(&line).ok().and_then(parse) {
                return Ok(Some(message));
            }
        }
    }

    /// Reads and ignores everything until the end of stdin.
    pub(crate) fn ignore_all(&mut self) -> Result<(), End> {
        while self.read()?.is_some() {}
        Ok(())
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.stdout.write_all(bytes)?;
        Ok(self.stdout.flush()?)
    }

    /// Writes a message, or whatever else `value` is, as one line.
    pub(crate) fn write_line(&mut self, value: &Value) -> Result<(), End> {
        if self.chatter {
            self.write(b"Now I am working on it...\n\n{\"progress\": \"50%\"}\n[1, 2\n")?;
        }
        self.write(format!("{value}\n").as_bytes())
    }

    pub(crate) fn answer(&mut self, id: &Value, result: Result<Value, Value>) -> Result<(), End> {
        self.write_line(&match result {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        })
    }

    pub(crate) fn notify(&mut self, method: &str, params: &Value) -> Result<(), End> {
        self.write_line(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
    }

    /// An id that was not used yet.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Writes a request and does not wait for the answer.
    pub(crate) fn request(&mut self, id: u64, method: &str, params: &Value) -> Result<(), End> {
        self.write_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
    }

    /// Calls and waits for the answer. An error in it is [`End::Refused`].
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Result<Value, End> {
        let id = self.new_id();
        self.request(id, method, params)?;
        self.wait_for(id)
    }

    /// Waits for an answer to request `id`. Other answers are skipped, calls are refused, `cancel` ends the wait.
    pub(crate) fn wait_for(&mut self, id: u64) -> Result<Value, End> {
        loop {
            match self.read()?.ok_or(End::Gone)? {
                Message::Answer { id: answered, result } if answered == id => {
                    return result.map_err(|(code, message)| End::Refused { code, message });
                }
                Message::Notice { method } if method == "cancel" => return Err(End::Cancelled),
                Message::Request { id, .. } => {
                    self.answer(&id, Err(json!({"code": -32600, "message": "busy with an export"})))?;
                }
                Message::Answer { .. } | Message::Notice { .. } => {}
            }
        }
    }
}

fn parse(mut line: Value) -> Option<Message> {
    let id = line.get("id").cloned();
    if let Some(method) = line.get("method").and_then(Value::as_str).map(str::to_owned) {
        return Some(match id {
            Some(id) => Message::Request { id, method, params: line["params"].take() },
            None => Message::Notice { method },
        });
    }
    let id = id?;
    if let Some(error) = line.get("error") {
        let code = error["code"].as_i64().unwrap_or_default();
        let message = error["message"].as_str().unwrap_or_default().to_owned();
        return Some(Message::Answer { id, result: Err((code, message)) });
    }
    Some(Message::Answer { id, result: Ok(line.get_mut("result")?.take()) })
}
