//! Topics that come, go, and come back as others.

use dms_cdc::debezium::DebeziumRecord;
use dms_cdc::decode_dead_letter;
use dms_cdc::kafka::KafkaChangeSource;
use dms_core::model::change::{Position, Record};
use dms_core::ports::{BatchLimits, ChangeSource as _, StartAt};
use dms_core::{DocumentId, Error, ErrorKind};

use crate::support::{Topics, changes, document, envelope, pause, version, within};

fn is_lost(error: &Error) -> bool {
    (error.kind(), error.code()) == (ErrorKind::Conflict, "position_lost")
}

/// Reads until an error, which isn't one to try again after.
async fn until_lost(source: &KafkaChangeSource) -> Error {
    within(90, async {
        loop {
            match source.next_batch(BatchLimits::default()).await {
                Ok(batch) => panic!("handed out: {batch:?}"),
                Err(error) if error.is_retryable() => {}
                Err(error) => return error,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn a_topic_made_anew_under_a_reader_is_a_lost_position() {
    let topics = Topics::with(1).await;
    topics.write_document(5).await;
    let source = KafkaChangeSource::new(topics.options("reader")).expect("a source");
    source.start(StartAt::Acknowledged).await.expect("started");
    let batch = within(30, source.next_batch(BatchLimits::default())).await.expect("a batch");
    source.ack(&batch.position).await.expect("acknowledged");
    source.flush().await.expect("committed");

    topics.delete("documents").await;
    topics.create("documents", 1).await;
    topics.write_document(2).await;
    let error = until_lost(&source).await;
    assert!(is_lost(&error), "{error:?}");
    let again = source.next_batch(BatchLimits::default()).await.expect_err("lost for good");
    assert!(is_lost(&again), "{again:?}");

    // A rebuild goes on from the head it read first.
    let head = source.head().await.expect("head");
    source.start(StartAt::After(head)).await.expect("started");
    let id = topics.write_document(1).await;
    let batch = within(60, source.next_batch(BatchLimits::default())).await.expect("a batch");
    assert_eq!(changes(batch)[0].document_id(), Some(id));
    source.close().await;
    topics.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn a_topic_made_anew_between_two_runs_is_a_lost_position() {
    let topics = Topics::with(1).await;
    topics.write_document(5).await;
    let source = KafkaChangeSource::new(topics.options("restarted")).expect("a source");
    source.start(StartAt::Acknowledged).await.expect("started");
    let batch = within(30, source.next_batch(BatchLimits::default())).await.expect("a batch");
    source.ack(&batch.position).await.expect("acknowledged");
    source.close().await;
    drop(source);

    topics.delete("documents").await;
    topics.create("documents", 1).await;
    topics.write_document(9).await;
    let source = KafkaChangeSource::new(topics.options("restarted")).expect("a source");
    within(30, async {
        // The broker forgets the offsets a moment after the topic.
        loop {
            match source.start(StartAt::Acknowledged).await {
                Err(error) if is_lost(&error) => return,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
                Ok(()) => pause().await,
            }
        }
    })
    .await;
    let kept = source.start(StartAt::After(Position::new(format!(
        "{}:0=50;{}:",
        topics.name("documents"),
        topics.name("signatures")
    ))));
    assert!(is_lost(&kept.await.expect_err("beyond")));
    topics.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn topics_that_are_not_there_yet_are_waited_for() {
    let topics = Topics::named(&crate::support::brokers());
    let source = KafkaChangeSource::new(topics.options("early")).expect("a source");
    source.check().await.expect("the broker is there");
    source.start(StartAt::Acknowledged).await.expect("started");
    assert_eq!(source.lag().await.expect("lag"), 0);
    let reading = within(60, source.next_batch(BatchLimits::default()));
    let writing = async {
        topics.create("documents", 2).await;
        topics.write_document(1).await
    };
    let (batch, id) = tokio::join!(reading, writing);
    let batch = batch.expect("a batch");
    source.ack(&batch.position).await.expect("acknowledged");
    let read = changes(batch);
    assert_eq!((read[0].document_id(), version(&read[0])), (Some(id), 1));
    source.close().await;
    topics.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn poison_comes_in_its_place_and_tombstones_do_not_come() {
    let topics = Topics::with(1).await;
    let id = DocumentId::generate();
    let key = id.to_string();
    let good = |version| {
        let (_, _, value) =
            envelope(dms_core::model::change::Operation::Update, &document(id, version));
        value.to_string()
    };
    let hostile: &[u8] = b"\xff\x00 no JSON";
    topics.write_raw("documents", &key, Some(good(2).as_bytes()), None).await;
    topics.write_raw("documents", &key, Some(hostile), None).await;
    topics.write_raw("documents", &key, None, None).await;
    topics.write_raw("documents", &key, Some(good(3).as_bytes()), None).await;
    topics.write_raw("documents", &key, None, None).await;

    let source = KafkaChangeSource::new(topics.options("poisoned")).expect("a source");
    source.start(StartAt::Acknowledged).await.expect("started");
    let mut records = Vec::new();
    within(30, async {
        while records.len() < 3 {
            let batch = source.next_batch(BatchLimits::default()).await.expect("a batch");
            source.ack(&batch.position).await.expect("acknowledged");
            records.extend(batch.records);
        }
    })
    .await;
    let [Record::Change(first), Record::Poison(poison), Record::Change(last)] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((version(first), version(last)), (2, 3));
    assert_eq!(poison.key.as_deref(), Some(&*key));
    let topic = topics.name("documents");
    let kept = DebeziumRecord {
        topic: &topic,
        partition: 0,
        offset: 1,
        key: Some(format!(r#"{{"id":"{id}"}}"#).as_bytes()),
        value: Some(hostile),
    }
    .to_json();
    assert_eq!(poison.raw, kept, "every byte is kept");
    assert_eq!(decode_dead_letter(&poison.raw), Some(Record::Poison(poison.clone())));
    // The tombstone at the end is passed without anything to acknowledge.
    within(30, async {
        let reading = source.next_batch(BatchLimits::default());
        let passed = async {
            while source.lag().await.expect("lag") > 0 {
                pause().await;
            }
        };
        tokio::select! {
            batch = reading => panic!("{batch:?}"),
            () = passed => {}
        }
    })
    .await;
    source.close().await;
    topics.remove().await;
}
