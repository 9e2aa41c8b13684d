//! The schema, step by step, and what is done when the database has another one.

use dms_core::{Error, ErrorKind, Result};
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType};

/// Steps in ascending order: number, name, SQL.
pub(crate) struct Schema(pub(crate) &'static [(i64, &'static str, &'static str)]);

impl Schema {
    /// Where sqlx keeps which migrations were applied.
    pub(crate) const TABLE: &'static str = "_sqlx_migrations";

    fn newest_known(&self) -> i64 {
        self.0.iter().map(|(version, ..)| *version).max().unwrap_or_default()
    }

    /// Applies the steps that are missing, on a connection that keeps others from doing it too.
    ///
    /// # Errors
    /// `Internal` if a migration fails, or one that was applied isn't the one this build knows.
    pub(crate) async fn apply_missing<C: Migrate>(&self, connection: &mut C) -> Result<()> {
        connection.ensure_migrations_table(Self::TABLE).await.map_err(failed)?;
        let applied = connection.list_applied_migrations(Self::TABLE).await.map_err(failed)?;
        for &(version, name, sql) in self.0 {
            let simple = MigrationType::Simple;
            let known = Migration::new(version, name.into(), simple, sql.into_sql_str(), false);
            match applied.iter().find(|migration| migration.version == version) {
                Some(applied) if applied.checksum == known.checksum => {}
                Some(_) => return Err(failed(MigrateError::VersionMismatch(version))),
                None => {
                    connection.apply(Self::TABLE, &known).await.map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Accepts a schema at `applied` as it is, or not.
    ///
    /// # Errors
    /// `Conflict` with code `schema_newer`, or `schema_older` if a migration is missing.
    pub(crate) fn check(&self, applied: i64) -> Result<()> {
        self.refuse_newer(applied)?;
        let known = self.newest_known();
        if applied == known {
            return Ok(());
        }
        let message = format!(
            "database schema at {applied} is older than {known} that this build needs: start it \
             once with migrations on"
        );
        Err(Error::new(ErrorKind::Conflict, message).with_code("schema_older"))
    }

    /// Accepts a schema at `applied` that is brought up to date, or not.
    ///
    /// # Errors
    /// `Conflict` with code `schema_newer`.
    pub(crate) fn refuse_newer(&self, applied: i64) -> Result<()> {
        let known = self.newest_known();
        if applied <= known {
            return Ok(());
        }
        let message = format!(
            "database schema at {applied} is newer than {known} that this build knows: run a \
             newer build, or restore a backup made before the upgrade"
        );
        Err(Error::new(ErrorKind::Conflict, message).with_code("schema_newer"))
    }
}

fn failed(error: MigrateError) -> Error {
    Error::internal("database can't be migrated").with_source(error)
}
