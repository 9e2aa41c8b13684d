//! What is trimmed, and what that does to consumers.

use std::time::Duration;

use dms_cdc::sqlite::{ChangeLogTrimmer, TrimOptions};
use dms_core::model::change::Position;
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use dms_core::{Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::KEEP_NOTHING;
use crate::database::Database;

fn assert_position_lost(error: &Error) {
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "position_lost"), "{error:?}");
}

async fn registered(database: &Database, consumer: &str, acknowledged: &str) {
    let at = StartAt::After(Position::new(acknowledged));
    database.source(consumer).start(at).await.expect("registered");
}

#[tokio::test]
async fn removes_in_chunks_what_every_consumer_has_passed() {
    let database = Database::new().await;
    database.append_documents(25).await;
    registered(&database, "ahead", "23").await;
    registered(&database, "behind", "17").await;
    let options = TrimOptions { chunk_rows: 4, ..KEEP_NOTHING };
    let trimmer = ChangeLogTrimmer::new(database.writes.clone(), options);
    assert_eq!(trimmer.trim().await.expect("trimmed"), 17);
    assert_eq!(database.log_length().await, 8);
    assert_eq!(trimmer.trim().await.expect("trimmed"), 0);

    assert!(trimmer.forget_consumer("behind").await.expect("forgotten"));
    assert!(!trimmer.forget_consumer("behind").await.expect("already forgotten"));
    assert_eq!(trimmer.trim().await.expect("trimmed"), 6);
}

#[tokio::test]
async fn keeps_the_newest_rows_and_no_more_than_the_most() {
    let database = Database::new().await;
    database.append_documents(20).await;
    let options = TrimOptions { rows_min: 15, ..KEEP_NOTHING };
    let trimmer = ChangeLogTrimmer::new(database.writes.clone(), options);
    assert_eq!(trimmer.trim().await.expect("trimmed"), 5, "without consumers all but the newest");

    registered(&database, "dead", "5").await;
    let options = TrimOptions { rows_max: 10, ..KEEP_NOTHING };
    let trimmer = ChangeLogTrimmer::new(database.writes.clone(), options);
    assert_eq!(trimmer.trim().await.expect("trimmed"), 5, "a dead consumer is left behind");
    let error = database.source("dead").start(StartAt::Acknowledged).await.expect_err("lost");
    assert_position_lost(&error);
}

#[tokio::test]
async fn an_empty_log_still_knows_what_was_trimmed() {
    let database = Database::new().await;
    database.source("new").start(StartAt::After(Position::new("0"))).await.expect("empty log");
    assert!(
        ChangeLogTrimmer::new(database.writes.clone(), KEEP_NOTHING)
            .forget_consumer("new")
            .await
            .expect("forgotten")
    );
    database.append_documents(5).await;
    let trimmer = ChangeLogTrimmer::new(database.writes.clone(), KEEP_NOTHING);
    assert_eq!(trimmer.trim().await.expect("trimmed"), 5);
    assert_eq!(database.log_length().await, 0);
    for position in ["0", "4", "6", "-1", "9999999999999999999999", "0x1", ""] {
        let at = StartAt::After(Position::new(position));
        let error = database.source("indexer").start(at).await.expect_err(position);
        assert_position_lost(&error);
    }
    database.source("indexer").start(StartAt::After(Position::new("5"))).await.expect("the head");
}

#[tokio::test]
async fn a_consumer_that_lost_its_position_keeps_what_comes_after_for_its_rebuild() {
    let database = Database::new().await;
    database.append_documents(5).await;
    let trimmer = ChangeLogTrimmer::new(database.writes.clone(), KEEP_NOTHING);
    trimmer.trim().await.expect("trimmed");
    for lost in [StartAt::Acknowledged, StartAt::After(Position::new("7"))] {
        let source = database.source("indexer");
        assert_position_lost(&source.start(lost).await.expect_err("lost"));
        let head = source.head().await.expect("head");
        database.append_documents(3).await;
        assert_eq!(trimmer.trim().await.expect("trimmed"), 0, "the rebuild needs them");
        source.start(StartAt::After(head)).await.expect("where the rebuild began");
        let batch = source.next_batch(BatchLimits::default()).await.expect("a batch");
        assert_eq!(batch.records.len(), 3);
        source.ack(&batch.position).await.expect("acknowledged");
        source.flush().await.expect("written");
        trimmer.trim().await.expect("trimmed");
        trimmer.forget_consumer("indexer").await.expect("forgotten");
    }
}

#[tokio::test]
async fn a_reader_that_was_trimmed_past_says_so_whether_or_not_more_follows() {
    for more in [0, 2] {
        let database = Database::new().await;
        database.append_documents(1).await;
        let source = database.transient();
        source.start(StartAt::Now).await.expect("started");
        database.append_documents(3).await;
        let trimmer = ChangeLogTrimmer::new(database.writes.clone(), KEEP_NOTHING);
        assert_eq!(trimmer.trim().await.expect("trimmed"), 4);
        database.append_documents(more).await;
        let error = source.next_batch(BatchLimits::default()).await.expect_err("lost");
        assert_position_lost(&error);
    }
}

#[tokio::test]
async fn a_restored_database_is_noticed_by_a_position_beyond_it() {
    let database = Database::new().await;
    database.append_documents(5).await;
    let source = database.source("indexer");
    source.start(StartAt::Now).await.expect("started");
    sqlx::raw_sql("DELETE FROM change_log WHERE seq > 3; UPDATE sqlite_sequence SET seq = 3;")
        .execute(&database.writes)
        .await
        .expect("restored");
    let error = source.next_batch(BatchLimits::default()).await.expect_err("beyond");
    assert_position_lost(&error);
    let at = StartAt::After(Position::new("5"));
    assert_position_lost(&source.start(at).await.expect_err("beyond"));
    assert_eq!(database.acknowledged("indexer").await, Some(3), "what comes next is kept");
}

#[tokio::test]
async fn the_loop_trims_until_it_is_stopped() {
    let database = Database::new().await;
    database.append_documents(5).await;
    let trimmer = ChangeLogTrimmer::new(database.writes.clone(), KEEP_NOTHING);
    let stop = CancellationToken::new();
    let emptied = async {
        while database.log_length().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let work = async { tokio::join!(trimmer.run(Duration::from_millis(5), stop.clone()), emptied) };
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("stopped");
}
