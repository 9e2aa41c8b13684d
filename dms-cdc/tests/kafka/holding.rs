//! Brokers that are away, and consumers that take nothing.

use std::time::Duration;

use dms_cdc::kafka::{KafkaChangeSource, KafkaSourceOptions};
use dms_core::ErrorKind;
use dms_core::ports::{BatchLimits, ChangeSource as _, StartAt};
use rdkafka::mocking::MockCluster;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Topics, brokers, changes, sum, version, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_unavailable() {
    // A port that was free a moment ago.
    let port =
        TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    let options = KafkaSourceOptions {
        request_timeout: Duration::from_millis(300),
        ..KafkaSourceOptions::new(port.to_string(), "early")
    };
    let source = KafkaChangeSource::new(options).expect("needs nobody");
    let errors = [
        source.check().await.expect_err("away"),
        source.start(StartAt::Acknowledged).await.expect_err("away"),
        source.head().await.expect_err("away"),
        source.lag().await.expect_err("away"),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("events")));
    }
    let unstarted = source.next_batch(BatchLimits::default()).await.expect_err("not started");
    assert_eq!(unstarted.kind(), ErrorKind::Internal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn a_broker_that_comes_after_the_source_heals_it() {
    let topics = Topics::with(1).await;
    let id = topics.write_document(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let options = KafkaSourceOptions {
        brokers: address.to_string(),
        request_timeout: Duration::from_secs(1),
        ..topics.options("early")
    };
    let source = KafkaChangeSource::new(options).expect("needs nobody");
    let error = source.start(StartAt::Acknowledged).await.expect_err("away");
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let listener = TcpListener::bind(address).await.expect("the port again");
    let forward = async {
        loop {
            let (mut here, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut there = TcpStream::connect(brokers()).await.expect("the broker");
                // Either end may go first.
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            });
        }
    };
    let read = within(60, async {
        while let Err(error) = source.start(StartAt::Acknowledged).await {
            assert!(error.is_retryable(), "{error:?}");
        }
        loop {
            match source.next_batch(BatchLimits::default()).await {
                Ok(batch) => return changes(batch),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    });
    let read = tokio::select! {
        () = forward => unreachable!("forwards for ever"),
        read = read => read,
    };
    assert_eq!(read[0].document_id(), Some(id));
    source.close().await;
    topics.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back_loses_nothing() {
    let cluster = MockCluster::new(1).expect("a cluster");
    let topics = Topics::named(&cluster.bootstrap_servers());
    for table in ["documents", "signatures"] {
        cluster.create_topic(&topics.name(table), 1, 1).expect("a topic");
    }
    topics.write_document(2).await;
    let source = KafkaChangeSource::new(topics.options("patient")).expect("a source");
    within(30, source.start(StartAt::Acknowledged)).await.expect("started");
    let mut versions: Vec<i32> = Vec::new();
    within(30, async {
        while versions.len() < 2 {
            let batch = source.next_batch(BatchLimits::default()).await.expect("a batch");
            source.ack(&batch.position).await.expect("acknowledged");
            versions.extend(changes(batch).iter().map(version));
        }
    })
    .await;

    cluster.broker_down(1).expect("down");
    let error = within(30, source.next_batch(BatchLimits::default())).await.expect_err("told");
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("events")));
    cluster.broker_up(1).expect("up");
    within(30, topics.write_document(3)).await;
    within(60, async {
        while versions.len() < 5 {
            match source.next_batch(BatchLimits::default()).await {
                Ok(batch) => versions.extend(changes(batch).iter().map(version)),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    })
    .await;
    assert_eq!(versions, [1, 2, 1, 2, 3]);
    source.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn memory_is_bounded_and_the_group_kept_however_long_nobody_takes() {
    const BOUND: usize = 1 << 20;
    let topics = Topics::with(2).await;
    let records = 4_000_i32;
    let padding = "x".repeat(4_000);
    let mut writes = Vec::new();
    for at in 0..records {
        let id = dms_core::DocumentId::generate();
        let change = crate::support::document(id, at + 1);
        let operation = dms_core::model::change::Operation::Create;
        let (table, key, mut value) = crate::support::envelope(operation, &change);
        value["before"] = serde_json::Value::Null;
        value["after"]["title"] = padding.as_str().into();
        let topics = &topics;
        writes.push(async move {
            topics.write_raw(table, &key, Some(value.to_string().as_bytes()), None).await;
        });
    }
    futures_util::future::join_all(writes).await;

    let mut options = KafkaSourceOptions {
        fetch_bytes_max: BOUND,
        buffer_bytes_max: BOUND,
        ..topics.options("slow")
    };
    // A member that isn't served for as long is thrown out.
    options.properties.insert("max.poll.interval.ms".to_owned(), "6000".to_owned());
    let source = KafkaChangeSource::new(options).expect("a source");
    source.start(StartAt::Acknowledged).await.expect("started");
    let limits = BatchLimits { records_max: 50, ..BatchLimits::default() };
    let first = within(60, source.next_batch(limits)).await.expect("a batch");
    let mut seen = crate::support::places(&changes(first.clone()));

    // The buffer and what is fetched ahead, each over its bound by a fetch or a turn of reading.
    let bound = 2 * BOUND as u64 + 3 * (1 << 20);
    let mut held_max = 0;
    let stalled_until = tokio::time::Instant::now() + Duration::from_secs(8);
    while tokio::time::Instant::now() < stalled_until {
        held_max = held_max.max(source.held_bytes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(held_max >= BOUND as u64, "it reads ahead");
    source.ack(&first.position).await.expect("acknowledged");
    let mut count = first.records.len();
    within(120, async {
        while count < usize::try_from(records).expect("positive") {
            let batch = source.next_batch(limits).await.expect("a batch");
            held_max = held_max.max(source.held_bytes());
            source.ack(&batch.position).await.expect("acknowledged");
            count += batch.records.len();
            seen.extend(crate::support::places(&changes(batch)));
        }
    })
    .await;
    eprintln!("{held_max} bytes held at most");
    assert!(held_max <= bound, "{held_max} bytes held, {bound} allowed");
    assert_eq!(seen.len(), count, "nothing came twice: the partitions stayed");
    source.flush().await.expect("committed");
    let committed = topics.committed(&topics.group("slow")).await;
    assert_eq!(sum(&committed), Some(records.into()));
    source.close().await;
    topics.remove().await;
}
