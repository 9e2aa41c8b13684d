//! Who has the slot, and what happens when it is gone.

use std::sync::Arc;

use dms_cdc::postgres::WalChangeSource;
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use dms_core::{Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Index, eventually, ids, read};

fn assert_lost(error: &Error) {
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "position_lost"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_dropped_slot_is_told_until_the_consumer_is_rebuilt_and_nothing_is_missed() {
    let database = Arc::new(Database::new().await);
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    let documents = database.insert(5).await;
    let mut index = Index::default();
    index.apply(&read(&source, 5).await);
    drop(source);
    database.drop_slot("index").await;
    database.run("UPDATE documents SET title = 'changed while there was no slot'").await;

    // However often it is started, as by a process that crashes in the midst of the rebuild.
    for _ in 0..2 {
        let source = database.source("index");
        assert_lost(&source.start(StartAt::Acknowledged).await.expect_err("slot is new"));
    }

    // Writes go on while it is rebuilt.
    let stop = CancellationToken::new();
    let writer = {
        let (database, stop) = (Arc::clone(&database), stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                database.run("UPDATE documents SET title = 'x'").await;
                database.insert(1).await;
            }
        })
    };
    let source = database.source("index");
    let head = source.head().await.expect("head");
    index.0 = database.versions().await;
    source.start(StartAt::After(head)).await.expect("start after the head");
    for _ in 0..20 {
        let batch = source.next_batch(BatchLimits::default()).await.expect("batch");
        index.apply(&batch.records);
        source.ack(&batch.position).await.expect("ack");
    }
    stop.cancel();
    writer.await.expect("writer");
    let versions = database.versions().await;
    assert!(documents.iter().all(|id| versions.contains_key(id)));
    while index.0 != versions {
        let next = source.next_batch(BatchLimits::default());
        let batch = tokio::time::timeout(crate::database::PATIENCE, next).await;
        let batch = batch.expect("the index comes to equal the database").expect("batch");
        index.apply(&batch.records);
        source.ack(&batch.position).await.expect("ack");
    }
    source.flush().await.expect("flush");
    drop(source);
    database.source("index").start(StartAt::Acknowledged).await.expect("rebuilt");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_slot_dropped_under_a_running_consumer_is_lost() {
    let database = Database::new().await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    database.insert(1).await;
    read(&source, 1).await;
    let slot = database.slot("index");
    database
        .run(&format!(
            "DO $$ BEGIN
                LOOP
                    PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots
                        WHERE slot_name = '{slot}' AND active;
                    BEGIN
                        PERFORM pg_drop_replication_slot('{slot}');
                        EXIT;
                    EXCEPTION WHEN object_in_use THEN NULL;
                    END;
                END LOOP;
            END $$"
        ))
        .await;
    let lost = async {
        loop {
            match source.next_batch(BatchLimits::default()).await {
                Ok(batch) => panic!("{batch:?}"),
                Err(error) if error.is_retryable() => {}
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(crate::database::PATIENCE, lost).await.expect("told");
    assert_lost(&error);
    let head = source.head().await.expect("head");
    source.start(StartAt::After(head)).await.expect("start");
    let expected = database.insert(2).await;
    assert_eq!(ids(&read(&source, 2).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_second_consumer_waits_and_takes_over_after_what_was_acknowledged() {
    let database = Database::new().await;
    let first = database.source("index");
    first.start(StartAt::Acknowledged).await.expect("start");
    let mut expected = database.insert(3).await;
    let limits = BatchLimits { records_max: 1, ..BatchLimits::default() };
    let batch = first.next_batch(limits).await.expect("batch");

    let second = database.source("index");
    second.start(StartAt::Acknowledged).await.expect("it may wait");
    let waited = tokio::spawn(async move {
        let records = read(&second, 2).await;
        (second, records)
    });
    // The first goes on undisturbed.
    first.ack(&batch.position).await.expect("ack");
    first.flush().await.expect("flush");
    assert!(!waited.is_finished());
    first.next_batch(limits).await.expect("batch");
    assert_eq!(first.lag().await.expect("lag"), 2);

    drop(first);
    let (second, records) = waited.await.expect("second");
    expected.remove(0);
    assert_eq!(ids(&records), expected);
    let more = database.insert(1).await;
    assert_eq!(ids(&read(&second, 1).await), more);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn only_what_was_acknowledged_does_not_come_again() {
    let database = Database::new().await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    let expected = database.insert(6).await;
    let limits = BatchLimits { records_max: 2, ..BatchLimits::default() };
    let first = source.next_batch(limits).await.expect("batch");
    let count = first.records.len();
    source.next_batch(limits).await.expect("batch");
    source.ack(&first.position).await.expect("ack");
    source.flush().await.expect("flush");
    drop(source);
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    assert_eq!(ids(&read(&source, 6 - count).await), expected[count..]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_transient_consumer_begins_now_and_leaves_nothing() {
    let database = Database::new().await;
    database.insert(2).await;
    let source = WalChangeSource::transient(database.options("live")).expect("options");
    source.start(StartAt::Now).await.expect("start");
    let expected = database.insert(2).await;
    assert_eq!(ids(&read(&source, 2).await), expected);
    assert_eq!(source.lag().await.expect("lag"), 2);
    let slots = format!(
        "SELECT count(*)::text FROM pg_replication_slots WHERE database = '{}'",
        database.name
    );
    assert_eq!(database.text(&slots).await.as_deref(), Some("1"));

    // Changes are missed while there is no connection, and it says so.
    database
        .run(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
             WHERE database = '{}'",
            database.name
        ))
        .await;
    let error = loop {
        let error = source.next_batch(BatchLimits::default()).await.expect_err("broken");
        if !error.is_retryable() {
            break error;
        }
    };
    assert_lost(&error);
    source.start(StartAt::Now).await.expect("start");
    let expected = database.insert(1).await;
    assert_eq!(ids(&read(&source, 1).await), expected);
    drop(source);
    eventually("slot gone", async || database.text(&slots).await.as_deref() == Some("0")).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn it_works_on_a_runtime_of_one_thread_too() {
    let database = Database::new().await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    let expected = database.insert(2).await;
    assert_eq!(ids(&read(&source, 2).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_is_away_is_unavailable_and_comes_back_by_itself() {
    let database = Database::new().await;
    let mut options = database.options("index");
    let port = options.url.clone();
    let (before, after) = port.rsplit_once(':').expect("port");
    let (_, path) = after.split_once('/').expect("path");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let free = listener.local_addr().expect("address").port();
    drop(listener);
    options.url = format!("{before}:{free}/{path}");
    let source = WalChangeSource::new(options).expect("lazy");
    for error in [
        source.start(StartAt::Acknowledged).await.expect_err("away"),
        source.head().await.expect_err("away"),
        source.lag().await.expect_err("away"),
    ] {
        assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("database")));
        assert!(!format!("{error:?}").contains("docs_pw"), "{error:?}");
    }
}
