//! Topics of Kafka, made, filled and removed.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupInfo;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use crate::documents::{Documents, envelope};
use crate::system::variable;

const TABLES: [&str; 2] = ["documents", "signatures"];
/// As the product's topics have.
const PARTITIONS: i32 = 3;
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(crate) fn brokers() -> String {
    variable("DMS_TEST_KAFKA", "127.0.0.1:9092")
}

fn settings() -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers()).set("log_level", "2");
    settings
}

fn admin() -> AdminClient<DefaultClientContext> {
    settings().create().expect("a client")
}

pub(crate) async fn create(prefix: &str) {
    let names = TABLES.map(|table| format!("{prefix}.{table}"));
    let topics =
        names.each_ref().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    let made = admin().create_topics(&topics, &AdminOptions::new()).await.expect("Kafka runs");
    for topic in made {
        topic.expect("a new topic");
    }
}

/// Writes the creation of each document, as Debezium would. Blocks.
pub(crate) fn fill(prefix: &str, documents: Documents) {
    let mut settings = settings();
    // As the connector compresses.
    settings.set("compression.type", "lz4").set("linger.ms", "20");
    let producer: ThreadedProducer<_> = settings.create().expect("a producer");
    let topic = format!("{prefix}.documents");
    for entry in documents.all() {
        let (key, value) = envelope(prefix, &entry);
        let mut record = BaseRecord::to(&topic).key(&key).payload(&value);
        while let Err((error, returned)) = producer.send(record) {
            let is_full = error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert!(is_full, "{error}");
            std::thread::sleep(Duration::from_millis(5));
            record = returned;
        }
    }
    producer.flush(Duration::from_mins(1)).expect("everything is written");
    let client = admin();
    let written = |partition| {
        let (low, high) = client
            .inner()
            .fetch_watermarks(&topic, partition, ANSWER_MAX)
            .expect("offsets of the topic");
        u64::try_from(high - low).expect("a count")
    };
    let written: u64 = (0..PARTITIONS).map(written).sum();
    assert_eq!(written, documents.count, "records in the topic");
}

/// Removes topics and groups whose names begin so.
pub(crate) async fn remove(prefix: &str) {
    let client = admin();
    let mut names = TABLES.map(|table| format!("{prefix}.{table}")).to_vec();
    names.push(format!("__debezium-heartbeat.{prefix}"));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // Not all of them have been made.
    let _ = client.delete_topics(&names, &AdminOptions::new()).await;
    let Ok(groups) = client.inner().fetch_group_list(None, ANSWER_MAX) else { return };
    let groups = groups.groups().iter().map(GroupInfo::name);
    let groups: Vec<_> = groups.filter(|name| name.starts_with(prefix)).collect();
    if !groups.is_empty() {
        let _ = client.delete_groups(&groups, &AdminOptions::new()).await;
    }
}
