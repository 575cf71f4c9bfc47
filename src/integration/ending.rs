//! The end of input, held back for a moment while a call runs: what a shell piped in is still answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

use crate::lifeline::LAST_WORDS;
use crate::serve::Served;

/// By this time after the end of input, a call whose line came last has begun.
const BEGUN_WITHIN: Duration = Duration::from_millis(20);

/// A reader whose end is told when no call runs any more, or after [`LAST_WORDS`]; at once after `shutdown`.
pub(crate) struct HeldEnd<R> {
    inner: R,
    idle: watch::Receiver<bool>,
    end: watch::Receiver<Option<Served>>,
    held: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<R> HeldEnd<R> {
    pub(crate) fn new(inner: R, idle: watch::Receiver<bool>, end: watch::Receiver<Option<Served>>) -> Self {
        Self { inner, idle, end, held: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for HeldEnd<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
            if buf.filled().len() > before || buf.remaining() == 0 || self.end.borrow().is_some() {
                return Poll::Ready(Ok(()));
            }
            let mut idle = self.idle.clone();
            self.held = Some(Box::pin(async move {
                tokio::time::sleep(BEGUN_WITHIN).await;
                // Either way the end is told now.
                drop(tokio::time::timeout(LAST_WORDS, idle.wait_for(|idle| *idle)).await.map(|_| ()));
            }));
        }
        match &mut self.held {
            Some(held) => held.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}
