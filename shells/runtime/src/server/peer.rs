//! One accepted socket: what bounds and tracks it however the protocol above uses it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What every HTTP/2 connection starts with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What is held as long as the socket is open, also once it has been upgraded and its connection task
/// is over.
pub(super) struct Held {
    /// Its share of the connection bound.
    #[expect(dead_code, reason = "only its drop matters")]
    pub(super) permit: OwnedSemaphorePermit,
    /// What draining waits for.
    #[expect(dead_code, reason = "only its drop matters")]
    pub(super) tracked: TaskTrackerToken,
    /// Counts it as open.
    #[expect(dead_code, reason = "only its drop matters")]
    pub(super) open: super::OpenConnection,
    /// Ends it when the grace period is over.
    pub(super) cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// An accepted socket.
///
/// - The first bytes are read ahead to tell the protocols apart, and read again by the protocol.
/// - A peer that takes nothing for too long is given up.
/// - Shutting down says so to the peer and drops what it still sends, for a bounded time: closing with
///   unread bytes would reset the connection, and the peer could lose the answer.
/// - When the server is cut, everything that waits for the socket fails.
pub(super) struct Peer {
    stream: TcpStream,
    ahead: [u8; HTTP2_PREFACE.len()],
    ahead_range: std::ops::Range<usize>,
    received: Arc<AtomicBool>,
    write_stall: Deadline,
    linger: Deadline,
    held: Held,
}

impl Peer {
    pub(super) fn new(
        stream: TcpStream,
        held: Held,
        write_stall_timeout: Duration,
        linger: Duration,
    ) -> Self {
        Self {
            stream,
            ahead: [0; HTTP2_PREFACE.len()],
            ahead_range: 0..0,
            received: Arc::default(),
            write_stall: Deadline::new(write_stall_timeout),
            linger: Deadline::new(linger),
            held,
        }
    }

    /// Set whenever bytes arrive.
    pub(super) fn received(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.received)
    }

    /// Reads as many bytes as it takes to tell the protocol; none if the peer left before sending any.
    pub(super) async fn protocol(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            let end = self.ahead_range.end;
            let read = self.stream.read(&mut self.ahead[end..]).await?;
            self.ahead_range.end += read;
            let seen = &self.ahead[..self.ahead_range.end];
            if seen == HTTP2_PREFACE {
                return Ok(Some(Protocol::Http2));
            }
            if !HTTP2_PREFACE.starts_with(seen) || (read == 0 && !seen.is_empty()) {
                return Ok(Some(Protocol::Http1));
            }
            if read == 0 {
                return Ok(None);
            }
        }
    }

    fn ended<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.held.cut.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "server is closing")))
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.write_stall.clear();
            return result;
        }
        if self.write_stall.poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "peer takes nothing")));
        }
        self.ended(cx)
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead_range.is_empty() {
            let taken = this.ahead_range.len().min(buffer.remaining());
            let start = this.ahead_range.start;
            buffer.put_slice(&this.ahead[start..start + taken]);
            this.ahead_range.start += taken;
            this.received.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                this.received.store(true, Ordering::Relaxed);
                Poll::Ready(result)
            }
            Poll::Pending => this.ended(cx),
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.linger.is_set() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let mut dropped = [0; 4096];
        loop {
            // looked at first: a peer that never stops sending must not keep the connection
            if this.linger.poll(cx).is_ready() || this.held.cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut dropped);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // the peer has closed, or has gone
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// A time limit that starts when it is first polled.
struct Deadline {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn new(after: Duration) -> Self {
        Self { after, sleep: None }
    }

    fn is_set(&self) -> bool {
        self.sleep.is_some()
    }

    fn clear(&mut self) {
        self.sleep = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let after = self.after;
        self.sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + after)))
            .as_mut()
            .poll(cx)
    }
}
