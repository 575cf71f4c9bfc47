//! Log lines that wait for another process or for the backend.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrider_protocol::action::LogBatch;
use outrider_protocol::log::{Fields, LogLine};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The longest message or set of fields that is passed on, in bytes. The rest is in the log file.
const LINE_BYTES: usize = 64 << 10;
/// What a line costs beside its texts: its JSON's names, time and level.
const LINE_OVERHEAD: usize = 96;

/// A queue of log lines, bounded in lines and in bytes. Adding never waits: when it is full, the oldest lines go, and
/// the next batch says how many.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    max_lines: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<(LogLine, usize)>,
    bytes: usize,
    dropped: u64,
    closed: bool,
    /// Since when something waits, but for what was taken.
    since: Option<Instant>,
}

impl Outbox {
    /// An empty queue for so many lines and bytes (of JSON, roughly).
    #[must_use]
    pub fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), max_lines: max_lines.max(1), max_bytes }
    }

    /// Adds a line. Never waits. After [`Outbox::close`] the line is dropped.
    pub fn push(&self, line: LogLine) {
        let line = shortened(line);
        let size = size_of(&line);
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.bytes += size;
        state.lines.push_back((line, size));
        state.since.get_or_insert_with(Instant::now);
        while state.lines.len() > self.max_lines || (state.bytes > self.max_bytes && state.lines.len() > 1) {
            state.drop_oldest();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Adds what another queue dropped, so that the loss is told.
    pub fn count_dropped(&self, lines: u64) {
        if lines > 0 {
            let mut state = self.state();
            state.dropped += lines;
            state.since.get_or_insert_with(Instant::now);
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// No more lines will come: waiters take what is left, then `None`.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }

    /// Waits for lines, and takes up to so many lines and bytes, at least one line. `None` when the queue is closed
    /// and empty. Dropping the future loses no line.
    pub async fn next_batch(&self, max_lines: usize, max_bytes: usize) -> Option<LogBatch> {
        self.gather(Duration::ZERO, max_lines, max_bytes).await
    }

    /// As [`Outbox::next_batch`], but it waits until the first line is `linger` old or the batch is full, so that lines
    /// travel together. The age counts from the line's arrival, also when an earlier wait was given up.
    pub async fn gather(&self, linger: Duration, max_lines: usize, max_bytes: usize) -> Option<LogBatch> {
        self.until(|state| state.closed || !state.is_empty()).await;
        if !linger.is_zero() {
            let full =
                |state: &State| state.closed || state.lines.len() >= max_lines || state.bytes >= max_bytes;
            let since = self.state().since.unwrap_or_else(Instant::now);
            // Passing the time is the usual case.
            drop(tokio::time::timeout_at(since + linger, self.until(full)).await);
        }
        self.take(max_lines, max_bytes)
    }

    /// Takes up to so many lines and bytes, without waiting. `None` when there is nothing.
    pub fn take(&self, max_lines: usize, max_bytes: usize) -> Option<LogBatch> {
        let mut state = self.state();
        if state.is_empty() {
            return None;
        }
        let mut batch = LogBatch { lines: Vec::new(), dropped: std::mem::take(&mut state.dropped) };
        let mut bytes = 0;
        while batch.lines.len() < max_lines.max(1) {
            let Some((line, size)) = state.lines.pop_front() else { break };
            if !batch.lines.is_empty() && bytes + size > max_bytes {
                state.lines.push_front((line, size));
                break;
            }
            bytes += size;
            state.bytes -= size;
            batch.lines.push(line);
        }
        if state.lines.is_empty() {
            state.since = None;
        }
        Some(batch)
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            // Registered before the look, so that a change in between wakes it.
            let changed = self.changed.notified();
            if reached(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    fn drop_oldest(&mut self) {
        if let Some((_, size)) = self.lines.pop_front() {
            self.bytes -= size;
            self.dropped += 1;
        }
    }
}

fn size_of(line: &LogLine) -> usize {
    LINE_OVERHEAD + line.source.len() + line.message.len() + fields_size(&line.fields)
}

fn fields_size(fields: &Fields) -> usize {
    if fields.is_empty() { 0 } else { serde_json::to_string(fields).map_or(0, |text| text.len()) }
}

fn shortened(mut line: LogLine) -> LogLine {
    if line.message.len() > LINE_BYTES {
        let cut = line.message.len() - LINE_BYTES;
        line.message.truncate(line.message.floor_char_boundary(LINE_BYTES));
        line.message.push_str(&format!("… ({cut} more bytes)"));
    }
    let fields = fields_size(&line.fields);
    if fields > LINE_BYTES {
        line.fields = Fields::new();
        line.fields.insert("fields_left_out_bytes".into(), fields.into());
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use outrider_protocol::log::Level;

    use super::*;

    fn line(message: &str) -> LogLine {
        LogLine {
            time: Timestamp::UNIX_EPOCH,
            level: Level::Info,
            source: "git".into(),
            message: message.into(),
            fields: Fields::new(),
        }
    }

    fn messages(batch: &LogBatch) -> Vec<&str> {
        batch.lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_says_how_many() {
        let outbox = Outbox::new(3, 1 << 20);
        for message in ["1", "2", "3", "4", "5"] {
            outbox.push(line(message));
        }
        let batch = outbox.take(2, 1 << 20).unwrap();
        assert_eq!((messages(&batch), batch.dropped), (vec!["3", "4"], 2));
        let batch = outbox.take(2, 1 << 20).unwrap();
        assert_eq!((messages(&batch), batch.dropped), (vec!["5"], 0));
        assert!(outbox.take(2, 1 << 20).is_none());
    }

    #[test]
    fn bytes_are_bounded_too_and_a_huge_line_is_shortened() {
        let outbox = Outbox::new(1000, 200_000);
        for _ in 0..10 {
            outbox.push(line(&"x".repeat(1 << 20)));
        }
        let batch = outbox.take(1000, usize::MAX).unwrap();
        assert_eq!((batch.lines.len(), batch.dropped), (3, 7));
        assert!(batch.lines[0].message.ends_with("x… (983040 more bytes)"));
    }

    #[test]
    fn a_batch_keeps_to_its_bytes_but_always_takes_one_line() {
        let outbox = Outbox::new(10, 1 << 20);
        outbox.push(line(&"x".repeat(1000)));
        outbox.push(line("2"));
        assert_eq!(outbox.take(10, 500).unwrap().lines.len(), 1);
        assert_eq!(messages(&outbox.take(10, 500).unwrap()), ["2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_travel_together_and_the_last_one_does_not_wait_for_another() {
        let outbox = Arc::new(Outbox::new(10, 1 << 20));
        let waiter = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.gather(Duration::from_secs(1), 10, 1 << 20).await }
        });
        tokio::task::yield_now().await;
        outbox.push(line("first"));
        tokio::time::sleep(Duration::from_millis(500)).await;
        outbox.push(line("last"));
        assert_eq!(messages(&waiter.await.unwrap().unwrap()), ["first", "last"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_are_given_up_do_not_delay_a_line() {
        let outbox = Outbox::new(10, 1 << 20);
        let pushed = Instant::now();
        outbox.push(line("1"));
        let linger = Duration::from_secs(1);
        let batch = loop {
            let wait = outbox.gather(linger, 10, 1 << 20);
            if let Ok(batch) = tokio::time::timeout(Duration::from_millis(300), wait).await {
                break batch.unwrap();
            }
        };
        assert_eq!((messages(&batch), pushed.elapsed()), (vec!["1"], linger));
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_is_left_and_then_nothing() {
        let outbox = Outbox::new(10, 1 << 20);
        outbox.push(line("last"));
        outbox.close();
        outbox.push(line("too late"));
        assert_eq!(messages(&outbox.next_batch(10, 100).await.unwrap()), ["last"]);
        assert!(outbox.next_batch(10, 100).await.is_none());
    }
}
