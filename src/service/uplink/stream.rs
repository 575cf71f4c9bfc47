//! Server-sent events out of a response, with a bound on silence and on the size of an event.

use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use reqwest::Response;
use sse_stream::{Sse, SseByteStream};

/// Why a stream of events ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// The other side ended it.
    #[error("the backend ended the stream of orders")]
    Ended,
    /// No byte came for too long.
    #[error("the stream of orders was silent for {0:?}")]
    Silent(Duration),
    /// It broke, or it is no stream of events.
    #[error("the stream of orders broke: {0}")]
    Broken(String),
    /// One event is too long.
    #[error("the stream of orders holds an event of more than {0} bytes")]
    TooLong(usize),
}

/// The events of a response. `on_life` is called with every piece that comes in, comments included.
pub(crate) fn events(
    response: Response,
    quiet: Duration,
    longest: usize,
    mut on_life: impl FnMut() + Send + 'static,
) -> impl Stream<Item = Result<Sse, StreamEnd>> {
    let bytes = Box::pin(response.bytes_stream());
    let pieces = stream::try_unfold((bytes, 0), move |(mut bytes, before)| async move {
        let piece = match tokio::time::timeout(quiet, bytes.next()).await {
            Err(_) => return Err(StreamEnd::Silent(quiet)),
            Ok(None) => return Ok(None),
            Ok(Some(Err(err))) => return Err(StreamEnd::Broken(outrider_protocol::fault::chain(&err))),
            Ok(Some(Ok(piece))) => piece,
        };
        let size = since_blank_line(before, &piece);
        if size > longest {
            return Err(StreamEnd::TooLong(longest));
        }
        Ok(Some((piece, (bytes, size))))
    });
    let pieces = pieces.inspect_ok(move |_| on_life());
    SseByteStream::new(Box::pin(pieces)).map_err(|err| match err {
        sse_stream::Error::Body(err) => match err.downcast::<StreamEnd>() {
            Ok(end) => *end,
            Err(err) => StreamEnd::Broken(err.to_string()),
        },
        err => StreamEnd::Broken(err.to_string()),
    })
}

/// How many bytes have come since an event ended, which a blank line says.
fn since_blank_line(before: usize, piece: &[u8]) -> usize {
    let end = piece.windows(2).rposition(|it| it == b"\n\n" || it == b"\n\r" || it == b"\r\r");
    end.map_or(before + piece.len(), |at| piece.len() - at - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_event_is_counted_over_pieces() {
        assert_eq!(since_blank_line(10, b"data: x"), 17);
        assert_eq!(since_blank_line(10, b"data: x\n\n: alive\n\nda"), 2);
        assert_eq!(since_blank_line(10, b"data: x\r\n\r\n"), 1);
    }
}
