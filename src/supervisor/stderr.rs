//! Reading a child's stderr: never blocking the child, never growing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::cry::{Cry, Watch, left_out};

/// Bytes read at once: what a pipe holds on Linux.
const CHUNK: usize = 64 * 1024;

/// Where a child's stderr goes, beside the last lines that are always kept.
#[derive(Debug, Clone, Default)]
pub enum StderrTo {
    /// Nowhere else.
    #[default]
    Keep,
    /// Each line, without its end, is also sent here. A line that finds no room is dropped, and the next line with
    /// room is preceded by one that says how many were. The sender is dropped when the child's stderr has ended.
    Lines(mpsc::Sender<String>),
}

/// What is kept of a child's stderr for its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StderrTail {
    /// The most lines, those included in which the child says why it gives up and which came before the last ones.
    pub lines: usize,
    /// The most bytes of the last lines together.
    pub bytes: usize,
    /// The most bytes of one line, kept or sent; the rest of it is cut off, and a mark says how much.
    pub line_bytes: usize,
}

impl Default for StderrTail {
    /// A panic with its backtrace fits in; 64 children at once keep less than 2 MiB.
    fn default() -> Self {
        Self { lines: 60, bytes: 24 * 1024, line_bytes: 4 * 1024 }
    }
}

/// The last lines, shared by the task that reads and the owner of the child.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    bounds: StderrTail,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    watch: Watch,
}

impl Tail {
    pub(crate) fn new(bounds: StderrTail) -> Self {
        Self { bounds, kept: Arc::default() }
    }

    /// The lines kept, oldest first. They begin with those in which the child cried out that it gives up, also where these
    /// came before the last ones.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kept = self.kept();
        let first = kept.watch.seen() - kept.lines.len();
        match kept.watch.cry().filter(|it| it.lines.first().is_some_and(|(at, _)| *at < first)) {
            Some(cry) => led_by(cry, &kept, self.bounds.lines),
            None => kept.lines.iter().cloned().collect(),
        }
    }

    fn push(&self, line: String) {
        let mut kept = self.kept();
        kept.watch.see(&line);
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.lines.len() > self.bounds.lines || kept.bytes > self.bounds.bytes {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
        }
    }

    /// A panic while the lock was held cannot leave a half-made list behind that matters.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of a cry, a mark for what came between, and as many of the last lines as there is room for.
fn led_by(cry: &Cry, kept: &Kept, most: usize) -> Vec<String> {
    let room = most.saturating_sub(cry.lines.len() + 1).min(kept.lines.len());
    let from = kept.watch.seen() - room;
    let head: Vec<_> = cry.lines.iter().filter(|(at, _)| *at < from).collect();
    let begins = head.first().map_or(from, |(at, _)| *at);
    let between = from - begins - head.len();
    let mark = (between > 0).then(|| left_out(between));
    let tail = kept.lines.iter().skip(kept.lines.len() - room).cloned();
    head.into_iter().map(|(_, line)| line.clone()).chain(mark).chain(tail).collect()
}

/// Reads `stderr` to its end.
pub(crate) async fn read(mut stderr: impl AsyncRead + Unpin, tail: Tail, to: StderrTo) {
    let mut splitter = Splitter::new(tail.bounds.line_bytes);
    let mut outlet = Outlet { to, dropped: 0 };
    let mut chunk = vec![0; CHUNK];
    loop {
        match stderr.read(&mut chunk).await {
            Ok(0) => break,
            Ok(count) => splitter.feed(&chunk[..count], |line| {
                outlet.pass(&line);
                tail.push(line);
            }),
            Err(err) => {
                tail.push(format!("(reading stderr failed: {err})"));
                break;
            }
        }
    }
    if let Some(line) = splitter.rest() {
        outlet.pass(&line);
        tail.push(line);
    }
    outlet.end().await;
}

/// Cuts bytes into lines of bounded length.
struct Splitter {
    limit: usize,
    line: Vec<u8>,
    cut: usize,
}

impl Splitter {
    fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), cut: 0 }
    }

    fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = self.limit.saturating_sub(self.line.len()).min(text.len());
            self.line.extend_from_slice(&text[..room]);
            self.cut += text.len() - room;
            if whole {
                line(self.take());
            }
        }
    }

    /// What came after the last line feed.
    fn rest(&mut self) -> Option<String> {
        (!self.line.is_empty() || self.cut > 0).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let bytes = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        if self.cut > 0 {
            text.push_str(&format!(" … ({} bytes more)", self.cut));
        }
        self.line.clear();
        self.cut = 0;
        text
    }
}

