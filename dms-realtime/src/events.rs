//! The same frames as server-sent events (WHATWG HTML, section 9.2).
//!
//! An event's `id` is the document's version, so `Last-Event-ID` says what a client has. One that
//! comes back with the present version gets no snapshot; any other does, and is up to date with it.
//! Only the last frame of a version carries the `id`. Signatures made while a client was away are
//! not repeated: a snapshot doesn't list them either.

use std::borrow::Borrow;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use dms_core::{Document, Result};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Text;
use crate::frame::LiveFrame;
use crate::hub::{LiveEvent, Subscription};
use crate::live::{End, Expiry, Live, SessionOptions, Tally, Watch, count_frame, load_in_time};

/// One event, or a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SseEvent {
    /// A frame, as event of the default type `message`.
    Frame {
        /// The version that a client which has this event has completely.
        id: Option<i32>,
        /// The frame's JSON text, one line.
        data: Text,
    },
    /// A comment, which clients ignore.
    Heartbeat,
}

impl SseEvent {
    /// The event as it is on the wire, with the empty line that ends it.
    pub fn encode(&self) -> Bytes {
        let Self::Frame { id, data } = self else { return Bytes::from_static(b":\n\n") };
        let mut text = String::with_capacity(data.len() + 32);
        if let Some(id) = id {
            // Writing to a string can't fail.
            let _ = writeln!(text, "id: {id}");
        }
        let _ = write!(text, "data: {}\n\n", data.as_str());
        Bytes::from(text)
    }
}

impl From<LiveFrame> for SseEvent {
    fn from(frame: LiveFrame) -> Self {
        let id = frame.version().filter(|_| frame.completes_version());
        Self::Frame { id, data: frame.into_text() }
    }
}

/// Opens a stream of events about a document: subscribes, then reads the document with `load`,
/// of which the same is asked as in [`session::run`](crate::session::run).
///
/// # Errors
/// `Unavailable` if the hub is full or shut down; `Timeout`; those of `load`.
pub async fn open<L, F, D>(
    live: &Live,
    watch: Watch,
    last_event_id: Option<&str>,
    load: L,
) -> Result<Events>
where
    L: FnOnce() -> F,
    F: Future<Output = Result<D>>,
    D: Borrow<Document>,
{
    live.hub.check_room()?;
    let subscription = live.hub.subscribe(watch.document_id);
    let document = load_in_time(&live.options, load()).await?;
    let document: &Document = document.borrow();
    subscription.know(document.version);
    let client_has = last_event_id.and_then(|id| id.trim().parse().ok());
    let first = if client_has == Some(document.version) {
        // Says at once that the stream is open, also through proxies that wait for a first byte.
        SseEvent::Heartbeat
    } else {
        LiveFrame::snapshot(document, live.clock.now()).into()
    };
    let heartbeat_at = Instant::now() + live.options.ping_interval;
    Ok(Events {
        first: Some(first),
        subscription,
        expiry: Expiry::new(live, &watch),
        options: live.options,
        heartbeat_at,
        timer: Box::pin(sleep_until(heartbeat_at)),
        end: None,
        tally: Tally::open(),
    })
}

/// Events about one document. Ends when the document is deleted, after the event that says so; when
/// the token expires; when the hub shuts down; when the client reads too slowly. In each case
/// reconnecting gives the client what it needs to know: events again, or a status that says why not.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Events {
    first: Option<SseEvent>,
    subscription: Subscription,
    expiry: Expiry,
    options: SessionOptions,
    heartbeat_at: Instant,
    timer: Pin<Box<Sleep>>,
    end: Option<End>,
    tally: Tally,
}

impl Events {
    /// Why the stream ended; none while it hasn't.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    fn finish(&mut self, end: End) {
        self.end = Some(end);
        self.tally.0 = end.as_str();
    }

    fn yielded(&mut self, event: SseEvent) -> SseEvent {
        self.heartbeat_at = Instant::now() + self.options.ping_interval;
        if matches!(event, SseEvent::Frame { .. }) {
            count_frame();
        }
        event
    }
}

impl Stream for Events {
    type Item = SseEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SseEvent>> {
        loop {
            if self.end.is_some() {
                return Poll::Ready(None);
            }
            let now = Instant::now();
            if self.expiry.has_passed(now) {
                self.finish(End::TokenExpired);
                continue;
            }
            if let Some(first) = self.first.take() {
                return Poll::Ready(Some(self.yielded(first)));
            }
            match self.subscription.poll_next_unpin(cx) {
                Poll::Ready(Some(LiveEvent::Frame(frame))) => {
                    if frame.deletes() {
                        self.finish(End::Deleted);
                    }
                    return Poll::Ready(Some(self.yielded(frame.into())));
                }
                Poll::Ready(Some(LiveEvent::End(end))) => {
                    self.finish(end.into());
                    continue;
                }
                Poll::Ready(None) => {
                    self.finish(End::Failed);
                    continue;
                }
                Poll::Pending => {}
            }
            if now >= self.heartbeat_at {
                return Poll::Ready(Some(self.yielded(SseEvent::Heartbeat)));
            }
            let next = self.heartbeat_at;
            let next = self.expiry.check_at().map_or(next, |at| at.min(next));
            self.timer.as_mut().reset(next);
            ready!(self.timer.poll_unpin(cx));
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("document_id", &self.subscription.document_id())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
