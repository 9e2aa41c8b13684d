//! What was read, handed out and acknowledged, shared by the reading thread and its source.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dms_core::model::change::{Record, RecordBatch};
use dms_core::ports::BatchLimits;
use dms_core::{Error, Result};
use tokio::sync::{Notify, oneshot};

use super::position::{Mark, Offsets, Place, Topics};

/// What a decoded record takes beside its bytes, roughly.
const RECORD_OVERHEAD_BYTES: usize = 512;

/// A record that was read.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) offset: i64,
    /// As the topic holds it.
    pub(super) bytes: usize,
    /// None if there is nothing to deliver.
    pub(super) record: Option<Record>,
}

/// How far one partition is that this consumer owns. Every number is the offset that comes next.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Rebalances there had been when it was given to us.
    since: u64,
    read: i64,
    /// Up to where records were handed out, or had nothing to hand out.
    passed: i64,
    /// Up to where the last batch was handed out.
    delivered: i64,
    acknowledged: i64,
    /// None until the group has an offset here.
    committed: Option<i64>,
}

impl Progress {
    /// What may be committed: with all records acknowledged, also what had nothing to deliver.
    fn durable(&self) -> i64 {
        if self.acknowledged >= self.delivered { self.passed } else { self.acknowledged }
    }
}

#[derive(Debug, Default)]
struct State {
    owned: HashMap<Place, Progress>,
    buffer: VecDeque<Item>,
    buffered_bytes: usize,
    /// Something to tell, once, while reading goes on.
    trouble: Option<Error>,
    /// Why reading ended.
    end: Option<Error>,
    has_ended: bool,
    flushes: Vec<oneshot::Sender<Result<()>>>,
    /// Where partitions begin instead of where the group is.
    forced: Offsets,
    /// How far each partition was that was taken away and that the group has an offset of.
    known: Offsets,
    /// Topics that have had offsets.
    seen: BTreeSet<usize>,
}

/// Where the partitions of a run begin.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Partitions that begin here, whatever the group has committed.
    pub(super) forced: Offsets,
    /// Topics that are known to have had offsets.
    pub(super) seen: BTreeSet<usize>,
}

/// Shared by a source and the thread that reads for it.
#[derive(Debug)]
pub(super) struct Shared {
    topics: Topics,
    buffer_bytes_max: usize,
    state: Mutex<State>,
    /// Something is there to take.
    pub(super) filled: Notify,
    room: Condvar,
    rebalances: AtomicU64,
    fetched_bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(topics: Topics, buffer_bytes_max: usize, plan: Plan) -> Self {
        let state = State { forced: plan.forced, seen: plan.seen, ..State::default() };
        Self {
            topics,
            buffer_bytes_max: buffer_bytes_max.max(1),
            state: Mutex::new(state),
            filled: Notify::new(),
            room: Condvar::new(),
            rebalances: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// How often partitions were given or taken.
    pub(super) fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::Acquire)
    }

    pub(super) fn forced(&self, place: Place) -> Option<i64> {
        self.lock().forced.get(&place).copied()
    }

    pub(super) fn all_forced(&self) -> Offsets {
        self.lock().forced.clone()
    }

    pub(super) fn known(&self, place: Place) -> Option<i64> {
        self.lock().known.get(&place).copied()
    }

    pub(super) fn seen(&self) -> BTreeSet<usize> {
        self.lock().seen.clone()
    }

    /// Partitions are ours from now on, each from an offset and with what the group has committed.
    pub(super) fn assign(&self, places: &[(Place, i64, Option<i64>)]) {
        let since = self.rebalances.fetch_add(1, Ordering::AcqRel) + 1;
        let mut state = self.lock();
        for &(place, next, committed) in places {
            let progress = Progress {
                since,
                read: next,
                passed: next,
                delivered: next,
                acknowledged: next,
                committed,
            };
            state.owned.insert(place, progress);
            state.seen.insert(place.topic);
        }
    }

