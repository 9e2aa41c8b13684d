//! What the client tells: logs, statistics, and which partitions are ours.

use std::sync::Arc;
use std::time::Duration;

use dms_core::{Error, ErrorChain};
use metrics::gauge;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::control;
use super::error::{position_lost, request_failed};
use super::position::{Offsets, Place};
use super::progress::Shared;

/// Bytes that a source holds.
pub(super) const HELD_BYTES: &str = "dms_stream_held_bytes";

fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, message, "kafka client");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, message, "kafka client");
        }
        RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, message, "kafka client");
        }
    }
}

/// Of a client that only asks.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The reading client says the same.
        let level =
            if matches!(level, RDKafkaLogLevel::Emerg) { level } else { RDKafkaLogLevel::Debug };
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// Of the client that reads.
pub(super) struct Reading {
    pub(super) shared: Arc<Shared>,
    pub(super) group: Arc<str>,
    pub(super) request_timeout: Duration,
}

impl Reading {
    /// What is kept beside each committed offset: the topics that the group has offsets of.
    pub(super) fn note(&self) -> String {
        note(&self.shared)
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> Result<(), Error> {
        let shared = &*self.shared;
        let places = shared.topics().places(list);
        let committed =
            control::committed(consumer, shared.topics(), &places, self.request_timeout);
        let committed = committed.map_err(request_failed)?;
        let mut begins = Vec::with_capacity(places.len());
        for place in places {
            let at = committed.offsets.get(&place).copied();
            let was_read = shared.known(place).is_some_and(|known| known > 0);
            let next = match (shared.forced(place), at) {
                (Some(forced), _) => forced,
                (None, Some(at)) => at,
                // The cluster forgets what was committed for a topic that is deleted.
                (None, None) if was_read => {
                    return Err(position_lost("a topic was deleted and made anew"));
                }
                (None, None) => 0,
            };
            let at = at.filter(|_| shared.forced(place).is_none());
            let name = shared.topics().name(place.topic);
            list.set_partition_offset(name, place.partition, Offset::Offset(next))
                .map_err(request_failed)?;
            begins.push((place, next, at));
        }
        shared.assign(&begins);
        Ok(())
    }

    /// Commits what is durable of partitions that are about to be another's.
    fn commit_revoked(&self, consumer: &BaseConsumer<Self>, places: &[Place]) {
        // Also what is on its way: it may fail.
        let mut offsets = self.shared.acknowledged();
        offsets.retain(|place, _| places.contains(place));
        if offsets.is_empty() || consumer.assignment_lost() {
            return;
        }
        let list = self.shared.topics().list(&offsets, &self.note());
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => self.shared.committed(&offsets),
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(
                    group = &*self.group,
                    error,
                    "offsets of revoked partitions not committed"
                );
            }
        }
    }
}

/// Names of the topics that have had offsets, with commas between.
pub(super) fn note(shared: &Shared) -> String {
    let names: Vec<_> =
        shared.seen().into_iter().map(|topic| shared.topics().name(topic).to_owned()).collect();
    names.join(",")
}

impl ClientContext for Reading {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "kafka client");
    }

    #[expect(clippy::cast_precision_loss, reason = "precise up to 2^52 bytes")]
    fn stats(&self, statistics: Statistics) {
        // Partitions share one queue, and each tells the size of all of it.
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let fetched = partitions.map(|partition| partition.fetchq_size).max();
        self.shared.set_fetched_bytes(fetched.unwrap_or(0));
        gauge!(HELD_BYTES, "group" => self.group.to_string()).set(self.shared.held_bytes() as f64);
    }
}

impl ConsumerContext for Reading {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let group = &*self.group;
        let is_cooperative =
            matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = self.assign(consumer, list) {
                self.shared.end(Some(error));
            }
            tracing::info!(group, partitions = list.count(), "partitions assigned");
            if is_cooperative { consumer.incremental_assign(list) } else { consumer.assign(list) }
        } else {
            let places = self.shared.topics().places(list);
            self.commit_revoked(consumer, &places);
            self.shared.revoke(&places);
            tracing::info!(group, partitions = places.len(), "partitions revoked");
            if is_cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() }
        };
        if let Err(error) = done {
            self.shared.end(Some(request_failed(error)));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            let error = ErrorChain(&error).to_string();
            tracing::warn!(group = &*self.group, error, "offsets not committed, will retry");
            self.shared.commit_failed();
        }
    }
}

/// The offsets, for a commit by a member.
pub(super) fn commit(
    consumer: &BaseConsumer<Reading>,
    offsets: &Offsets,
    mode: CommitMode,
) -> KafkaResult<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let context = consumer.context();
    let list = context.shared.topics().list(offsets, &context.note());
    consumer.commit(&list, mode)
}
