//! The logs of commands: each batch once, the newest lines of each command.

use outrider_protocol::control::LogParams;
use outrider_protocol::ids::CommandId;
use outrider_protocol::log::{Fields, Level, LogLine};

use super::{During, Store, StoreError, count, from_json, to_json, uncount};
use crate::admin::NumberedLine;

/// The name under which the backend itself writes into a command's log.
const OWN_SOURCE: &str = "outrider-backend";

/// Batches of a command that are known again when they come twice. An agent repeats only those few that were not
/// answered.
const BATCHES_KNOWN: u64 = 1000;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogBounds {
    /// Lines of a command: the newest.
    pub(crate) lines: u32,
    /// Bytes of a line's message; the rest is cut off.
    pub(crate) message_bytes: usize,
}

impl Store {
    /// Appends a batch to a command's log, once. Answers whether it was new.
    pub(crate) async fn append_log(
        &self,
        mut params: LogParams,
        bounds: LogBounds,
    ) -> Result<bool, StoreError> {
        const WHAT: &str = "store lines of a log";
        let mut tx = self.begin().await.during(WHAT)?;
        let first =
            sqlx::query("INSERT INTO log_batch (command, batch) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(params.command.as_str())
                .bind(count(params.batch))
                .execute(&mut *tx)
                .await
                .during(WHAT)?;
        if first.rows_affected() == 0 {
            return Ok(false);
        }
        let (mut number,): (i64,) =
            sqlx::query_as("SELECT COALESCE(MAX(seq), 0) FROM log_line WHERE command = $1")
                .bind(params.command.as_str())
                .fetch_one(&mut *tx)
                .await
                .during(WHAT)?;
        let dropped = dropped_line(&params);
        for line in dropped.into_iter().chain(std::mem::take(&mut params.log.lines)) {
            number += 1;
            sqlx::query("INSERT INTO log_line (command, seq, line) VALUES ($1, $2, $3)")
                .bind(params.command.as_str())
                .bind(number)
                .bind(to_json(&shortened(line, bounds.message_bytes), WHAT)?)
                .execute(&mut *tx)
                .await
                .during(WHAT)?;
        }
        sqlx::query("DELETE FROM log_line WHERE command = $1 AND seq <= $2")
            .bind(params.command.as_str())
            .bind(number - i64::from(bounds.lines))
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
        sqlx::query("DELETE FROM log_batch WHERE command = $1 AND batch < $2")
            .bind(params.command.as_str())
            .bind(count(params.batch.saturating_sub(BATCHES_KNOWN)))
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        Ok(true)
    }

    /// Lines of a command's log, oldest first: those after a number, or else the newest.
    pub(crate) async fn log_lines(
        &self,
        command: &CommandId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<NumberedLine>, StoreError> {
        const WHAT: &str = "read a command's log";
        let statement = match after {
            Some(_) => "SELECT seq, line FROM log_line WHERE command = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            None => {
                "SELECT seq, line FROM (SELECT seq, line FROM log_line WHERE command = $1 AND seq > $2
                                        ORDER BY seq DESC LIMIT $3) ORDER BY seq"
            }
        };
        let rows: Vec<(i64, String)> = sqlx::query_as(statement)
            .bind(command.as_str())
            .bind(count(after.unwrap_or(0)))
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await
            .during(WHAT)?;
        rows.into_iter()
            .map(|(number, line)| Ok(NumberedLine { number: uncount(number), line: from_json(&line, WHAT)? }))
            .collect()
    }
}

/// Says how many lines the agent dropped before this batch.
fn dropped_line(params: &LogParams) -> Option<LogLine> {
    let dropped = params.log.dropped;
    let time = params.log.lines.first().map_or_else(jiff::Timestamp::now, |line| line.time);
    (dropped > 0).then(|| LogLine {
        time,
        level: Level::Warn,
        source: OWN_SOURCE.into(),
        message: format!("{dropped} lines before this one were dropped by the agent: too many waited"),
        fields: Fields::new(),
    })
}

fn shortened(mut line: LogLine, limit: usize) -> LogLine {
    if line.message.len() > limit {
        let end = (0..=limit).rev().find(|at| line.message.is_char_boundary(*at)).unwrap_or(0);
        let cut = line.message.len() - end;
        line.message.truncate(end);
        line.message.push_str(&format!("… ({cut} bytes cut off)"));
    }
    line
}
