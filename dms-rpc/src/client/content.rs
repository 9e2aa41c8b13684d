//! Content on its way to the server and back.

use std::fmt;
use std::io::{self, Read as _};
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::multipart::Part;
use reqwest::{Body, Response};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::io::ReaderStream;

use super::idle::Idle;
use super::transport::Repeat;
use super::{ClientError, ClientResult};

/// Bytes read from a file or reader at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Content to be sent. Never held whole in memory, except [`bytes`](Self::bytes).
pub struct UploadContent(Source);

enum Source {
    Bytes(Bytes),
    File(PathBuf),
    Stream(Mutex<BoxStream<'static, io::Result<Bytes>>>, Option<u64>),
}

impl UploadContent {
    /// Content in memory. An upload of it may be repeated.
    pub fn bytes(content: impl Into<Bytes>) -> Self {
        Self(Source::Bytes(content.into()))
    }

    /// A file, read while it is sent. An upload of it may be repeated, and reads it again.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// A reader, of `size` bytes if that is known. An upload of it is never repeated.
    pub fn reader(reader: impl AsyncRead + Send + 'static, size: impl Into<Option<u64>>) -> Self {
        Self::stream(ReaderStream::with_capacity(reader, CHUNK_BYTES), size)
    }

    /// A stream, of `size` bytes if that is known. An upload of it is never repeated.
    pub fn stream(
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        size: impl Into<Option<u64>>,
    ) -> Self {
        Self(Source::Stream(Mutex::new(stream.boxed()), size.into()))
    }

    pub(super) fn repeat(&self) -> Repeat {
        match self.0 {
            Source::Bytes(_) | Source::File(_) => Repeat::Safely,
            Source::Stream(..) => Repeat::Never,
        }
    }

    /// The part of a multipart body; a stream can be taken once.
    pub(super) async fn part(&self) -> ClientResult<Part> {
        Ok(match &self.0 {
            Source::Bytes(bytes) => {
                let size = bytes.len() as u64;
                Part::stream_with_length(bytes.clone(), size)
            }
            Source::File(path) => match open(path.clone()).await.map_err(unreadable)? {
                Opened::Small(content) => {
                    let size = content.len() as u64;
                    Part::stream_with_length(content, size)
                }
                Opened::Large(file, size) => {
                    // What grows meanwhile would break the body's framing.
                    let file = File::from_std(file).take(size);
                    let stream = ReaderStream::with_capacity(file, CHUNK_BYTES);
                    Part::stream_with_length(body(stream), size)
                }
            },
            Source::Stream(stream, size) => {
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                let gone = futures_util::stream::empty().boxed();
                let body = body(std::mem::replace(&mut *stream, gone));
                match size {
                    Some(size) => Part::stream_with_length(body, *size),
                    None => Part::stream(body),
                }
            }
        })
    }
}

impl fmt::Debug for UploadContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Bytes(bytes) => write!(f, "UploadContent({} bytes)", bytes.len()),
            Source::File(path) => write!(f, "UploadContent({})", path.display()),
            Source::Stream(_, size) => write!(f, "UploadContent(stream, {size:?} bytes)"),
        }
    }
}

fn body(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    Body::wrap_stream(stream.map_err(ContentFailed))
}

/// A file, ready to be sent.
enum Opened {
    Small(Vec<u8>),
    Large(std::fs::File, u64),
}

/// Opens a file, and reads it if it is small: with thousands of small files, as few ways to other
/// threads as possible.
async fn open(path: PathBuf) -> io::Result<Opened> {
    let opened = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        if size > CHUNK_BYTES as u64 {
            return Ok(Opened::Large(file, size));
        }
        let mut content = Vec::with_capacity(CHUNK_BYTES);
        io::Read::take(file, size).read_to_end(&mut content)?;
        Ok(Opened::Small(content))
    });
    opened.await.map_err(io::Error::other)?
}

/// Tells a failure of the content's source from one of the network.
#[derive(Debug)]
pub(super) struct ContentFailed(io::Error);

impl fmt::Display for ContentFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading content failed")
    }
}

impl std::error::Error for ContentFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn unreadable(error: io::Error) -> ClientError {
    ClientError::Content(error.into())
}

