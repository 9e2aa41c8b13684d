//! Documents, signatures, texts, idempotency keys and dead letters in memory.

mod dead_letters;
mod documents;
mod idempotency;
mod signatures;
mod texts;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use time::OffsetDateTime;

use crate::model::change::{Change, DocumentRow, Operation, Position, RowChange, SignatureRow};
use crate::model::text::TextKey;
use crate::model::timestamp;
use crate::ports::{Clock, DeadLetter, IdempotencyKey, SystemClock};
use crate::{DocumentId, Signature, SignatureId};

pub use dead_letters::InMemoryDeadLetterRepository;
pub use documents::InMemoryDocumentRepository;
pub use idempotency::InMemoryIdempotencyRepository;
pub use signatures::InMemorySignatureRepository;
pub use texts::InMemoryTextRepository;

use idempotency::KeyState;

/// A database in memory: its repositories see each other's rows, and it records every change.
///
/// Cheap to clone; clones share the rows.
///
/// ```
/// use dms_core::fake::InMemoryDatabase;
///
/// let database = InMemoryDatabase::default();
/// let documents = database.documents();
/// assert!(database.changes().is_empty());
/// # let _: &dyn dms_core::ports::DocumentRepository = &documents;
/// ```
#[derive(Clone)]
pub struct InMemoryDatabase {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    documents: BTreeMap<DocumentId, DocumentRow>,
    signatures: BTreeMap<SignatureId, Signature>,
    texts: HashMap<TextKey, String>,
    keys: HashMap<IdempotencyKey, KeyState>,
    letters: Vec<DeadLetter>,
    changes: Vec<Change>,
    wakers: Vec<Waker>,
}

impl State {
    fn log(&mut self, operation: Operation, row: RowChange, committed_at: OffsetDateTime) {
        let position = Position::new((self.changes.len() + 1).to_string());
        self.changes.push(Change { operation, row, position, committed_at });
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl InMemoryDatabase {
    /// An empty database whose rows take their times from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// The documents.
    pub fn documents(&self) -> InMemoryDocumentRepository {
        InMemoryDocumentRepository::new(self.clone())
    }

    /// The signatures.
    pub fn signatures(&self) -> InMemorySignatureRepository {
        InMemorySignatureRepository::new(self.clone())
    }

    /// The extracted texts.
    pub fn texts(&self) -> InMemoryTextRepository {
        InMemoryTextRepository::new(self.clone())
    }

    /// The idempotency keys.
    pub fn idempotency(&self) -> InMemoryIdempotencyRepository {
        InMemoryIdempotencyRepository::new(self.clone())
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> InMemoryDeadLetterRepository {
        InMemoryDeadLetterRepository::new(self.clone())
    }

    /// Every change so far, in order. Positions are decimal numbers that begin at 1.
    pub fn changes(&self) -> Vec<Change> {
        self.lock().changes.clone()
    }

    /// The changes after the first `count`, at least one: waits until there is one. Dropping the
    /// future loses nothing.
    pub async fn changes_after(&self, count: usize) -> Vec<Change> {
        poll_fn(|context| {
            let mut state = self.lock();
            match state.changes.get(count..) {
                Some(changes) if !changes.is_empty() => Poll::Ready(changes.to_vec()),
                _ => {
                    if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                        state.wakers.push(context.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> OffsetDateTime {
        timestamp::truncate(self.clock.now())
    }

    /// The time `age` ago; none if there is no date that early.
    fn ago(&self, age: Duration) -> Option<OffsetDateTime> {
        self.now().checked_sub(time::Duration::try_from(age).ok()?)
    }
}

impl Default for InMemoryDatabase {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl fmt::Debug for InMemoryDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("InMemoryDatabase")
            .field("documents", &state.documents.len())
            .field("signatures", &state.signatures.len())
            .field("texts", &state.texts.len())
            .field("keys", &state.keys.len())
            .field("letters", &state.letters.len())
            .field("changes", &state.changes.len())
            .finish()
    }
}

fn signature_row(signature: &Signature) -> SignatureRow {
    SignatureRow {
        id: signature.id,
        document_id: signature.document_id,
        signer_email: signature.signer_email.clone(),
        signer_name: signature.signer_name.clone(),
        created_at: signature.created_at,
    }
}

#[cfg(all(test, feature = "conformance"))]
mod tests;
