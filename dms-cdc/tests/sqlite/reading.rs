//! What is read, and when.

use std::time::{Duration, Instant};

use dms_cdc::RawChange;
use dms_core::model::change::{Operation, Position, Record, RecordBatch};
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use dms_core::{DocumentId, ErrorKind};

use crate::database::{Database, document, insert, signature};

const SOON: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_hours(24);

async fn next(source: &dyn ChangeSource) -> RecordBatch {
    let batch = tokio::time::timeout(SOON, source.next_batch(BatchLimits::default())).await;
    batch.expect("a batch in time").expect("a batch")
}

#[tokio::test]
async fn a_commit_wakes_a_reader_without_polling() {
    let database = Database::new().await;
    let source = database.source("indexer").with_poll_interval(NEVER);
    source.start(StartAt::Acknowledged).await.expect("started");
    let mut shortest = Duration::MAX;
    for _ in 0..20 {
        let reading = next(&source);
        let writing = async {
            // The reader is polled first and is waiting by the time the row is written.
            database.append_documents(1).await;
            Instant::now()
        };
        let (_, committed_at) = tokio::join!(reading, writing);
        shortest = shortest.min(committed_at.elapsed());
    }
    assert!(shortest < Duration::from_millis(10), "commit to delivery took {shortest:?}");
}

#[tokio::test]
async fn rows_of_another_process_arrive_by_polling() {
    let database = Database::new().await;
    let source = database.source("indexer").with_poll_interval(Duration::from_millis(20));
    source.start(StartAt::Acknowledged).await.expect("started");
    let elsewhere = database.elsewhere().await;
    let (batch, ()) =
        tokio::join!(next(&source), insert(&elsewhere, Operation::Create, signature()));
    assert_eq!(batch.records.len(), 1);
}

#[tokio::test]
async fn a_source_whose_writer_is_gone_goes_on_polling() {
    let database = Database::new().await;
    let (_, commits) = tokio::sync::watch::channel(0);
    let source = dms_cdc::sqlite::SqliteChangeSource::transient(database.reads.clone(), commits)
        .with_poll_interval(Duration::from_millis(20));
    source.start(StartAt::Now).await.expect("started");
    let (batch, ()) = tokio::join!(next(&source), database.append_documents(1));
    assert_eq!(batch.records.len(), 1);
}

