//! Single cases that random schedules may not meet.

use std::sync::Arc;
use std::time::Duration;

use dms_core::fake::{InMemoryDatabase, InMemorySearchIndex};
use dms_core::model::search::IndexEntry;
use dms_core::ports::{DocumentRepository as _, IndexProgress, REBUILD_RUNNING, SearchIndex as _};
use dms_core::{DocumentPatch, DocumentStatus};
use dms_search::{
    DriftKind, DriftWatch, DriftWatchOptions, RebuildOptions, VerifyOptions, rebuild_beside, verify,
};

use crate::common::{DatabaseSource, create, expected, rows, sink, versions};
use crate::unruly::{Dice, Unruly, crash_after};

#[tokio::test(start_paused = true)]
async fn a_stopped_rebuild_goes_on_where_it_ended() {
    let database = InMemoryDatabase::default();
    for n in 0..30 {
        create(&database, &format!("title {n}"), "text").await;
    }
    let live = Arc::new(InMemorySearchIndex::new());
    let index = Unruly { inner: Arc::clone(&live), dice: Dice::new(7), failures_percent: 0 };
    let sink = sink(&database, Arc::clone(&live) as _);
    let documents = database.documents();
    let options = RebuildOptions { batch_rows_max: 5, ..RebuildOptions::default() };
    let source = DatabaseSource::new(&database);
    let mut seen = Vec::new();
    let mut progress = |now: dms_search::RebuildProgress| seen.push(now.rows);
    let stopped =
        crash_after(12, rebuild_beside(&index, &documents, &sink, &source, options, &mut progress));
    assert!(stopped.await.is_none());
    assert!(seen.last().is_some_and(|rows| (1..30).contains(rows)), "{seen:?}");
    assert_eq!(live.progress().await.unwrap(), IndexProgress::New, "the live one is left alone");
    let staged = live.stage().await.unwrap().unwrap();
    let begun = staged.index().versions(None, 100).await.unwrap().len();
    assert!((1..30).contains(&begun), "{begun}");
    let other = rebuild_beside(&index, &documents, &sink, &source, options, &mut |_| ()).await;
    assert_eq!(other.unwrap_err().code(), REBUILD_RUNNING);
    drop(staged);
    let report =
        rebuild_beside(&index, &documents, &sink, &source, options, &mut |_| ()).await.unwrap();
    assert_eq!((report.rows, report.indexed), (30, 30));
    assert_eq!(versions(&*live).await, expected(&database).await);
}

#[tokio::test(start_paused = true)]
async fn the_watch_finds_tells_and_mends() {
    let database = InMemoryDatabase::default();
    let index = Arc::new(InMemorySearchIndex::new());
    let sink = Arc::new(sink(&database, Arc::clone(&index) as _));
    let documents = Arc::new(database.documents());
    for n in 0..10 {
        create(&database, &format!("title {n}"), "text").await;
    }
    let options = DriftWatchOptions { repair: true, ..DriftWatchOptions::default() };
    let watch = DriftWatch::new(Arc::clone(&index) as _, documents.clone(), sink, options);
    let minutes = |count| tokio::time::timeout(Duration::from_mins(count), watch.run());
    assert!(minutes(3).await.is_err());
    assert_eq!(watch.last(), None, "an index that isn't built is none of its business");
    let half = rows(&database).await.into_iter().take(6);
    let entries: Vec<_> = half.map(|row| IndexEntry { row, text: "text".to_owned() }).collect();
    let stale = entries[0].row.id;
    let head = dms_core::model::change::Position::new("10");
    index.write(entries, Some(head)).await.unwrap();
    documents
        .update(stale, &DocumentPatch::status(DocumentStatus::Signed), None, None)
        .await
        .unwrap();
    assert!(minutes(1).await.is_err());
    let found = watch.last().unwrap();
    assert_eq!((found.rows, found.total(), found.repaired, found.remaining()), (10, 5, 5, 0));
    assert_eq!(found.found[&DriftKind::Missing], 4);
    assert_eq!(found.found[&DriftKind::Stale], 1);
    let example = found.examples.iter().find(|drift| drift.id == stale).unwrap();
    assert_eq!((example.row, example.index), (Some(2), Some(1)));
    assert_eq!(versions(&*index).await, expected(&database).await);
    assert!(minutes(3).await.is_err());
    assert_eq!(watch.last().unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_check_keeps_to_its_rate() {
    let database = InMemoryDatabase::default();
    let index = InMemorySearchIndex::new();
    for n in 0..100 {
        create(&database, &format!("title {n}"), "text").await;
    }
    for row in rows(&database).await {
        index.write(vec![IndexEntry { row, text: String::new() }], None).await.unwrap();
    }
    let options = VerifyOptions {
        batch_rows_max: 10,
        rows_per_second_max: Some(20),
        ..VerifyOptions::default()
    };
    let begun = tokio::time::Instant::now();
    let mut parts = 0;
    let report = verify(&index, &database.documents(), options, &mut |_| parts += 1).await.unwrap();
    assert_eq!((report.rows, report.entries, report.total()), (100, 100, 0));
    assert!(parts >= 10, "{parts}");
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
}
