//! Random schedules. The seed that failed is printed, and kept by proptest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dms_core::fake::{InMemoryDatabase, InMemorySearchIndex};
use dms_core::model::change::{Change, DocumentRow, Position};
use dms_core::model::search::IndexEntry;
use dms_core::ports::{
    ChangeSink as _, ChangeSource as _, DocumentRepository as _, Outcome, SearchIndex as _,
};
use dms_core::{DocumentId, DocumentPatch, DocumentStatus};
use dms_search::{
    DriftKind, IndexingSink, RebuildOptions, VerifyOptions, rebuild, rebuild_beside, repair, verify,
};
use proptest::prelude::*;
use tokio::time::sleep;

use crate::common::{DatabaseSource, create, expected, rows, sink, versions};
use crate::unruly::{Dice, Unruly, crash_after};

const REBUILD: RebuildOptions =
    RebuildOptions { batch_rows_max: 3, patience: Duration::from_mins(1), lag_changes_max: 2 };

const VERIFY: VerifyOptions = VerifyOptions {
    batch_rows_max: 3,
    rows_per_second_max: None,
    confirm_after: Duration::from_secs(5),
    suspects_max: 4,
    examples_max: 100,
    patience: Duration::from_mins(1),
};

#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    documents: usize,
    changes: usize,
    failures_percent: u64,
    /// After how many steps a rebuild or repair is dropped, one after the other.
    crashes: Vec<u64>,
    /// What happens to the index behind everybody's back.
    damages: Vec<Damage>,
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A change never reaches the index.
    Lost,
    /// A document that has no row.
    Extra,
    /// The mark of a document that has no row: it does no harm.
    Mark,
}

fn plan() -> impl Strategy<Value = Plan> {
    let damage = prop::sample::select(vec![Damage::Lost, Damage::Extra, Damage::Mark]);
    (
        any::<u64>(),
        0_usize..12,
        0_usize..40,
        prop::sample::select(vec![0_u64, 0, 5, 20]),
        prop::collection::vec(0_u64..80, 0..4),
        prop::collection::vec(damage, 0..6),
    )
        .prop_map(|(seed, documents, changes, failures_percent, crashes, damages)| Plan {
            seed,
            documents,
            changes,
            failures_percent,
            crashes,
            damages,
        })
}

struct World {
    database: InMemoryDatabase,
    live: Arc<InMemorySearchIndex>,
    unruly: Arc<Unruly>,
    sink: IndexingSink,
    dice: Dice,
    /// Nothing is written any more.
    is_quiet: AtomicBool,
    /// Everything that was committed has reached the index.
    is_drained: AtomicBool,
}

impl World {
    async fn new(plan: &Plan) -> Self {
        let dice = Dice::new(plan.seed);
        let database = InMemoryDatabase::default();
        let live = Arc::new(InMemorySearchIndex::new());
        let unruly = Arc::new(Unruly {
            inner: Arc::clone(&live),
            dice: dice.clone(),
            failures_percent: plan.failures_percent,
        });
        let sink = sink(&database, Arc::clone(&unruly) as _);
        for n in 0..plan.documents {
            create(&database, &format!("first {n}"), &format!("text {n}")).await;
        }
        Self {
            database,
            live,
            unruly,
            sink,
            dice,
            is_quiet: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
        }
    }

    /// Creates, changes and deletes.
    async fn write(&self, changes: usize) {
        for n in 0..changes {
            self.dice.dawdle().await;
            if self.dice.percent(10) {
                sleep(Duration::from_millis(self.dice.below(2_000))).await;
            }
            let rows = rows(&self.database).await;
            let live: Vec<_> = rows.iter().filter(|row| !row.deleted).collect();
            let documents = self.database.documents();
            let chosen = usize::try_from(self.dice.below(live.len() as u64)).unwrap();
            match (live.get(chosen), self.dice.below(10)) {
                (Some(row), 0) => drop(documents.delete(row.id, None).await.unwrap()),
                (Some(row), 1..7) => {
                    let statuses = DocumentStatus::ALL;
                    let status = statuses[usize::try_from(self.dice.below(3)).unwrap()];
                    let patch =
                        DocumentPatch { title: Some(format!("title {n}")), status: Some(status) };
                    drop(documents.update(row.id, &patch, None, None).await.unwrap());
                }
                _ => drop(create(&self.database, &format!("new {n}"), &format!("new {n}")).await),
            }
        }
        self.is_quiet.store(true, Ordering::Relaxed);
    }

