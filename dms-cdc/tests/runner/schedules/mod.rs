//! Random schedules of changes, failures and crashes; afterwards nothing is lost or stale.

mod plan;
mod ports;
mod world;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use dms_cdc::{Runner, RunnerOptions};
use dms_core::ports::{ChangeSink, StartAt};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use self::plan::{Plan, entries, errors, plan};
use self::ports::{FailingLetters, Sink, Source};
use self::world::World;
use crate::support::{CONSUMER, StillClock};

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
