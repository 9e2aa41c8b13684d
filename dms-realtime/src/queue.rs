//! What waits for one connection, within a bound.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::frame::{LiveFrame, Publication, Subject};
use crate::hub::{EndOfFeed, LiveEvent};

/// What a queued frame costs besides its text.
const FRAME_OVERHEAD_BYTES: usize = 64;

fn cost(frame: &LiveFrame) -> usize {
    frame.text().len() + FRAME_OVERHEAD_BYTES
}

/// Bytes queued for all connections together.
#[derive(Debug)]
pub(crate) struct Budget {
    queued: AtomicUsize,
    total_max: usize,
    connection_max: usize,
}

impl Budget {
    pub(crate) fn new(connection_max: usize, total_max: usize) -> Arc<Self> {
        Arc::new(Self { queued: AtomicUsize::new(0), total_max, connection_max })
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// What one connection may hold besides the newest publication. Nothing while the total is
    /// used up, so that those who read keep getting what is new at the cost of those who don't.
    fn allowance(&self) -> usize {
        if self.queued() < self.total_max { self.connection_max } else { 0 }
    }
}

/// What came of offering a publication to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Queued behind what was there.
    Queued,
    /// Queued, and so many older frames dropped for it.
    Conflated(usize),
    /// The connection knows it already, or has ended.
    NotNeeded,
    /// The connection is too slow: it was ended.
    TooSlow,
}

/// The queue of one connection.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    budget: Arc<Budget>,
    /// Where the hub keeps it; written under the lock of its shard.
    pub(crate) place: AtomicUsize,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<LiveFrame>,
    bytes: usize,
    /// The connection has this version; documents up to it aren't needed.
    known: i32,
    end: Option<EndOfFeed>,
    end_told: bool,
    waker: Option<Waker>,
}

impl State {
    fn needs(&self, subject: Subject) -> bool {
        match subject {
            Subject::Signature(_) => true,
            // A row that is removed keeps its version.
            Subject::Document { version, deleted } => {
                version > self.known || deleted && version == self.known
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&LiveFrame) -> bool) -> usize {
        let before = self.frames.len();
        self.frames.retain(keep);
        self.bytes = self.frames.iter().map(cost).sum();
        before - self.frames.len()
    }
}

impl Queue {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        let state = State {
            frames: VecDeque::new(),
            bytes: 0,
            known: i32::MIN,
            end: None,
            end_told: false,
            waker: None,
        };
        Self { state: Mutex::new(state), budget, place: AtomicUsize::new(usize::MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the books: what `change` adds to or takes from the queue, the total follows.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.bytes;
        let result = change(&mut state);
        if state.bytes >= before {
            self.budget.queued.fetch_add(state.bytes - before, Ordering::Relaxed);
        } else {
            self.budget.queued.fetch_sub(before - state.bytes, Ordering::Relaxed);
        }
        result
    }

    /// Queues a publication that is newer than every one offered before. The waker, if any, is to
    /// be woken once no lock is held.
    pub(crate) fn offer(&self, publication: &Publication) -> (Offered, Option<Waker>) {
        let allowance = self.budget.allowance();
        self.change(|state| {
            if state.end.is_some() || !state.needs(publication.subject) {
                return (Offered::NotNeeded, None);
            }
            let added: usize = publication.frames.iter().map(cost).sum();
            let mut dropped = 0;
            if !state.frames.is_empty() && state.bytes + added > allowance {
                let newest = match publication.subject {
                    Subject::Document { version, .. } => Some(version),
                    Subject::Signature(_) => {
                        state.frames.iter().filter_map(LiveFrame::version).max()
                    }
                };
                dropped = state.retain(|f| f.version().is_none() || f.version() == newest);
                if !state.frames.is_empty() && state.bytes + added > allowance {
                    finish(state, EndOfFeed::TooSlow);
                    return (Offered::TooSlow, state.waker.take());
                }
            }
            state.frames.extend(publication.frames.iter().cloned());
            state.bytes += added;
            let offered = if dropped == 0 { Offered::Queued } else { Offered::Conflated(dropped) };
            (offered, state.waker.take())
        })
    }

    /// The connection has the document at `version`: older frames aren't needed.
    pub(crate) fn know(&self, version: i32) {
        self.change(|state| {
            state.known = state.known.max(version);
            let known = state.known;
            state.retain(|frame| match frame.version() {
                None => true,
                Some(version) => version > known || frame.deletes() && version == known,
            });
        });
    }

    /// Ends the queue, unless it has ended; what is in it is dropped.
    pub(crate) fn end(&self, end: EndOfFeed) -> Option<Waker> {
        self.change(|state| {
            if state.end.is_none() {
                finish(state, end);
            }
            state.waker.take()
        })
    }

    /// Why the queue ended; none while it hasn't.
    pub(crate) fn ended(&self) -> Option<EndOfFeed> {
        self.lock().end
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        self.change(|state| {
            if let Some(frame) = state.frames.pop_front() {
                state.bytes -= cost(&frame);
                if state.frames.is_empty() {
                    // An idle connection holds no memory for a burst that is over.
                    state.frames = VecDeque::new();
                }
                return Poll::Ready(Some(LiveEvent::Frame(frame)));
            }
            match state.end {
                Some(_) if state.end_told => Poll::Ready(None),
                Some(end) => {
                    state.end_told = true;
                    Poll::Ready(Some(LiveEvent::End(end)))
                }
                None => {
                    match &mut state.waker {
                        Some(waker) => waker.clone_from(cx.waker()),
                        none => *none = Some(cx.waker().clone()),
                    }
                    Poll::Pending
                }
            }
        })
    }
}

fn finish(state: &mut State, end: EndOfFeed) {
    state.end = Some(end);
    state.frames = VecDeque::new();
    state.bytes = 0;
}

impl Drop for Queue {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.budget.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_queue_takes_a_few_hundred_bytes() {
        let queue = Queue::new(Budget::new(1, 1));
        assert_eq!(queue.lock().frames.capacity(), 0);
        assert!(size_of::<Queue>() <= 256, "{}", size_of::<Queue>());
    }
}
