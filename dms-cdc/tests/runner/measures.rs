//! Metrics and lag.

use std::collections::BTreeMap;

use dms_core::ports::Outcome;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::support::{CONSUMER, World, options, status};

/// Name and labels of each metric, with its value; histograms by their samples.
type Measured = BTreeMap<String, Vec<f64>>;

#[expect(clippy::cast_precision_loss, reason = "counts of a few")]
fn measure(story: impl Future<Output = ()>) -> Measured {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("runtime");
    metrics::with_local_recorder(&recorder, || runtime.block_on(story));
    let mut measured = Measured::new();
    for (key, unit, description, value) in snapshotter.snapshot().into_vec() {
        assert!(unit.is_some() && description.is_some(), "{key:?} is described");
        let key = key.key();
        let labels = key.labels().filter(|label| label.key() != "consumer");
        let labels: Vec<_> =
            labels.map(|label| format!(" {}={}", label.key(), label.value())).collect();
        assert!(key.labels().any(|label| (label.key(), label.value()) == ("consumer", CONSUMER)));
        let values = match value {
            DebugValue::Counter(count) => vec![count as f64],
            DebugValue::Gauge(value) => vec![value.0],
            DebugValue::Histogram(samples) => samples.into_iter().map(|sample| sample.0).collect(),
        };
        measured.insert(format!("{}{}", key.name(), labels.concat()), values);
    }
    measured
}

#[test]
fn every_change_is_counted_by_what_became_of_it() {
    let world = World::new();
    world.append(&[1, 2, 3, 4, 5]);
    world.log.append_poison(b"", "broken");
    world.sink.answer(vec![
        Outcome::Applied,
        Outcome::AlreadyNewer,
        Outcome::Skipped("foreign"),
        Outcome::Rejected("mapping".into()),
        Outcome::Retry("busy".into()),
    ]);
    let runner = world.runner(options());
    let measured = measure(world.play(&runner, async {
        world.caught_up().await;
        status(&runner, |status| status.lag_changes == Some(0)).await;
        status(&runner, |status| status.dead_letters == Some(2)).await;
    }));
    let changes = |labels: &str| measured.get(&format!("dms_stream_changes_total{labels}"));
    assert_eq!(changes(" sink=index outcome=applied"), Some(&vec![2.0]));
    assert_eq!(changes(" sink=index outcome=already_newer"), Some(&vec![1.0]));
    assert_eq!(changes(" sink=index outcome=skipped"), Some(&vec![1.0]));
    assert_eq!(changes(" sink=index outcome=rejected"), Some(&vec![1.0]));
    assert_eq!(changes(" sink=index outcome=retried"), Some(&vec![1.0]));
    assert_eq!(changes(" sink=decoder outcome=poison"), Some(&vec![1.0]));
    assert_eq!(measured["dms_stream_batch_size"], [6.0]);
    assert_eq!(measured["dms_stream_commit_to_applied_seconds"], [1.0, 1.0]);
    assert_eq!(measured["dms_stream_lag_changes"], [0.0]);
    assert_eq!(measured["dms_stream_lag_seconds"], [0.0]);
    assert_eq!(measured["dms_stream_dead_letters"], [2.0]);
}

#[test]
fn lag_is_measured_while_a_sink_is_down() {
    let world = World::new();
    world.append(&[1, 2]);
    for _ in 0..1_000 {
        world.sink.fail(crate::support::unavailable());
    }
    let runner = world.runner(options());
    let measured = measure(world.play(&runner, async {
        status(&runner, |status| status.lag_changes == Some(2)).await;
        world.append(&[3]);
        status(&runner, |status| status.lag_changes == Some(3)).await;
    }));
    assert_eq!(measured["dms_stream_lag_changes"], [3.0]);
    // The change that waits was committed a second ago.
    assert_eq!(measured["dms_stream_lag_seconds"], [1.0]);
}
