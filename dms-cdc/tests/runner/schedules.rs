//! Random schedules of changes, failures and crashes; afterwards nothing is lost or stale.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use dms_cdc::{Runner, RunnerOptions};
use dms_core::fake::{InMemoryChangeLog, InMemoryChangeSource};
use dms_core::model::change::{Change, DocumentRow, Operation, Position, RecordBatch, RowChange};
use dms_core::ports::{
    BatchLimits, ChangeSink, ChangeSource, DeadLetter, DeadLetterRepository, Outcome, StartAt,
};
use dms_core::{DocumentId, DocumentStatus, Error, Result};
use proptest::prelude::*;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::support::{CONSUMER, Letters, StillClock, positions};

/// What is committed at one position of the log.
#[derive(Debug, Clone)]
enum Entry {
    /// A version of a key, and what the sink makes of it.
    Version {
        key: u8,
        version: i32,
        fate: Fate,
    },
    Poison,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Taken after this many answers of `Retry`.
    Taken {
        retries: u8,
    },
    /// Rejected whenever it comes, after this many answers of `Retry`.
    Rejected {
        retries: u8,
    },
    Skipped,
}

/// A whole schedule. Numbers of failures and crashes are finite, so it comes to an end.
#[derive(Debug, Clone)]
struct Plan {
    entries: Vec<Entry>,
    /// After how many steps of the fakes the runner is dropped, crash by crash.
    crashes: Vec<u8>,
    /// For the calls of each kind, in order: whether they fail as a whole.
    sink_errors: Vec<bool>,
    letter_errors: Vec<bool>,
    source_errors: Vec<bool>,
    ack_errors: Vec<bool>,
    /// For the calls of `next_batch`: whether the source goes back to what was acknowledged first.
    rewinds: Vec<bool>,
    records_max: usize,
    sinks: usize,
    /// Whether the only sink keeps the position, and the runner starts after that.
    is_position_kept: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Taken { retries: 0 }),
        2 => (1_u8..4).prop_map(|retries| Fate::Taken { retries }),
        1 => (0_u8..3).prop_map(|retries| Fate::Rejected { retries }),
        1 => Just(Fate::Skipped),
    ]
}

/// Versions of few keys, each key's in order.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = prop_oneof![9 => (0_u8..4, fate()).prop_map(Some), 1 => Just(None)];
    prop::collection::vec(entry, 1..24).prop_map(|entries| {
        let mut versions = HashMap::new();
        let number = |entry: Option<(u8, Fate)>| match entry {
            None => Entry::Poison,
            Some((key, fate)) => {
                let version = versions.entry(key).and_modify(|v| *v += 1).or_insert(1);
                Entry::Version { key, version: *version, fate }
            }
        };
        entries.into_iter().map(number).collect()
    })
}

/// Adds versions that come twice, or once more late, as from a stream that repeats itself.
fn with_repetitions() -> impl Strategy<Value = Vec<Entry>> {
    let repetitions = prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12), 0..4);
    (entries(), repetitions).prop_map(|(mut entries, repetitions)| {
        for (which, delay) in repetitions {
            let index = which.index(entries.len());
            let at = (index + 1 + delay).min(entries.len());
            let again = entries[index].clone();
            entries.insert(at, again);
        }
        entries
    })
}

fn errors() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(prop::bool::weighted(0.3), 0..6)
}

prop_compose! {
    fn plan()(
        entries in with_repetitions(), crashes in prop::collection::vec(0_u8..60, 0..5),
        sink_errors in errors(), letter_errors in errors(), source_errors in errors(),
        ack_errors in errors(), rewinds in errors(), records_max in 1_usize..9,
        (sinks, is_position_kept) in prop::sample::select(vec![(1, false), (1, true), (2, false)]),
    ) -> Plan {
        Plan {
            entries, crashes, sink_errors, letter_errors, source_errors, ack_errors, rewinds,
            records_max, sinks, is_position_kept,
        }
    }
}

/// Counts the steps of the fakes, and stops everything when the next crash is due.
#[derive(Default)]
struct Fuse(Mutex<Option<u32>>);

