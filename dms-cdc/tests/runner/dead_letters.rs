//! What can never succeed is kept, and not acknowledged before it is.

use std::time::Duration;

use dms_cdc::{RawChange, RunnerState};
use dms_core::model::change::{Operation, Position, Record};
use dms_core::ports::{DeadLetterRepository as _, Outcome};
use time::OffsetDateTime;

use crate::support::{CONSUMER, World, calls, options, signature, status, unavailable};

#[tokio::test(start_paused = true)]
async fn rejected_changes_and_poison_become_dead_letters_and_the_rest_flows() {
    let world = World::new();
    world.append(&[1, 2]);
    world.log.append_poison(b"\xff not a change", "no row after");
    world.append(&[3]);
    let rejected = Outcome::Rejected("mapping".into());
    world.sink.answer(vec![Outcome::Applied, rejected, Outcome::Applied]);
    let runner = world.runner(options());
    world.play(&runner, world.caught_up()).await;

    assert_eq!(calls(&world.sink), [["1", "2", "4"]]);
    assert_eq!(world.letters.positions(), ["3", "2"]);
    let letters = world.letters.kept.lock().unwrap().clone();
    assert!(letters.iter().all(|letter| letter.consumer == CONSUMER));
    assert_eq!(letters[0].raw, b"\xff not a change");
    assert_eq!(letters[0].reason, "no row after");
    assert_eq!(letters[1].reason, "index: mapping");
    assert_eq!(letters[1].key.as_deref(), Some("00000000-0000-0000-0000-000000000002"));
    // A dead letter can be decoded and applied later.
    let raw = RawChange::from_json(&letters[1].raw).expect("a change");
    assert_eq!(raw.decode(), Record::Change(Box::new(world.sink.changes()[1].clone())));
    let counts = runner.status().borrow().counts;
    assert_eq!((counts.applied, counts.rejected, counts.poison), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_while_dead_letters_cannot_be_kept() {
    let world = World::new();
    world.append(&[1]);
    world.sink.answer(vec![Outcome::Rejected("mapping".into())]);
    world.letters.errors.lock().unwrap().extend((0..5).map(|_| unavailable()));
    let runner = world.runner(options());
    let story = async {
        let waiting = |state: &RunnerState| {
            matches!(state, RunnerState::Retrying { component: "dead-letters", attempt: 3, .. })
        };
        status(&runner, |status| waiting(&status.state)).await;
        assert!(world.source.history().acks.is_empty());
        world.caught_up().await;
        assert_eq!(world.letters.positions(), ["1"]);
    };
    world.play(&runner, story).await;
    assert_eq!(calls(&world.sink).len(), 1, "the sink isn't asked again");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_change_is_kept_before_the_sink_sees_the_position_again() {
    let world = World::new();
    world.append(&[1, 2]);
    let rejected = Outcome::Rejected("mapping".into());
    world.sink.answer(vec![rejected, Outcome::Retry("busy".into())]);
    let runner = world.runner(options());
    let story = async {
        world.sink.wait_until(|calls| calls.len() == 2).await;
        assert_eq!(world.letters.positions(), ["1"]);
        world.caught_up().await;
    };
    world.play(&runner, story).await;
}

#[tokio::test(start_paused = true)]
async fn holds_at_the_budget_until_dead_letters_are_removed() {
    let world = World::new();
    let mut options = options();
    options.dead_letter_budget = 2;
    let runner = world.runner(options);
    let story = async {
        world.log.append_poison(b"one", "broken");
        world.caught_up().await;
        world.log.append_poison(b"two", "broken");
        let reached = RunnerState::DeadLetterBudgetReached { count: 2, budget: 2 };
        status(&runner, |status| status.state == reached).await;
        world.append(&[1]);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(runner.status().borrow().state, reached);
        assert_eq!(world.source.history().acks, [Position::new("1")], "held");
        assert!(world.sink.calls().is_empty(), "held");
        assert!(world.letters.holds("2"), "kept although held");

        world.letters.remove(CONSUMER, &Position::new("1")).await.expect("removed");
        world.caught_up().await;
        assert_eq!(runner.status().borrow().dead_letters, Some(1));
    };
    world.play(&runner, story).await;
    assert_eq!(calls(&world.sink), [["3"]]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_get_around_the_budget() {
    let world = World::new();
    let mut options = options();
    options.dead_letter_budget = 1;
    world.log.append_poison(b"one", "broken");
    world.log.append(Operation::Create, signature(1), OffsetDateTime::UNIX_EPOCH);
    for _ in 0..2 {
        let runner = world.runner(options.clone());
        let held = status(&runner, |status| {
            matches!(status.state, RunnerState::DeadLetterBudgetReached { .. })
        });
        tokio::select! {
            end = runner.run(world.stop.clone()) => panic!("{end:?}"),
            _ = held => {}
        }
    }
    assert!(world.source.history().acks.is_empty());
    assert_eq!(world.letters.positions(), ["1"]);
}
