//! The schema, step by step, and what is done when the database has another one.

use std::time::Duration;

use dms_core::{Error, Result};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, query_scalar, raw_sql};

use super::error::{from_sqlx, no_answer};
use crate::sql::Schema;

const SCHEMA: Schema = Schema(&[
    (1, "documents", include_str!("migrations/0001_documents.sql")),
    (2, "signatures", include_str!("migrations/0002_signatures.sql")),
    (3, "bookkeeping", include_str!("migrations/0003_bookkeeping.sql")),
    (4, "safety net", include_str!("migrations/0004_safety_net.sql")),
]);

/// Key of the lock under which one of several processes migrates: `dms-sche` in ASCII.
const LOCK: i64 = 0x646d_732d_7363_6865;

/// Brings the schema up to date. Several processes may begin at once: all is one transaction under a
/// lock that ends with it, whatever becomes of the process, and that holds through a pooler, too.
///
/// # Errors
/// - `Conflict` with code `schema_newer` if the database was migrated by a newer build;
/// - `Unavailable` if it doesn't answer, or others migrate for longer than `timeout`;
/// - `Internal` if a migration fails, or one that was applied isn't the one this build knows.
pub(super) async fn apply(connection: &mut PgConnection, timeout: Duration) -> Result<()> {
    tokio::time::timeout(timeout, apply_under_lock(connection)).await.map_err(no_answer)?
}

async fn apply_under_lock(connection: &mut PgConnection) -> Result<()> {
    let mut transaction = connection.begin().await.map_err(from_sqlx)?;
    // Making an index may take as long as it takes, and so may those who are before us.
    raw_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .execute(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    query_scalar::<_, String>("SELECT pg_advisory_xact_lock($1)::text")
        .bind(LOCK)
        .fetch_one(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    SCHEMA.refuse_newer(newest_applied(&mut transaction).await?)?;
    SCHEMA.apply_missing(&mut *transaction).await?;
    transaction.commit().await.map_err(from_sqlx)
}

/// Accepts the schema as it is, or not.
///
/// # Errors
/// `Conflict` with code `schema_newer`, or `schema_older` if a migration is missing.
pub(super) async fn check(connection: &mut PgConnection, timeout: Duration) -> Result<()> {
    let applied = tokio::time::timeout(timeout, newest_applied(connection));
    SCHEMA.check(applied.await.map_err(no_answer)??)
}

/// Version of the newest migration in the database; 0 if there is none.
async fn newest_applied(connection: &mut PgConnection) -> Result<i64> {
    let tracked: bool = query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(Schema::TABLE)
        .fetch_one(&mut *connection)
        .await
        .map_err(from_sqlx)?;
    if !tracked {
        return Ok(0);
    }
    query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(|error| -> Error { from_sqlx(error) })
}
