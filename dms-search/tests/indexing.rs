//! The sink and the rebuild, on fakes of every port.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dms_core::fake::InMemorySearchIndex;
use dms_core::model::change::{Change, DocumentRow, Operation, Position, RowChange, SignatureRow};
use dms_core::model::search::{
    AggregationQuery, Bucket, IndexEntry, IndexVersion, SearchQuery, SearchResults,
};
use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{
    BlobContent, BlobInfo, BlobStore, ByteStream, ChangeSink, IndexProgress,
    MockDocumentRepository, Outcome, SearchIndex, StagedIndex, TextRepository,
};
use dms_core::{DocumentId, DocumentStatus, Error, ErrorKind, Result, Sha256, SignatureId};
use dms_search::{
    IndexingOptions, IndexingSink, RebuildOptions, RebuildProgress, needs_rebuild, rebuild,
};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use time::macros::datetime;

/// Content that is there, missing or out of reach; counts what is read.
#[derive(Default)]
struct Contents {
    blobs: Mutex<HashMap<String, Bytes>>,
    unreachable: Mutex<HashSet<String>>,
    reads: AtomicUsize,
    reading: AtomicUsize,
    reading_max: AtomicUsize,
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
struct Texts {
    kept: Mutex<HashMap<TextKey, String>>,
    reads: AtomicUsize,
    is_down: AtomicBool,
    is_read_only: AtomicBool,
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

struct World {
    index: Arc<InMemorySearchIndex>,
    texts: Arc<Texts>,
    contents: Arc<Contents>,
    sink: IndexingSink,
}

fn world_with(options: IndexingOptions) -> World {
    let index = Arc::new(InMemorySearchIndex::new());
    let texts = Arc::new(Texts::default());
    let contents = Arc::new(Contents::default());
    let sink = IndexingSink::new(index.clone(), texts.clone(), contents.clone(), options);
    World { index, texts, contents, sink }
}

fn world() -> World {
    world_with(IndexingOptions::default())
}

impl World {
    /// A row whose content is stored.
    fn row(&self, title: &str, content_type: &str, content: &str) -> DocumentRow {
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

    async fn apply(&self, rows: &[&DocumentRow], up_to: &str) -> Vec<Outcome> {
        let changes: Vec<_> = rows.iter().map(|row| change(row)).collect();
        self.sink.apply(&changes, &Position::new(up_to)).await.unwrap()
    }

    async fn titles(&self, text: &str) -> Vec<String> {
        let query = SearchQuery { text: Some(text.to_owned()), ..SearchQuery::default() };
        let found = self.index.search(&query).await.unwrap();
        found.hits.into_iter().map(|hit| hit.document.title).collect()
    }

    async fn position(&self) -> Option<String> {
        match self.index.progress().await.unwrap() {
            IndexProgress::At(position) => Some(position.as_str().to_owned()),
            _ => None,
        }
    }

    fn reads(&self) -> (usize, usize) {
        (self.texts.reads.load(Ordering::SeqCst), self.contents.reads.load(Ordering::SeqCst))
    }
}

fn change(row: &DocumentRow) -> Change {
    Change {
        operation: Operation::Update,
        row: RowChange::Document { before: None, after: Some(row.clone()) },
        position: Position::new("somewhere"),
        committed_at: row.updated_at,
    }
}

fn next(row: &DocumentRow, change: impl FnOnce(&mut DocumentRow)) -> DocumentRow {
    let mut row = row.clone();
    row.version += 1;
    change(&mut row);
    row
}

#[tokio::test]
async fn documents_are_found_by_the_text_of_their_content() {
    let world = world();
    let plain = world.row("plain", "text/plain; charset=utf-8", "harbour");
    let html = world.row("html", "text/html", "<p title='hidden'>harb&#111;ur</p>");
    let markdown = world.row("markdown", "text/markdown", "**har**bour");
    let image = world.row("image", "image/png", "harbour");
    let outcomes = world.apply(&[&plain, &html, &markdown, &image], "p1").await;
    assert_eq!(outcomes, [const { Outcome::Applied }; 4]);
    let mut titles = world.titles("harbour").await;
    titles.sort();
    assert_eq!(titles, ["html", "markdown", "plain"]);
    assert!(world.titles("hidden").await.is_empty());
    assert_eq!(world.titles("image").await, ["image"]);
    assert_eq!(world.position().await.as_deref(), Some("p1"));
}

#[tokio::test]
async fn texts_are_read_in_one_query_and_content_only_once() {
    let world = world();
    let rows: Vec<_> =
        (0..5).map(|n| world.row("title", "text/plain", &format!("text {n}"))).collect();
    // The same content again needs no read of its own.
    let twin = DocumentRow { id: DocumentId::generate(), ..rows[0].clone() };
    let all: Vec<_> = rows.iter().chain([&twin]).collect();
    world.apply(&all, "p1").await;
    assert_eq!(world.reads(), (1, 5));
    let signed: Vec<_> =
        all.iter().map(|row| next(row, |row| row.status = DocumentStatus::Signed)).collect();
    world.apply(&signed.iter().collect::<Vec<_>>(), "p2").await;
    assert_eq!(world.reads(), (2, 5), "a status change never touches the content");
    assert_eq!(world.titles("\"text 0\"").await.len(), 2);
}

#[tokio::test]
async fn a_text_written_with_the_document_is_taken_as_it_is() {
    let world = world();
    let row = world.row("title", "text/plain", "content");
    let key = TextKey { content_sha256: Sha256::of(b"content"), format: TextFormat::Plain };
    world.texts.kept.lock().unwrap().insert(key, "kept words".to_owned());
    world.apply(&[&row], "p1").await;
    assert_eq!(world.titles("kept").await, ["title"]);
    assert_eq!(world.reads(), (1, 0));
}

#[tokio::test]
async fn what_is_not_for_the_index_is_skipped_and_the_position_moves() {
    let world = world();
    let row = world.row("title", "text/plain", "content");
    let no_key = DocumentRow { s3_key: None, ..row.clone() };
    let no_digest = DocumentRow { content_sha256: None, ..row.clone() };
    let signature = SignatureRow {
        id: SignatureId::generate(),
        document_id: row.id,
        signer_email: "ann@example.org".to_owned(),
        signer_name: "Ann".to_owned(),
        created_at: row.created_at,
    };
    let signature = Change {
        row: RowChange::Signature { before: None, after: Some(signature) },
        ..change(&row)
    };
    let nothing = Change { row: RowChange::Document { before: None, after: None }, ..change(&row) };
    let changes = [change(&no_key), change(&no_digest), signature, nothing];
    let outcomes = world.sink.apply(&changes, &Position::new("p1")).await.unwrap();
    let expected = ["incomplete", "incomplete", "signature", "no row"].map(Outcome::Skipped);
    assert_eq!(outcomes, expected);
    assert_eq!(world.position().await.as_deref(), Some("p1"));
    assert_eq!(world.reads(), (0, 0));
    assert_eq!(world.sink.name(), "search-index");
}

#[tokio::test]
async fn only_the_newest_version_of_a_batch_is_indexed() {
    let world = world();
    let first = world.row("first", "text/plain", "content");
    let second = next(&first, |row| row.title = "second".to_owned());
    let third = next(&second, |row| row.title = "third".to_owned());
    let outcomes = world.apply(&[&first, &third, &second], "p1").await;
    let expected = [Outcome::AlreadyNewer, Outcome::Applied, Outcome::AlreadyNewer];
    assert_eq!(outcomes, expected);
    assert_eq!(world.titles("content").await, ["third"]);
    let replay = world.apply(&[&first, &second, &third], "p2").await;
    assert_eq!(replay, [const { Outcome::AlreadyNewer }; 3]);
}

#[tokio::test]
async fn deleted_and_removed_rows_disappear_without_reading_their_text() {
    let world = world();
    let one = world.row("one", "text/plain", "content");
    let two = world.row("two", "text/plain", "content");
    world.apply(&[&one, &two], "p1").await;
    let before = world.reads();
    let deleted = next(&one, |row| {
        row.deleted = true;
        row.s3_key = None;
    });
    let removed = Change {
        operation: Operation::Delete,
        row: RowChange::Document { before: Some(two.clone()), after: None },
        ..change(&two)
    };
    let changes = [change(&deleted), removed];
    let outcomes = world.sink.apply(&changes, &Position::new("p2")).await.unwrap();
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Applied]);
    assert!(world.titles("content").await.is_empty());
    assert_eq!(world.reads(), before);
}

#[tokio::test]
async fn missing_content_leaves_a_document_without_text_and_is_tried_again_by_a_rebuild() {
    let world = world();
    let row = world.row("title", "text/plain", "content");
    let content = world.contents.blobs.lock().unwrap().drain().collect::<Vec<_>>();
    assert_eq!(world.apply(&[&row], "p1").await, [Outcome::Applied]);
    assert_eq!(world.titles("title").await, ["title"]);
    assert!(world.titles("content").await.is_empty());
    assert!(world.texts.kept.lock().unwrap().is_empty(), "no text is kept that isn't one");
    world.contents.blobs.lock().unwrap().extend(content);
    let documents = repository(vec![row]);
    let head = Position::new("head");
    rebuild(&*world.index, &documents, &world.sink, head, RebuildOptions::default(), &mut |_| ())
        .await
        .unwrap();
    assert_eq!(world.titles("content").await, ["title"]);
}

#[tokio::test]
async fn content_out_of_reach_is_tried_again_and_holds_the_position() {
    let world = world();
    let near = world.row("near", "text/plain", "near content");
    let far = world.row("far", "text/plain", "far content");
    let key = far.s3_key.clone().unwrap();
    world.contents.unreachable.lock().unwrap().insert(key);
    let outcomes = world.apply(&[&near, &far], "p1").await;
    assert!(matches!(&outcomes[..], [Outcome::Applied, Outcome::Retry(_)]), "{outcomes:?}");
    assert_eq!(world.titles("content").await, ["near"]);
    assert_eq!(world.position().await, None, "the position covers only what is applied");
    world.contents.unreachable.lock().unwrap().clear();
    assert_eq!(world.apply(&[&far], "p1").await, [Outcome::Applied]);
    assert_eq!(world.titles("far").await, ["far"]);
    assert_eq!(world.position().await.as_deref(), Some("p1"));
}

#[tokio::test]
async fn without_the_texts_or_the_index_the_whole_batch_fails() {
    let world = world();
    let row = world.row("title", "text/plain", "content");
    world.texts.is_down.store(true, Ordering::SeqCst);
    let error = world.sink.apply(&[change(&row)], &Position::new("p1")).await.unwrap_err();
    assert!(error.is_retryable());
    world.texts.is_down.store(false, Ordering::SeqCst);
    world.index.set_available(false);
    let error = world.sink.apply(&[change(&row)], &Position::new("p1")).await.unwrap_err();
    assert!(error.is_retryable());
    world.index.set_available(true);
    assert_eq!(world.position().await, None);
}

#[tokio::test]
async fn texts_that_can_not_be_kept_are_indexed_nevertheless() {
    let world = world();
    world.texts.is_read_only.store(true, Ordering::SeqCst);
    let row = world.row("title", "text/plain", "content");
    assert_eq!(world.apply(&[&row], "p1").await, [Outcome::Applied]);
    assert_eq!(world.titles("content").await, ["title"]);
}

#[tokio::test]
async fn bounds_hold_for_content_text_reads_and_batches() {
    let world = world_with(IndexingOptions {
        text_bytes_max: 10,
        content_bytes_max: 20,
        reads_max: 2,
        batch_text_bytes_max: 25,
    });
    let rows: Vec<_> = (10..19)
        .map(|n| {
            world.row(&format!("title {n}"), "text/plain", &format!("first{n} second{n} third{n}"))
        })
        .collect();
    let outcomes = world.apply(&rows.iter().collect::<Vec<_>>(), "p1").await;
    assert_eq!(outcomes, vec![Outcome::Applied; 9]);
    assert_eq!(world.titles("first12").await, ["title 12"]);
    assert!(world.titles("second12").await.is_empty(), "text is cut");
    assert_eq!(world.contents.reading_max.load(Ordering::SeqCst), 2);
    assert_eq!(world.reads().0, 5, "two texts of ten bytes fit into a part");
    assert_eq!(world.position().await.as_deref(), Some("p1"));
}

/// A repository that scans these rows.
fn repository(rows: Vec<DocumentRow>) -> MockDocumentRepository {
    let mut documents = MockDocumentRepository::new();
    documents.expect_scan().returning(move |after, limit| {
        let rows = rows.iter().filter(|row| Some(row.id) > after);
        Ok(rows.take(limit as usize).cloned().collect())
    });
    documents
}

#[tokio::test]
async fn a_rebuild_copies_every_row_and_stores_the_head() {
    let world = world();
    let stale = world.row("stale", "text/plain", "stale");
    world.apply(&[&stale], "old").await;
    let mut rows: Vec<_> =
        (0..25).map(|n| world.row(&format!("title {n}"), "text/plain", "content")).collect();
    rows[3].deleted = true;
    rows[7].s3_key = None;
    let documents = repository(rows.clone());
    let mut seen: Vec<RebuildProgress> = Vec::new();
    let report = rebuild(
        &*world.index,
        &documents,
        &world.sink,
        Position::new("head"),
        RebuildOptions { batch_rows_max: 10, ..RebuildOptions::default() },
        &mut |progress| seen.push(progress),
    )
    .await
    .unwrap();
    assert_eq!(
        report,
        RebuildProgress { rows: 25, indexed: 24, skipped: 1, ..RebuildProgress::default() }
    );
    assert_eq!(seen.iter().map(|progress| progress.rows).collect::<Vec<_>>(), [10, 20, 25]);
    assert_eq!(world.index.count().await.unwrap(), 23);
    assert!(world.titles("stale").await.is_empty());
    assert_eq!(world.position().await.as_deref(), Some("head"));
    assert!(!needs_rebuild(&*world.index).await.unwrap());
    let late = DocumentRow { deleted: false, ..rows[3].clone() };
    assert_eq!(world.apply(&[&late], "p1").await, [Outcome::AlreadyNewer], "marks are copied");
}

/// An index that can't be built beside itself.
struct InPlace(Arc<InMemorySearchIndex>);

#[async_trait]
impl SearchIndex for InPlace {
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults> {
        self.0.search(query).await
    }

