//! What a rebuild makes of rows, and what is left of one that is interrupted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::fake::InMemorySearchIndex;
use dms_core::model::change::{DocumentRow, Position};
use dms_core::model::search::{
    AggregationQuery, Bucket, IndexEntry, IndexVersion, SearchQuery, SearchResults,
};
use dms_core::ports::{IndexProgress, Outcome, SearchIndex, StagedIndex};
use dms_core::{DocumentId, ErrorKind, Result};
use dms_search::{RebuildOptions, RebuildProgress, needs_rebuild, rebuild};

use crate::support::{repository, world};

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
