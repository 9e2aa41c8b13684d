//! Topics of a test's own, and what writes to them.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use dms_cdc::kafka::KafkaSourceOptions;
use dms_core::model::change::{Change, DocumentRow, Operation, Record, RecordBatch, RowChange};
use dms_core::{DocumentId, DocumentStatus, Sha256};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Where the broker is.
pub(crate) fn brokers() -> String {
    std::env::var("DMS_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:9092".to_owned())
}

/// Ends a test that hangs.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("done in time")
}

/// Lets others work before a condition is looked at again.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Two topics of a random name, at a broker.
pub(crate) struct Topics {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
    producer: FutureProducer,
    admin: AdminClient<DefaultClientContext>,
}

impl Topics {
    /// Names that nobody else has; the topics aren't there yet.
    pub(crate) fn named(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "2")
            .set("topic.metadata.refresh.interval.ms", "500");
        Self {
            brokers: brokers.to_owned(),
            prefix: format!("test-{}", DocumentId::generate()),
            producer: config.create().expect("a producer"),
            admin: config.create().expect("an admin client"),
        }
    }

    /// Both topics, with this many partitions each.
    pub(crate) async fn with(partitions: i32) -> Self {
        let topics = Self::named(&brokers());
        topics.create("documents", partitions).await;
        topics.create("signatures", partitions).await;
        topics
    }

    pub(crate) fn name(&self, table: &str) -> String {
        format!("{}.{table}", self.prefix)
    }

    pub(crate) fn options(&self, consumer: &str) -> KafkaSourceOptions {
        KafkaSourceOptions {
            topics: vec![self.name("documents"), self.name("signatures")],
            session_timeout: Duration::from_secs(6),
            discover_every: Duration::from_millis(500),
            request_timeout: Duration::from_secs(10),
            ..KafkaSourceOptions::new(&self.brokers, self.group(consumer))
        }
    }

    pub(crate) fn group(&self, consumer: &str) -> String {
        format!("{}-{consumer}", self.prefix)
    }

    pub(crate) async fn create(&self, table: &str, partitions: i32) {
        let name = self.name(table);
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        // A topic of this name may still be on its way out.
        loop {
            let made = self.admin.create_topics([&topic], &AdminOptions::new()).await;
            match made.expect("an answer").remove(0) {
                Ok(_) => return,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(other) => panic!("no topic: {other:?}"),
            }
        }
    }

    pub(crate) async fn delete(&self, table: &str) {
        let name = self.name(table);
        let deleted = self.admin.delete_topics(&[&name], &AdminOptions::new()).await;
        deleted.expect("an answer").remove(0).expect("deleted");
    }

    pub(crate) async fn add_partitions(&self, table: &str, count: usize) {
        let name = self.name(table);
        let new = NewPartitions::new(&name, count);
        let made = self.admin.create_partitions([&new], &AdminOptions::new()).await;
        made.expect("an answer").remove(0).expect("partitions");
    }

    /// Drops the records before these offsets.
    pub(crate) async fn trim(&self, offsets: &TopicPartitionList) {
        let trimmed = self.admin.delete_records(offsets, &AdminOptions::new()).await;
        for element in trimmed.expect("an answer").elements() {
            element.error().expect("trimmed");
        }
    }

    /// What a group has committed, for every partition of both topics.
    pub(crate) async fn committed(&self, group: &str) -> TopicPartitionList {
        let (brokers, group) = (self.brokers.clone(), group.to_owned());
        let names = [self.name("documents"), self.name("signatures")];
        tokio::task::spawn_blocking(move || {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers).set("group.id", group);
            let client: BaseConsumer = config.create().expect("a consumer");
            let mut asked = TopicPartitionList::new();
            for name in names {
                let metadata = client.fetch_metadata(Some(&name), Duration::from_secs(10));
                let metadata = metadata.expect("metadata");
                for partition in metadata.topics()[0].partitions() {
                    asked.add_partition(&name, partition.id());
                }
            }
            client.committed_offsets(asked, Duration::from_secs(10)).expect("offsets")
        })
        .await
        .expect("asked")
    }

    /// Writes bytes, acknowledged by the broker.
    pub(crate) async fn write_raw(
        &self,
        table: &str,
        key: &str,
        value: Option<&[u8]>,
        partition: Option<i32>,
    ) {
        let topic = self.name(table);
        let key = json!({ "id": key }).to_string();
        loop {
            let record =
                FutureRecord { partition, payload: value, ..FutureRecord::to(&topic).key(&key) };
            match self.producer.send(record, Duration::from_secs(10)).await {
                Ok(_) => return,
                // The producer hasn't heard of a new partition yet.
                Err((error, _))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err((error, _)) => panic!("not written: {error}"),
            }
        }
    }

    /// Writes an envelope as Debezium does.
    pub(crate) async fn write(&self, operation: Operation, row: &RowChange) {
        let (table, key, envelope) = envelope(operation, row);
        self.write_raw(table, &key, Some(envelope.to_string().as_bytes()), None).await;
    }

    /// Versions 1 to `versions` of a new document.
    pub(crate) async fn write_document(&self, versions: i32) -> DocumentId {
        let id = DocumentId::generate();
        for version in 1..=versions {
            self.write(operation_of(version), &document(id, version)).await;
        }
        id
    }

    /// Removes the topics and what groups have committed.
    pub(crate) async fn remove(&self) {
        let names = [self.name("documents"), self.name("signatures")];
        let names = names.each_ref().map(String::as_str);
        // Either may never have been there.
        let _ = self.admin.delete_topics(&names, &AdminOptions::new()).await;
    }
}