    async fn aggregate(&self, query: &AggregationQuery) -> Result<Vec<Bucket>> {
        self.0.aggregate(query).await
    }

    async fn write(
        &self,
        entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        self.0.write(entries, up_to).await
    }

    async fn refresh(&self) -> Result<()> {
        self.0.refresh().await
    }

    async fn progress(&self) -> Result<IndexProgress> {
        self.0.progress().await
    }

    async fn versions(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<IndexVersion>> {
        self.0.versions(after, limit).await
    }

    async fn versions_of(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>> {
        self.0.versions_of(ids).await
    }

    async fn stage(&self) -> Result<Option<Arc<dyn StagedIndex>>> {
        Ok(None)
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }

    async fn count(&self) -> Result<u64> {
        self.0.count().await
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
    }
}

#[tokio::test]
async fn an_interrupted_rebuild_in_its_place_leaves_an_index_to_be_rebuilt() {
    let world = world();
    let index = InPlace(Arc::clone(&world.index));
    let row = world.row("title", "text/plain", "content");
    world.apply(&[&row], "old").await;
    let head = Position::new("head");
    let options =
        RebuildOptions { batch_rows_max: 1, patience: Duration::ZERO, ..RebuildOptions::default() };

    // Its future is dropped half way.
    let rows: Vec<_> =
        (0..3).map(|n| world.row("title", "text/plain", &format!("content {n}"))).collect();
    let documents = repository(rows.clone());
    {
        let reached = tokio::sync::Notify::new();
        let mut report = |_| reached.notify_one();
        let running = rebuild(&index, &documents, &world.sink, head.clone(), options, &mut report);
        tokio::select! {
            biased;
            () = reached.notified() => {}
            done = running => panic!("not interrupted: {done:?}"),
        }
    }
    assert!(needs_rebuild(&index).await.unwrap());

    // It fails half way.
    let other = world.row("title", "text/plain", "other");
    world.contents.unreachable.lock().unwrap().insert(other.s3_key.clone().unwrap());
    let documents = repository(rows.into_iter().chain([other]).collect());
    let failed = rebuild(&index, &documents, &world.sink, head.clone(), options, &mut |_| ()).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(needs_rebuild(&index).await.unwrap());

    world.contents.unreachable.lock().unwrap().clear();
    rebuild(&index, &documents, &world.sink, head, options, &mut |_| ()).await.unwrap();
    assert_eq!(world.index.count().await.unwrap(), 4);
    assert!(!needs_rebuild(&index).await.unwrap());
}
