//! Idempotency keys: reservations in memory, completed keys in the file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::model::timestamp;
use dms_core::ports::{IdempotencyKey, IdempotencyRepository, Reservation};
use dms_core::{Error, Result};
use sqlx::{query, query_as};

use super::database::Shared;
use super::error::from_sqlx;
use super::writer::Failure;
use crate::sql::{DATABASE, unreadable};

/// Reservations that may be held at once.
const RESERVATIONS_MAX: usize = 100_000;

/// Keys forgotten in one statement, so that other writes don't wait long.
const PURGE_BATCH: u32 = 1_000;

/// Whether a constraint speaks of a key that is there already.
pub(super) fn is_completed_key(message: &str) -> bool {
    message.starts_with("UNIQUE constraint failed: idempotency_keys.")
}

#[derive(Debug, Clone, Copy)]
struct Held {
    token: u64,
    lapses_at_unix_micros: i64,
}

#[derive(Default)]
struct Table {
    held: HashMap<IdempotencyKey, Held>,
    tokens: u64,
    /// Number of reservations at which lapsed ones are looked for.
    sweep_at: usize,
}

/// Keys of requests that are running. A crash ends the requests and forgets their keys.
#[derive(Default)]
pub(super) struct Reservations(Mutex<Table>);

impl Reservations {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code panics while it holds the lock; if it did, the table would still be sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the key unless somebody holds it.
    fn take(
        &self,
        key: &IdempotencyKey,
        now_unix_micros: i64,
        lease: Duration,
    ) -> Result<Option<Taken<'_>>> {
        let mut table = self.lock();
        if table.held.get(key).is_some_and(|held| held.lapses_at_unix_micros > now_unix_micros) {
            return Ok(None);
        }
        if table.held.len() >= table.sweep_at.max(1_024) {
            table.held.retain(|_, held| held.lapses_at_unix_micros > now_unix_micros);
            table.sweep_at = (2 * table.held.len()).min(RESERVATIONS_MAX);
            if table.held.len() >= RESERVATIONS_MAX {
                return Err(Error::unavailable(DATABASE, "too many requests are running"));
            }
        }
        table.tokens += 1;
        let token = table.tokens;
        let lease_micros = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        let lapses_at_unix_micros = now_unix_micros.saturating_add(lease_micros);
        table.held.insert(key.clone(), Held { token, lapses_at_unix_micros });
        Ok(Some(Taken { reservations: self, key: key.clone(), token: Some(token) }))
    }

    /// Forgets the key, whoever holds it.
    pub(super) fn forget(&self, key: &IdempotencyKey) {
        self.lock().held.remove(key);
    }
}

/// A key that is given back when dropped, unless it is kept.
struct Taken<'a> {
    reservations: &'a Reservations,
    key: IdempotencyKey,
    token: Option<u64>,
}

impl Taken<'_> {
    fn keep(mut self) {
        self.token = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            let mut table = self.reservations.lock();
            if table.held.get(&self.key).is_some_and(|held| held.token == token) {
                table.held.remove(&self.key);
            }
        }
    }
}

/// Idempotency keys in `SQLite`. Cheap to clone.
#[derive(Clone)]
pub struct SqliteIdempotencyRepository {
    shared: Arc<Shared>,
}

impl SqliteIdempotencyRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn completed(&self, key: &IdempotencyKey) -> Result<Option<Reservation>> {
        let row: Option<(String, String, Option<String>)> = query_as(
            "SELECT request_sha256, resource_id, first_answer FROM idempotency_keys
            WHERE scope = $1 AND key = $2",
        )
        .bind(key.scope().to_owned())
        .bind(key.key().to_owned())
        .fetch_optional(&self.shared.reads)
        .await
        .map_err(from_sqlx)?;
        let Some((request_sha256, resource_id, first_answer)) = row else { return Ok(None) };
        Ok(Some(Reservation::Completed {
            request_sha256: request_sha256.parse().map_err(|e| unreadable("digest", e))?,
            resource_id: resource_id.parse().map_err(|e| unreadable("resource id", e))?,
            first_answer: match first_answer {
                Some(json) => {
                    serde_json::from_str(&json).map_err(|e| unreadable("first answer", e))?
                }
                None => serde_json::Value::Null,
            },
        }))
    }
}

