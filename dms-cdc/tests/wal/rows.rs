//! What is in the log, and what comes of it.

use dms_cdc::postgres::decode_dead_letter;
use dms_core::model::change::{Operation, Record, RowChange};
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use dms_core::{DocumentId, DocumentStatus, ErrorKind, SignatureId};

use crate::database::{
    Database, PATIENCE, PUBLICATION, change, document, eventually, ids, insert_sql, read,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_value_too_long_for_its_row_survives_an_update_that_leaves_it_alone() {
    let database = Database::new().await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    let id = database.insert(1).await[0];
    // Not compressible, so that it is stored beside the row.
    database
        .run(
            "UPDATE documents SET title =
            (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1000))",
        )
        .await;
    database.run("UPDATE documents SET status = 'signed'").await;
    let records = read(&source, 3).await;
    let title = database.text("SELECT title FROM documents").await.expect("title");
    assert_eq!(title.len(), 32_000);
    let last = document(&records[2]);
    assert_eq!((last.id, &last.title, last.status), (id, &title, DocumentStatus::Signed));

    // Without the row before there is nothing to take it from: never a blank.
    database.run("ALTER TABLE documents REPLICA IDENTITY DEFAULT").await;
    database.run("UPDATE documents SET status = 'viewed'").await;
    let records = read(&source, 1).await;
    let Record::Poison(poison) = &records[0] else { panic!("{records:?}") };
    assert_eq!(poison.reason, "the log has no value of title");
    assert_eq!(poison.key, Some(id.to_string()));
    let again = decode_dead_letter(&poison.raw).expect("a letter of ours");
    assert!(matches!(again, Record::Poison(_)), "still not there: {again:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn rows_of_both_tables_come_with_every_operation() {
    let database = Database::new().await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    let id = database.insert(1).await[0];
    let signature = SignatureId::generate();
    database
        .run(&format!(
            "INSERT INTO signatures (id, document_id, signer_email, signer_name)
             VALUES ('{signature}', '{id}', 'a@example.org', 'Änne')"
        ))
        .await;
    database.run("UPDATE signatures SET status_applied = true").await;
    database.run("DELETE FROM signatures").await;
    database.run("UPDATE documents SET deleted_at = now()").await;
    database.run("DELETE FROM documents").await;
    let records = read(&source, 6).await;
    let operations: Vec<_> = records.iter().map(|record| change(record).operation).collect();
    let expected = [
        Operation::Create,
        Operation::Create,
        Operation::Update,
        Operation::Delete,
        Operation::Update,
        Operation::Delete,
    ];
    assert_eq!(operations, expected);
    let RowChange::Signature { before: None, after: Some(row) } = &change(&records[1]).row else {
        panic!("{records:?}")
    };
    assert_eq!((row.id, row.document_id, row.signer_name.as_str()), (signature, id, "Änne"));
    let deleted = document(&records[4]);
    assert!(deleted.deleted);
    assert_eq!(deleted.version, 2);
    let RowChange::Document { before: Some(before), after: None } = &change(&records[5]).row else {
        panic!("{records:?}")
    };
    assert_eq!(before, deleted);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn columns_that_come_and_go_stop_nobody() {
    let database = Database::new().await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    let mut expected = database.insert(1).await;
    let mut records = read(&source, 1).await;
    database.run("ALTER TABLE documents ADD COLUMN colour text NOT NULL DEFAULT 'red'").await;
    expected.extend(database.insert(1).await);
    database.run("ALTER TABLE documents DROP COLUMN colour").await;
    expected.extend(database.insert(1).await);
    records.extend(read(&source, 2).await);
    assert_eq!(ids(&records), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn poison_comes_among_the_good_and_can_be_decoded_once_it_is_understood() {
    let database = Database::new().await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    let good = DocumentId::generate();
    let bad = DocumentId::generate();
    let later = DocumentId::generate();
    database
        .run(&format!(
            "BEGIN; {}; {}; {}; COMMIT",
            insert_sql(good, "created"),
            insert_sql(bad, "archived"),
            insert_sql(later, "created")
        ))
        .await;
    database.run(&format!("UPDATE documents SET status = 'viewed' WHERE id = '{bad}'")).await;
    database.run("TRUNCATE documents").await;
    let records = read(&source, 5).await;
    assert_eq!((document(&records[0]).id, document(&records[2]).id), (good, later));

    let Record::Poison(poison) = &records[1] else { panic!("{records:?}") };
    assert_eq!(poison.reason, "unreadable status \"archived\"");
    assert_eq!(poison.key, Some(bad.to_string()));
    let mended = String::from_utf8(poison.raw.clone()).expect("text").replace("archived", "signed");
    let again = decode_dead_letter(mended.as_bytes()).expect("a letter of ours");
    assert_eq!((document(&again).id, document(&again).status), (bad, DocumentStatus::Signed));
    assert_eq!(change(&again).position, poison.position);

    // The repair goes through, although the row before is as unreadable as ever.
    let repaired = document(&records[3]);
    assert_eq!((repaired.id, repaired.version), (bad, 2));
    let Record::Poison(truncated) = &records[4] else { panic!("{records:?}") };
    assert_eq!(truncated.reason, "all rows of documents were removed at once");
    assert!(matches!(decode_dead_letter(&truncated.raw), Some(Record::Poison(_))));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_huge_transaction_comes_in_bounded_batches_from_bounded_memory() {
    const ROWS: usize = 200_000;
    const QUEUE_BYTES: usize = 1 << 20;
    let database = Database::new().await;
    let mut options = database.options("index");
    options.queue_bytes_max = QUEUE_BYTES;
    let source = dms_cdc::postgres::WalChangeSource::new(options).expect("options");
    source.start(StartAt::Acknowledged).await.expect("start");
    let before = database.confirmed("index").await;
    database
        .run(&format!(
            "INSERT INTO documents (id, title, content_type, content_size, status, created_by)
             SELECT gen_random_uuid(), 'Title ' || n, 'text/plain', n, 'created', 'somebody'
             FROM generate_series(1, {ROWS}) AS n"
        ))
        .await;
    // The queue fills and stays, however long the consumer takes.
    eventually("queue full", async || source.held().1 >= QUEUE_BYTES).await;
    assert!(source.lag().await.expect("lag") > 100);
    let limits = BatchLimits { records_max: 1_000, ..BatchLimits::default() };
    let (mut count, mut held_max) = (0, 0);
    let mut last = None;
    let read = async {
        while count < ROWS {
            let batch = source.next_batch(limits).await.expect("batch");
            assert!(batch.records.len() <= 1_000);
            for record in &batch.records {
                count += 1;
                assert_eq!(document(record).content_size, count as u64, "in order");
            }
            held_max = held_max.max(source.held().1);
            source.ack(&batch.position).await.expect("ack");
            if count < ROWS {
                // In the midst of a transaction there is nothing to confirm.
                assert_eq!(last, None, "only the last batch ends it");
                last = (!batch.position.as_str().contains('+')).then_some(batch.position);
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("all of it comes");
    assert!(held_max <= QUEUE_BYTES + 4_096, "{held_max} bytes held");
    source.flush().await.expect("flush");
    assert_ne!(database.confirmed("index").await, before);
    assert_eq!(source.lag().await.expect("lag"), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn log_that_is_not_for_the_consumer_is_confirmed_while_it_waits() {
    let database = Database::new().await;
    let mut options = database.options("index");
    options.idle_bytes_max = 1 << 20;
    let source = dms_cdc::postgres::WalChangeSource::new(options.clone()).expect("options");
    source.start(StartAt::Acknowledged).await.expect("start");
    let first = database.insert(1).await;
    let batch = source.next_batch(BatchLimits::default()).await.expect("batch");
    let filler = "INSERT INTO unrelated SELECT repeat('x', 1000) FROM generate_series(1, 5000)";

    // Not as long as something is unacknowledged.
    let before = database.confirmed("index").await;
    database.run(filler).await;
    assert_eq!(source.lag().await.expect("lag"), 1);
    assert_eq!(database.confirmed("index").await, before);

    source.ack(&batch.position).await.expect("ack");
    source.flush().await.expect("flush");
    let acknowledged = database.confirmed("index").await.expect("slot");
    eventually("confirmed beyond", async || {
        let beyond = format!(
            "SELECT (confirmed_flush_lsn > '{acknowledged}'::pg_lsn + 1000000)::text
             FROM pg_replication_slots WHERE slot_name = '{}'",
            database.slot("index")
        );
        database.text(&beyond).await.as_deref() == Some("true")
    })
    .await;

    // A consumer that keeps its own position hasn't lost it by that.
    drop(source);
    let second = database.insert(1).await;
    let source = dms_cdc::postgres::WalChangeSource::new(options).expect("options");
    source.start(StartAt::After(batch.position.clone())).await.expect("position is still good");
    assert_eq!(ids(&read(&source, 1).await), second);
    assert_ne!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_source_that_comes_before_the_publication_waits_for_it() {
    let database = Database::without_publication().await;
    let source = database.source("index");
    let error = source.start(StartAt::Acknowledged).await.expect_err("no publication");
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("database")));
    assert!(error.to_string().contains("publication cdc"), "{error}");
    database.run(PUBLICATION).await;
    source.start(StartAt::Acknowledged).await.expect("start");
    let expected = database.insert(2).await;
    assert_eq!(ids(&read(&source, 2).await), expected);
}
