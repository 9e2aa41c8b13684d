//! What a stop does to the batch in flight.

use std::time::Duration;

use dms_cdc::RunnerState;
use dms_core::model::change::Position;
use dms_core::ports::Outcome;
use tokio::time::Instant;

use crate::support::{World, calls, options, status, unavailable};

#[tokio::test(start_paused = true)]
async fn an_idle_runner_stops_at_once() {
    let world = World::new();
    let runner = world.runner(options());
    let begin = Instant::now();
    let running = async {
        status(&runner, |status| status.state.is_running()).await;
    };
    world.play(&runner, running).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(runner.status().borrow().state, RunnerState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_flight_is_finished_and_acknowledged() {
    let world = World::new();
    world.append(&[1]);
    let runner = world.runner(options());
    // The sink is asked and the stop comes before its answer is looked at.
    let asked = world.sink.wait_until(|calls| calls.len() == 1);
    world.play(&runner, asked).await;
    assert_eq!(world.source.history().acks, [Position::new("1")]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_answer_is_given_up_after_the_grace() {
    let world = World::new();
    world.append(&[1]);
    world.sink.stall();
    let mut options = options();
    options.stop_grace = Duration::from_secs(3);
    let runner = world.runner(options);
    let begin = Instant::now();
    world.play(&runner, world.sink.wait_until(|calls| calls.len() == 1)).await;
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
    assert!(world.source.history().acks.is_empty());
    assert_eq!(runner.status().borrow().state, RunnerState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_cut_short_and_what_is_not_done_is_not_acknowledged() {
    let world = World::new();
    world.append(&[1]);
    for _ in 0..30 {
        world.sink.fail(unavailable());
    }
    world.sink.answer(vec![Outcome::Retry("busy".into())]);
    let runner = world.runner(options());
    let story = async {
        status(&runner, |status| matches!(status.state, RunnerState::Retrying { attempt: 20, .. }))
            .await;
    };
    let mut stopped_at = None;
    let story = async {
        story.await;
        stopped_at = Some(Instant::now());
    };
    world.play(&runner, story).await;
    assert_eq!(stopped_at.map(|at| at.elapsed()), Some(Duration::ZERO));
    assert!(world.source.history().acks.is_empty());
    assert_eq!(calls(&world.sink).len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_runner_stopped_before_it_is_driven_does_nothing() {
    let world = World::new();
    world.append(&[1]);
    world.stop.cancel();
    world.runner(options()).run(world.stop.clone()).await.expect("stopped");
    assert!(world.sink.calls().is_empty() && world.source.history().starts.is_empty());
}
