//! Idempotency keys in memory.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{InMemoryDatabase, State};
use crate::ports::{IdempotencyKey, IdempotencyRecord, IdempotencyRepository, Reservation};
use crate::{Error, ErrorKind, Result, Sha256};

/// What is known of a key that isn't free.
#[derive(Debug, Clone)]
pub(super) enum KeyState {
    /// Held until this time; for ever if there is none.
    Held { lapses_at: Option<OffsetDateTime> },
    /// Completed by a request.
    Completed {
        request_sha256: Sha256,
        resource_id: Uuid,
        first_answer: serde_json::Value,
        completed_at: OffsetDateTime,
    },
}

impl State {
    /// Refuses a record whose key is completed.
    pub(super) fn refuse_completed(&self, record: Option<&IdempotencyRecord>) -> Result<()> {
        match record.and_then(|record| self.keys.get(&record.key)) {
            Some(KeyState::Completed { .. }) => {
                Err(Error::new(ErrorKind::Conflict, "another request with this key was faster")
                    .with_code("idempotency_key_completed"))
            }
            Some(KeyState::Held { .. }) | None => Ok(()),
        }
    }

    pub(super) fn complete(
        &mut self,
        record: IdempotencyRecord,
        resource_id: Uuid,
        first_answer: serde_json::Value,
        completed_at: OffsetDateTime,
    ) {
        let request_sha256 = record.request_sha256;
        self.keys.insert(
            record.key,
            KeyState::Completed { request_sha256, resource_id, first_answer, completed_at },
        );
    }
}

/// Idempotency keys in an [`InMemoryDatabase`].
#[derive(Debug, Clone)]
pub struct InMemoryIdempotencyRepository {
    database: InMemoryDatabase,
}

impl InMemoryIdempotencyRepository {
    pub(super) fn new(database: InMemoryDatabase) -> Self {
        Self { database }
    }
}

#[async_trait]
impl IdempotencyRepository for InMemoryIdempotencyRepository {
    async fn reserve(&self, key: &IdempotencyKey, lease: Duration) -> Result<Reservation> {
        let now = self.database.now();
        let mut state = self.database.lock();
        match state.keys.get(key) {
            Some(KeyState::Completed { request_sha256, resource_id, first_answer, .. }) => {
                return Ok(Reservation::Completed {
                    request_sha256: *request_sha256,
                    resource_id: *resource_id,
                    first_answer: first_answer.clone(),
                });
            }
            Some(KeyState::Held { lapses_at }) if lapses_at.is_none_or(|at| at > now) => {
                return Ok(Reservation::Running);
            }
            Some(KeyState::Held { .. }) | None => {}
        }
        let lapses_at = time::Duration::try_from(lease).ok().and_then(|l| now.checked_add(l));
        state.keys.insert(key.clone(), KeyState::Held { lapses_at });
        Ok(Reservation::Acquired)
    }

    async fn release(&self, key: &IdempotencyKey) -> Result<()> {
        let mut state = self.database.lock();
        if let Some(KeyState::Held { .. }) = state.keys.get(key) {
            state.keys.remove(key);
        }
        Ok(())
    }

    async fn purge(&self, retention: Duration) -> Result<u64> {
        let Some(before) = self.database.ago(retention) else { return Ok(0) };
        let mut purged = 0;
        self.database.lock().keys.retain(|_, key| match key {
            KeyState::Completed { completed_at, .. } if *completed_at < before => {
                purged += 1;
                false
            }
            _ => true,
        });
        Ok(purged)
    }
}
