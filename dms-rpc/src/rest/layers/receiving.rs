//! When the last piece of a request's body came.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use tokio::time::{Duration, Instant};

/// Tells how a body is getting on.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    last_ms: AtomicU64,
    complete: AtomicBool,
    given_up: AtomicBool,
    reader: AtomicWaker,
}

/// A body that nothing more came of in time.
#[derive(Debug)]
pub(in crate::rest) struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body stopped coming")
    }
}

impl std::error::Error for Stalled {}

impl Progress {
    /// When the last piece came, or else when the request did.
    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// Whether nobody waits for more of it.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Ends the body with [`Stalled`], whoever reads it: a write in a task of its own would otherwise
    /// wait on, and the server with it.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn touch(&self) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed_ms, Ordering::Relaxed);
    }
}

/// Watches a body that isn't at its end yet.
pub(super) fn watched(body: Body) -> (Body, Option<Arc<Progress>>) {
    if body.is_end_stream() {
        return (body, None);
    }
    let progress = Arc::new(Progress {
        began: Instant::now(),
        last_ms: AtomicU64::new(0),
        complete: AtomicBool::new(false),
        given_up: AtomicBool::new(false),
        reader: AtomicWaker::new(),
    });
    let watched = Watched { inner: body, progress: Arc::clone(&progress) };
    (Body::new(watched), Some(progress))
}

struct Watched {
    inner: Body,
    progress: Arc<Progress>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.progress.reader.register(cx.waker());
        if this.progress.given_up.load(Ordering::Acquire) {
            this.inner = Body::empty();
            return Poll::Ready(Some(Err(axum::Error::new(Stalled))));
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        this.progress.touch();
        if frame.is_none() || this.inner.is_end_stream() {
            this.progress.complete.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.progress.complete.store(true, Ordering::Relaxed);
    }
}
