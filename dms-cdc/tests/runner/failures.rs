//! What fails is tried again, and nothing is dropped.

use std::time::Duration;

use dms_cdc::RunnerState;
use dms_core::model::change::Position;
use dms_core::ports::{Outcome, StartAt};
use dms_core::{Error, ErrorKind};
use tokio::time::Instant;

use crate::support::{World, calls, options, status, unavailable};

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_for_long_gets_everything_once_it_is_back() {
    let world = World::new();
    world.append(&[1, 2]);
    for _ in 0..100 {
        world.sink.fail(unavailable());
    }
    let runner = world.runner(options());
    let begin = Instant::now();
    let story = async {
        let status = status(&runner, |status| {
            matches!(status.state, RunnerState::Retrying { component: "index", attempt: 50.., .. })
        })
        .await;
        assert!(status.state.to_string().contains("connection refused"), "{}", status.state);
        assert!(world.source.history().acks.is_empty());
        world.caught_up().await;
        assert!(runner.status().borrow().state.is_running());
    };
    world.play(&runner, story).await;
    assert_eq!(calls(&world.sink).len(), 101);
    assert_eq!(runner.status().borrow().counts.applied, 2);
    let pause_max = options().retry.pause_max;
    assert!(begin.elapsed() > pause_max * 40 && begin.elapsed() < pause_max * 101);
}

#[tokio::test(start_paused = true)]
async fn a_sink_with_a_defect_holds_the_stream_and_says_so() {
    let world = World::new();
    world.append(&[1]);
    world.sink.fail(Error::internal("no such field"));
    world.sink.answer(vec![Outcome::Applied, Outcome::Applied]);
    let runner = world.runner(options());
    let story = async {
        for wanted in ["no such field", "answered 2 times for 1 changes"] {
            status(&runner, |status| {
                matches!(&status.state, RunnerState::Holding { component: "index", reason }
                    if reason.contains(wanted))
            })
            .await;
            assert!(world.source.history().acks.is_empty());
        }
        world.caught_up().await;
    };
    world.play(&runner, story).await;
    assert_eq!(calls(&world.sink).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn pauses_are_short_again_after_progress() {
    let world = World::new();
    world.append(&[1, 2]);
    for _ in 0..20 {
        world.sink.fail(unavailable());
    }
    let retry = || Outcome::Retry("busy".into());
    world.sink.answer(vec![Outcome::Applied, retry()]);
    let runner = world.runner(options());
    let story = async {
        world.sink.wait_until(|calls| calls.len() == 21).await;
        let begin = Instant::now();
        world.caught_up().await;
        assert!(begin.elapsed() <= options().retry.pause_min);
    };
    world.play(&runner, story).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_asked_again_and_loses_nothing() {
    let world = World::new();
    world.append(&[1, 2]);
    for _ in 0..5 {
        world.source.fail_start(unavailable());
        world.source.fail_batch(Error::internal("broken pipe"));
        world.source.fail_ack(unavailable());
    }
    let runner = world.runner(options());
    let story = async {
        status(&runner, |status| {
            matches!(status.state, RunnerState::Retrying { component: "source", .. })
        })
        .await;
        status(&runner, |status| {
            matches!(status.state, RunnerState::Holding { component: "source", .. })
        })
        .await;
        world.caught_up().await;
    };
    world.play(&runner, story).await;
    assert_eq!(world.source.history().failures, 15);
    assert_eq!(calls(&world.sink), [["1", "2"]]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_recovered_and_has_nothing_to_tell_is_not_reported_as_failing() {
    let world = World::new();
    world.source.fail_batch(unavailable());
    let runner = world.runner(options());
    let story = async {
        let failing = |state: &RunnerState| matches!(state, RunnerState::Retrying { .. });
        status(&runner, |status| failing(&status.state)).await;
        status(&runner, |status| status.state.is_running()).await;
    };
    world.play(&runner, story).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_ends_the_run_with_that_error() {
    let world = World::new();
    let mut options = options();
    options.start = StartAt::After(Position::new("77"));
    let runner = world.runner(options);
    let error = runner.run(world.stop.clone()).await.expect_err("lost at the start");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "position_lost"));
    assert_eq!(runner.status().borrow().state, RunnerState::PositionLost);

    let lost = Error::new(ErrorKind::Conflict, "trimmed").with_code("position_lost");
    world.source.fail_batch(lost);
    let runner = world.runner(crate::support::options());
    let run = tokio::time::timeout(Duration::from_mins(1), runner.run(world.stop.clone()));
    let error = run.await.expect("ended").expect_err("lost on the way");
    assert_eq!(error.code(), "position_lost");
}
