//! The time a request's head may take, apart from the time a connection may be idle.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// hyper's HTTP/1 timer of one connection.
///
/// hyper knows one limit, from the end of one request to the end of the next one's head. It is set to
/// `idle`; once bytes have arrived, `head` counts from there instead.
#[derive(Debug, Clone)]
pub(super) struct HeadTimer {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    /// Set by the socket whenever bytes arrive.
    pub(super) received: Arc<AtomicBool>,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.received.store(false, Ordering::Relaxed);
        Box::pin(HeadSleep {
            head: Some(self.head),
            received: Arc::clone(&self.received),
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct HeadSleep {
    /// Taken when the first bytes of a head have arrived.
    head: Option<Duration>,
    received: Arc<AtomicBool>,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some(head) = this.head
            && this.received.load(Ordering::Relaxed)
        {
            this.head = None;
            let deadline = tokio::time::Instant::now() + head;
            if deadline < this.sleep.deadline() {
                this.sleep.as_mut().reset(deadline);
            }
        }
        this.sleep.as_mut().poll(cx)
    }
}

impl Sleep for HeadSleep {}
