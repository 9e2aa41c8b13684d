//! Keeps the change log short.

use std::time::Duration;

use dms_core::{ErrorChain, Result};
use sqlx::SqlitePool;
use tokio_util::sync::CancellationToken;

use super::error::query_failed;

// One statement, so that a consumer that registers meanwhile is either seen or sees.
const TRIM: &str = "DELETE FROM change_log WHERE seq IN (
    SELECT seq FROM change_log WHERE seq <= (
        SELECT max(
            min(coalesce((SELECT min(acknowledged) FROM change_consumers), head), head - $1),
            head - $2)
        FROM (
            SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0) AS head))
    ORDER BY seq LIMIT $3 + 0)";

const FORGET: &str = "DELETE FROM change_consumers WHERE consumer = $1";

/// What a [`ChangeLogTrimmer`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimOptions {
    /// Changes kept in any case, for consumers that aren't registered.
    pub rows_min: u32,
    /// Changes kept at most. A consumer that is further behind is no longer waited for; it finds
    /// its position lost and rebuilds.
    pub rows_max: u32,
    /// Rows removed by one statement, which is how long other writers wait.
    pub chunk_rows: u32,
}

impl Default for TrimOptions {
    fn default() -> Self {
        Self { rows_min: 10_000, rows_max: 1_000_000, chunk_rows: 1_000 }
    }
}

/// Removes from the change log what every registered consumer has passed.
///
/// Without a registered consumer nothing is waited for.
#[derive(Debug, Clone)]
pub struct ChangeLogTrimmer {
    writes: SqlitePool,
    options: TrimOptions,
}

impl ChangeLogTrimmer {
    /// A trimmer over the pool of the database's writer.
    pub fn new(writes: SqlitePool, options: TrimOptions) -> Self {
        Self { writes, options }
    }

    /// Removes all that can be removed, chunk by chunk, and gives the number of rows. Other writers
    /// get in between the chunks. Dropping the future keeps what was removed until then removed.
    ///
    /// # Errors
    /// `Unavailable` or `StorageFull`; what was removed until then stays removed.
    pub async fn trim(&self) -> Result<u64> {
        let chunk_rows = self.options.chunk_rows.max(1);
        let mut removed = 0;
        loop {
            let done = sqlx::query(TRIM)
                .bind(i64::from(self.options.rows_min))
                .bind(i64::from(self.options.rows_max.max(self.options.rows_min)))
                .bind(i64::from(chunk_rows))
                .execute(&self.writes)
                .await
                .map_err(query_failed)?;
            removed += done.rows_affected();
            if done.rows_affected() < u64::from(chunk_rows) {
                return Ok(removed);
            }
        }
    }

    /// Trims at this interval until told to stop. Failures are logged, and made up for next time.
    pub async fn run(&self, every: Duration, stop: CancellationToken) {
        let trimming = async {
            loop {
                tokio::time::sleep(every).await;
                match self.trim().await {
                    Ok(0) => {}
                    Ok(removed) => tracing::debug!(removed, "change log trimmed"),
                    Err(error) => {
                        let error = ErrorChain(&error).to_string();
                        tracing::warn!(error, "change log not trimmed");
                    }
                }
            }
        };
        tokio::select! {
            () = trimming => {}
            () = stop.cancelled() => {}
        }
    }

    /// Stops waiting for a consumer that won't come back; false if it isn't registered.
    ///
    /// # Errors
    /// `Unavailable` or `StorageFull`.
    pub async fn forget_consumer(&self, consumer: &str) -> Result<bool> {
        let query = sqlx::query(FORGET).bind(consumer);
        let done = query.execute(&self.writes).await.map_err(query_failed)?;
        Ok(done.rows_affected() > 0)
    }
}
