//! The schema, step by step, and what is done when the file has another one.

use dms_core::{Error, ErrorKind, Result};
use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType};
use sqlx::{Connection as _, SqlSafeStr as _, SqliteConnection};

use super::error::from_sqlx;

const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "documents", include_str!("migrations/0001_documents.sql")),
    (2, "signatures", include_str!("migrations/0002_signatures.sql")),
    (3, "bookkeeping", include_str!("migrations/0003_bookkeeping.sql")),
];

fn newest_known() -> i64 {
    MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or_default()
}

/// Where sqlx keeps which migrations were applied.
const TABLE: &str = "_sqlx_migrations";

/// Brings the schema up to date, in one transaction: several processes may begin at once.
///
/// # Errors
/// - `Conflict` with code `schema_newer` if the file was written by a newer build;
/// - `Internal` if a migration fails, or one that was applied isn't the one this build knows.
pub(super) async fn apply(connection: &mut SqliteConnection) -> Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?;
    refuse_newer(newest_applied(&mut transaction).await?)?;
    transaction.ensure_migrations_table(TABLE).await.map_err(failed)?;
    let applied = transaction.list_applied_migrations(TABLE).await.map_err(failed)?;
    for (version, name, sql) in MIGRATIONS {
        let simple = MigrationType::Simple;
        let known = Migration::new(version, name.into(), simple, sql.into_sql_str(), false);
        match applied.iter().find(|migration| migration.version == version) {
            Some(applied) if applied.checksum == known.checksum => {}
            Some(_) => return Err(failed(MigrateError::VersionMismatch(version))),
            None => {
                transaction.apply(TABLE, &known).await.map_err(failed)?;
            }
        }
    }
    transaction.commit().await.map_err(from_sqlx)
}

fn failed(error: MigrateError) -> Error {
    Error::internal("database can't be migrated").with_source(error)
}

/// Accepts the schema as it is, or not.
///
/// # Errors
/// `Conflict` with code `schema_newer`, or `schema_older` if a migration is missing.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<()> {
    let applied = newest_applied(connection).await?;
    refuse_newer(applied)?;
    if applied < newest_known() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "database schema at {applied} is older than {} that this build needs: start it \
                 once with migrations on",
                newest_known()
            ),
        )
        .with_code("schema_older"));
    }
    Ok(())
}

fn refuse_newer(applied: i64) -> Result<()> {
    if applied <= newest_known() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "database schema at {applied} is newer than {} that this build knows: run a newer \
             build, or restore a backup made before the upgrade",
            newest_known()
        ),
    )
    .with_code("schema_newer"))
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
