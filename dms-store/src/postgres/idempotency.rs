//! Idempotency keys, of all processes that use the database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::{IdempotencyKey, IdempotencyRepository, Reservation};
use dms_core::{Result, Sha256};
use sqlx::query_as;
use sqlx::types::Json;
use uuid::Uuid;

use super::database::Shared;
use super::row::only;
use crate::sql::unreadable;

/// Keys forgotten in one statement, so that other writes don't wait long.
const PURGE_BATCH: u32 = 1_000;

/// A lease or age as long as any: a thousand years.
const DURATION_MAX: Duration = Duration::from_hours(24 * 365 * 1_000);

/// Idempotency keys in `PostgreSQL`. Cheap to clone.
///
/// Leases are by the clock of the database.
#[derive(Clone)]
pub struct PostgresIdempotencyRepository {
    shared: Arc<Shared>,
}

impl PostgresIdempotencyRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The digest of the request that completed the key, if one did.
    pub(super) async fn completed_by(&self, key: &IdempotencyKey) -> Result<Option<Sha256>> {
        let statement = query_as::<_, (String,)>(
            "SELECT request_sha256 FROM idempotency_keys
            WHERE scope = $1 AND key = $2 AND completed_at IS NOT NULL",
        )
        .bind(key.scope().to_owned())
        .bind(key.key().to_owned());
        let completed = self.shared.connections.read(statement).await?.into_iter().next();
        completed.map(|(digest,)| digest.parse().map_err(|e| unreadable("digest", e))).transpose()
    }
}

/// Seconds of a lease or age that the database can add to a time, or take from it.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.min(DURATION_MAX).as_secs_f64()
}

#[async_trait]
impl IdempotencyRepository for PostgresIdempotencyRepository {
    async fn reserve(&self, key: &IdempotencyKey, lease: Duration) -> Result<Reservation> {
        type Row = (bool, Option<String>, Option<Uuid>, Option<Json<serde_json::Value>>);
        let holder = Uuid::now_v7();
        // The row is written also where nothing changes: so it is locked, and what is said of it
        // true.
        let statement = query_as::<_, Row>(
            "INSERT INTO idempotency_keys AS held (scope, key, holder, held_until)
            VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
            ON CONFLICT (scope, key) DO UPDATE SET
                holder = CASE WHEN held.held_until <= clock_timestamp()
                    THEN excluded.holder ELSE held.holder END,
                held_until = CASE WHEN held.held_until <= clock_timestamp()
                    THEN excluded.held_until ELSE held.held_until END
            RETURNING coalesce(holder = $3, FALSE), request_sha256, resource_id, first_answer",
        )
        .bind(key.scope().to_owned())
        .bind(key.key().to_owned())
        .bind(holder)
        .bind(seconds(lease));
        match only(self.shared.connections.write(statement).await?)? {
            (_, Some(request_sha256), Some(resource_id), first_answer) => {
                Ok(Reservation::Completed {
                    request_sha256: request_sha256.parse().map_err(|e| unreadable("digest", e))?,
                    resource_id,
                    first_answer: first_answer.map_or(serde_json::Value::Null, |json| json.0),
                })
            }
            (true, ..) => Ok(Reservation::Acquired),
            (false, ..) => Ok(Reservation::Running),
        }
    }

    async fn release(&self, key: &IdempotencyKey) -> Result<()> {
        let statement = query_as::<_, (bool,)>(
            "DELETE FROM idempotency_keys
            WHERE scope = $1 AND key = $2 AND completed_at IS NULL
            RETURNING TRUE",
        )
        .bind(key.scope().to_owned())
        .bind(key.key().to_owned());
        self.shared.connections.write(statement).await?;
        Ok(())
    }

    async fn purge(&self, retention: Duration) -> Result<u64> {
        let mut purged = 0;
        loop {
            // Keys of requests that died are forgotten along, but not counted.
            let statement = query_as::<_, (i64,)>(
                "WITH completed AS (
                    DELETE FROM idempotency_keys WHERE (scope, key) IN (
                        SELECT scope, key FROM idempotency_keys
                        WHERE completed_at < now() - make_interval(secs => $1)
                        LIMIT $2 FOR UPDATE SKIP LOCKED)
                    RETURNING TRUE
                ), lapsed AS (
                    DELETE FROM idempotency_keys WHERE (scope, key) IN (
                        SELECT scope, key FROM idempotency_keys
                        WHERE completed_at IS NULL AND held_until < now()
                        LIMIT $2 FOR UPDATE SKIP LOCKED)
                )
                SELECT count(*) FROM completed",
            )
            .bind(seconds(retention))
            .bind(i64::from(PURGE_BATCH));
            let (deleted,) = only(self.shared.connections.write(statement).await?)?;
            let deleted = u64::try_from(deleted).unwrap_or_default();
            purged += deleted;
            if deleted < u64::from(PURGE_BATCH) {
                return Ok(purged);
            }
        }
    }
}