/// Content on its way down, to be read as a stream.
pub struct DownloadContent {
    /// Media type.
    pub content_type: String,
    /// Size in bytes of the whole, whatever part was asked for, if the server says it.
    pub size: Option<u64>,
    stream: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    idle: Idle,
}

impl DownloadContent {
    pub(super) fn of(response: Response, idle_timeout: Duration) -> Self {
        let headers = response.headers();
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self {
            content_type: content_type.unwrap_or("application/octet-stream").to_owned(),
            size: whole_size(headers).or_else(|| response.content_length()),
            stream: response.bytes_stream().boxed(),
            idle: Idle::new(idle_timeout),
        }
    }

    /// Reads everything, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`ClientError::Unreadable`] if there is more; as the stream.
    pub async fn into_bytes(mut self, bytes_max: usize) -> ClientResult<Bytes> {
        let mut content = BytesMut::new();
        while let Some(chunk) = self.try_next().await? {
            if content.len() + chunk.len() > bytes_max {
                return Err(ClientError::unreadable("content larger than asked for"));
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content.freeze())
    }
}

impl fmt::Debug for DownloadContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadContent")
            .field("content_type", &self.content_type)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Stream for DownloadContent {
    type Item = ClientResult<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(item) = self.stream.poll_next_unpin(cx) {
            self.idle.heard();
            return Poll::Ready(item.map(|item| item.map_err(ClientError::of_transport)));
        }
        ready!(self.idle.poll_silence(cx));
        self.stream = futures_util::stream::empty().boxed();
        Poll::Ready(Some(Err(ClientError::timeout("content stopped coming"))))
    }
}

/// `Content-Range: bytes 0-9/1234` (RFC 9110, section 14.4) tells the size of the whole.
fn whole_size(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

/// The `Range` header of a range of bytes; none for everything (RFC 9110, section 14.2).
pub(super) fn range_header(range: &impl RangeBounds<u64>) -> ClientResult<Option<HeaderValue>> {
    let empty = || ClientError::request("range must not be empty");
    let first = match range.start_bound() {
        Bound::Unbounded => 0,
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.checked_add(1).ok_or_else(empty)?,
    };
    let last = match range.end_bound() {
        Bound::Unbounded => None,
        Bound::Included(last) => Some(*last),
        Bound::Excluded(end) => Some(end.checked_sub(1).ok_or_else(empty)?),
    };
    let text = match last {
        Some(last) if last < first => return Err(empty()),
        Some(last) => format!("bytes={first}-{last}"),
        None if first == 0 => return Ok(None),
        None => format!("bytes={first}-"),
    };
    HeaderValue::from_str(&text).map(Some).map_err(ClientError::request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_inclusively() {
        let text = |header: Option<HeaderValue>| header.map(|h| h.to_str().unwrap().to_owned());
        assert_eq!(text(range_header(&..).unwrap()), None);
        assert_eq!(text(range_header(&(0..)).unwrap()), None);
        assert_eq!(text(range_header(&(5..)).unwrap()).as_deref(), Some("bytes=5-"));
        assert_eq!(text(range_header(&(0..10)).unwrap()).as_deref(), Some("bytes=0-9"));
        assert_eq!(text(range_header(&(3..=4)).unwrap()).as_deref(), Some("bytes=3-4"));
        assert_eq!(text(range_header(&..1).unwrap()).as_deref(), Some("bytes=0-0"));
    }

    #[test]
    fn empty_ranges_are_refused() {
        assert!(range_header(&(0..0)).is_err());
        assert!(range_header(&(5..5)).is_err());
        assert!(range_header(&(..0)).is_err());
        assert!(range_header(&(Bound::Included(7), Bound::Included(3))).is_err());
    }

    #[test]
    fn the_whole_size_is_read_from_a_part() {
        let mut headers = HeaderMap::new();
        assert_eq!(whole_size(&headers), None);
        for (value, size) in
            [("bytes 0-9/1234", Some(1234)), ("bytes 0-9/*", None), ("bytes */5", Some(5))]
        {
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            assert_eq!(whole_size(&headers), size);
        }
    }
}
