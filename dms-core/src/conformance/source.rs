//! What every [`ChangeSource`] does.
//!
//! The suite has no clock: a source that never answers makes it hang, so callers put a time-out
//! around it.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::{Either, join, select};
use time::OffsetDateTime;

use crate::model::change::{Change, DocumentRow, Operation, Position, Record, RowChange};
use crate::ports::{BatchLimits, ChangeSource, StartAt};
use crate::{DocumentId, DocumentStatus, ErrorKind, Sha256};

/// What the suite needs of a backend; `source` and `append` work on the same log.
#[async_trait]
pub trait SourceHarness: Send + Sync {
    /// Commits one change of a row.
    async fn append(&self, operation: Operation, row: RowChange);

    /// A new source for a durable consumer, as in a process that was killed and started again: an
    /// earlier source for the same consumer isn't used any more.
    async fn source(&self, consumer: &str) -> Arc<dyn ChangeSource>;

    /// Makes every acknowledgement durable that sources have taken, as an orderly stop does.
    async fn settle(&self);

    /// Drops the changes that every consumer has durably acknowledged.
    async fn trim(&self);

    /// A position that the log hasn't reached, if the backend can tell one.
    fn beyond(&self) -> Option<Position>;
}

/// Runs every step. The log must be empty, with no consumer but the suite's.
///
/// # Panics
/// With the name of the step that fails.
pub async fn suite(harness: &dyn SourceHarness) {
    everything_comes_in_order_from_the_oldest(harness).await;
    limits_bound_a_batch(harness).await;
    what_was_not_acknowledged_comes_again_after_a_crash(harness).await;
    resumes_after_what_was_acknowledged(harness).await;
    starts_after_any_position(harness).await;
    starts_now(harness).await;
    a_waiting_reader_is_woken(harness).await;
    dropping_a_read_loses_nothing(harness).await;
    lag_counts_what_is_not_acknowledged(harness).await;
    old_acknowledgements_do_not_move_back(harness).await;
    unknown_positions_are_lost(harness).await;
    trimming_waits_for_every_consumer(harness).await;
    trimmed_positions_are_lost(harness).await;
}

const CONSUMERS: [&str; 8] =
    ["oldest", "limits", "crash", "resume", "after", "now", "waiting", "dropping"];

async fn everything_comes_in_order_from_the_oldest(harness: &dyn SourceHarness) {
    let step = "everything comes in order from the oldest";
    let rows = append_versions(harness, 3, 4).await;
    let source = harness.source("oldest").await;
    start(&*source, StartAt::Acknowledged, step).await;
    let changes = read(&*source, rows.len(), BatchLimits::default(), step).await;
    for id in ids(&rows) {
        assert_eq!(versions(&changes, id), [1, 2, 3, 4], "{step}: order of {id}");
    }
    for change in &changes {
        let RowChange::Document { before, after: Some(after) } = &change.row else {
            panic!("{step}: not a document: {change:?}")
        };
        assert!(rows.contains(after), "{step}: the row is as it was written");
        let expected = if after.version == 1 { Operation::Create } else { Operation::Update };
        assert_eq!(change.operation, expected, "{step}: operation");
        if let Some(before) = before {
            assert_eq!(before.version, after.version - 1, "{step}: version before");
        }
    }
    finish(&*source, step).await;
}

async fn limits_bound_a_batch(harness: &dyn SourceHarness) {
    let step = "limits bound a batch";
    let source = harness.source("limits").await;
    start_at_head(&*source, step).await;
    let rows = append_versions(harness, 2, 5).await;
    let limits = BatchLimits { records_max: 3, ..BatchLimits::default() };
    let batch = source.next_batch(limits).await.expect(step);
    assert!((1..=3).contains(&batch.records.len()), "{step}: {} records", batch.records.len());
    let rest = rows.len() - batch.records.len();
    let limits = BatchLimits { bytes_max: 1, ..BatchLimits::default() };
    for _ in 0..rest {
        let batch = source.next_batch(limits).await.expect(step);
        assert_eq!(batch.records.len(), 1, "{step}: a record over the bound comes alone");
    }
    finish(&*source, step).await;
}