#[tokio::test]
async fn rows_that_cannot_be_decoded_are_poison_and_the_rest_flows() {
    let database = Database::new().await;
    let source = database.source("indexer");
    source.start(StartAt::Acknowledged).await.expect("started");
    sqlx::raw_sql(
        r#"INSERT INTO change_log (entity, operation, before, after, committed_at) VALUES
            ('document', 'create', NULL, '{"id":"x"', '2026-01-01T00:00:00.000000Z'),
            ('document', 'explode', NULL, '{"id":"some-key"}', '2026-01-01T00:00:00.000000Z'),
            ('invoice', 'create', NULL, NULL, '2026-01-01T00:00:00.000000Z'),
            (x'ff00', 'create', NULL, 17, 4.5),
            ('document', 'delete', NULL, NULL, 'yesterday'),
            ('signature', 'update', CAST(x'c328' AS TEXT), x'', '')"#,
    )
    .execute(&database.writes)
    .await
    .expect("poison inserted");
    database.append_documents(1).await;
    let batch = next(&source).await;
    assert_eq!(batch.records.len(), 7);
    let mut keys = Vec::new();
    for (index, record) in batch.records[..6].iter().enumerate() {
        let Record::Poison(poison) = record else { panic!("decoded: {record:?}") };
        assert_eq!(poison.position, Position::new((index + 1).to_string()));
        assert!(!poison.reason.is_empty());
        let raw = RawChange::from_json(&poison.raw).expect("raw columns");
        assert_eq!(raw.position, poison.position);
        keys.push((poison.key.clone(), raw.entity, raw.before, raw.after));
    }
    assert_eq!(keys[0].3.as_deref(), Some(&br#"{"id":"x""#[..]));
    assert_eq!(keys[1].0.as_deref(), Some("some-key"));
    assert_eq!((&*keys[3].1, keys[3].3.as_deref()), (&[0xff, 0][..], Some(&b"17"[..])));
    assert_eq!(keys[5].2.as_deref(), Some(&[0xc3, 0x28][..]));
    assert!(matches!(batch.records[6], Record::Change(_)), "{:?}", batch.records[6]);
}

#[tokio::test]
async fn a_row_too_large_to_load_is_poison_and_the_rest_flows() {
    let database = Database::new().await;
    let source = database.source("indexer");
    source.start(StartAt::Acknowledged).await.expect("started");
    database.append_documents(1).await;
    sqlx::raw_sql(
        "INSERT INTO change_log (entity, operation, after, committed_at)
         VALUES ('document', 'create', zeroblob(20000000), '2026-01-01T00:00:00.000000Z')",
    )
    .execute(&database.writes)
    .await
    .expect("huge row inserted");
    database.append_documents(1).await;
    let batches = [next(&source).await, next(&source).await, next(&source).await];
    assert!(matches!(&*batches[0].records, [Record::Change(_)]));
    let [Record::Poison(poison)] = &*batches[1].records else { panic!("{:?}", batches[1]) };
    assert!(poison.reason.contains("bytes"), "{}", poison.reason);
    assert!(poison.raw.len() < 1_000);
    assert!(matches!(&*batches[2].records, [Record::Change(_)]));
}

#[tokio::test]
async fn a_row_that_was_removed_by_hand_stops_nobody() {
    let database = Database::new().await;
    let source = database.source("indexer");
    source.start(StartAt::Acknowledged).await.expect("started");
    database.append_documents(3).await;
    let remove = sqlx::raw_sql("DELETE FROM change_log WHERE seq = 2");
    remove.execute(&database.writes).await.expect("removed");
    let one = BatchLimits { records_max: 1, ..BatchLimits::default() };
    for expected in ["1", "3"] {
        let batch = source.next_batch(one).await.expect("a batch");
        assert_eq!(batch.position, Position::new(expected));
    }
}

#[tokio::test]
async fn a_transient_consumer_leaves_no_trace_and_starts_now() {
    let database = Database::new().await;
    database.append_documents(2).await;
    let source = database.transient();
    source.start(StartAt::Acknowledged).await.expect("started");
    database.append_documents(1).await;
    let batch = next(&source).await;
    assert_eq!((batch.records.len(), batch.position.as_str()), (1, "3"));
    source.ack(&batch.position).await.expect("acknowledged");
    source.flush().await.expect("nothing to write");
    assert_eq!(source.lag().await.expect("lag"), 0);
    let consumers: i64 = sqlx::query_scalar("SELECT count(*) FROM change_consumers")
        .fetch_one(&database.reads)
        .await
        .expect("consumers");
    assert_eq!(consumers, 0);
}

#[tokio::test]
async fn a_source_that_waits_does_next_to_nothing() {
    let database = Database::new().await;
    for source in [database.source("indexer"), database.transient()] {
        source.start(StartAt::Now).await.expect("started");
        database.append_documents(1).await;
        let batch = next(&source).await;
        source.ack(&batch.position).await.expect("acknowledged");
        let mut polls = 0;
        let mut waiting = std::pin::pin!(source.next_batch(BatchLimits::default()));
        let counting = std::future::poll_fn(|context| {
            polls += 1;
            waiting.as_mut().poll(context)
        });
        // Longer than until an acknowledgement is due.
        tokio::time::timeout(Duration::from_millis(1_500), counting)
            .await
            .expect_err("nothing is committed");
        assert!(polls < 20, "woken {polls} times");
    }
}

#[tokio::test]
async fn acknowledgements_are_written_when_idle_and_on_flush() {
    let database = Database::new().await;
    let source = database.source("indexer");
    source.start(StartAt::Acknowledged).await.expect("started");
    assert_eq!(database.acknowledged("indexer").await, Some(0), "registered");
    database.append_documents(2).await;
    let batch = next(&source).await;
    source.ack(&batch.position).await.expect("acknowledged");
    source.flush().await.expect("written");
    assert_eq!(database.acknowledged("indexer").await, Some(2));

    database.append_documents(1).await;
    let batch = next(&source).await;
    source.ack(&batch.position).await.expect("acknowledged");
    let written = async {
        while database.acknowledged("indexer").await != Some(3) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        batch = source.next_batch(BatchLimits::default()) => panic!("{batch:?}"),
        written = tokio::time::timeout(SOON, written) => written.expect("written while waiting"),
    }
}

#[tokio::test]
async fn a_busy_writer_does_not_hold_up_an_acknowledgement() {
    let database = Database::new().await;
    let source = database.source("indexer");
    source.start(StartAt::Acknowledged).await.expect("started");
    database.append_documents(1).await;
    next(&source).await;
    let busy = database.writes.acquire().await.expect("the only connection");
    // Acknowledged at once, then again when the write is due.
    source.ack(&Position::new("1")).await.expect("acknowledged");
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    let again = tokio::time::timeout(SOON, source.ack(&Position::new("1"))).await;
    again.expect("not held up by the pool").expect("acknowledged");
    assert_eq!(source.lag().await.expect("lag"), 0);
    drop(busy);
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    source.ack(&Position::new("1")).await.expect("acknowledged");
    source.flush().await.expect("written");
    assert_eq!(database.acknowledged("indexer").await, Some(1));
}

#[tokio::test]
async fn reads_and_acknowledgements_dropped_at_any_point_leave_everything_usable() {
    let database = Database::new().await;
    let source = database.source("indexer");
    source.start(StartAt::Acknowledged).await.expect("started");
    database.append_documents(1).await;
    for micros in (0..3_000).step_by(30) {
        let patience = Duration::from_micros(micros);
        let work = async {
            let batch = source.next_batch(BatchLimits::default()).await?;
            source.ack(&batch.position).await?;
            source.flush().await?;
            source.start(StartAt::Acknowledged).await
        };
        if let Ok(result) = tokio::time::timeout(patience, work).await {
            result.expect("work");
            source.start(StartAt::After(Position::new("0"))).await.expect("started");
        }
    }
    source.start(StartAt::After(Position::new("0"))).await.expect("started");
    assert_eq!(next(&source).await.records.len(), 1);
    database.append_documents(1).await;
    assert_eq!(next(&source).await.records.len(), 1);
}

#[tokio::test]
async fn without_tables_the_error_is_internal_and_before_start_too() {
    let database = Database::new().await;
    let source = database.source("indexer");
    let error = source.next_batch(BatchLimits::default()).await.expect_err("not started");
    assert_eq!(error.kind(), ErrorKind::Internal);
    database.append(Operation::Create, document(DocumentId::generate(), 1)).await;
    let drop_table = sqlx::raw_sql("DROP TABLE change_consumers");
    drop_table.execute(&database.writes).await.expect("dropped");
    let error = source.start(StartAt::Acknowledged).await.expect_err("no table");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(std::error::Error::source(&error).is_some());
}