fn operation_of(version: i32) -> Operation {
    if version == 1 { Operation::Create } else { Operation::Update }
}

/// The change that makes a document's version.
pub(crate) fn document(id: DocumentId, version: i32) -> RowChange {
    let row = |version: i32| DocumentRow {
        id,
        title: format!("version {version}"),
        content_type: "text/plain".to_owned(),
        content_size: 10,
        content_sha256: Some(Sha256::of(b"content")),
        s3_key: Some(format!("{id}/content")),
        status: DocumentStatus::Created,
        created_by: "ann".to_owned(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version,
        deleted: false,
    };
    RowChange::Document {
        before: (version > 1).then(|| row(version - 1)),
        after: Some(row(version)),
    }
}

/// Table, key and envelope of a change.
pub(crate) fn envelope(operation: Operation, row: &RowChange) -> (&'static str, String, Value) {
    let (table, before, after) = match row {
        RowChange::Document { before, after } => {
            ("documents", before.as_ref().map(columns), after.as_ref().map(columns))
        }
        RowChange::Signature { before, after } => (
            "signatures",
            before.as_ref().map(|row| serde_json::to_value(row).expect("JSON")),
            after.as_ref().map(|row| serde_json::to_value(row).expect("JSON")),
        ),
    };
    let op = match operation {
        Operation::Create => "c",
        Operation::Update => "u",
        Operation::Delete => "d",
        Operation::Snapshot => "r",
    };
    let id = after.as_ref().or(before.as_ref()).expect("a row")["id"].as_str().expect("an id");
    let key = id.to_owned();
    let source =
        json!({"connector": "postgresql", "table": table, "ts_us": 1_795_358_906_906_595_i64});
    (table, key, json!({"before": before, "after": after, "op": op, "source": source}))
}

fn columns(row: &DocumentRow) -> Value {
    let mut columns = serde_json::to_value(row).expect("JSON");
    let is_deleted = columns.as_object_mut().expect("a row").remove("deleted");
    let deleted_at = (is_deleted == Some(json!(true))).then(|| columns["updated_at"].clone());
    columns["deleted_at"] = json!(deleted_at);
    columns
}

/// The changes of a batch.
pub(crate) fn changes(batch: RecordBatch) -> Vec<Change> {
    let change = |record| match record {
        Record::Change(change) => *change,
        Record::Poison(poison) => panic!("{poison:?}"),
    };
    batch.records.into_iter().map(change).collect()
}

/// Where the changes are.
pub(crate) fn places(changes: &[Change]) -> BTreeSet<String> {
    changes.iter().map(|change| change.position.to_string()).collect()
}

pub(crate) fn version(change: &Change) -> i32 {
    match &change.row {
        RowChange::Document { after: Some(row), .. } => row.version,
        other => panic!("no document: {other:?}"),
    }
}

/// Sum of committed offsets; none if nothing was ever committed.
pub(crate) fn sum(committed: &TopicPartitionList) -> Option<i64> {
    let offsets = committed.elements().into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    });
    offsets.reduce(|a, b| a + b)
}