impl Fuse {
    /// A point at which the process may end.
    async fn step(&self) {
        let mut has_yielded = false;
        poll_fn(|context| {
            if has_yielded {
                return Poll::Ready(());
            }
            let mut left = self.0.lock().unwrap();
            match &mut *left {
                // The driver drops everything; nobody is to go on until then.
                Some(0) => return Poll::Pending,
                Some(left) => *left -= 1,
                None => {}
            }
            has_yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn is_blown(&self) -> bool {
        *self.0.lock().unwrap() == Some(0)
    }
}

/// What outlives a crash, with what must hold of it at every moment.
struct World {
    plan: Plan,
    fuse: Fuse,
    log: InMemoryChangeLog,
    letters: Letters,
    calls: Mutex<Calls>,
    /// Of each sink: version by key, as kept and as written last.
    stores: Vec<Mutex<Store>>,
}

#[derive(Default)]
struct Calls {
    source: VecDeque<bool>,
    sink: VecDeque<bool>,
    letters: VecDeque<bool>,
    ack: VecDeque<bool>,
    rewind: VecDeque<bool>,
}

#[derive(Default)]
struct Store {
    guarded: BTreeMap<DocumentId, i32>,
    /// As in a sink that forgot its versions and simply writes what comes.
    unguarded: BTreeMap<DocumentId, i32>,
    attempts: HashMap<String, u8>,
    answered: HashSet<String>,
    position: Option<Position>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let log = InMemoryChangeLog::default();
        for entry in &plan.entries {
            match entry {
                Entry::Version { key, version, .. } => {
                    let operation =
                        if *version == 1 { Operation::Create } else { Operation::Update };
                    log.append(operation, row(*key, *version), OffsetDateTime::UNIX_EPOCH);
                }
                Entry::Poison => {
                    log.append_poison(b"poison", "broken");
                }
            }
        }
        let queue = |errors: &Vec<bool>| errors.iter().copied().collect();
        let calls = Mutex::new(Calls {
            source: queue(&plan.source_errors),
            sink: queue(&plan.sink_errors),
            letters: queue(&plan.letter_errors),
            ack: queue(&plan.ack_errors),
            rewind: queue(&plan.rewinds),
        });
        let stores = (0..plan.sinks).map(|_| Mutex::default()).collect();
        let (fuse, letters) = (Fuse::default(), Letters::default());
        Self { plan, fuse, log, letters, calls, stores }
    }

    fn fail(&self, kind: impl FnOnce(&mut Calls) -> &mut VecDeque<bool>) -> Result<()> {
        match kind(&mut self.calls.lock().unwrap()).pop_front() {
            Some(true) => Err(Error::unavailable("fake", "scripted")),
            _ => Ok(()),
        }
    }

    fn entry(&self, position: &Position) -> &Entry {
        let position: usize = position.as_str().parse().expect("a number");
        &self.plan.entries[position - 1]
    }

    /// Everything up to `position` must be done for good by now.
    fn check_ack(&self, position: &Position) {
        let acked: usize = position.as_str().parse().expect("a number");
        for index in 1..=acked {
            let position = index.to_string();
            let is_letter = self.letters.holds(&position);
            match self.plan.entries[index - 1] {
                Entry::Poison => assert!(is_letter, "poison {position} acknowledged and lost"),
                Entry::Version { fate: Fate::Rejected { .. }, .. } => {
                    assert!(is_letter, "rejected {position} acknowledged and lost");
                }
                Entry::Version { key, version, fate: Fate::Taken { .. } } => {
                    for store in &self.stores {
                        let kept = store.lock().unwrap().guarded.get(&id(key)).copied();
                        assert!(kept >= Some(version), "{position} acknowledged, kept {kept:?}");
                    }
                }
                Entry::Version { fate: Fate::Skipped, .. } => {
                    for store in &self.stores {
                        assert!(store.lock().unwrap().answered.contains(&position));
                    }
                }
            }
        }
    }

    fn check_end(&self) {
        let mut newest = BTreeMap::new();
        let mut letters = Vec::new();
        for (index, entry) in self.plan.entries.iter().enumerate() {
            match entry {
                Entry::Version { key, version, fate: Fate::Taken { .. } } => {
                    let kept = newest.entry(id(*key)).or_insert(*version);
                    *kept = (*kept).max(*version);
                }
                Entry::Version { fate: Fate::Skipped, .. } => {}
                Entry::Version { fate: Fate::Rejected { .. }, .. } | Entry::Poison => {
                    letters.push((index + 1).to_string());
                }
            }
        }
        for store in &self.stores {
            assert_eq!(store.lock().unwrap().guarded, newest, "each key at its newest version");
        }
        let mut kept = self.letters.positions();
        kept.sort_by_key(|position| position.parse::<usize>().expect("a number"));
        assert_eq!(kept, letters, "dead letters are what can't succeed, each once");
    }
}

/// The source, with failures, repetitions and a look at every acknowledgement.
struct Source {
    world: Arc<World>,
    inner: InMemoryChangeSource,
}

#[async_trait]
impl ChangeSource for Source {
    async fn start(&self, at: StartAt) -> Result<()> {
        self.world.fuse.step().await;
        self.inner.start(at).await
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        self.world.fuse.step().await;
        self.world.fail(|calls| &mut calls.source)?;
        let rewind = self.world.calls.lock().unwrap().rewind.pop_front();
        if rewind == Some(true) {
            self.inner.start(StartAt::Acknowledged).await?;
        }
        self.inner.next_batch(limits).await
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        self.world.fuse.step().await;
        self.world.fail(|calls| &mut calls.ack)?;
        self.world.check_ack(position);
        self.inner.ack(position).await?;
        self.world.fuse.step().await;
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        self.inner.head().await
    }

    async fn lag(&self) -> Result<u64> {
        self.inner.lag().await
    }
}

/// A sink as real ones are: versions guard it, and a crash may come between any two changes.
struct Sink {
    world: Arc<World>,
    index: usize,
}

impl Sink {
    fn take(&self, change: &Change) -> Outcome {
        let Entry::Version { key, version, fate } = self.world.entry(&change.position) else {
            panic!("poison reached the sink")
        };
        let mut store = self.world.stores[self.index].lock().unwrap();
        let position = change.position.to_string();
        let retries = match fate {
            Fate::Taken { retries } | Fate::Rejected { retries } => *retries,
            Fate::Skipped => 0,
        };
        let attempts = store.attempts.entry(position.clone()).or_insert(0);
        if *attempts < retries {
            *attempts += 1;
            return Outcome::Retry("busy".into());
        }
        store.answered.insert(position);
        match fate {
            Fate::Rejected { .. } => Outcome::Rejected("mapping".into()),
            Fate::Skipped => Outcome::Skipped("foreign"),
            Fate::Taken { .. } => {
                store.unguarded.insert(id(*key), *version);
                let kept = store.guarded.entry(id(*key)).or_insert(0);
                if *kept >= *version {
                    return Outcome::AlreadyNewer;
                }
                *kept = *version;
                Outcome::Applied
            }
        }
    }
}

#[async_trait]
impl ChangeSink for Sink {
    fn name(&self) -> &'static str {
        ["index", "cache"][self.index]
    }

    async fn apply(&self, changes: &[Change], up_to: &Position) -> Result<Vec<Outcome>> {
        self.world.fuse.step().await;
        self.world.fail(|calls| &mut calls.sink)?;
        let number = |position: &Position| position.as_str().parse::<u64>().expect("a number");
        let last = changes.iter().map(|change| number(&change.position)).max();
        assert!(last <= Some(number(up_to)), "{:?} beyond {up_to}", positions(changes));
        let mut outcomes = Vec::new();
        for change in changes {
            outcomes.push(self.take(change));
            self.world.fuse.step().await;
        }
        let is_open =
            |outcome: &Outcome| matches!(outcome, Outcome::Retry(_) | Outcome::Rejected(_));
        if !outcomes.iter().any(is_open) {
            self.world.stores[self.index].lock().unwrap().position = Some(up_to.clone());
        }
        self.world.fuse.step().await;
        Ok(outcomes)
    }
}

struct FailingLetters(Arc<World>);

#[async_trait]
impl DeadLetterRepository for FailingLetters {
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()> {
        self.0.fuse.step().await;
        self.0.fail(|calls| &mut calls.letters)?;
        self.0.letters.put_many(letters).await?;
        self.0.fuse.step().await;
        Ok(())
    }

