//! The thread that reads: it serves the client for as long as it lives, so that the group knows it
//! alive however long nobody takes what was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dms_core::{Error, ErrorChain, Result};
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{self, Reading};
use super::control::partitions_of;
use super::error::{is_forbidden, is_position_lost, position_lost, request_failed};
use super::options::KafkaSourceOptions;
use super::position::{Offsets, Place};
use super::progress::{Item, Shared};
use crate::debezium::DebeziumRecord;

/// How long the client is waited for; a request from outside is served this late at most.
const POLL_MAX: Duration = Duration::from_millis(50);
/// How long a full buffer only keeps the client waiting. Pausing throws away what was fetched.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// What is handed over at once.
const ITEMS_MAX: usize = 512;
const ITEM_BYTES_MAX: usize = 1 << 20;

/// A running thread, told to end when this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Begins to read, as a member of the group or, if transient, all partitions there are.
    ///
    /// # Errors
    /// `Unavailable` if the system has no more threads.
    pub(super) fn spawn(
        options: &KafkaSourceOptions,
        shared: Arc<Shared>,
        is_transient: bool,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let task = Task {
            options: options.clone(),
            shared: Arc::clone(&shared),
            stop: Arc::clone(&stop),
            is_transient,
        };
        let run = move || {
            let end = task.run().err();
            shared.end(end);
            for answer in shared.take_flushes() {
                // Whoever asked may be gone.
                let _ = answer.send(Err(Error::unavailable("events", "reading has ended")));
            }
        };
        let thread = std::thread::Builder::new().name("kafka-reader".to_owned()).spawn(run);
        let thread = thread.map_err(|e| {
            Error::unavailable("events", "no thread to read changes with").with_source(e)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Tells the thread to end and gives what to wait for.
    pub(super) fn stop(mut self) -> Option<JoinHandle<()>> {
        self.stop.store(true, Ordering::Release);
        self.thread.take()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

struct Task {
    options: KafkaSourceOptions,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    is_transient: bool,
}

/// What the loop remembers.
struct Turn {
    next_commit: Instant,
    next_discovery: Instant,
    full_since: Option<Instant>,
    /// At which count of rebalances everything was paused.
    paused_at: Option<u64>,
}

impl Task {
    fn run(&self) -> Result<()> {
        let context = Reading {
            shared: Arc::clone(&self.shared),
            group: self.options.group.as_str().into(),
            request_timeout: self.options.request_timeout,
        };
        let consumer: BaseConsumer<Reading> =
            self.options.reader().create_with_context(context).map_err(request_failed)?;
        if self.is_transient {
            self.assign(&consumer, &self.shared.all_forced())?;
        } else {
            consumer.subscribe(&self.shared.topics().names()).map_err(request_failed)?;
        }
        let now = Instant::now();
        let mut turn = Turn {
            next_commit: now,
            next_discovery: now + self.options.discover_every,
            full_since: None,
            paused_at: None,
        };
        while !self.stop.load(Ordering::Acquire) && !self.shared.has_ended() {
            if self.is_transient {
                self.discover(&consumer, &mut turn);
            } else {
                self.commit(&consumer, &mut turn);
            }
            if self.has_room(&consumer, &mut turn)? {
                self.read(&consumer)?;
            }
        }
        // Dropping the client gives the partitions back, after a last commit.
        Ok(())
    }

    /// Takes partitions without a group.
    fn assign(&self, consumer: &BaseConsumer<Reading>, offsets: &Offsets) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let begins: Vec<_> = offsets.iter().map(|(place, next)| (*place, *next, None)).collect();
        self.shared.assign(&begins);
        let list = self.shared.topics().list(offsets, "");
        consumer.incremental_assign(&list).map_err(request_failed)
    }

    /// Looks for partitions that are new; they are read from their beginning.
    fn discover(&self, consumer: &BaseConsumer<Reading>, turn: &mut Turn) {
        if Instant::now() < turn.next_discovery {
            return;
        }
        turn.next_discovery = Instant::now() + self.options.discover_every;
        let known = self.shared.passed();
        let mut new = Offsets::new();
        for (topic, name) in self.shared.topics().names().into_iter().enumerate() {
            let found = consumer.fetch_metadata(Some(name), self.options.request_timeout);
            let places = found.map_err(request_failed);
            let places = places.and_then(|metadata| partitions_of(&metadata, name, topic));
            match places {
                Ok(places) => {
                    let places = places.into_iter().filter(|place| !known.contains_key(place));
                    new.extend(places.map(|place| (place, 0)));
                }
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::debug!(topic = name, error, "partitions not looked for");
                }
            }
        }
        if let Err(error) = self.assign(consumer, &new) {
            self.shared.end(Some(error));
        }
    }

    fn commit(&self, consumer: &BaseConsumer<Reading>, turn: &mut Turn) {
        let flushes = self.shared.take_flushes();
        let is_due = Instant::now() >= turn.next_commit;
        if !is_due && flushes.is_empty() {
            return;
        }
        turn.next_commit = Instant::now() + self.options.commit_every;
        let (offsets, mode) = if flushes.is_empty() {
            (self.shared.to_commit(), CommitMode::Async)
        } else {
            // Also what is on its way: it may fail.
            (self.shared.acknowledged(), CommitMode::Sync)
        };
        let mut failure = None;
        match context::commit(consumer, &offsets, mode) {
            Ok(()) => self.shared.committed(&offsets),
            Err(error) => {
                let text = ErrorChain(&error).to_string();
                tracing::warn!(group = self.options.group, error = text, "offsets not committed");
                failure = Some(error);
            }
        }
        for answer in flushes {
            let result = failure.clone().map_or(Ok(()), |error| Err(request_failed(error)));
            // Whoever asked may be gone.
            let _ = answer.send(result);
        }
    }

    /// Whether the client is to be asked for records, or for nothing but events while all is paused.
    fn has_room(&self, consumer: &BaseConsumer<Reading>, turn: &mut Turn) -> Result<bool> {
        let shared = &*self.shared;
        if let Some(paused_at) = turn.paused_at {
            if shared.is_half_empty() {
                consumer.resume(&assigned(consumer)?).map_err(request_failed)?;
                tracing::debug!(group = self.options.group, "reading resumed");
                (turn.paused_at, turn.full_since) = (None, None);
            } else if shared.rebalances() != paused_at {
                // What was given to us meanwhile isn't paused.
                turn.paused_at = Some(shared.rebalances());
                consumer.pause(&assigned(consumer)?).map_err(request_failed)?;
            }
            return Ok(true);
        }
        if !shared.is_full() {
            turn.full_since = None;
            return Ok(true);
        }
        let since = *turn.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PAUSE_AFTER {
            shared.wait_for_room(POLL_MAX);
        } else {
            turn.paused_at = Some(shared.rebalances());
            consumer.pause(&assigned(consumer)?).map_err(request_failed)?;
            tracing::debug!(group = self.options.group, "reading paused, nobody takes changes");
        }
        Ok(false)
    }

    /// Reads what is there, waiting a little for the first.
    fn read(&self, consumer: &BaseConsumer<Reading>) -> Result<()> {
        let mut rebalances = self.shared.rebalances();
        let mut items = Vec::new();
        let (mut bytes, mut patience) = (0, POLL_MAX);
        while items.len() < ITEMS_MAX && bytes < ITEM_BYTES_MAX {
            let polled = consumer.poll(patience);
            let now = self.shared.rebalances();
            if now != rebalances {
                // Judged by what was ours when they were read.
                self.shared.push(std::mem::take(&mut items), rebalances);
                rebalances = now;
            }
            match polled {
                Some(Ok(message)) => {
                    if let Some(item) = self.item(&message) {
                        bytes += item.bytes;
                        items.push(item);
                    }
                }
                Some(Err(error)) => {
                    // What was read before is sound.
                    self.shared.push(std::mem::take(&mut items), rebalances);
                    self.failed(error)?;
                }
                None => break,
            }
            patience = Duration::ZERO;
        }
        if !items.is_empty() {
            self.shared.push(items, rebalances);
        }
        Ok(())
    }

    fn item(&self, message: &BorrowedMessage<'_>) -> Option<Item> {
        let place: Place = self.shared.topics().place(message.topic(), message.partition())?;
        let record = DebeziumRecord {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key(),
            value: message.payload(),
        };
        let bytes = message.key_len() + message.payload_len();
        Some(Item { place, offset: message.offset(), bytes, record: record.decode() })
    }

    /// What follows from something that the client tells in a record's place.
    ///
    /// # Errors
    /// Reading is at an end.
    fn failed(&self, error: KafkaError) -> Result<()> {
        let Some(code) = error.rdkafka_error_code() else {
            tracing::debug!(%error, "kafka client");
            return Ok(());
        };
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(request_failed(error));
        }
        if is_position_lost(code) {
            let lost = "records after the position are no longer in their topic";
            return Err(position_lost(lost).with_source(error));
        }
        if is_forbidden(code) {
            self.shared.tell(request_failed(error));
            return Ok(());
        }
        match code {
            RDKafkaErrorCode::AllBrokersDown => self.shared.tell(request_failed(error)),
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition => {
                tracing::warn!(topics = ?self.options.topics, "topic missing, waited for");
            }
            // The client reconnects, rejoins or fetches again by itself.
            _ => tracing::debug!(%error, "kafka client"),
        }
        Ok(())
    }
}

fn assigned(consumer: &BaseConsumer<Reading>) -> Result<TopicPartitionList> {
    consumer.assignment().map_err(request_failed)
}
