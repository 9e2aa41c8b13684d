//! Each fault in turn, under load, on real processes: once it is healed the index equals the database,
//! nothing is extra and nothing stale, and memory has stayed flat.
//!
//! The engines are the test's own (`deploy/native/stack`, which fetches what is missing into
//! `DMS_STACK_CACHE`), 11,000 and 12,000 ports above the usual ones. Nothing else is touched.
//!
//! ```sh
//! cargo test --workspace --all-features --test faults -- --ignored --nocapture
//! DMS_TEST_FAULTS=all cargo test …        # everything, longer
//! DMS_TEST_FAULTS=Restored,Broken cargo test …    # those whose names begin so
//! DMS_TEST_SEED=7 cargo test …            # the same moments again, as far as that goes
//! ```

mod fault;
mod processor;
mod proxy;
mod rebuild;
mod scene;
mod stack;
mod writers;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;

use crate::fault::Fault;
use crate::proxy::Line;
use crate::scene::{Scene, Tier};

/// Two sets of engines at once are too much for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What is lagged behind, and what is amiss, in numbers.
const METRICS: [&str; 6] = [
    "dms_stream_lag_changes{",
    "dms_stream_lag_seconds{",
    "dms_stream_commit_to_applied_seconds_bucket{",
    "dms_stream_dead_letters{",
    "dms_index_drift_documents{",
    "dms_index_drift_remaining_documents",
];

/// On both tiers: the quick ones, then those that only `all` has.
const QUICK: [Fault; 10] = [
    Fault::ProcessorKilled,
    Fault::Killed("elasticsearch"),
    Fault::Killed("postgres"),
    Fault::Broken(Line::Cut),
    Fault::Broken(Line::HalfClosed),
    Fault::ReadOnly,
    Fault::IndexDeleted,
    Fault::Poison,
    Fault::Refused,
    Fault::SlotDropped,
];
const MORE: [Fault; 5] = [
    Fault::Stopped("elasticsearch"),
    Fault::Stopped("postgres"),
    Fault::Broken(Line::Slow(Duration::from_millis(700))),
    Fault::Broken(Line::Frozen),
    Fault::Restored,
];
const QUICK_KAFKA: [Fault; 3] =
    [Fault::Killed("kafka"), Fault::Killed("connect"), Fault::ManyPoisons];
const MORE_KAFKA: [Fault; 2] = [Fault::Stopped("kafka"), Fault::Stopped("connect")];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the engines"]
async fn index_equals_database_after_each_fault_without_kafka() {
    run(Tier::Wal, &[&QUICK], &[&MORE]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the engines"]
async fn index_equals_database_after_each_fault_with_kafka() {
    run(Tier::Kafka, &[&QUICK, &QUICK_KAFKA], &[&MORE, &MORE_KAFKA]).await;
}

async fn run(tier: Tier, quick: &[&[Fault]], more: &[&[Fault]]) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let chosen = std::env::var("DMS_TEST_FAULTS").unwrap_or_else(|_| "quick".to_owned());
    let is_quick = chosen != "all";
    let is_chosen = |fault: &Fault, is_quick: bool| match chosen.as_str() {
        "all" => true,
        "quick" => is_quick,
        names => names.split(',').any(|name| format!("{fault:?}").starts_with(name)),
    };
    let quick = quick.iter().copied().flatten().filter(|fault| is_chosen(fault, true));
    let more = more.iter().copied().flatten().filter(|fault| is_chosen(fault, false));
    let faults: Vec<Fault> = quick.chain(more).copied().collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let seed = std::env::var("DMS_TEST_SEED").map_or(now, |seed| seed.parse().expect("a number"));
    let mut scene = Scene::set(tier, seed, is_quick).await;
    scene.heals("start").await;
    for fault in faults {
        scene.inflict(fault).await;
        scene.heals(&format!("{fault:?}")).await;
    }
    scene.reindex().await;
    scene.heals("reindex").await;
    assert!(scene.letters().await.is_empty(), "nothing is dead but what was poisoned");

    for name in METRICS {
        // Drift is known after its first round.
        scene
            .eventually(name, async |scene| {
                scene.processor.metrics().await.lines().any(|line| line.starts_with(name))
            })
            .await;
    }
    let metrics = scene.processor.metrics().await;
    let has_slot = metrics.lines().any(|line| line.starts_with("dms_stream_slot_bytes{"));
    assert_eq!(has_slot, tier == Tier::Wal, "size of the slot");
    let written = scene.writers.written.load(std::sync::atomic::Ordering::Relaxed);
    scene.say(&format!("{written} writes in all"));
}