async fn what_was_not_acknowledged_comes_again_after_a_crash(harness: &dyn SourceHarness) {
    let step = "what was not acknowledged comes again after a crash";
    let source = harness.source("crash").await;
    start_at_head(&*source, step).await;
    harness.settle().await;
    let rows = append_versions(harness, 2, 3).await;
    let first = read(&*source, rows.len(), BatchLimits::default(), step).await;
    drop(source);
    let source = harness.source("crash").await;
    start(&*source, StartAt::Acknowledged, step).await;
    let again = read(&*source, rows.len(), BatchLimits::default(), step).await;
    assert_eq!(by_key(first), by_key(again), "{step}");
    finish(&*source, step).await;
}

async fn resumes_after_what_was_acknowledged(harness: &dyn SourceHarness) {
    let step = "resumes after what was acknowledged";
    let source = harness.source("resume").await;
    start_at_head(&*source, step).await;
    let rows = append_versions(harness, 1, 6).await;
    let limits = BatchLimits { records_max: 2, ..BatchLimits::default() };
    let batch = source.next_batch(limits).await.expect(step);
    source.next_batch(limits).await.expect(step);
    source.ack(&batch.position).await.expect(step);
    harness.settle().await;
    drop(source);
    let source = harness.source("resume").await;
    start(&*source, StartAt::Acknowledged, step).await;
    let rest = read(&*source, rows.len() - batch.records.len(), limits, step).await;
    let first = i32::try_from(batch.records.len()).expect(step) + 1;
    let expected: Vec<i32> = (first..=6).collect();
    assert_eq!(versions(&rest, rows[0].id), expected, "{step}");
    finish(&*source, step).await;
}

async fn starts_after_any_position(harness: &dyn SourceHarness) {
    let step = "starts after any position";
    let source = harness.source("after").await;
    start_at_head(&*source, step).await;
    let rows = append_versions(harness, 1, 4).await;
    let changes = read(&*source, rows.len(), BatchLimits::default(), step).await;
    drop(source);
    let second = changes[1].position.clone();
    let source = harness.source("after").await;
    start(&*source, StartAt::After(second), step).await;
    let rest = read(&*source, 2, BatchLimits::default(), step).await;
    assert_eq!(rest, changes[2..], "{step}");
    finish(&*source, step).await;
}

async fn starts_now(harness: &dyn SourceHarness) {
    let step = "starts now";
    append_versions(harness, 1, 2).await;
    let source = harness.source("now").await;
    start(&*source, StartAt::Now, step).await;
    let rows = append_versions(harness, 1, 1).await;
    let changes = read(&*source, 1, BatchLimits::default(), step).await;
    assert_eq!(versions(&changes, rows[0].id), [1], "{step}");
    finish(&*source, step).await;
}

async fn a_waiting_reader_is_woken(harness: &dyn SourceHarness) {
    let step = "a waiting reader is woken";
    let source = harness.source("waiting").await;
    start_at_head(&*source, step).await;
    for _ in 0..3 {
        let mut next = source.next_batch(BatchLimits::default());
        // Nothing is there: the read must still be waiting after it had every chance to look.
        if let Either::Left((batch, _)) = select(&mut next, pauses(200)).await {
            panic!("{step}: {batch:?} although nothing was committed");
        }
        let (batch, rows) = join(next, append_versions(harness, 1, 1)).await;
        let batch = batch.expect(step);
        assert_eq!(versions(&changes_of(batch.records, step), rows[0].id), [1], "{step}");
    }
    finish(&*source, step).await;
}

async fn dropping_a_read_loses_nothing(harness: &dyn SourceHarness) {
    let step = "dropping a read loses nothing";
    let source = harness.source("dropping").await;
    start_at_head(&*source, step).await;
    let rows = append_versions(harness, 2, 20).await;
    let limits = BatchLimits { records_max: 1, ..BatchLimits::default() };
    let mut changes = Vec::new();
    let mut patience = 0;
    while changes.len() < rows.len() {
        let read = select(source.next_batch(limits), pauses(patience)).await;
        if let Either::Left((batch, _)) = read {
            changes.extend(changes_of(batch.expect(step).records, step));
            patience = 0;
        } else {
            patience = patience * 2 + 1;
        }
    }
    let expected: Vec<i32> = (1..=20).collect();
    for id in ids(&rows) {
        assert_eq!(versions(&changes, id), expected, "{step}");
    }
    assert!(source.next_batch(limits).now_or_never().is_none(), "{step}: nothing comes twice");
    finish(&*source, step).await;
}

