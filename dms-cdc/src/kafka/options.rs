//! What a source is told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dms_core::{Error, Result};
use rdkafka::ClientConfig;

/// How a [`KafkaChangeSource`](super::KafkaChangeSource) reads.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSourceOptions {
    /// Where the cluster is: `HOST:PORT`, several with commas between.
    pub brokers: String,
    /// Consumer group, which is the consumer across restarts.
    pub group: String,
    /// Name in the brokers' logs and quotas.
    pub client_id: String,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Bytes fetched ahead of decoding. A fetch ends after the record that reaches it.
    pub fetch_bytes_max: usize,
    /// Bytes decoded ahead of being handed out.
    pub buffer_bytes_max: usize,
    /// Least time between two commits of offsets.
    pub commit_every: Duration,
    /// How often new topics and partitions are looked for.
    pub discover_every: Duration,
    /// After how long a consumer that is silent loses its partitions; brokers want 6 s at least.
    pub session_timeout: Duration,
    /// How long a request may take before the cluster counts as unavailable.
    pub request_timeout: Duration,
    /// Further settings of librdkafka, `security.protocol` and `sasl.password` among them. What is
    /// set here wins, but for what delivery depends on. Values are left out of `Debug`.
    pub properties: BTreeMap<String, String>,
}

impl KafkaSourceOptions {
    /// The options for `group` at `brokers`, reading `cdc.documents` and `cdc.signatures`.
    pub fn new(brokers: impl Into<String>, group: impl Into<String>) -> Self {
        let group = group.into();
        Self {
            brokers: brokers.into(),
            client_id: group.clone(),
            group,
            topics: vec!["cdc.documents".to_owned(), "cdc.signatures".to_owned()],
            fetch_bytes_max: 8 << 20,
            buffer_bytes_max: 8 << 20,
            commit_every: Duration::from_secs(1),
            discover_every: Duration::from_secs(10),
            session_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(2),
            properties: BTreeMap::new(),
        }
    }

    /// # Errors
    /// `Invalid` for the field that makes no sense.
    pub(super) fn check(&self) -> Result<()> {
        if self.brokers.trim().is_empty() {
            return Err(Error::invalid(
                "brokers",
                "must be HOST:PORT, several with commas between",
            ));
        }
        if self.group.is_empty() {
            return Err(Error::invalid("group", "must not be empty"));
        }
        let is_topic = |name: &String| {
            (1..=249).contains(&name.len())
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
        };
        if self.topics.is_empty() || !self.topics.iter().all(is_topic) {
            return Err(Error::invalid(
                "topics",
                "must be names of letters, digits, '.', '_', '-'",
            ));
        }
        Ok(())
    }

    /// The settings of a client that takes part in the group or only asks about it.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", &self.client_id)
            // Away and back within a second or two, not within half a minute.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("socket.keepalive.enable", "true")
            // A broker that accepts and then says nothing.
            .set("socket.timeout.ms", "10000")
            .set("topic.metadata.refresh.interval.ms", millis(self.discover_every))
            // Reconnecting is nothing to tell.
            .set("log.connection.close", "false")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set("heartbeat.interval.ms", millis(self.session_timeout / 4));
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.group)
            .set("allow.auto.create.topics", "false")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false");
        config
    }

    /// The settings of a client that reads.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.client();
        let kbytes = (self.fetch_bytes_max / 1024).clamp(1, 2_097_151).to_string();
        let fetch_bytes = self.fetch_bytes_max.clamp(1024, 1 << 30);
        config
            .set("queued.max.messages.kbytes", kbytes)
            .set("fetch.max.bytes", fetch_bytes.to_string())
            // Of one partition, so that the others get their share.
            .set("max.partition.fetch.bytes", (fetch_bytes / 2).clamp(1, 1 << 20).to_string())
            .set("message.max.bytes", fetch_bytes.min(1_000_000).to_string())
            .set("receive.message.max.bytes", "1100000000")
            .set("fetch.error.backoff.ms", "100")
            // A second's pause of an empty queue would show as latency.
            .set("fetch.queue.backoff.ms", "10")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "error")
            .set("statistics.interval.ms", "1000");
        config
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

impl fmt::Debug for KafkaSourceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSourceOptions")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("client_id", &self.client_id)
            .field("topics", &self.topics)
            .field("fetch_bytes_max", &self.fetch_bytes_max)
            .field("buffer_bytes_max", &self.buffer_bytes_max)
            .field("commit_every", &self.commit_every)
            .field("discover_every", &self.discover_every)
            .field("session_timeout", &self.session_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_show_no_values_and_do_not_touch_delivery() {
        let mut options = KafkaSourceOptions::new("localhost:9092", "indexer");
        options.properties.insert("sasl.password".to_owned(), "hunter2".to_owned());
        options.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
        assert!(!format!("{options:?}").contains("hunter2"));
        let config = options.reader();
        assert_eq!(config.get("sasl.password"), Some("hunter2"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("enable.auto.offset.store"), Some("false"));
        config.create_native_config().expect("settings that librdkafka knows");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let sound = KafkaSourceOptions::new("localhost:9092", "indexer");
        sound.check().expect("sound");
        let field = |options: KafkaSourceOptions| {
            options.check().expect_err("refused").fields()[0].field.clone()
        };
        assert_eq!(field(KafkaSourceOptions { brokers: " ".into(), ..sound.clone() }), "brokers");
        assert_eq!(field(KafkaSourceOptions { group: String::new(), ..sound.clone() }), "group");
        assert_eq!(field(KafkaSourceOptions { topics: vec![], ..sound.clone() }), "topics");
        assert_eq!(field(KafkaSourceOptions { topics: vec!["a;b".into()], ..sound }), "topics");
    }
}
