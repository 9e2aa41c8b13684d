//! The suite of the port, on one partition and on several.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use dms_cdc::kafka::KafkaChangeSource;
use dms_core::conformance::source::{SourceHarness, suite};
use dms_core::model::change::{Operation, Position, RowChange};
use dms_core::ports::ChangeSource;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::Mutex;

use crate::support::{Topics, within};

struct Harness {
    topics: Topics,
    sources: Mutex<HashMap<String, Arc<KafkaChangeSource>>>,
}

#[async_trait]
impl SourceHarness for Harness {
    async fn append(&self, operation: Operation, row: RowChange) {
        self.topics.write(operation, &row).await;
    }

    async fn source(&self, consumer: &str) -> Arc<dyn ChangeSource> {
        let source = KafkaChangeSource::new(self.topics.options(consumer)).expect("a source");
        let source = Arc::new(source);
        let former = self.sources.lock().await.insert(consumer.to_owned(), source.clone());
        // Its process is gone, and the group knows it.
        if let Some(former) = former {
            former.close().await;
        }
        source
    }

    async fn settle(&self) {
        for source in self.sources.lock().await.values() {
            source.flush().await.expect("flushed");
        }
    }

    async fn trim(&self) {
        let mut least: HashMap<(String, i32), i64> = HashMap::new();
        for consumer in self.sources.lock().await.keys() {
            let committed = self.topics.committed(&self.topics.group(consumer)).await;
            for element in committed.elements() {
                if let Offset::Offset(offset) = element.offset() {
                    let place = (element.topic().to_owned(), element.partition());
                    let least = least.entry(place).or_insert(offset);
                    *least = offset.min(*least);
                }
            }
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), offset) in least {
            offsets
                .add_partition_offset(&topic, partition, Offset::Offset(offset))
                .expect("offset");
        }
        self.topics.trim(&offsets).await;
    }

    fn beyond(&self) -> Option<Position> {
        Some(Position::new(format!("{}:0=1000000", self.topics.name("documents"))))
    }
}

async fn conforms(partitions: i32) {
    let topics = Topics::with(partitions).await;
    let harness = Harness { topics, sources: Mutex::default() };
    within(180, suite(&harness)).await;
    for source in harness.sources.lock().await.values() {
        source.close().await;
    }
    harness.topics.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn the_source_conforms_on_one_partition() {
    conforms(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka"]
async fn the_source_conforms_on_several_partitions() {
    conforms(3).await;
}
