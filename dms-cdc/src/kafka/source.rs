//! A source over topics that Debezium writes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::model::change::{Position, RecordBatch};
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use dms_core::{Error, Result};
use metrics::{Unit, describe_gauge};
use tokio::time::timeout;

use super::context::{HELD_BYTES, note};
use super::control::{Bounds, Committed, Control};
use super::error::position_lost;
use super::options::KafkaSourceOptions;
use super::position::{Mark, Offsets, Place, Topics};
use super::progress::{Plan, Shared};
use super::reader::Reader;

/// How long a reader that was told to end is waited for: it leaves its group first.
const END_MAX: Duration = Duration::from_secs(5);

/// A [`ChangeSource`] over the topics that Debezium writes; what it guarantees is in the
/// [module](self::super).
///
/// Nothing is asked of the cluster before [`start`](ChangeSource::start), which checks the position
/// and fails with `Unavailable` while no broker answers. The group is joined with the first
/// [`next_batch`](ChangeSource::next_batch), by a thread that ends when the source is dropped,
/// started elsewhere or closed. While the cluster is away `next_batch` says so now and then, and
/// goes on where it was once it is back.
///
/// A **durable** consumer ([`new`](Self::new)) shares the partitions with the others of its group.
/// To start it elsewhere than [`StartAt::Acknowledged`] moves the whole group, unless others are in
/// it: then it moves the partitions this consumer gets.
///
/// A **transient** consumer ([`transient`](Self::transient)) reads all partitions, whoever else
/// does, and leaves no trace.
///
/// ```no_run
/// use dms_cdc::kafka::{KafkaChangeSource, KafkaSourceOptions};
///
/// # fn main() -> dms_core::Result<()> {
/// let source = KafkaChangeSource::new(KafkaSourceOptions::new("127.0.0.1:9092", "indexer"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KafkaChangeSource {
    options: KafkaSourceOptions,
    topics: Topics,
    is_transient: bool,
    control: Arc<Control>,
    run: Mutex<Option<Run>>,
}

/// What there is between one start and the next.
#[derive(Debug)]
struct Run {
    shared: Arc<Shared>,
    reader: Option<Reader>,
    /// Once the position is lost, it stays so until the next start.
    is_lost: bool,
}

impl KafkaChangeSource {
    /// A source for a durable consumer, which is a member of [`KafkaSourceOptions::group`].
    ///
    /// # Errors
    /// `Invalid` for options that make no sense. The cluster needn't be there.
    pub fn new(options: KafkaSourceOptions) -> Result<Self> {
        Self::build(options, false)
    }

    /// A source for a consumer that needs only what is committed while it runs: it reads every
    /// partition, also those that are added later. [`StartAt::Acknowledged`] means [`StartAt::Now`]
    /// to it. The group is neither joined nor written to.
    ///
    /// # Errors
    /// `Invalid` for options that make no sense. The cluster needn't be there.
    pub fn transient(options: KafkaSourceOptions) -> Result<Self> {
        Self::build(options, true)
    }

    fn build(options: KafkaSourceOptions, is_transient: bool) -> Result<Self> {
        options.check()?;
        describe_gauge!(HELD_BYTES, Unit::Bytes, "bytes fetched and not yet handed out");
        let topics = Topics::new(options.topics.clone());
        let control = Arc::new(Control::new(&options, topics.clone())?);
        Ok(Self { options, topics, is_transient, control, run: Mutex::new(None) })
    }

    /// Whether the cluster answers.
    ///
    /// # Errors
    /// `Unavailable` within [`KafkaSourceOptions::request_timeout`]; `Internal` if reading isn't
    /// allowed.
    pub async fn check(&self) -> Result<()> {
        self.ask(|control| control.partitions().map(drop)).await
    }

    /// Commits what was acknowledged, if that hasn't been done yet. Worth a call after the runner
    /// has stopped: without it up to a second's changes come again after a restart.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout`; nothing but the commit is lost.
    pub async fn flush(&self) -> Result<()> {
        let answered = {
            let run = self.lock();
            let Some(run) = run.as_ref().filter(|_| !self.is_transient) else { return Ok(()) };
            if run.reader.is_none() || run.shared.acknowledged().is_empty() {
                return Ok(());
            }
            run.shared.request_flush()
        };
        let ended = || Error::unavailable("events", "reading has ended");
        let patience = self.options.request_timeout + END_MAX;
        match timeout(patience, answered).await {
            Ok(answer) => answer.map_err(|_| ended())?,
            Err(late) => {
                Err(Error::new(dms_core::ErrorKind::Timeout, "offsets were not committed in time")
                    .with_source(late))
            }
        }
    }

