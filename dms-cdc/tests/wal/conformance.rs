//! The suite that every source passes.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use dms_cdc::postgres::WalChangeSource;
use dms_core::conformance::source::{SourceHarness, suite};
use dms_core::model::change::{Operation, Position, RowChange};
use dms_core::ports::{ChangeSource, StartAt};
use tokio::sync::Mutex;

use crate::database::{Database, PATIENCE};

/// Consumers that more than one step of the suite relies on. A server has few slots: of the others
/// only the one that was used last keeps its slot.
const LASTING: [&str; 2] = ["oldest", "limits"];

struct Harness {
    database: Database,
    sources: Mutex<HashMap<String, Arc<WalChangeSource>>>,
}

#[async_trait]
impl SourceHarness for Harness {
    async fn append(&self, operation: Operation, row: RowChange) {
        self.database.append(operation, row).await;
    }

    async fn source(&self, consumer: &str) -> Arc<dyn ChangeSource> {
        let mut sources = self.sources.lock().await;
        let is_spare = |name: &&String| !LASTING.contains(&name.as_str()) && *name != consumer;
        let spare: Vec<_> = sources.keys().filter(is_spare).cloned().collect();
        for name in spare {
            if let Some(earlier) = sources.remove(&name) {
                earlier.release().await;
            }
            self.database.drop_slot(&name).await;
        }
        // It may still be held, but its process is to have been killed.
        if let Some(earlier) = sources.remove(consumer) {
            earlier.release().await;
        }
        let source = Arc::new(self.database.source(consumer));
        sources.insert(consumer.to_owned(), source.clone());
        source
    }

    async fn settle(&self) {
        for source in self.sources.lock().await.values() {
            source.flush().await.expect("acknowledgements arrive");
        }
    }

    // The server drops by itself what every slot has confirmed.
    async fn trim(&self) {}

    fn beyond(&self) -> Option<Position> {
        Some(Position::new("FFFFFFFF/0"))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn conforms() {
    let database = Database::new().await;
    // As a first start does: while there are no rows, the first change ever is in the slot.
    let oldest = database.source("oldest");
    oldest.start(StartAt::Acknowledged).await.expect("an empty database");
    drop(oldest);
    let harness = Harness { database, sources: Mutex::default() };
    tokio::time::timeout(PATIENCE * 3, suite(&harness)).await.expect("suite ends");
}