#[async_trait]
impl IdempotencyRepository for SqliteIdempotencyRepository {
    async fn reserve(&self, key: &IdempotencyKey, lease: Duration) -> Result<Reservation> {
        let now = timestamp::to_unix_micros(self.shared.now());
        // First memory, then the file: a request completes its key in the file before it forgets it
        // in memory, so one of the two always shows it.
        let taken = self.shared.reservations.take(key, now, lease)?;
        match (self.completed(key).await?, taken) {
            (Some(completed), _) => Ok(completed),
            (None, Some(taken)) => {
                taken.keep();
                Ok(Reservation::Acquired)
            }
            (None, None) => Ok(Reservation::Running),
        }
    }

    async fn release(&self, key: &IdempotencyKey) -> Result<()> {
        self.shared.reservations.forget(key);
        Ok(())
    }

    async fn purge(&self, retention: Duration) -> Result<u64> {
        let Some(before) = self.shared.ago(retention) else { return Ok(0) };
        let mut purged = 0;
        loop {
            let before = before.clone();
            let deleted = self
                .shared
                .writer
                .write(0, move |connection| {
                    Box::pin(async move {
                        let deleted = query(
                            "DELETE FROM idempotency_keys WHERE rowid IN (
                                SELECT rowid FROM idempotency_keys
                                WHERE completed_at < $1 LIMIT $2 + 0)",
                        )
                        .bind(before)
                        .bind(PURGE_BATCH)
                        .execute(connection)
                        .await?;
                        Ok::<_, Failure>(deleted.rows_affected())
                    })
                })
                .await?;
            purged += deleted;
            if deleted < u64::from(PURGE_BATCH) {
                return Ok(purged);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dms_core::ErrorKind;

    use super::*;

    fn key(n: usize) -> IdempotencyKey {
        IdempotencyKey::new("test", None, &n.to_string()).unwrap()
    }

    #[test]
    fn a_reservation_that_is_not_kept_is_given_back() {
        let reservations = Reservations::default();
        let lease = Duration::from_mins(1);
        let taken = reservations.take(&key(1), 0, lease).unwrap().unwrap();
        assert!(reservations.take(&key(1), 0, lease).unwrap().is_none());
        drop(taken);
        reservations.take(&key(1), 0, lease).unwrap().unwrap().keep();
        assert!(reservations.take(&key(1), 0, lease).unwrap().is_none());
    }

    #[test]
    fn giving_back_a_lapsed_reservation_leaves_its_successor_alone() {
        let reservations = Reservations::default();
        let slow = reservations.take(&key(1), 0, Duration::from_micros(5)).unwrap().unwrap();
        let next = reservations.take(&key(1), 5, Duration::from_mins(1)).unwrap();
        next.unwrap().keep();
        drop(slow);
        assert!(reservations.take(&key(1), 5, Duration::from_mins(1)).unwrap().is_none());
    }

    #[test]
    fn reservations_are_bounded_and_lapsed_ones_make_room() {
        let reservations = Reservations::default();
        let lease = Duration::from_micros(10);
        for n in 0..RESERVATIONS_MAX {
            reservations.take(&key(n), 0, lease).unwrap().unwrap().keep();
        }
        let error = reservations.take(&key(RESERVATIONS_MAX), 9, lease).err().unwrap();
        assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some(DATABASE)));
        reservations.take(&key(RESERVATIONS_MAX), 10, lease).unwrap().unwrap().keep();
        assert_eq!(reservations.lock().held.len(), 1);
    }
}
