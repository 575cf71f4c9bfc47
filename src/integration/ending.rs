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

/// A reader whose end is told when no call runs any more, at once after `shutdown`; or after [`LAST_WORDS`], and then as
/// [`Served::Orphaned`].
pub(crate) struct HeldEnd<R> {
    inner: R,
    idle: watch::Receiver<bool>,
    end: watch::Sender<Option<Served>>,
    state: State,
}

enum State {
    Reading,
    Held(Pin<Box<dyn Future<Output = ()> + Send>>),
    Ended,
}

impl<R> HeldEnd<R> {
    pub(crate) fn new(inner: R, idle: watch::Receiver<bool>, end: watch::Sender<Option<Served>>) -> Self {
        Self { inner, idle, end, state: State::Reading }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for HeldEnd<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Reading = self.state {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            self.state = if self.end.borrow().is_some() {
                State::Ended
            } else {
                State::Held(Box::pin(until_idle(self.idle.clone(), self.end.clone())))
            };
        }
        if let State::Held(held) = &mut self.state {
            ready!(held.as_mut().poll(cx));
            self.state = State::Ended;
        }
        Poll::Ready(Ok(()))
    }
}

/// Waits for the end of the running call, if one runs. When it does not end, that is told before the end of input is, which
/// makes the call fail.
async fn until_idle(mut idle: watch::Receiver<bool>, end: watch::Sender<Option<Served>>) {
    tokio::time::sleep(BEGUN_WITHIN).await;
    if tokio::time::timeout(LAST_WORDS, idle.wait_for(|idle| *idle)).await.is_ok() {
        return;
    }
    end.send_if_modified(|end| {
        let first = end.is_none();
        if first {
            *end = Some(Served::Orphaned);
        }
        first
    });
}
