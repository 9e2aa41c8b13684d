//! A socket without a network: the client's end is in the test's hands.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use dms_realtime::{Close, Message};
use futures_util::task::AtomicWaker;
use futures_util::{Sink, Stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[derive(Default)]
struct Gate {
    shut: AtomicBool,
    waker: AtomicWaker,
}

/// The server's end.
pub(crate) struct Socket {
    incoming: UnboundedReceiver<Result<Message, &'static str>>,
    outgoing: UnboundedSender<Message>,
    gate: Arc<Gate>,
}

/// The client's end.
pub(crate) struct Client {
    to_server: Option<UnboundedSender<Result<Message, &'static str>>>,
    from_server: UnboundedReceiver<Message>,
    gate: Arc<Gate>,
}

pub(crate) fn pair() -> (Socket, Client) {
    let (to_server, incoming) = unbounded_channel();
    let (outgoing, from_server) = unbounded_channel();
    let gate = Arc::<Gate>::default();
    let socket = Socket { incoming, outgoing, gate: Arc::clone(&gate) };
    (socket, Client { to_server: Some(to_server), from_server, gate })
}

impl Stream for Socket {
    type Item = Result<Message, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx)
    }
}

impl Socket {
    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.gate.waker.register(cx.waker());
        if self.gate.shut.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Sink<Message> for Socket {
    type Error = &'static str;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.poll_open(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), &'static str> {
        self.outgoing.send(message).map_err(|_| "client is gone")
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.poll_open(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        // A real transport flushes its answer to the client's close here.
        let answer = Message::Close(Some(Close { code: 1000, reason: Cow::Borrowed("answer") }));
        let _ = self.outgoing.send(answer);
        self.poll_open(cx)
    }
}

impl Client {
    pub(crate) fn send(&self, message: Message) {
        self.fail_or_send(Ok(message));
    }

    pub(crate) fn fail(&self) {
        self.fail_or_send(Err("connection reset"));
    }

    fn fail_or_send(&self, message: Result<Message, &'static str>) {
        let to_server = self.to_server.as_ref().expect("the client has not gone");
        // The server may have ended meanwhile.
        let _ = to_server.send(message);
    }

    /// Ends without a word.
    pub(crate) fn vanish(&mut self) {
        self.to_server = None;
    }

    pub(crate) fn pong(&self) {
        self.send(Message::Pong(Bytes::new()));
    }

    /// Takes nothing from now on.
    pub(crate) fn stop_reading(&self) {
        self.gate.shut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn read_again(&self) {
        self.gate.shut.store(false, Ordering::SeqCst);
        self.gate.waker.wake();
    }

    /// The next message; none once the server's end is gone.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.from_server.recv().await
    }

    /// Type and version of the next frame.
    pub(crate) async fn frame(&mut self) -> (String, Option<i64>) {
        match self.next().await {
            Some(Message::Text(text)) => crate::history::summary(text.as_str()),
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// Skips everything up to the server's close.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        while let Some(message) = self.next().await {
            if let Message::Close(close) = message {
                return close.map(|close| close.code);
            }
        }
        None
    }
}