/// Passes lines on without ever waiting, and counts what found no room.
struct Outlet {
    to: StderrTo,
    dropped: u64,
}

impl Outlet {
    fn pass(&mut self, line: &str) {
        let StderrTo::Lines(sender) = &self.to else { return };
        if self.dropped > 0 && sender.try_send(self.note()).is_ok() {
            self.dropped = 0;
        }
        let sent = if self.dropped > 0 { Err(()) } else { send(sender, line) };
        if sent.is_err() {
            self.dropped += 1;
        }
    }

    /// Says at last what was dropped. The child has closed stderr, so waiting for room blocks nobody; the owner of the
    /// child bounds it.
    async fn end(self) {
        let note = self.note();
        if let StderrTo::Lines(sender) = self.to
            && self.dropped > 0
        {
            // A receiver that is gone does not want to know.
            sender.send(note).await.unwrap_or_default();
        }
    }

    fn note(&self) -> String {
        format!(
            "({} lines of stderr were dropped here: they came faster than they could be taken)",
            self.dropped
        )
    }
}

/// A receiver that is gone wants nothing: nothing is dropped then.
fn send(sender: &mpsc::Sender<String>, line: &str) -> Result<(), ()> {
    match sender.try_reserve() {
        Ok(permit) => {
            permit.send(line.to_owned());
            Ok(())
        }
        Err(TrySendError::Closed(())) => Ok(()),
        Err(TrySendError::Full(())) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(text: &[u8], bounds: StderrTail) -> Vec<String> {
        let tail = Tail::new(bounds);
        read(text, tail.clone(), StderrTo::Keep).await;
        tail.lines()
    }

    #[tokio::test]
    async fn lines_are_split_bounded_and_made_text() {
        let bounds = StderrTail { lines: 10, bytes: 1000, line_bytes: 5 };
        let got = lines_of(b"one\r\n\n1234567\nb\xff\nlast", bounds).await;
        assert_eq!(got, ["one", "", "12345 … (2 bytes more)", "b\u{fffd}", "last"]);
    }

    #[tokio::test]
    async fn only_the_last_lines_within_both_bounds_are_kept() {
        let bounds = StderrTail { lines: 2, bytes: 1000, line_bytes: 100 };
        assert_eq!(lines_of(b"a\nb\nc\n", bounds).await, ["b", "c"]);
        let bounds = StderrTail { lines: 10, bytes: 5, line_bytes: 100 };
        assert_eq!(lines_of(b"aaa\nbbb\ncc\n", bounds).await, ["bbb", "cc"]);
    }

    #[tokio::test]
    async fn a_cry_before_a_trace_that_is_longer_than_what_is_kept_leads_the_last_lines() {
        let bounds = StderrTail { lines: 6, bytes: 1000, line_bytes: 100 };
        let frames: String = (0..40).map(|n| format!("main.f{n}()\n\t/a.go:{n}\n")).collect();
        let text = format!("starting\npanic: boom\n\ngoroutine 1 [running]:\n{frames}exit status 2\n");
        let got = lines_of(text.as_bytes(), bounds).await;
        let tail = ["main.f38()", "\t/a.go:38", "main.f39()", "\t/a.go:39", "exit status 2"];
        assert_eq!(got[..2], ["panic: boom", "  … (79 lines left out)"]);
        assert_eq!(got[2..], tail[1..]);
        assert_eq!(
            lines_of(b"panic: boom\n\ngoroutine 1:\n", bounds).await,
            ["panic: boom", "", "goroutine 1:"]
        );
    }

    #[tokio::test]
    async fn a_full_receiver_drops_lines_and_is_told_how_many() {
        let (sender, mut receiver) = mpsc::channel(2);
        let tail = Tail::new(StderrTail::default());
        let reading = tokio::spawn(read(&b"1\n2\n3\n4\n5\n"[..], tail.clone(), StderrTo::Lines(sender)));
        let mut got = Vec::new();
        // The reader runs until it waits for room, since nobody takes a line before it is polled.
        tokio::task::yield_now().await;
        while let Some(line) = receiver.recv().await {
            got.push(line);
        }
        reading.await.unwrap();
        assert_eq!(got[..2], ["1", "2"]);
        assert_eq!(got.len(), 3, "{got:?}");
        assert!(got[2].starts_with("(3 lines of stderr were dropped here"), "{got:?}");
        assert_eq!(tail.lines().len(), 5);
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_stops_nothing() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let tail = Tail::new(StderrTail::default());
        read(&b"1\n2\n"[..], tail.clone(), StderrTo::Lines(sender)).await;
        assert_eq!(tail.lines(), ["1", "2"]);
    }
}