    /// Gives the partitions back and waits until that is done, some seconds at most. What was
    /// acknowledged is committed if the cluster can be reached. The source can be started again.
    pub async fn close(&self) {
        let run = self.lock().take();
        if let Some(reader) = run.and_then(|run| run.reader) {
            end(reader).await;
        }
    }

    /// Bytes that are held in memory: fetched, or decoded and not handed out yet.
    pub fn held_bytes(&self) -> u64 {
        self.lock().as_ref().map_or(0, |run| run.shared.held_bytes())
    }

    /// Asks the cluster something, off the threads of the runtime.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Control) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let control = Arc::clone(&self.control);
        let asked = tokio::task::spawn_blocking(move || question(&control)).await;
        asked.map_err(|e| Error::internal("asking Kafka failed").with_source(e))?
    }

    /// What was read, while the reader runs; it is started if it should be.
    fn reading(&self) -> Result<Arc<Shared>> {
        let mut guard = self.lock();
        let run = guard.as_mut().ok_or_else(not_started)?;
        if run.is_lost {
            return Err(position_lost("the position was lost before"));
        }
        if run.shared.has_ended() {
            run.reader = None;
        }
        if let Some(error) = run.shared.take_end() {
            run.is_lost = error.code() == "position_lost";
            return Err(error);
        }
        if run.reader.is_none() {
            if run.shared.has_ended() {
                // Another one goes on: the group knows where, but for one that has none.
                let forced =
                    if self.is_transient { run.shared.passed() } else { run.shared.all_forced() };
                let plan = Plan { forced, seen: run.shared.seen() };
                run.shared = self.shared(plan);
            }
            let shared = Arc::clone(&run.shared);
            run.reader = Some(Reader::spawn(&self.options, shared, self.is_transient)?);
        }
        Ok(Arc::clone(&run.shared))
    }

    fn shared(&self, plan: Plan) -> Arc<Shared> {
        Arc::new(Shared::new(self.topics.clone(), self.options.buffer_bytes_max, plan))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ChangeSource for KafkaChangeSource {
    async fn start(&self, at: StartAt) -> Result<()> {
        // Out of the group first, which then can be moved.
        self.close().await;
        let begin = match at {
            StartAt::Acknowledged if self.is_transient => Begin::Now,
            StartAt::Acknowledged => Begin::Acknowledged,
            StartAt::Now => Begin::Now,
            StartAt::After(position) => {
                Begin::After(self.topics.read(&position).ok_or_else(|| {
                    position_lost("the position is not one of these topics in Kafka")
                })?)
            }
        };
        let (topics, is_transient) = (self.topics.clone(), self.is_transient);
        let plan = self.ask(move |control| plan(control, &topics, &begin, is_transient)).await?;
        let shared = self.shared(plan);
        *self.lock() = Some(Run { shared, reader: None, is_lost: false });
        Ok(())
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        loop {
            let shared = self.reading()?;
            // Before the look, so that what comes during it isn't missed.
            let filled = shared.filled.notified();
            if let Some(batch) = shared.take(limits)? {
                return Ok(batch);
            }
            if !shared.has_ended() {
                filled.await;
            }
        }
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        let mark = self.topics.read(position);
        let mark = mark.ok_or_else(|| Error::invalid("position", "must be one of these topics"))?;
        self.lock().as_ref().ok_or_else(not_started)?.shared.acknowledge(&mark);
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        let topics = self.topics.clone();
        self.ask(move |control| {
            let bounds = control.bounds(&control.partitions()?)?;
            let high = bounds.into_iter().map(|(place, bounds)| (place, bounds.high)).collect();
            Ok(topics.write(&high))
        })
        .await
    }

    async fn lag(&self) -> Result<u64> {
        let (acknowledged, forced) = match self.lock().as_ref() {
            Some(run) => (run.shared.acknowledged(), run.shared.all_forced()),
            None => Default::default(),
        };
        let is_transient = self.is_transient;
        self.ask(move |control| {
            let places = control.partitions()?;
            let bounds = control.bounds(&places)?;
            let committed =
                if is_transient { Committed::default() } else { control.committed(&places)? };
            let at = |place: &Place| {
                let known = acknowledged.get(place).or_else(|| forced.get(place));
                known.or_else(|| committed.offsets.get(place)).copied()
            };
            let behind = bounds.iter().map(|(place, bounds)| {
                let unread = if is_transient { bounds.high } else { bounds.low };
                let at = at(place).unwrap_or(unread).max(bounds.low);
                u64::try_from(bounds.high - at).unwrap_or(0)
            });
            Ok(behind.sum())
        })
        .await
    }
}

impl Drop for KafkaChangeSource {
    fn drop(&mut self) {
        // The thread ends by itself: to wait for it would block whoever drops.
        self.lock().take();
    }
}

/// Waits for a reader's end.
async fn end(reader: Reader) {
    let Some(thread) = reader.stop() else { return };
    let ended = tokio::task::spawn_blocking(move || thread.join());
    if timeout(END_MAX, ended).await.is_err() {
        tracing::warn!("the Kafka reader did not end in time");
    }
}

/// Where to begin, understood.
enum Begin {
    Acknowledged,
    Now,
    After(Mark),
}

/// Checks that everything after the beginning is there, and tells the group of it.
fn plan(control: &Control, topics: &Topics, begin: &Begin, is_transient: bool) -> Result<Plan> {
    let places = control.partitions()?;
    let bounds = control.bounds(&places)?;
    let committed = if is_transient { Committed::default() } else { control.committed(&places)? };
    let offsets = match begin {
        Begin::Now => bounds.iter().map(|(place, bounds)| (*place, bounds.high)).collect(),
        Begin::Acknowledged => {
            if let Some(topic) = made_anew(topics, &committed, &bounds.keys().copied().collect()) {
                tracing::warn!(topic, "topic was made anew since its offsets were committed");
                return Err(position_lost("a topic was deleted and made anew"));
            }
            begin_at(bounds.keys(), &committed.offsets)
        }
        Begin::After(Mark::All(offsets)) => {
            let is_there = |(place, next): (&Place, &i64)| *next == 0 || bounds.contains_key(place);
            if !offsets.iter().all(is_there) {
                return Err(position_lost("a partition of the position is not there"));
            }
            begin_at(bounds.keys(), offsets)
        }
        Begin::After(Mark::One(place, next)) => {
            if !bounds.contains_key(place) {
                return Err(position_lost("the partition of the position is not there"));
            }
            let mut offsets = begin_at(bounds.keys(), &committed.offsets);
            offsets.insert(*place, *next);
            offsets
        }
    };
    for (place, next) in &offsets {
        let Some(Bounds { low, high }) = bounds.get(place) else { continue };
        if next < low {
            return Err(position_lost("records after the position are no longer in their topic"));
        }
        if next > high {
            return Err(position_lost("the position is beyond the newest record"));
        }
    }
    let seen: BTreeSet<usize> = offsets.keys().map(|place| place.topic).collect();
    if is_transient {
        return Ok(Plan { forced: offsets, seen });
    }
    // Only what moves: a member that starts meanwhile isn't set back.
    let mut moved = offsets;
    moved.retain(|place, next| committed.offsets.get(place) != Some(next));
    let plan = Plan { forced: Offsets::new(), seen };
    let shared = Shared::new(topics.clone(), 0, plan.clone());
    if control.commit(&moved, &note(&shared))? || matches!(begin, Begin::Acknowledged) {
        return Ok(plan);
    }
    Ok(Plan { forced: moved, ..plan })
}

/// Every partition where it is known to be, or at its beginning.
fn begin_at<'a>(places: impl Iterator<Item = &'a Place>, known: &Offsets) -> Offsets {
    places.map(|place| (*place, known.get(place).copied().unwrap_or(0))).collect()
}

/// A topic that is there and had offsets when others were committed, but has none any more: the
/// cluster forgets them with the topic.
fn made_anew<'a>(
    topics: &'a Topics,
    committed: &Committed,
    places: &BTreeSet<Place>,
) -> Option<&'a str> {
    let had_offsets: BTreeSet<usize> = committed
        .notes
        .values()
        .flat_map(|note| note.split(','))
        .filter_map(|name| topics.index(name))
        .collect();
    let has_offsets: BTreeSet<usize> = committed.offsets.keys().map(|place| place.topic).collect();
    let is_there = |topic: &usize| places.iter().any(|place| place.topic == *topic);
    let anew = had_offsets.difference(&has_offsets).find(|topic| is_there(topic))?;
    Some(topics.name(*anew))
}

fn not_started() -> Error {
    Error::internal("the change source was not started")
}
