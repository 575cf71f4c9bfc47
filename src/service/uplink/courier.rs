//! Sends one command's mail to the backend, each letter until it is answered.

use std::sync::Arc;

use jiff::Timestamp;
use outrider_home::Limits;
use outrider_protocol::Call;
use outrider_protocol::action::LogBatch;
use outrider_protocol::control::{
    Accepted, CommandParams, Ended, Log, LogParams, ProgressChanged, ProgressParams, Running,
};
use outrider_protocol::ids::CommandId;
use outrider_protocol::log::{Fields, Level, LogLine};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Timing;
use super::backoff::Backoff;
use super::http::{Http, Verdict};
use crate::mail::{Letter, Mail};
use crate::snapshot::LinkStatus;
use crate::task::chain;

/// Carries one command's mail.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) command: CommandId,
    pub(crate) mail: Arc<Mail>,
    pub(crate) http: Http,
    pub(crate) timing: Timing,
    pub(crate) link: watch::Receiver<LinkStatus>,
    pub(crate) log_batch_lines: usize,
    pub(crate) log_batch_bytes: usize,
}

impl Courier {
    pub(crate) fn new(
        command: CommandId,
        mail: Arc<Mail>,
        http: Http,
        link: watch::Receiver<LinkStatus>,
        (timing, limits): (&Timing, &Limits),
    ) -> Self {
        Self {
            command,
            mail,
            http,
            timing: timing.clone(),
            link,
            log_batch_lines: limits.log_batch_lines,
            log_batch_bytes: limits.log_batch_bytes,
        }
    }

    /// Ends when the backend has answered the command's outcome.
    ///
    /// The order of what is told: acceptance, start, then log and progress as they come, and the outcome after the
    /// last of them.
    pub(crate) async fn run(self) {
        let mut batch = 0;
        let mut progress_from = Instant::now();
        loop {
            let letter = match self.mail.urgent() {
                Some(letter) => letter,
                None => self.next(progress_from).await,
            };
            match letter {
                Letter::Accepted(at) => self.deliver::<Accepted>(&self.params(at)).await,
                Letter::Running(at) => self.deliver::<Running>(&self.params(at)).await,
                Letter::Log(log) => {
                    let params = LogParams { command: self.command.clone(), batch, log: with_loss(log) };
                    self.deliver::<Log>(&params).await;
                    batch += 1;
                }
                Letter::Progress(progress) => {
                    let params = ProgressParams { command: self.command.clone(), progress };
                    self.deliver::<ProgressChanged>(&params).await;
                    progress_from = Instant::now() + self.timing.progress_every;
                }
                Letter::Ended(ended) => return self.deliver::<Ended>(&ended).await,
            }
        }
    }

    /// Waits for the next letter, progress not before `progress_from`. Once the command has ended, nothing waits.
    async fn next(&self, progress_from: Instant) -> Letter {
        loop {
            if self.mail.has_ended() {
                let log = self.mail.log.take(self.log_batch_lines, self.log_batch_bytes).map(Letter::Log);
                let rest = log.or_else(|| self.mail.changed_nodes()).or_else(|| self.mail.last());
                if let Some(letter) = rest {
                    return letter;
                }
            }
            if Instant::now() >= progress_from
                && let Some(letter) = self.mail.changed_nodes()
            {
                return letter;
            }
            tokio::select! {
                biased;
                () = self.mail.added() => {
                    if let Some(letter) = self.mail.urgent() {
                        return letter;
                    }
                }
                () = sleep_until(progress_from), if progress_from > Instant::now() => {}
                batch = self.log() => return Letter::Log(batch),
            }
        }
    }

    /// Waits for log lines; for ever when none will come.
    async fn log(&self) -> LogBatch {
        let batch =
            self.mail.log.gather(self.timing.log_linger, self.log_batch_lines, self.log_batch_bytes).await;
        match batch {
            Some(batch) => batch,
            None => std::future::pending().await,
        }
    }

    fn params(&self, at: Timestamp) -> CommandParams {
        CommandParams { command: self.command.clone(), at }
    }

    /// Calls until it is answered. An answer that says that it will never be taken counts as one.
    async fn deliver<M: Call>(&self, params: &M::Params) {
        let mut backoff = Backoff::new(&self.timing);
        let mut link = self.link.clone();
        loop {
            link.borrow_and_update();
            let err = match self.http.call::<M>(params).await {
                Ok(_) => return,
                Err(err) => err,
            };
            let error = chain(&err);
            if err.verdict() == Verdict::GiveUp {
                tracing::error!(command = %self.command, method = M::NAME, error, "The backend does not take this.");
                return;
            }
            tracing::debug!(command = %self.command, method = M::NAME, error, "Not delivered; it is tried again.");
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                // As soon as the backend is back.
                Ok(_) = link.wait_for(LinkStatus::is_connected), if !link.borrow().is_connected() => {}
            }
        }
    }
}

/// Says, in its place in the log, how many lines were dropped.
fn with_loss(mut batch: LogBatch) -> LogBatch {
    if batch.dropped > 0 {
        let count = batch.dropped;
        let time = batch.lines.first().map_or_else(Timestamp::now, |line| line.time);
        let message =
            format!("{count} lines of the log were dropped here: more came than could wait for the backend");
        let line = LogLine {
            time,
            level: Level::Warn,
            source: "service".to_owned(),
            message,
            fields: Fields::new(),
        };
        batch.lines.insert(0, line);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_lines_are_said_in_their_place() {
        let batch = with_loss(LogBatch { lines: Vec::new(), dropped: 7 });
        assert!(batch.lines[0].message.starts_with("7 lines of the log were dropped here"));
        assert!(with_loss(LogBatch::default()).lines.is_empty());
    }
}
