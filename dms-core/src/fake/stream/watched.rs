//! State that futures can wait on, on any executor.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// A value behind a lock; whoever waits for a predicate looks again after each update.
#[derive(Debug, Default)]
pub(super) struct Watched<T>(Mutex<Inner<T>>);

#[derive(Debug, Default)]
struct Inner<T> {
    value: T,
    waiting: Vec<Waker>,
}

impl<T> Watched<T> {
    /// Changes the value, then wakes everyone who waits.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let (result, waiting) = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut inner.value);
            (result, std::mem::take(&mut inner.waiting))
        };
        waiting.into_iter().for_each(Waker::wake);
        result
    }

    /// Looks at the value.
    pub(super) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner).value)
    }

    /// Waits until `look` finds something. Dropping the future has no effect.
    pub(super) async fn wait<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> R {
        poll_fn(|context| {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = look(&inner.value) {
                return Poll::Ready(found);
            }
            if !inner.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                inner.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
