//! An index, texts and contents in memory, and rows to put into them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use dms_core::fake::InMemorySearchIndex;
use dms_core::model::change::{Change, DocumentRow, Operation, Position, RowChange};
use dms_core::model::search::SearchQuery;
use dms_core::model::text::TextKey;
use dms_core::ports::{
    BlobContent, BlobInfo, BlobStore, ByteStream, ChangeSink as _, IndexProgress,
    MockDocumentRepository, Outcome, SearchIndex as _, TextRepository,
};
use dms_core::{DocumentId, DocumentStatus, Error, ErrorKind, Result, Sha256};
use dms_search::{IndexingOptions, IndexingSink};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use time::macros::datetime;

/// Content that is there, missing or out of reach; counts what is read.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) blobs: Mutex<HashMap<String, Bytes>>,
    pub(crate) unreachable: Mutex<HashSet<String>>,
    pub(crate) reads: AtomicUsize,
    pub(crate) reading: AtomicUsize,
    pub(crate) reading_max: AtomicUsize,
}

#[async_trait]
impl BlobStore for Contents {
    async fn put(&self, _: &str, _: ByteStream) -> Result<u64> {
        Err(Error::internal("indexing stores no content"))
    }

    async fn get(&self, key: &str, _: Option<Range<u64>>) -> Result<BlobContent> {
        let reading = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.reading_max.fetch_max(reading, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.reading.fetch_sub(1, Ordering::SeqCst);
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.unreachable.lock().unwrap().contains(key) {
            return Err(Error::unavailable("storage", "out of reach"));
        }
        let content = self.blobs.lock().unwrap().get(key).cloned();
        let content = content.ok_or_else(|| Error::not_found("blob", key))?;
        let pieces: Vec<_> =
            content.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(BlobContent { size: content.len() as u64, stream: stream::iter(pieces).boxed() })
    }

    async fn delete(&self, _: &str) -> Result<()> {
        Err(Error::internal("indexing deletes no content"))
    }

    fn list(&self, _: &str) -> BoxStream<'static, Result<BlobInfo>> {
        stream::empty().boxed()
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Kept texts; counts queries.
#[derive(Default)]
pub(crate) struct Texts {
    pub(crate) kept: Mutex<HashMap<TextKey, String>>,
    pub(crate) reads: AtomicUsize,
    pub(crate) is_down: AtomicBool,
    pub(crate) is_read_only: AtomicBool,
}

#[async_trait]
impl TextRepository for Texts {
    async fn get_many(&self, keys: &[TextKey]) -> Result<HashMap<TextKey, String>> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Error::unavailable("database", "down"));
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        let texts = self.kept.lock().unwrap();
        Ok(keys.iter().filter_map(|key| Some((*key, texts.get(key)?.clone()))).collect())
    }

    async fn put_many(&self, texts: &[(TextKey, String)]) -> Result<()> {
        if self.is_read_only.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::StorageFull, "full"));
        }
        let mut kept = self.kept.lock().unwrap();
        for (key, text) in texts {
            kept.entry(*key).or_insert_with(|| text.clone());
        }
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) index: Arc<InMemorySearchIndex>,
    pub(crate) texts: Arc<Texts>,
    pub(crate) contents: Arc<Contents>,
    pub(crate) sink: IndexingSink,
}

pub(crate) fn world_with(options: IndexingOptions) -> World {
    let index = Arc::new(InMemorySearchIndex::new());
    let texts = Arc::new(Texts::default());
    let contents = Arc::new(Contents::default());
    let sink = IndexingSink::new(index.clone(), texts.clone(), contents.clone(), options);
    World { index, texts, contents, sink }
}

pub(crate) fn world() -> World {
    world_with(IndexingOptions::default())
}

impl World {
    /// A row whose content is stored.
    pub(crate) fn row(&self, title: &str, content_type: &str, content: &str) -> DocumentRow {
        let id = DocumentId::generate();
        let at = datetime!(2026-01-02 03:04:05 UTC);
        let key = format!("{id}/content");
        let content = Bytes::copy_from_slice(content.as_bytes());
        let row = DocumentRow {
            id,
            title: title.to_owned(),
            content_type: content_type.to_owned(),
            content_size: content.len() as u64,
            content_sha256: Some(Sha256::of(&content)),
            s3_key: Some(key.clone()),
            status: DocumentStatus::Created,
            created_by: "ann".to_owned(),
            created_at: at,
            updated_at: at,
            version: 1,
            deleted: false,
        };
        self.contents.blobs.lock().unwrap().insert(key, content);
        row
    }

    pub(crate) async fn apply(&self, rows: &[&DocumentRow], up_to: &str) -> Vec<Outcome> {
        let changes: Vec<_> = rows.iter().map(|row| change(row)).collect();
        self.sink.apply(&changes, &Position::new(up_to)).await.unwrap()
    }

    pub(crate) async fn titles(&self, text: &str) -> Vec<String> {
        let query = SearchQuery { text: Some(text.to_owned()), ..SearchQuery::default() };
        let found = self.index.search(&query).await.unwrap();
        found.hits.into_iter().map(|hit| hit.document.title).collect()
    }

    pub(crate) async fn position(&self) -> Option<String> {
        match self.index.progress().await.unwrap() {
            IndexProgress::At(position) => Some(position.as_str().to_owned()),
            _ => None,
        }
    }

    pub(crate) fn reads(&self) -> (usize, usize) {
        (self.texts.reads.load(Ordering::SeqCst), self.contents.reads.load(Ordering::SeqCst))
    }
}

pub(crate) fn change(row: &DocumentRow) -> Change {
    Change {
        operation: Operation::Update,
        row: RowChange::Document { before: None, after: Some(row.clone()) },
        position: Position::new("somewhere"),
        committed_at: row.updated_at,
    }
}

pub(crate) fn next(row: &DocumentRow, change: impl FnOnce(&mut DocumentRow)) -> DocumentRow {
    let mut row = row.clone();
    row.version += 1;
    change(&mut row);
    row
}

/// A repository that scans these rows.
pub(crate) fn repository(rows: Vec<DocumentRow>) -> MockDocumentRepository {
    let mut documents = MockDocumentRepository::new();
    documents.expect_scan().returning(move |after, limit| {
        let rows = rows.iter().filter(|row| Some(row.id) > after);
        Ok(rows.take(limit as usize).cloned().collect())
    });
    documents
}
