//! A consumer that leaves no trace.

use dms_cdc::kafka::KafkaChangeSource;
use dms_core::ports::{BatchLimits, ChangeSource as _, StartAt};

use crate::support::{Topics, changes, document, envelope, sum, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn it_reads_every_partition_beside_others_and_new_ones_too() {
    let topics = Topics::with(3).await;
    topics.write_document(3).await;
    let sources =
        [(); 2].map(|()| KafkaChangeSource::transient(topics.options("live")).expect("a source"));
    for source in &sources {
        source.start(StartAt::Acknowledged).await.expect("started");
        assert_eq!(source.lag().await.expect("lag"), 0, "only what comes");
    }
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(topics.write_document(1).await);
    }
    ids.sort_unstable();
    for source in &sources {
        let mut read = Vec::new();
        within(30, async {
            while read.len() < ids.len() {
                let batch = source.next_batch(BatchLimits::default()).await.expect("a batch");
                source.ack(&batch.position).await.expect("acknowledged");
                read.extend(changes(batch));
            }
        })
        .await;
        let mut read: Vec<_> =
            read.iter().filter_map(dms_core::model::change::Change::document_id).collect();
        read.sort_unstable();
        assert_eq!(read, ids);
        assert_eq!(source.lag().await.expect("lag"), 0);
    }

    topics.add_partitions("documents", 4).await;
    let id = dms_core::DocumentId::generate();
    let operation = dms_core::model::change::Operation::Create;
    let (_, key, value) = envelope(operation, &document(id, 1));
    within(30, topics.write_raw("documents", &key, Some(value.to_string().as_bytes()), Some(3)))
        .await;
    for source in &sources {
        let batch = within(30, source.next_batch(BatchLimits::default())).await.expect("a batch");
        assert_eq!(changes(batch)[0].document_id(), Some(id));
        source.flush().await.expect("nothing to do");
        source.close().await;
    }
    assert_eq!(sum(&topics.committed(&topics.group("live")).await), None, "nothing committed");
    topics.remove().await;
}
