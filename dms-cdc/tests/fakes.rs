//! The sources in memory keep to the port, as real ones do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::conformance::source::{SourceHarness, suite};
use dms_core::fake::{InMemoryChangeLog, ScriptedChangeSource};
use dms_core::model::change::{Operation, Position, RowChange};
use dms_core::ports::ChangeSource;
use time::OffsetDateTime;

struct Harness {
    log: InMemoryChangeLog,
    is_scripted: bool,
}

#[async_trait]
impl SourceHarness for Harness {
    async fn append(&self, operation: Operation, row: RowChange) {
        self.log.append(operation, row, OffsetDateTime::UNIX_EPOCH);
    }

    async fn source(&self, consumer: &str) -> Arc<dyn ChangeSource> {
        if self.is_scripted {
            Arc::new(ScriptedChangeSource::new(&self.log, consumer))
        } else {
            Arc::new(self.log.source(consumer))
        }
    }

    async fn settle(&self) {}

    async fn trim(&self) {
        self.log.trim();
    }

    fn beyond(&self) -> Option<Position> {
        Some(Position::new("1000000"))
    }
}

async fn conforms(is_scripted: bool) {
    let harness = Harness { log: InMemoryChangeLog::default(), is_scripted };
    tokio::time::timeout(Duration::from_mins(1), suite(&harness)).await.expect("suite ends");
}

#[tokio::test]
async fn the_in_memory_source_conforms() {
    conforms(false).await;
}

#[tokio::test]
async fn the_scripted_source_conforms() {
    conforms(true).await;
}
