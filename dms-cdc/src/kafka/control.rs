//! Questions to the cluster, and commits from outside the group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dms_core::{Error, Result};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::Quiet;
use super::error::request_failed;
use super::options::KafkaSourceOptions;
use super::position::{Offsets, Place, Topics};

/// What waits for one another in the client's queue is thrown away in rounds of this many.
const EVENTS_PER_ROUND: usize = 1_000;

/// How long is waited before a partition's leader is asked again.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// First and next offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) low: i64,
    pub(super) high: i64,
}

/// What a group has committed.
#[derive(Debug, Default)]
pub(super) struct Committed {
    pub(super) offsets: Offsets,
    /// What was kept beside them.
    pub(super) notes: BTreeMap<Place, String>,
}

/// A client that never joins the group. Every call blocks for the request time-out at most.
pub(super) struct Control {
    client: BaseConsumer<Quiet>,
    topics: Topics,
    timeout: Duration,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl Control {
    /// # Errors
    /// `Invalid` if the client doesn't take the settings.
    pub(super) fn new(options: &KafkaSourceOptions, topics: Topics) -> Result<Self> {
        let client = options.client().create_with_context(Quiet).map_err(|e| {
            Error::invalid("properties", "must be settings of librdkafka").with_source(e)
        })?;
        Ok(Self { client, topics, timeout: options.request_timeout })
    }

    /// The partitions of the topics that are there.
    pub(super) fn partitions(&self) -> Result<Vec<Place>> {
        self.drain();
        let deadline = self.deadline();
        let mut places = Vec::new();
        for (topic, name) in self.topics.names().into_iter().enumerate() {
            let found = self.client.fetch_metadata(Some(name), left(deadline));
            places.extend(partitions_of(&found.map_err(request_failed)?, name, topic)?);
        }
        Ok(places)
    }

    /// The bounds of partitions.
    ///
    /// # Errors
    /// `Unavailable` also for a partition that no broker leads: it may only be starting.
    pub(super) fn bounds(&self, places: &[Place]) -> Result<BTreeMap<Place, Bounds>> {
        let deadline = self.deadline();
        places.iter().map(|place| Ok((*place, self.bounds_of(*place, deadline)?))).collect()
    }

    fn bounds_of(&self, place: Place, deadline: Instant) -> Result<Bounds> {
        let name = self.topics.name(place.topic);
        loop {
            match self.client.fetch_watermarks(name, place.partition, left(deadline)) {
                Ok((low, high)) => return Ok(Bounds { low, high }),
                // As right after it was made, or while another broker takes over.
                Err(error) if is_leaderless(&error) && Instant::now() < deadline => {
                    std::thread::sleep(LEADER_PAUSE);
                }
                Err(error) => return Err(request_failed(error)),
            }
        }
    }

    /// What the group has committed for partitions.
    pub(super) fn committed(&self, places: &[Place]) -> Result<Committed> {
        committed(&self.client, &self.topics, places, self.timeout).map_err(request_failed)
    }

    /// Commits for the whole group; false if members are in it, which only take their own commits.
    pub(super) fn commit(&self, offsets: &Offsets, note: &str) -> Result<bool> {
        if offsets.is_empty() {
            return Ok(true);
        }
        match self.client.commit(&self.topics.list(offsets, note), CommitMode::Sync) {
            Ok(()) => Ok(true),
            Err(KafkaError::ConsumerCommit(
                RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::StaleMemberEpoch,
            )) => Ok(false),
            Err(error) => Err(request_failed(error)),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Serves what the client has to say, which would pile up while the cluster is away.
    fn drain(&self) {
        for _ in 0..EVENTS_PER_ROUND {
            if self.client.poll(Duration::ZERO).is_none() {
                break;
            }
        }
    }
}

/// The partitions in a topic's metadata; none if there is no such topic.
pub(super) fn partitions_of(
    metadata: &rdkafka::metadata::Metadata,
    name: &str,
    topic: usize,
) -> Result<Vec<Place>> {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else {
        return Ok(Vec::new());
    };
    if let Some(error) = found.error() {
        let error = KafkaError::MetadataFetch(error.into());
        return if is_missing(&error) { Ok(Vec::new()) } else { Err(request_failed(error)) };
    }
    let partitions = found.partitions().iter();
    Ok(partitions.map(|found| Place { topic, partition: found.id() }).collect())
}

/// What the group of a client has committed for partitions.
pub(super) fn committed<C: rdkafka::consumer::ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &Topics,
    places: &[Place],
    timeout: Duration,
) -> KafkaResult<Committed> {
    let mut committed = Committed::default();
    if places.is_empty() {
        return Ok(committed);
    }
    let asked: TopicPartitionList = topics.list_of(places.iter().copied());
    let answer = client.committed_offsets(asked, timeout)?;
    for element in answer.elements() {
        element.error()?;
        let Some(place) = topics.place(element.topic(), element.partition()) else { continue };
        if let Offset::Offset(offset) = element.offset() {
            committed.offsets.insert(place, offset);
            committed.notes.insert(place, element.metadata().to_owned());
        }
    }
    Ok(committed)
}

fn is_missing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

fn is_leaderless(error: &KafkaError) -> bool {
    is_missing(error)
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::ReplicaNotAvailable
            )
        )
}

fn left(deadline: Instant) -> Duration {
    // Zero would mean not to wait at all, even for an answer that is on its way.
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(50))
}