    async fn list(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        self.0.letters.list(consumer, limit).await
    }

    async fn count(&self, consumer: &str) -> Result<u64> {
        self.0.letters.count(consumer).await
    }

    async fn remove(&self, consumer: &str, position: &Position) -> Result<bool> {
        self.0.letters.remove(consumer, position).await
    }
}

fn runner(world: &Arc<World>) -> Runner {
    let source = Source { world: world.clone(), inner: world.log.source(CONSUMER) };
    let sink = |index| Arc::new(Sink { world: world.clone(), index }) as Arc<dyn ChangeSink>;
    let mut options = RunnerOptions::new(CONSUMER);
    options.limits.records_max = world.plan.records_max;
    let position = world.stores[0].lock().unwrap().position.clone();
    if let Some(position) = position.filter(|_| world.plan.is_position_kept) {
        options.start = StartAt::After(position);
    }
    Runner::new(
        Arc::new(source),
        (0..world.plan.sinks).map(sink).collect(),
        Arc::new(FailingLetters(world.clone())),
        Arc::new(StillClock),
        options,
    )
}

/// Drives a runner until the fuse blows, then drops it where it is. It may catch up before.
async fn run_and_crash(world: &Arc<World>, steps: u32) {
    *world.fuse.0.lock().unwrap() = Some(steps);
    let runner = runner(world);
    let mut run = pin!(runner.run(CancellationToken::new()));
    let mut caught_up = pin!(world.log.caught_up(CONSUMER));
    poll_fn(|context| {
        let ended = run.as_mut().poll(context);
        assert!(ended.is_pending(), "{ended:?}");
        if world.fuse.is_blown() { Poll::Ready(()) } else { caught_up.as_mut().poll(context) }
    })
    .await;
}

async fn run_to_the_end(world: &Arc<World>) {
    *world.fuse.0.lock().unwrap() = None;
    let runner = runner(world);
    let stop = CancellationToken::new();
    let story = async {
        world.log.caught_up(CONSUMER).await;
        stop.cancel();
    };
    let both = async { tokio::join!(runner.run(stop.clone()), story) };
    let (end, ()) = tokio::time::timeout(Duration::from_hours(24), both).await.expect("an end");
    end.expect("stopped in good order");
}

fn play(plan: Plan) -> Arc<World> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let world = Arc::new(World::new(plan));
        for steps in world.plan.crashes.clone() {
            run_and_crash(&world, steps.into()).await;
        }
        run_to_the_end(&world).await;
        world
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_lost_or_stale_whatever_fails_and_wherever_it_crashes(plan in plan()) {
        play(plan).check_end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Versions hide a wrong order from the sinks above; here they don't.
    #[test]
    fn order_per_key_is_kept_even_for_a_sink_that_ignores_versions(
        entries in entries(), sink_errors in errors(), ack_errors in errors(),
        records_max in 1_usize..9,
    ) {
        let plan = Plan {
            entries, sink_errors, ack_errors, records_max, crashes: vec![], letter_errors: vec![],
            source_errors: vec![], rewinds: vec![], sinks: 1, is_position_kept: false,
        };
        let world = play(plan);
        world.check_end();
        let store = world.stores[0].lock().unwrap();
        prop_assert_eq!(&store.unguarded, &store.guarded);
    }
}

fn id(key: u8) -> DocumentId {
    format!("00000000-0000-0000-0000-{key:012}").parse().expect("a document id")
}

fn row(key: u8, version: i32) -> RowChange {
    let row = DocumentRow {
        id: id(key),
        title: String::new(),
        content_type: "text/plain".into(),
        content_size: 0,
        content_sha256: None,
        s3_key: None,
        status: DocumentStatus::Created,
        created_by: String::new(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version,
        deleted: false,
    };
    RowChange::Document { before: None, after: Some(row) }
}