    /// Partitions aren't ours any more: what was read of them and not handed out is dropped.
    pub(super) fn revoke(&self, places: &[Place]) {
        self.rebalances.fetch_add(1, Ordering::AcqRel);
        let mut state = self.lock();
        for place in places {
            if let Some(progress) = state.owned.remove(place)
                && progress.committed.is_some()
            {
                state.remember(*place, &progress);
            }
        }
        state.buffer.retain(|item| !places.contains(&item.place));
        state.buffered_bytes = state.buffer.iter().map(Item::size).sum();
        drop(state);
        self.room.notify_all();
    }

    /// Takes what was read since `rebalances` were counted, unless its partition was taken away.
    pub(super) fn push(&self, items: Vec<Item>, rebalances: u64) {
        let mut state = self.lock();
        for item in items {
            let State { owned, buffer, buffered_bytes, .. } = &mut *state;
            let Some(progress) = owned.get_mut(&item.place) else { continue };
            if progress.since > rebalances || item.offset < progress.read {
                continue;
            }
            progress.read = item.offset + 1;
            *buffered_bytes += item.size();
            buffer.push_back(item);
        }
        drop(state);
        self.filled.notify_one();
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().buffered_bytes >= self.buffer_bytes_max
    }

    pub(super) fn is_half_empty(&self) -> bool {
        self.lock().buffered_bytes <= self.buffer_bytes_max / 2
    }

