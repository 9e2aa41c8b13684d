//! What reaches sinks, and when it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use dms_cdc::{Runner, RunnerState, StreamCounts};
use dms_core::fake::RecordingSink;
use dms_core::model::change::Position;
use dms_core::ports::{BatchLimits, Outcome, StartAt};
use tokio::time::Instant;

use crate::support::{StillClock, World, calls, options, status};

#[tokio::test(start_paused = true)]
async fn batches_reach_the_sink_in_order_and_are_acknowledged() {
    let world = World::new();
    world.append(&[1, 2, 1, 3]);
    let mut options = options();
    options.limits = BatchLimits { records_max: 3, ..BatchLimits::default() };
    let runner = world.runner(options);
    assert_eq!(runner.status().borrow().state, RunnerState::Starting);
    world.play(&runner, world.caught_up()).await;
    assert_eq!(calls(&world.sink), [vec!["1", "2", "3"], vec!["4"]]);
    let up_to: Vec<_> = world.sink.calls().into_iter().map(|call| call.up_to).collect();
    assert_eq!(up_to, [Position::new("3"), Position::new("4")]);
    assert_eq!(world.source.history().acks, up_to);
    let status = runner.status().borrow().clone();
    assert_eq!(status.state, RunnerState::Stopped);
    assert_eq!(status.position, Some(Position::new("4")));
    assert_eq!(status.counts, StreamCounts { applied: 4, ..StreamCounts::default() });
    assert!(status.last_progress_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn starts_where_it_is_told() {
    let world = World::new();
    world.append(&[1, 2, 3]);
    let mut options = options();
    options.start = StartAt::After(Position::new("2"));
    let runner = world.runner(options);
    world.play(&runner, world.caught_up()).await;
    assert_eq!(calls(&world.sink), [["3"]]);
}

#[tokio::test(start_paused = true)]
async fn only_what_may_succeed_goes_again_with_later_changes_of_its_key() {
    let world = World::new();
    world.append(&[1, 2, 1, 3, 2]);
    let retry = || Outcome::Retry("busy".into());
    world.sink.answer(vec![
        retry(),
        Outcome::Applied,
        Outcome::Applied,
        Outcome::Skipped("foreign"),
        Outcome::AlreadyNewer,
    ]);
    world.sink.answer(vec![Outcome::Applied, retry()]);
    let runner = world.runner(options());
    world.play(&runner, world.caught_up()).await;
    assert_eq!(calls(&world.sink), [vec!["1", "2", "3", "4", "5"], vec!["1", "3"], vec!["3"]]);
    assert_eq!(world.source.history().acks, [Position::new("5")]);
    let counts = runner.status().borrow().counts;
    let expected = StreamCounts {
        applied: 3,
        already_newer: 1,
        skipped: 1,
        retried: 3,
        ..StreamCounts::default()
    };
    assert_eq!(counts, expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_every_sink_is_done() {
    let world = World::new();
    world.append(&[1, 2]);
    let second = Arc::new(RecordingSink::new("cache"));
    second.stall();
    let sinks = vec![world.sink.clone() as _, second.clone() as _];
    let runner = Runner::new(
        world.source.clone(),
        sinks,
        world.letters.clone(),
        Arc::new(StillClock),
        options(),
    );
    let stalled = async {
        second.wait_until(|calls| calls.len() == 1).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
    };
    world.play(&runner, stalled).await;
    assert_eq!(calls(&world.sink).len(), 1);
    assert!(world.source.history().acks.is_empty());

    let again = World { stop: tokio_util::sync::CancellationToken::new(), ..world };
    again.play(&runner, again.caught_up()).await;
    assert_eq!(calls(&second), [["1", "2"], ["1", "2"]]);
}

#[tokio::test(start_paused = true)]
async fn lingers_between_batches_but_not_before_the_first_after_a_quiet_time() {
    let world = World::new();
    let linger = Duration::from_millis(200);
    let mut options = options();
    options.linger = linger;
    let runner = world.runner(options);
    let story = async {
        status(&runner, |status| status.state.is_running()).await;
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let begin = Instant::now();
            let before = world.sink.calls().len();
            world.append(&[1]);
            world.sink.wait_until(|calls| calls.len() == before + 1).await;
            assert_eq!(begin.elapsed(), Duration::ZERO, "at once");
            world.append(&[2]);
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.append(&[3]);
            world.sink.wait_until(|calls| calls.len() == before + 2).await;
            assert_eq!(begin.elapsed(), linger, "both together, after the linger");
        }
        world.caught_up().await;
    };
    world.play(&runner, story).await;
    assert_eq!(calls(&world.sink), [vec!["1"], vec!["2", "3"], vec!["4"], vec!["5", "6"]]);
}

#[tokio::test(start_paused = true)]
async fn does_not_linger_after_a_full_batch() {
    let world = World::new();
    world.append(&[1, 2, 3, 4, 5]);
    let mut options = options();
    options.linger = Duration::from_hours(1);
    options.limits.records_max = 2;
    let runner = world.runner(options);
    let begin = Instant::now();
    let story = async {
        world.sink.wait_until(|calls| calls.len() == 3).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    };
    world.play(&runner, story).await;
    assert_eq!(calls(&world.sink), [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
}
