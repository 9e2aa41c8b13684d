//! One WebSocket connection's life, on any transport.
//!
//! The connection subscribes first and reads the document then, so that no change can fall between
//! the two; what the snapshot already shows is not sent again.

use std::borrow::{Borrow, Cow};
use std::future::{Future, pending};
use std::pin::{Pin, pin};

use bytes::Bytes;
use dms_core::{Document, ErrorChain, Result};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use crate::frame::LiveFrame;
use crate::hub::{LiveEvent, Subscription};
use crate::live::{End, Expiry, Live, SessionOptions, Tally, Watch, count_frame, load_in_time};
use crate::message::{Close, Message};

/// Serves one connection until it ends, and says why it did.
///
/// `load` reads the document. It is called once, after the subscription is made, and must give the
/// state of the last committed write: a cache that isn't told of writes yet would hide a change.
///
/// The transport answers pings and a close of the peer itself, as `tungstenite` does. Its messages
/// should be bounded to little more than [`SessionOptions::client_message_bytes_max`] and its write
/// buffer to a few hundred KB. Dropping the future ends the connection without a close message.
pub async fn run<T, E, L, F, D>(live: &Live, watch: Watch, transport: T, load: L) -> End
where
    T: Stream<Item = Result<Message, E>> + Sink<Message>,
    L: FnOnce() -> F,
    F: Future<Output = Result<D>>,
    D: Borrow<Document>,
{
    let mut tally = Tally::open();
    let subscription = live.hub.subscribe(watch.document_id);
    let mut session = Session {
        transport: pin!(transport),
        expiry: Expiry::new(live, &watch),
        options: &live.options,
        readable: true,
    };
    let end = match session.serve(live, subscription, load).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    tally.0 = end.as_str();
    tracing::debug!(document_id = %watch.document_id, reason = %end, "live connection ends");
    session.close(end).await;
    end
}

enum Never {}

struct Session<'a, T> {
    transport: Pin<&'a mut T>,
    expiry: Expiry,
    options: &'a SessionOptions,
    /// False once the transport refused a message: it may take in the rest without a bound.
    readable: bool,
}

impl<T, E> Session<'_, T>
where
    T: Stream<Item = Result<Message, E>> + Sink<Message>,
{
    /// The subscription ends with it: what is closing gets nothing queued.
    async fn serve<L, F, D>(
        &mut self,
        live: &Live,
        subscription: Subscription,
        load: L,
    ) -> Result<Never, End>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<D>>,
        D: Borrow<Document>,
    {
        if self.expiry.has_passed(Instant::now()) {
            return Err(End::TokenExpired);
        }
        if let Some(end) = subscription.ended() {
            return Err(end.into());
        }
        let document = match load_in_time(self.options, load()).await {
            Ok(document) => document,
            Err(error) => {
                let end = End::of_load_error(&error);
                if end != End::Deleted {
                    tracing::warn!(document_id = %subscription.document_id(),
                        error = %ErrorChain(&error), "document not read for a live connection");
                }
                return Err(end);
            }
        };
        let document: &Document = document.borrow();
        subscription.know(document.version);
        self.send_frame(LiveFrame::snapshot(document, live.clock.now())).await?;
        self.relay(subscription).await
    }

    async fn relay(&mut self, mut subscription: Subscription) -> Result<Never, End> {
        let mut heard_at = Instant::now();
        let mut ping_at = heard_at + self.options.ping_interval;
        let mut messages_left = self.options.client_messages_max;
        let mut timer = pin!(sleep_until(ping_at));
        loop {
            let now = Instant::now();
            let silent_at = heard_at + self.options.silence_max;
            if self.expiry.has_passed(now) {
                return Err(End::TokenExpired);
            }
            if now >= silent_at {
                return Err(End::Silent);
            }
            if now >= ping_at {
                self.send(Message::Ping(Bytes::new())).await?;
                ping_at = now + self.options.ping_interval;
                messages_left = self.options.client_messages_max;
            }
            let next = ping_at.min(silent_at);
            timer.as_mut().reset(self.expiry.check_at().map_or(next, |at| at.min(next)));
            tokio::select! {
                event = subscription.next() => self.forward(event).await?,
                message = self.transport.next() => {
                    heard_at = Instant::now();
                    messages_left = messages_left.checked_sub(1).ok_or(End::TooManyMessages)?;
                    self.receive(message)?;
                }
                () = timer.as_mut() => {}
            }
        }
    }

    async fn forward(&mut self, event: Option<LiveEvent>) -> Result<(), End> {
        match event {
            Some(LiveEvent::Frame(frame)) => {
                let deletes = frame.deletes();
                self.send_frame(frame).await?;
                if deletes { Err(End::Deleted) } else { Ok(()) }
            }
            Some(LiveEvent::End(end)) => Err(end.into()),
            None => Err(End::Failed),
        }
    }

    fn receive(&mut self, message: Option<Result<Message, E>>) -> Result<(), End> {
        match message {
            Some(Ok(Message::Text(text))) if text.len() > self.options.client_message_bytes_max => {
                Err(End::MessageTooLarge)
            }
            Some(Ok(Message::TooLarge)) => {
                self.readable = false;
                Err(End::MessageTooLarge)
            }
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => Err(End::BinaryRefused),
            Some(Ok(Message::Close(_))) => Err(End::ClientClosed),
            Some(Err(_)) | None => Err(End::TransportFailed),
        }
    }

    async fn send_frame(&mut self, frame: LiveFrame) -> Result<(), End> {
        self.send(Message::Text(frame.into_text())).await?;
        count_frame();
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(self.options.send_timeout, self.transport.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::TransportFailed),
            Err(_) => Err(End::SendTimeout),
        }
    }

    async fn close(mut self, end: End) {
        let close_timeout = self.options.close_timeout;
        if let Some(code) = end.close_code() {
            let reason = Cow::Borrowed(end.close_reason());
            if self.send(Message::Close(Some(Close { code, reason }))).await.is_err() {
                return;
            }
            // A peer that doesn't answer has had its time.
            let _ = timeout(close_timeout, self.answer()).await;
        } else if end == End::ClientClosed {
            // Flushes the transport's answer; if that fails, the peer is gone, as it wished.
            let _ = timeout(close_timeout, self.transport.close()).await;
        }
    }

    /// The peer's answer to a close. What it sends before that is passed over, within the bound; a
    /// connection that can't be read any more is only held, so that the close arrives before a reset.
    async fn answer(&mut self) {
        let mut messages_left = self.options.client_messages_max;
        while self.readable && messages_left > 0 {
            match self.transport.next().await {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::TooLarge)) => self.readable = false,
                Some(Ok(_)) => messages_left -= 1,
            }
        }
        pending::<()>().await;
    }
}