async fn lag_counts_what_is_not_acknowledged(harness: &dyn SourceHarness) {
    let step = "lag counts what is not acknowledged";
    let source = harness.source("limits").await;
    start_at_head(&*source, step).await;
    assert_eq!(source.lag().await.expect(step), 0, "{step}: at the head");
    append_versions(harness, 1, 3).await;
    assert_eq!(source.lag().await.expect(step), 3, "{step}: committed");
    let changes = read(&*source, 3, BatchLimits::default(), step).await;
    assert_eq!(source.lag().await.expect(step), 3, "{step}: delivered");
    source.ack(&changes[1].position).await.expect(step);
    assert_eq!(source.lag().await.expect(step), 1, "{step}: acknowledged in part");
    finish(&*source, step).await;
    assert_eq!(source.lag().await.expect(step), 0, "{step}: acknowledged");
}

async fn old_acknowledgements_do_not_move_back(harness: &dyn SourceHarness) {
    let step = "old acknowledgements do not move back";
    let source = harness.source("limits").await;
    start_at_head(&*source, step).await;
    append_versions(harness, 1, 3).await;
    let changes = read(&*source, 3, BatchLimits::default(), step).await;
    source.ack(&changes[2].position).await.expect(step);
    source.ack(&changes[0].position).await.expect(step);
    assert_eq!(source.lag().await.expect(step), 0, "{step}");
}

async fn unknown_positions_are_lost(harness: &dyn SourceHarness) {
    let step = "unknown positions are lost";
    let foreign = Position::new("no position of any log");
    for position in [Some(foreign), harness.beyond()].into_iter().flatten() {
        let source = harness.source("limits").await;
        assert_position_lost(&*source, StartAt::After(position), step).await;
    }
    let source = harness.source("limits").await;
    start_at_head(&*source, step).await;
    finish(&*source, step).await;
}

async fn trimming_waits_for_every_consumer(harness: &dyn SourceHarness) {
    let step = "trimming waits for every consumer";
    everyone_finishes(harness, step).await;
    let rows = append_versions(harness, 1, 3).await;
    let ahead = harness.source("oldest").await;
    start_at_head(&*ahead, step).await;
    finish(&*ahead, step).await;
    harness.settle().await;
    harness.trim().await;
    let behind = harness.source("limits").await;
    start(&*behind, StartAt::Acknowledged, step).await;
    let changes = read(&*behind, rows.len(), BatchLimits::default(), step).await;
    assert_eq!(versions(&changes, rows[0].id), [1, 2, 3], "{step}");
}

async fn trimmed_positions_are_lost(harness: &dyn SourceHarness) {
    let step = "trimmed positions are lost";
    let source = harness.source("oldest").await;
    start_at_head(&*source, step).await;
    append_versions(harness, 1, 3).await;
    let changes = read(&*source, 3, BatchLimits::default(), step).await;
    everyone_finishes(harness, step).await;
    harness.trim().await;

    let trimmed = StartAt::After(changes[0].position.clone());
    assert_position_lost(&*harness.source("oldest").await, trimmed, step).await;
    let never = harness.source("never-seen").await;
    assert_position_lost(&*never, StartAt::Acknowledged, step).await;
    start_at_head(&*never, step).await;
    finish(&*never, step).await;

    let source = harness.source("limits").await;
    start(&*source, StartAt::Acknowledged, step).await;
    let rows = append_versions(harness, 1, 2).await;
    let changes = read(&*source, 2, BatchLimits::default(), step).await;
    assert_eq!(versions(&changes, rows[0].id), [1, 2], "{step}: the log goes on");
    assert_ne!(changes[0].position, changes[1].position, "{step}: positions differ");
}

