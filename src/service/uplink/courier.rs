//! Sends one command's mail to the backend, each letter until it is answered.

use std::sync::Arc;

use jiff::Timestamp;
use outrider_home::Limits;
use outrider_protocol::Call;
use outrider_protocol::action::LogBatch;
use outrider_protocol::control::{
    Accepted, CommandParams, Ended, EndedParams, Log, LogParams, ProgressChanged, ProgressParams, Running,
};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::log::{Fields, Level, LogLine};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::http::CallError;
use super::insist::Insist;
use crate::mail::{Letter, Mail};
use crate::outcome::reduced;

/// What a courier carries.
#[derive(Debug)]
pub(crate) struct Letters {
    pub(crate) command: CommandId,
    pub(crate) mail: Arc<Mail>,
    /// How often the command was started before this service: what was told then is not told again, and the batches of
    /// its log have other numbers.
    pub(crate) attempts: u32,
}

/// Carries one command's mail.
#[derive(Debug)]
pub(crate) struct Courier {
    command: CommandId,
    mail: Arc<Mail>,
    insist: Insist,
    first_batch: u64,
    log_batch_lines: usize,
    log_batch_bytes: usize,
}

impl Courier {
    pub(crate) fn new(letters: Letters, insist: Insist, limits: &Limits) -> Self {
        let Letters { command, mail, attempts } = letters;
        Self {
            command,
            mail,
            insist,
            // Far more batches than one service sends of a command.
            first_batch: u64::from(attempts) << 32,
            log_batch_lines: limits.log_batch_lines,
            log_batch_bytes: limits.log_batch_bytes,
        }
    }

    /// Ends when the backend has answered the command's outcome; or, of a command that goes on in the service's next life,
    /// when it has been told what there is. Answers whether there was an outcome.
    ///
    /// The order of what is told: acceptance, start, then log and progress as they come, and the outcome after the
    /// last of them.
    pub(crate) async fn run(self) -> bool {
        let mut batch = self.first_batch;
        let mut progress_from = Instant::now();
        loop {
            let letter = match self.mail.urgent() {
                Some(letter) => letter,
                None => match self.next(progress_from).await {
                    Some(letter) => letter,
                    None => return false,
                },
            };
            match letter {
                Letter::Accepted(at) => self.tell::<Accepted>(&self.params(at)).await,
                Letter::Running(at) => self.tell::<Running>(&self.params(at)).await,
                Letter::Log(log) => {
                    let params = LogParams { command: self.command.clone(), batch, log: with_loss(log) };
                    self.tell::<Log>(&params).await;
                    batch += 1;
                }
                Letter::Progress(progress) => {
                    let params = ProgressParams { command: self.command.clone(), progress };
                    self.tell::<ProgressChanged>(&params).await;
                    progress_from = Instant::now() + self.insist.timing.progress_every;
                }
                Letter::Ended(ended) => {
                    self.end(&ended).await;
                    return true;
                }
            }
        }
    }

    /// Waits for the next letter, progress not before `progress_from`. Once the command has ended, nothing waits. `None`
    /// when there is none and none will come.
    async fn next(&self, progress_from: Instant) -> Option<Letter> {
        loop {
            let retired = self.mail.is_retired();
            if retired || self.mail.has_ended() {
                let log = self.mail.log.take(self.log_batch_lines, self.log_batch_bytes).map(Letter::Log);
                let rest = log.or_else(|| self.mail.changed_nodes()).or_else(|| self.mail.last());
                if rest.is_some() || retired {
                    return rest;
                }
            }
            if Instant::now() >= progress_from
                && let Some(letter) = self.mail.changed_nodes()
            {
                return Some(letter);
            }
            tokio::select! {
                biased;
                () = self.mail.added() => {
                    if let Some(letter) = self.mail.urgent() {
                        return Some(letter);
                    }
                }
                () = sleep_until(progress_from), if progress_from > Instant::now() => {}
                batch = self.log() => return Some(Letter::Log(batch)),
            }
        }
    }

    /// Waits for log lines; for ever when none will come.
    async fn log(&self) -> LogBatch {
        let linger = self.insist.timing.log_linger;
        match self.mail.log.gather(linger, self.log_batch_lines, self.log_batch_bytes).await {
            Some(batch) => batch,
            None => std::future::pending().await,
        }
    }

    fn params(&self, at: Timestamp) -> CommandParams {
        CommandParams { command: self.command.clone(), at }
    }

    /// Tells the outcome until the backend has taken it, or says that it has no such command. Where it does not take it as
    /// it is (too long for a proxy, say), it gets what matters of it in few words; until it takes either, both are tried.
    async fn end(&self, ended: &EndedParams) {
        let mut backoff = Backoff::new(&self.insist.timing);
        loop {
            let Err(refusal) = self.deliver::<Ended>(ended).await else { return };
            if refusal.is_no_command() {
                return;
            }
            let outcome = reduced(&ended.outcome, &chain(&refusal));
            let params = EndedParams { command: self.command.clone(), outcome, ended_at: ended.ended_at };
            match self.deliver::<Ended>(&params).await {
                Err(refusal) if !refusal.is_no_command() => {
                    self.insist.pause(&mut backoff, &refusal).await;
                }
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Tells what the command can do without.
    async fn tell<M: Call>(&self, params: &M::Params) {
        // A refusal is in the log.
        drop(self.deliver::<M>(params).await);
    }

    async fn deliver<M: Call>(&self, params: &M::Params) -> Result<(), CallError> {
        self.insist.call::<M>(self.command.as_str(), params).await.map(drop)
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
