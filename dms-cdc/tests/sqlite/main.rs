//! The change log of a SQLite database, with a real database file.

mod database;
mod reading;
mod running;
mod trimming;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_cdc::sqlite::{ChangeLogTrimmer, SqliteChangeSource, TrimOptions};
use dms_core::conformance::source::{SourceHarness, suite};
use dms_core::model::change::{Operation, Position, RowChange};
use dms_core::ports::ChangeSource;
use tokio::sync::Mutex;

use self::database::Database;

/// Keeps everything that may be trimmed away from being kept.
const KEEP_NOTHING: TrimOptions =
    TrimOptions { rows_min: 0, rows_max: 1_000_000, chunk_rows: 1_000 };

struct Harness {
    database: Database,
    sources: Mutex<HashMap<String, Arc<SqliteChangeSource>>>,
}

#[async_trait]
impl SourceHarness for Harness {
    async fn append(&self, operation: Operation, row: RowChange) {
        self.database.append(operation, row).await;
    }

    async fn source(&self, consumer: &str) -> Arc<dyn ChangeSource> {
        let source = Arc::new(self.database.source(consumer));
        self.sources.lock().await.insert(consumer.to_owned(), source.clone());
        source
    }

    async fn settle(&self) {
        for source in self.sources.lock().await.values() {
            source.flush().await.expect("acknowledgements written");
        }
    }

    async fn trim(&self) {
        let trimmer = ChangeLogTrimmer::new(self.database.writes.clone(), KEEP_NOTHING);
        trimmer.trim().await.expect("log trimmed");
    }

    fn beyond(&self) -> Option<Position> {
        Some(Position::new("1000000"))
    }
}

#[tokio::test]
async fn conforms() {
    let harness = Harness { database: Database::new().await, sources: Mutex::default() };
    tokio::time::timeout(Duration::from_mins(1), suite(&harness)).await.expect("suite ends");
}
