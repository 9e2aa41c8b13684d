//! How long the other side may say nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Measures silence: only the time during which something was waited for.
pub(super) struct Idle {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Idle {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, sleep: Box::pin(tokio::time::sleep(timeout)), waiting: false }
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.waiting = false;
    }

    /// Nothing came yet; ready once that has lasted too long.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.sleep.as_mut().reset(Instant::now() + self.timeout);
        }
        ready!(self.sleep.as_mut().poll(cx));
        Poll::Ready(())
    }
}