    /// The consumer that feeds the live index: late, with repetitions, and out of order over
    /// documents. `lost` changes never arrive.
    async fn consume(&self, mut lost: usize) {
        let mut at = 0;
        let mut held: Vec<Change> = Vec::new();
        loop {
            self.dice.dawdle().await;
            if self.dice.percent(20) {
                sleep(Duration::from_millis(self.dice.below(1_000))).await;
            }
            let all = self.database.changes();
            if at == all.len() && held.is_empty() {
                if self.is_quiet.load(Ordering::Relaxed) {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            let until = at + usize::try_from(self.dice.below(6)).unwrap();
            let until = until.min(all.len());
            let mut batch = all[at..until].to_vec();
            // Some come again, some later.
            if at > 0 && self.dice.percent(30) {
                let again = usize::try_from(self.dice.below(at as u64)).unwrap();
                batch.push(all[again].clone());
            }
            batch.append(&mut held);
            at = until;
            if self.dice.percent(20) {
                held = batch.split_off(batch.len() / 2);
            }
            if lost > 0 && batch.pop().is_some() {
                lost -= 1;
            }
            let up_to = Position::new(at.to_string());
            while !batch.is_empty() {
                match self.sink.apply(&batch, &up_to).await {
                    Ok(outcomes) => {
                        let mut outcomes = outcomes.into_iter();
                        batch.retain(|_| matches!(outcomes.next(), Some(Outcome::Retry(_))));
                    }
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
                if !batch.is_empty() {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        self.is_drained.store(true, Ordering::Relaxed);
    }

    async fn expect_equal(&self) {
        assert_eq!(versions(&*self.live).await, expected(&self.database).await);
        for row in rows(&self.database).await {
            let entry = self.live.entry(row.id).unwrap();
            assert_eq!(entry.row.title, row.title);
            assert_eq!(entry.text.is_empty(), row.deleted, "{:?}", entry.text);
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

/// Runs until it isn't dropped any more.
async fn until_done<T, F: Future<Output = dms_core::Result<T>>>(
    crashes: &[u64],
    mut attempt: impl FnMut() -> F,
) -> T {
    for crash in crashes {
        if let Some(Ok(done)) = crash_after(*crash, attempt()).await {
            return done;
        }
        sleep(Duration::from_millis(100)).await;
    }
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_rebuild_beside_the_live_index_loses_nothing(plan in plan()) {
        run(async {
            let world = World::new(&plan).await;
            // A crash after the swap leaves the last moments to the next rebuild.
            let rebuilds = until_done(&plan.crashes, || {
                let world = &world;
                async move {
                    let source = DatabaseSource::new(&world.database);
                    rebuild_beside(
                        &*world.unruly, &world.database.documents(), &world.sink, &source, REBUILD,
                        &mut |_| (),
                    )
                    .await
                }
            });
            tokio::join!(world.write(plan.changes), world.consume(0), rebuilds);
            world.expect_equal().await;
            assert!(!world.live.progress().await.unwrap().needs_rebuild());
        });
    }

    #[test]
    fn an_index_built_from_nothing_is_whole(plan in plan()) {
        run(async {
            let world = World::new(&plan).await;
            // As a pipeline does: the head first, then the rows, then the stream after the head.
            let build = async {
                let source = DatabaseSource::new(&world.database);
                let head = source.head().await.unwrap();
                until_done(&plan.crashes, || {
                    let (world, head) = (&world, head.clone());
                    async move {
                        rebuild(
                            &*world.unruly, &world.database.documents(), &world.sink, head, REBUILD,
                            &mut |_| (),
                        )
                        .await
                    }
                })
                .await;
                world.consume(0).await;
            };
            tokio::join!(world.write(plan.changes), build);
            world.expect_equal().await;
        });
    }

    #[test]
    fn nothing_is_called_drift_that_is_only_late(plan in plan()) {
        run(async {
            let world = World::new(&plan).await;
            let documents = world.database.documents();
            let check = async {
                let mut rounds = 0;
                while rounds < 3 || !world.is_drained.load(Ordering::Relaxed) {
                    let report = verify(&*world.unruly, &documents, VERIFY, &mut |_| ()).await;
                    let report = report.unwrap();
                    assert_eq!(report.total(), 0, "{report:?}");
                    rounds += 1;
                    sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::join!(world.write(plan.changes), world.consume(0), check);
            world.expect_equal().await;
        });
    }

    #[test]
    fn whatever_is_damaged_is_mended(plan in plan()) {
        run(async {
            let world = World::new(&plan).await;
            let lost = plan.damages.iter().filter(|damage| matches!(damage, Damage::Lost)).count();
            let documents = world.database.documents();
            let extra: Vec<_> = plan.damages.iter().copied().filter_map(stray).collect();
            world.live.write(extra.clone(), None).await.unwrap();
            let mend = until_done(&plan.crashes, || {
                let (world, documents) = (&world, &documents);
                async move {
                    repair(&*world.unruly, documents, &world.sink, VERIFY, &mut |_| ()).await
                }
            });
            tokio::join!(world.write(plan.changes), world.consume(lost), mend);
            // What was lost after the repair had gone by is found by the next one.
            let last = until_done(&[], || {
                let (world, documents) = (&world, &documents);
                async move {
                    repair(&*world.unruly, documents, &world.sink, VERIFY, &mut |_| ()).await
                }
            })
            .await;
            assert_eq!(last.remaining(), 0, "{last:?}");
            let after = verify(&*world.live, &documents, VERIFY, &mut |_| ()).await.unwrap();
            assert_eq!(after.total(), 0, "{after:?}");
            let known: BTreeMap<_, _> =
                versions(&*world.live).await.into_iter().map(|known| (known.id, known)).collect();
            for row in expected(&world.database).await {
                assert_eq!(known.get(&row.id), Some(&row));
            }
            for stray in extra {
                assert!(known[&stray.row.id].deleted, "what has no row can't be found");
            }
        });
    }

    #[test]
    fn a_database_that_went_back_is_told_and_rebuilt(plan in plan(), ahead in 1_usize..4) {
        run(async {
            let world = World::new(&plan).await;
            world.is_quiet.store(true, Ordering::Relaxed);
            let known = create(&world.database, "restored", "restored").await;
            world.consume(0).await;
            // The index has seen what the database has forgotten.
            let row = rows(&world.database).await.into_iter().find(|row| row.id == known).unwrap();
            let version = row.version + i32::try_from(ahead).unwrap();
            let newer = DocumentRow { version, title: "forgotten".to_owned(), ..row };
            let entry = IndexEntry { row: newer, text: String::new() };
            world.live.write(vec![entry], None).await.unwrap();
            let documents = world.database.documents();
            let report = verify(&*world.live, &documents, VERIFY, &mut |_| ()).await.unwrap();
            assert_eq!(report.found, BTreeMap::from([(DriftKind::Ahead, 1)]));
            assert!(report.needs_rebuild());
            assert_eq!(report.examples[0].id, known);
            until_done(&plan.crashes, || {
                let world = &world;
                async move {
                    let source = DatabaseSource::new(&world.database);
                    let documents = world.database.documents();
                    rebuild_beside(&*world.unruly, &documents, &world.sink, &source, REBUILD, &mut |_| ())
                        .await
                }
            })
            .await;
            world.expect_equal().await;
        });
    }
}

/// What the index has behind everybody's back.
fn stray(damage: Damage) -> Option<IndexEntry> {
    let deleted = match damage {
        Damage::Lost => return None,
        Damage::Extra => false,
        Damage::Mark => true,
    };
    let row = DocumentRow {
        id: DocumentId::generate(),
        title: "stray".to_owned(),
        content_type: "text/plain".to_owned(),
        content_size: 0,
        content_sha256: Some(dms_core::Sha256::of(b"")),
        s3_key: Some("key".to_owned()),
        status: DocumentStatus::Created,
        created_by: "nobody".to_owned(),
        created_at: time::OffsetDateTime::UNIX_EPOCH,
        updated_at: time::OffsetDateTime::UNIX_EPOCH,
        version: 1,
        deleted,
    };
    Some(IndexEntry { row, text: String::new() })
}

/// Schedules of each kind.
fn cases() -> u32 {
    let asked = std::env::var("DMS_TEST_SCHEDULES").ok().and_then(|count| count.parse().ok());
    asked.unwrap_or(200)
}