/// Every consumer of the suite acknowledges all there is, durably.
async fn everyone_finishes(harness: &dyn SourceHarness, step: &str) {
    for consumer in CONSUMERS {
        let source = harness.source(consumer).await;
        start_at_head(&*source, step).await;
        finish(&*source, step).await;
    }
    harness.settle().await;
}

async fn start(source: &dyn ChangeSource, at: StartAt, step: &str) {
    source.start(at).await.unwrap_or_else(|e| panic!("{step}: start: {e:?}"));
}

async fn start_at_head(source: &dyn ChangeSource, step: &str) {
    let head = source.head().await.unwrap_or_else(|e| panic!("{step}: head: {e:?}"));
    start(source, StartAt::After(head), step).await;
}

async fn finish(source: &dyn ChangeSource, step: &str) {
    let head = source.head().await.unwrap_or_else(|e| panic!("{step}: head: {e:?}"));
    source.ack(&head).await.unwrap_or_else(|e| panic!("{step}: ack: {e:?}"));
}

async fn assert_position_lost(source: &dyn ChangeSource, at: StartAt, step: &str) {
    let error = source.start(at).await.expect_err(step);
    let told = (error.kind(), error.code());
    assert_eq!(told, (ErrorKind::Conflict, "position_lost"), "{step}: {error:?}");
}

/// The next `count` changes, which must not be followed by more in the same batch.
async fn read(
    source: &dyn ChangeSource,
    count: usize,
    limits: BatchLimits,
    step: &str,
) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let batch = source.next_batch(limits).await;
        let batch = batch.unwrap_or_else(|e| panic!("{step}: next batch: {e:?}"));
        assert!(!batch.records.is_empty(), "{step}: a batch is never empty");
        changes.extend(changes_of(batch.records, step));
    }
    assert_eq!(changes.len(), count, "{step}: more changes than were committed");
    changes
}

fn changes_of(records: Vec<Record>, step: &str) -> Vec<Change> {
    let change = |record| match record {
        Record::Change(change) => *change,
        Record::Poison(poison) => panic!("{step}: {poison:?}"),
    };
    records.into_iter().map(change).collect()
}

/// The changes, those of one key together: how keys follow each other is nobody's promise.
fn by_key(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by_key(Change::key);
    changes
}

fn versions(changes: &[Change], id: DocumentId) -> Vec<i32> {
    let version = |change: &Change| match &change.row {
        RowChange::Document { after: Some(row), .. } if row.id == id => Some(row.version),
        _ => None,
    };
    changes.iter().filter_map(version).collect()
}

fn ids(rows: &[DocumentRow]) -> Vec<DocumentId> {
    rows.iter().filter(|row| row.version == 1).map(|row| row.id).collect()
}

/// Commits versions 1 to `versions` of new documents, interleaved; gives the rows in that order.
async fn append_versions(
    harness: &dyn SourceHarness,
    documents: usize,
    versions: i32,
) -> Vec<DocumentRow> {
    let ids: Vec<_> = (0..documents).map(|_| DocumentId::generate()).collect();
    let mut rows = Vec::new();
    for version in 1..=versions {
        for id in &ids {
            let after = document_row(*id, version);
            let before = (version > 1).then(|| document_row(*id, version - 1));
            let operation = if version == 1 { Operation::Create } else { Operation::Update };
            let row = RowChange::Document { before, after: Some(after.clone()) };
            harness.append(operation, row).await;
            rows.push(after);
        }
    }
    rows
}

fn document_row(id: DocumentId, version: i32) -> DocumentRow {
    DocumentRow {
        id,
        title: format!("Ünïcode “title” of version {version}\u{1f4c4}"),
        content_type: "text/plain".into(),
        content_size: 11,
        content_sha256: Some(Sha256::of(b"some bytes")),
        s3_key: Some(format!("{id}/content")),
        status: DocumentStatus::Created,
        created_by: "somebody".into(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(version.into()),
        version,
        deleted: version == 20,
    }
}

/// Gives way to whatever else the executor runs, this many times.
fn pauses(count: usize) -> impl Future<Output = ()> + Unpin {
    let mut left = count;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
}
