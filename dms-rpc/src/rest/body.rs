//! Bodies on their way in and out, bounded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use dms_core::ports::ByteStream;
use dms_core::{Error, ErrorChain, Result};
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use tracing::Span;

use super::layers::Stalled;
use crate::problem::REQUEST_TIMEOUT;

/// How much a body may hold. Beyond the bound nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit {
    /// Most bytes that are read.
    pub bytes_max: u64,
    /// The bound that the client is told: that of the content inside the body.
    pub content_bytes_max: u64,
}

impl BodyLimit {
    /// For JSON that holds content of at most this many bytes: base64 makes four bytes of three, and
    /// escapes two of one in all but contrived text.
    pub fn json(content_bytes_max: u64) -> Self {
        let bytes_max = content_bytes_max.saturating_mul(2).saturating_add(64 << 10);
        Self { bytes_max, content_bytes_max }
    }

    /// For JSON that holds no content.
    pub fn small() -> Self {
        Self { bytes_max: 64 << 10, content_bytes_max: 64 << 10 }
    }

    /// For a form that holds content of at most this many bytes.
    pub fn form(content_bytes_max: u64) -> Self {
        Self { bytes_max: content_bytes_max.saturating_add(256 << 10), content_bytes_max }
    }

    fn exceeded(self) -> Error {
        Error::too_large(self.content_bytes_max)
    }
}

/// The body in pieces, ending with `TooLarge` where it exceeds `limit` and with `Malformed` where
/// it breaks off.
///
/// # Errors
/// `TooLarge` at once for a body that says it is too long.
pub fn body_stream(headers: &HeaderMap, body: Body, limit: BodyLimit) -> Result<ByteStream> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
    if declared.max(body.size_hint().lower()) > limit.bytes_max {
        return Err(limit.exceeded());
    }
    Ok(Bounded { inner: body.into_data_stream(), read: 0, limit }.boxed())
}

struct Bounded {
    inner: BodyDataStream,
    read: u64,
    limit: BodyLimit,
}

impl Stream for Bounded {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.inner.poll_next_unpin(cx)) {
            None => None,
            Some(Err(error)) => Some(Err(broken_off(error))),
            Some(Ok(chunk)) => {
                self.read = self.read.saturating_add(chunk.len() as u64);
                let fits = self.read <= self.limit.bytes_max;
                Some(if fits { Ok(chunk) } else { Err(self.limit.exceeded()) })
            }
        })
    }
}

fn broken_off(error: axum::Error) -> Error {
    let cause = std::error::Error::source(&error);
    if cause.is_some_and(<dyn std::error::Error + 'static>::is::<Stalled>) {
        return stalled().with_source(error);
    }
    Error::malformed("the body broke off").with_source(error)
}

/// The body stopped coming.
pub(super) fn stalled() -> Error {
    Error::malformed("the body stopped coming").with_code(REQUEST_TIMEOUT)
}

/// Reads a body to its end.
///
/// # Errors
/// `TooLarge`, `Malformed` if it breaks off.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: BodyLimit) -> Result<Bytes> {
    let expected = body.size_hint().lower();
    let mut pieces = body_stream(headers, body, limit)?;
    let Some(first) = pieces.next().await.transpose()? else {
        return Ok(Bytes::new());
    };
    let Some(second) = pieces.next().await.transpose()? else {
        return Ok(first);
    };
    // What a header promises isn't taken as a reason to allocate megabytes.
    let expected = usize::try_from(expected).unwrap_or(usize::MAX).min(1 << 20);
    let mut whole = BytesMut::with_capacity(expected.max(first.len() + second.len()));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(piece) = pieces.next().await.transpose()? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Content in memory as a stream of pieces, so that hashing and storing it take turns with other
/// work.
pub(super) fn pieces(mut content: Bytes) -> ByteStream {
    const PIECE_BYTES: usize = 256 << 10;
    let next = move || {
        let piece = content.split_to(content.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some(Ok(piece))
    };
    futures_util::stream::iter(std::iter::from_fn(next)).boxed()
}

/// Content on its way to the client. A store that falls silent for longer than `idle_max` ends it
/// with an error; how slowly the client reads doesn't matter here.
pub(super) fn outgoing(stream: BoxStream<'static, io::Result<Bytes>>, idle_max: Duration) -> Body {
    // The server asks for pieces outside of the request's span.
    let span = Span::current();
    let timed = tokio_stream::StreamExt::timeout(stream, idle_max).map(move |item| {
        let item =
            item.unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)));
        // The status is sent by now: breaking off is all that tells the client.
        item.inspect_err(|error| {
            span.in_scope(|| tracing::error!(error = %ErrorChain(error), "content broke off"));
        })
    });
    Body::from_stream(timed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_core::ErrorKind;

    const LIMIT: BodyLimit = BodyLimit { bytes_max: 10, content_bytes_max: 7 };

    fn chunked(chunks: &[&'static str]) -> Body {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok::<_, io::Error>(Bytes::from_static(chunk.as_bytes())))
            .collect();
        Body::from_stream(futures_util::stream::iter(chunks))
    }

    async fn read(body: Body) -> Result<Bytes> {
        read_body(&HeaderMap::new(), body, LIMIT).await
    }

    #[tokio::test]
    async fn bodies_are_put_together() {
        assert_eq!(read(Body::empty()).await.unwrap(), "");
        assert_eq!(read(chunked(&["12345", "67890"])).await.unwrap(), "1234567890");
        assert_eq!(read(chunked(&["1", "2", "3"])).await.unwrap(), "123");
    }

    #[tokio::test]
    async fn a_body_that_turns_out_too_long_is_not_read_on() {
        let endless = Body::from_stream(futures_util::stream::repeat_with(|| {
            Ok::<_, io::Error>(Bytes::from_static(b"1234"))
        }));
        let error = read(endless).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.to_string(), "content is larger than 7 bytes");
    }

    #[tokio::test]
    async fn a_body_that_says_it_is_too_long_is_not_read_at_all() {
        let unread = || {
            Body::from_stream(futures_util::stream::poll_fn(
                |_| -> Poll<Option<io::Result<Bytes>>> { panic!("was read") },
            ))
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, 11.into());
        let error = read_body(&headers, unread(), LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_malformed() {
        let broken = Body::from_stream(futures_util::stream::iter([
            Ok(Bytes::from_static(b"12")),
            Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        ]));
        assert_eq!(read(broken).await.unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_breaks_the_content_off() {
        let silent = futures_util::stream::iter([Ok(Bytes::from_static(b"12"))])
            .chain(futures_util::stream::pending());
        let body = outgoing(silent.boxed(), Duration::from_secs(5));
        let mut stream = body.into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "12");
        assert!(stream.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn content_in_memory_comes_in_pieces() {
        let content = Bytes::from(vec![7; 600 << 10]);
        let all: Vec<Bytes> = pieces(content).map(Result::unwrap).collect().await;
        assert_eq!(
            all.iter().map(Bytes::len).collect::<Vec<_>>(),
            [256 << 10, 256 << 10, 88 << 10]
        );
        assert_eq!(pieces(Bytes::new()).count().await, 0);
    }
}
