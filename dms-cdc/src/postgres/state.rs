//! What a source and its reading task share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dms_core::Error;
use tokio::sync::{Notify, watch};

use super::ledger::Ledger;

/// What the reading task is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Stopped,
    /// It connects, or waits for another consumer to leave the slot.
    Connecting,
    /// Changes come.
    Streaming,
}

/// Who says where the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The slot, whoever moved it.
    Slot,
    /// The consumer, which knows its position.
    Consumer,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) phase: Phase,
    /// Why the task ended, until somebody was told.
    pub(super) failure: Option<Error>,
    /// Who says where to go on, once the source is started.
    pub(super) start: Option<Start>,
    /// The stream began since the last start.
    pub(super) has_begun: bool,
    /// The slot can't be decoded and is to be made anew.
    pub(super) is_slot_broken: bool,
    /// The server wants to be asked how far it is.
    pub(super) is_asked: bool,
    /// The server's process of the last connection.
    pub(super) pid: Option<i32>,
    /// System identifier and timeline of the last connection.
    pub(super) system: Option<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Raised when there is something for the consumer.
    changed: watch::Sender<u64>,
    /// Wakes the reading task.
    pub(super) control: Notify,
}

impl Shared {
    pub(super) fn new(queue_bytes_max: usize) -> Self {
        let state = State {
            ledger: Ledger::new(queue_bytes_max),
            phase: Phase::Stopped,
            failure: None,
            start: None,
            has_begun: false,
            is_slot_broken: false,
            is_asked: false,
            pid: None,
            system: None,
        };
        Self { state: Mutex::new(state), changed: watch::Sender::new(0), control: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
