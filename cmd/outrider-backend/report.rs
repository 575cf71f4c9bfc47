//! How a run of the program ends: the exit status, and what stderr says.

use std::process::ExitCode;

use outrider_backend::client::ClientError;
use outrider_protocol::exit::Exit;

/// Why the program could not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Error {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// Flags or input are not valid.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    /// The work failed, in words.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, message: message.into(), hint: None }
    }

    /// The work failed: the whole chain of an error, once.
    pub(crate) fn failure(err: &dyn std::error::Error) -> Self {
        Self::of(Exit::Failure, err)
    }

    /// An error with the exit status that fits it.
    pub(crate) fn of(exit: Exit, err: &dyn std::error::Error) -> Self {
        let mut message = err.to_string();
        let mut cause = err.source();
        while let Some(err) = cause {
            message.push_str(": ");
            message.push_str(&err.to_string());
            cause = err.source();
        }
        Self { exit, message, hint: None }
    }

    /// The same error with what a person can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ClientError> for Error {
    fn from(err: ClientError) -> Self {
        let hint = match &err {
            ClientError::Unreachable { .. } => {
                Some("start one with `outrider-backend serve`, or name another with --backend")
            }
            other => other.hint(),
        };
        let hint = hint.map(str::to_owned);
        Self { hint, ..Self::failure(&err) }
    }
}

/// Says what went wrong, and gives the exit status.
#[expect(clippy::print_stderr, reason = "this is where errors reach a person")]
pub(crate) fn finish(outcome: Result<Exit, Error>) -> ExitCode {
    let exit = outcome.unwrap_or_else(|error| {
        eprintln!("outrider-backend: {}", error.message);
        if let Some(hint) = error.hint {
            eprintln!("  hint: {hint}");
        }
        error.exit
    });
    ExitCode::from(exit.code())
}
