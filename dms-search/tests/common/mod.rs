//! A database in memory whose changes are a stream, and documents to put into it.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use dms_core::fake::{InMemoryBlobStore, InMemoryDatabase};
use dms_core::model::change::{DocumentRow, Position, Record, RecordBatch};
use dms_core::model::search::IndexVersion;
use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{BatchLimits, ChangeSource, DocumentRepository as _, SearchIndex, StartAt};
use dms_core::{DocumentId, NewDocument, Result, Sha256};
use dms_search::{IndexingOptions, IndexingSink};

/// The changes of a database, for one consumer.
pub(crate) struct DatabaseSource {
    database: InMemoryDatabase,
    cursor: Mutex<usize>,
    acknowledged: Mutex<usize>,
}

impl DatabaseSource {
    pub(crate) fn new(database: &InMemoryDatabase) -> Self {
        Self {
            database: database.clone(),
            cursor: Mutex::default(),
            acknowledged: Mutex::default(),
        }
    }
}

#[async_trait]
impl ChangeSource for DatabaseSource {
    async fn start(&self, at: StartAt) -> Result<()> {
        let cursor = match at {
            StartAt::Acknowledged => *self.acknowledged.lock().unwrap(),
            StartAt::After(position) => position.as_str().parse().unwrap(),
            StartAt::Now => self.database.changes().len(),
        };
        *self.cursor.lock().unwrap() = cursor;
        *self.acknowledged.lock().unwrap() = cursor;
        Ok(())
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        let cursor = *self.cursor.lock().unwrap();
        let mut changes = self.database.changes_after(cursor).await;
        changes.truncate(limits.records_max.min(7));
        let cursor = cursor + changes.len();
        *self.cursor.lock().unwrap() = cursor;
        let records = changes.into_iter().map(|change| Record::Change(Box::new(change))).collect();
        Ok(RecordBatch { records, position: Position::new(cursor.to_string()) })
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        *self.acknowledged.lock().unwrap() = position.as_str().parse().unwrap();
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        Ok(Position::new(self.database.changes().len().to_string()))
    }

    async fn lag(&self) -> Result<u64> {
        let acknowledged = *self.acknowledged.lock().unwrap();
        Ok((self.database.changes().len() - acknowledged) as u64)
    }
}

/// A sink of an index over the texts of a database.
pub(crate) fn sink(database: &InMemoryDatabase, index: Arc<dyn SearchIndex>) -> IndexingSink {
    let blobs = Arc::new(InMemoryBlobStore::default());
    IndexingSink::new(index, Arc::new(database.texts()), blobs, IndexingOptions::default())
}

/// Adds a document with a text.
pub(crate) async fn create(database: &InMemoryDatabase, title: &str, text: &str) -> DocumentId {
    let id = DocumentId::generate();
    let content_sha256 = Sha256::of(text.as_bytes());
    let document = NewDocument {
        id,
        title: title.to_owned(),
        content_type: "text/plain".to_owned(),
        content_size: text.len() as u64,
        content_sha256,
        s3_key: format!("{id}/content"),
        created_by: "ann@example.org".to_owned(),
    };
    let key = TextKey { content_sha256, format: TextFormat::Plain };
    let kept = Some((key, text.to_owned()));
    database.documents().create(document, kept, None).await.unwrap();
    id
}

/// Every row, deleted ones too.
pub(crate) async fn rows(database: &InMemoryDatabase) -> Vec<DocumentRow> {
    database.documents().scan(None, u32::MAX).await.unwrap()
}

/// What the index ought to have: the version of every row.
pub(crate) async fn expected(database: &InMemoryDatabase) -> Vec<IndexVersion> {
    rows(database).await.iter().map(IndexVersion::from).collect()
}

/// What the index has, without marks of documents that have no row.
pub(crate) async fn versions(index: &dyn SearchIndex) -> Vec<IndexVersion> {
    index.refresh().await.unwrap();
    let mut all: Vec<IndexVersion> = Vec::new();
    loop {
        let page = index.versions(all.last().map(|last| last.id), 1_000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}
