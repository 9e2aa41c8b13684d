//! Several consumers of one group.

use std::collections::BTreeSet;
use std::sync::Arc;

use dms_cdc::kafka::{KafkaChangeSource, KafkaSourceOptions};
use dms_core::model::change::Change;
use dms_core::ports::{BatchLimits, ChangeSource as _, StartAt};
use tokio::sync::Mutex;

use crate::support::{Topics, changes, pause, places, within};

type Read = Arc<Mutex<Vec<Change>>>;

/// Reads and acknowledges for ever.
async fn follow(source: &KafkaChangeSource, read: &Read) {
    loop {
        let batch = source.next_batch(BatchLimits::default()).await.expect("a batch");
        let position = batch.position.clone();
        read.lock().await.extend(changes(batch));
        source.ack(&position).await.expect("acknowledged");
    }
}

fn partitions(changes: &[Change]) -> BTreeSet<String> {
    let partition = |place: &String| place.split('@').next().unwrap_or_default().to_owned();
    places(changes).iter().map(partition).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn a_rebalance_with_a_batch_in_flight_leaves_no_gap() {
    let topics = Topics::with(4).await;
    let documents = 60;
    for _ in 0..documents {
        topics.write_document(3).await;
    }
    // One topic, or one of them might get all of it and the other the rest.
    let options =
        KafkaSourceOptions { topics: vec![topics.name("documents")], ..topics.options("shared") };
    let one = KafkaChangeSource::new(options.clone()).expect("a source");
    let other = KafkaChangeSource::new(options).expect("a source");
    one.start(StartAt::Acknowledged).await.expect("started");
    // In flight while the other joins: everything there is, nothing of it acknowledged.
    let mut in_flight = Vec::new();
    let mut position = None;
    within(60, async {
        while in_flight.len() < documents * 3 {
            let batch = one.next_batch(BatchLimits::default()).await.expect("a batch");
            position = Some(batch.position.clone());
            in_flight.extend(changes(batch));
        }
    })
    .await;

    other.start(StartAt::Acknowledged).await.expect("started");
    let by_other = Read::default();
    let first = within(60, other.next_batch(BatchLimits::default())).await.expect("a batch");
    let first_position = first.position.clone();
    by_other.lock().await.extend(changes(first));
    // Too late for what the other has now.
    one.ack(&position.expect("a batch")).await.expect("acknowledged");
    one.flush().await.expect("committed");
    other.ack(&first_position).await.expect("acknowledged");

    let later = topics.write_document(1).await;
    let by_one = Read::default();
    within(60, async {
        let done = async {
            loop {
                let one = by_one.lock().await.clone();
                let other = by_other.lock().await.clone();
                let taken = partitions(&other);
                let lost = places(&in_flight)
                    .into_iter()
                    .filter(|place| taken.contains(place.split('@').next().unwrap_or_default()));
                let has_all = places(&other).is_superset(&lost.collect());
                let is_there = |change: &Change| change.document_id() == Some(later);
                if has_all && one.iter().chain(&other).any(is_there) {
                    return;
                }
                pause().await;
            }
        };
        tokio::select! {
            () = follow(&one, &by_one) => {}
            () = follow(&other, &by_other) => {}
            () = done => {}
        }
    })
    .await;
    let (by_one, by_other) = (by_one.lock().await.clone(), by_other.lock().await.clone());
    assert!((1..4).contains(&partitions(&by_other).len()), "both have a share");
    // What stayed with the one was acknowledged in time, and didn't come again.
    assert!(places(&in_flight).is_disjoint(&places(&by_one)));
    within(60, async {
        while one.lag().await.expect("lag") > 0 {
            pause().await;
        }
    })
    .await;

    // The other leaves: its share comes back, and nothing that it acknowledged.
    other.close().await;
    let again = topics.write_document(1).await;
    within(60, async {
        let read = Read::default();
        let done = async {
            while !read.lock().await.iter().any(|change| change.document_id() == Some(again)) {
                pause().await;
            }
        };
        tokio::select! {
            () = follow(&one, &read) => {}
            () = done => {}
        }
        assert_eq!(read.lock().await.len(), 1, "only what is new");
    })
    .await;
    one.close().await;
    topics.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn only_what_was_acknowledged_is_passed_after_a_restart() {
    let topics = Topics::with(2).await;
    topics.write_document(10).await;
    let limits = BatchLimits { records_max: 4, ..BatchLimits::default() };
    let source = KafkaChangeSource::new(topics.options("restarted")).expect("a source");
    source.start(StartAt::Acknowledged).await.expect("started");
    let first = within(30, source.next_batch(limits)).await.expect("a batch");
    within(30, source.next_batch(limits)).await.expect("in flight");
    source.ack(&first.position).await.expect("acknowledged");
    // An orderly end commits what was acknowledged, without being asked to.
    source.close().await;
    source.next_batch(limits).await.expect_err("not started");

    let source = KafkaChangeSource::new(topics.options("restarted")).expect("a source");
    source.start(StartAt::Acknowledged).await.expect("started");
    assert_eq!(source.lag().await.expect("lag"), 6);
    let batch = within(30, source.next_batch(limits)).await.expect("a batch");
    let versions: Vec<_> = changes(batch).iter().map(crate::support::version).collect();
    assert_eq!(versions, [5, 6, 7, 8]);
    source.close().await;
    topics.remove().await;
}