    /// Waits until there is room, at most this long; whether there is.
    pub(super) fn wait_for_room(&self, patience: Duration) -> bool {
        let state = self.lock();
        let is_full = |state: &mut State| state.buffered_bytes >= self.buffer_bytes_max;
        let waited = self.room.wait_timeout_while(state, patience, is_full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Bytes in the client's queue, as its statistics say.
    pub(super) fn set_fetched_bytes(&self, bytes: u64) {
        self.fetched_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that are held: fetched, or decoded and not handed out.
    pub(super) fn held_bytes(&self) -> u64 {
        self.lock().buffered_bytes as u64 + self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Says something once, while reading goes on.
    pub(super) fn tell(&self, trouble: Error) {
        self.lock().trouble = Some(trouble);
        self.filled.notify_one();
    }

    /// Reading ends; for this reason, if there is none yet.
    pub(super) fn end(&self, reason: Option<Error>) {
        let mut state = self.lock();
        state.has_ended = true;
        if state.end.is_none() {
            state.end = reason;
        }
        drop(state);
        self.filled.notify_one();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// Why reading ended, told once.
    pub(super) fn take_end(&self) -> Option<Error> {
        self.lock().end.take()
    }

    /// What comes next, within limits; none if nothing is there.
    ///
    /// # Errors
    /// What reading has met with since the last call.
    pub(super) fn take(&self, limits: BatchLimits) -> Result<Option<RecordBatch>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut records = Vec::new();
        let mut bytes = 0_usize;
        while let Some(item) = state.buffer.front() {
            if item.record.is_some() {
                let is_over = records.len() >= limits.records_max.max(1)
                    || bytes.saturating_add(item.bytes) > limits.bytes_max;
                if is_over && !records.is_empty() {
                    break;
                }
                bytes = bytes.saturating_add(item.bytes);
            }
            let Some(item) = state.buffer.pop_front() else { break };
            state.buffered_bytes = state.buffered_bytes.saturating_sub(item.size());
            if let Some(progress) = state.owned.get_mut(&item.place) {
                // Nothing before it waits, and it has nothing to wait for.
                if item.record.is_none() && progress.acknowledged >= progress.passed {
                    progress.acknowledged = item.offset + 1;
                }
                progress.passed = item.offset + 1;
            }
            records.extend(item.record);
        }
        if records.is_empty() {
            // Only once everything sound was handed out.
            return state.trouble.take().map_or(Ok(None), Err);
        }
        let mut offsets = Offsets::new();
        for (place, progress) in &mut state.owned {
            progress.delivered = progress.passed;
            offsets.insert(*place, progress.delivered);
        }
        drop(guard);
        self.room.notify_all();
        Ok(Some(RecordBatch { records, position: self.topics.write(&offsets) }))
    }

    /// Everything before the offsets is durable at the consumer. Of partitions that aren't ours, or
    /// beyond what was handed out, that says nothing.
    pub(super) fn acknowledge(&self, mark: &Mark) {
        let mut state = self.lock();
        for (place, next) in mark.offsets() {
            if let Some(progress) = state.owned.get_mut(&place) {
                progress.acknowledged = progress.acknowledged.max(next.min(progress.delivered));
            }
        }
    }

    /// How far the partitions that are ours are acknowledged, so that it may be committed.
    pub(super) fn acknowledged(&self) -> Offsets {
        let state = self.lock();
        state.owned.iter().map(|(place, progress)| (*place, progress.durable())).collect()
    }

    /// Up to where each partition was handed out, for a reader that takes over.
    pub(super) fn passed(&self) -> Offsets {
        let state = self.lock();
        let mut passed = state.known.clone();
        passed.extend(state.owned.iter().map(|(place, progress)| (*place, progress.passed)));
        passed
    }

    /// What is durable and not committed yet.
    pub(super) fn to_commit(&self) -> Offsets {
        let state = self.lock();
        let owned = state.owned.iter();
        owned
            .filter(|(_, progress)| progress.committed.is_none_or(|at| at < progress.durable()))
            .map(|(place, progress)| (*place, progress.durable()))
            .collect()
    }

    /// Offsets are committed, or on their way.
    pub(super) fn committed(&self, offsets: &Offsets) {
        let mut state = self.lock();
        for (place, offset) in offsets {
            state.forced.remove(place);
            if let Some(progress) = state.owned.get_mut(place) {
                progress.committed = progress.committed.max(Some(*offset));
            }
        }
    }

    /// Nothing is known to be committed: what is durable is to be committed again.
    pub(super) fn commit_failed(&self) {
        for progress in self.lock().owned.values_mut() {
            progress.committed = None;
        }
    }

    /// Asks for a commit; the answer comes when it's done.
    pub(super) fn request_flush(&self) -> oneshot::Receiver<Result<()>> {
        let (answer, answered) = oneshot::channel();
        self.lock().flushes.push(answer);
        answered
    }

    pub(super) fn take_flushes(&self) -> Vec<oneshot::Sender<Result<()>>> {
        std::mem::take(&mut self.lock().flushes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, place: Place, progress: &Progress) {
        let at = self.known.entry(place).or_default();
        *at = (*at).max(progress.passed);
    }
}

impl Item {
    fn size(&self) -> usize {
        self.bytes + RECORD_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use dms_core::model::change::{PoisonRecord, Position};

    use super::*;

    const HERE: Place = Place { topic: 0, partition: 0 };
    const THERE: Place = Place { topic: 0, partition: 1 };

    fn shared() -> Shared {
        let shared = Shared::new(Topics::new(vec!["t".to_owned()]), 4_000, Plan::default());
        shared.assign(&[(HERE, 0, None), (THERE, 10, Some(10))]);
        shared
    }

    fn item(place: Place, offset: i64, has_record: bool) -> Item {
        let record = has_record.then(|| {
            let position = Position::new(offset.to_string());
            Record::Poison(PoisonRecord { position, key: None, raw: vec![], reason: String::new() })
        });
        Item { place, offset, bytes: 100, record }
    }

    fn take(shared: &Shared) -> RecordBatch {
        shared.take(BatchLimits::default()).expect("no trouble").expect("a batch")
    }

    fn read(shared: &Shared, position: &Position) -> Mark {
        shared.topics().read(position).expect("a position")
    }

    #[test]
    fn only_what_is_acknowledged_is_committed() {
        let shared = shared();
        // Where a partition begins is committed at once, so that the group is known there.
        assert_eq!(shared.to_commit(), Offsets::from([(HERE, 0)]));
        shared.committed(&Offsets::from([(HERE, 0)]));
        shared.push(vec![item(HERE, 0, true), item(THERE, 10, true), item(HERE, 1, true)], 1);
        assert!(shared.to_commit().is_empty());
        let batch = take(&shared);
        assert_eq!(batch.position.as_str(), "t:0=2,1=11");
        assert!(shared.to_commit().is_empty(), "handed out is not durable");
        shared.acknowledge(&Mark::One(HERE, 1));
        assert_eq!(shared.to_commit(), Offsets::from([(HERE, 1)]));
        shared.acknowledge(&read(&shared, &batch.position));
        assert_eq!(shared.to_commit(), Offsets::from([(HERE, 2), (THERE, 11)]));
    }

    #[test]
    fn what_has_nothing_to_deliver_is_passed_with_what_was_before_it() {
        let shared = shared();
        shared.push(vec![item(THERE, 10, false)], 1);
        assert_eq!(shared.take(BatchLimits::default()).expect("no trouble"), None);
        assert_eq!(shared.acknowledged()[&THERE], 11, "nothing before it waits");
        shared.push(vec![item(THERE, 11, true)], 1);
        let batch = take(&shared);
        shared.push(vec![item(THERE, 12, false)], 1);
        assert_eq!(shared.take(BatchLimits::default()).expect("no trouble"), None);
        assert_eq!(shared.acknowledged()[&THERE], 11, "the record before it isn't durable");
        shared.acknowledge(&read(&shared, &batch.position));
        assert_eq!(shared.acknowledged()[&THERE], 13);
    }

    #[test]
    fn what_was_taken_away_is_neither_handed_out_nor_acknowledged() {
        let shared = shared();
        shared.push(vec![item(HERE, 0, true), item(THERE, 10, true)], 1);
        let in_flight = take(&shared);
        shared.push(vec![item(HERE, 1, true), item(THERE, 11, true)], 1);
        shared.revoke(&[HERE]);
        let next = take(&shared);
        assert_eq!((next.records.len(), next.position.as_str()), (1, "t:1=12"));
        shared.acknowledge(&read(&shared, &in_flight.position));
        assert_eq!(shared.acknowledged(), Offsets::from([(THERE, 11)]));
        // Back again, from where the other owner was; what was read before that is dropped, and so
        // is an acknowledgement of what wasn't handed out since.
        shared.assign(&[(HERE, 0, Some(0))]);
        shared.push(vec![item(HERE, 1, true)], 1);
        assert_eq!(shared.take(BatchLimits::default()).expect("no trouble"), None);
        shared.acknowledge(&read(&shared, &in_flight.position));
        assert_eq!(shared.acknowledged()[&HERE], 0);
        shared.push(vec![item(HERE, 0, true)], shared.rebalances());
        assert_eq!(take(&shared).records.len(), 1);
    }

    #[test]
    fn a_full_buffer_has_room_again_once_it_is_taken_from() {
        let shared = shared();
        assert!(!shared.is_full() && shared.wait_for_room(Duration::ZERO));
        shared.push((0..10).map(|offset| item(HERE, offset, true)).collect(), 1);
        assert!(shared.is_full() && !shared.wait_for_room(Duration::from_millis(1)));
        let limits = BatchLimits { records_max: 6, ..BatchLimits::default() };
        shared.take(limits).expect("no trouble");
        assert!(!shared.is_full() && !shared.is_half_empty());
        shared.take(limits).expect("no trouble");
        assert!(shared.is_half_empty());
        assert_eq!(shared.held_bytes(), 0);
    }

    #[test]
    fn trouble_is_told_after_what_is_sound_and_once() {
        let shared = shared();
        shared.push(vec![item(HERE, 0, true)], 1);
        shared.tell(Error::unavailable("events", "away"));
        take(&shared);
        shared.take(BatchLimits::default()).expect_err("told");
        assert_eq!(shared.take(BatchLimits::default()).expect("told once"), None);
    }
}
