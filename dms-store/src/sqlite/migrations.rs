//! The schema, step by step, and what is done when the file has another one.

use dms_core::Result;
use sqlx::{Connection as _, SqliteConnection};

use super::error::from_sqlx;
use crate::sql::Schema;

const SCHEMA: Schema = Schema(&[
    (1, "documents", include_str!("migrations/0001_documents.sql")),
    (2, "signatures", include_str!("migrations/0002_signatures.sql")),
    (3, "bookkeeping", include_str!("migrations/0003_bookkeeping.sql")),
]);

/// Brings the schema up to date, in one transaction: several processes may begin at once.
///
/// # Errors
/// - `Conflict` with code `schema_newer` if the file was written by a newer build;
/// - `Internal` if a migration fails, or one that was applied isn't the one this build knows.
pub(super) async fn apply(connection: &mut SqliteConnection) -> Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?;
    SCHEMA.refuse_newer(newest_applied(&mut transaction).await?)?;
    SCHEMA.apply_missing(&mut *transaction).await?;
    transaction.commit().await.map_err(from_sqlx)
}

/// Accepts the schema as it is, or not.
///
/// # Errors
/// `Conflict` with code `schema_newer`, or `schema_older` if a migration is missing.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<()> {
    SCHEMA.check(newest_applied(connection).await?)
}

/// Version of the newest migration in the file; 0 if there is none.
async fn newest_applied(connection: &mut SqliteConnection) -> Result<i64> {
    let tracked: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(from_sqlx)?;
    if !tracked {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(from_sqlx)
}
