//! One load at a time for each document.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dms_core::{Document, DocumentId, Error, Result};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

/// What a load gives to everyone who waits for it.
pub(super) type Loaded = Result<Arc<Document>, Arc<Error>>;

/// The loads that are running, each polled by whoever waits for it: if the caller who began it is
/// dropped, the others go on with it; once all are dropped, it is dropped too.
#[derive(Default)]
pub(super) struct Flights(Mutex<State>);

#[derive(Default)]
struct State {
    running: HashMap<DocumentId, Flight>,
    begun: u64,
}

struct Flight {
    number: u64,
    passengers: usize,
    result: Shared<BoxFuture<'static, Loaded>>,
}

/// Tells a load from a later one of the same document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlightId {
    document: DocumentId,
    number: u64,
}

impl Flights {
    /// Waits for the load of this document that is running, or for the one that `begin` makes.
    pub(super) async fn join(
        self: Arc<Self>,
        document: DocumentId,
        begin: impl FnOnce(FlightId) -> BoxFuture<'static, Loaded>,
    ) -> Result<Arc<Document>> {
        let (_seat, result) = self.board(document, begin);
        result.await.map_err(|error| Error::shared(&error))
    }

    fn board(
        self: Arc<Self>,
        document: DocumentId,
        begin: impl FnOnce(FlightId) -> BoxFuture<'static, Loaded>,
    ) -> (Seat, Shared<BoxFuture<'static, Loaded>>) {
        let mut state = self.lock();
        state.begun += 1;
        let number = state.begun;
        let flight = state.running.entry(document).or_insert_with(|| Flight {
            number,
            passengers: 0,
            result: begin(FlightId { document, number }).shared(),
        });
        flight.passengers += 1;
        let id = FlightId { document, number: flight.number };
        let result = flight.result.clone();
        drop(state);
        (Seat { flights: self, id }, result)
    }

    /// Whether nothing was written since the load began, nor everyone gone.
    pub(super) fn is_current(&self, id: FlightId) -> bool {
        self.lock().running.get(&id.document).is_some_and(|flight| flight.number == id.number)
    }

    /// Lets nobody else wait for this load.
    pub(super) fn end(&self, id: FlightId) {
        self.take_if(id.document, |flight| flight.number == id.number);
    }

    /// Lets nobody else wait for a load that began before a write.
    pub(super) fn overtake(&self, document: DocumentId) {
        self.take_if(document, |_| true);
    }

    fn take_if(&self, document: DocumentId, condition: impl FnOnce(&mut Flight) -> bool) {
        let mut state = self.lock();
        let Some(flight) = state.running.get_mut(&document) else { return };
        if condition(flight) {
            let flight = state.running.remove(&document);
            // The loader in it is someone else's code: not to be dropped with the lock held.
            drop(state);
            drop(flight);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One caller's place in a load.
struct Seat {
    flights: Arc<Flights>,
    id: FlightId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flights.take_if(self.id.document, |flight| {
            if flight.number != self.id.number {
                return false;
            }
            flight.passengers -= 1;
            flight.passengers == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future;

    use super::*;

    #[test]
    fn a_load_that_everyone_has_left_is_dropped() {
        let flights = Arc::new(Flights::default());
        let document = DocumentId::generate();
        let alive = Arc::new(());
        let begin = |_| {
            let held = Arc::clone(&alive);
            future::pending().inspect(move |_| drop(held)).boxed()
        };
        let first = Arc::clone(&flights).board(document, begin);
        let second = Arc::clone(&flights).board(document, |_| panic!("one is running"));
        assert_eq!(first.0.id, second.0.id);
        drop(first);
        assert_eq!(Arc::strong_count(&alive), 2, "someone still waits");
        assert!(flights.is_current(second.0.id));
        drop(second);
        assert_eq!(Arc::strong_count(&alive), 1, "the loader is dropped");
        assert!(flights.lock().running.is_empty(), "nothing is remembered");
    }

    #[test]
    fn leaving_an_overtaken_load_leaves_the_new_one_alone() {
        let flights = Arc::new(Flights::default());
        let document = DocumentId::generate();
        let begin = |_| future::pending().boxed();
        let old = Arc::clone(&flights).board(document, begin);
        flights.overtake(document);
        let new = Arc::clone(&flights).board(document, begin);
        assert_ne!(old.0.id, new.0.id);
        assert!(!flights.is_current(old.0.id));
        flights.end(old.0.id);
        drop(old);
        assert!(flights.is_current(new.0.id));
    }
}
