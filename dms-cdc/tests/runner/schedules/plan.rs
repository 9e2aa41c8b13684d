//! What happens on a schedule: entries of the log, failures, crashes.

use std::collections::HashMap;

use proptest::prelude::*;

/// What is committed at one position of the log.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// A version of a key, and what the sink makes of it.
    Version {
        key: u8,
        version: i32,
        fate: Fate,
    },
    Poison,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
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
pub(crate) struct Plan {
    pub(crate) entries: Vec<Entry>,
    /// After how many steps of the fakes the runner is dropped, crash by crash.
    pub(crate) crashes: Vec<u8>,
    /// For the calls of each kind, in order: whether they fail as a whole.
    pub(crate) sink_errors: Vec<bool>,
    pub(crate) letter_errors: Vec<bool>,
    pub(crate) source_errors: Vec<bool>,
    pub(crate) ack_errors: Vec<bool>,
    /// For the calls of `next_batch`: whether the source goes back to what was acknowledged first.
    pub(crate) rewinds: Vec<bool>,
    pub(crate) records_max: usize,
    pub(crate) sinks: usize,
    /// Whether the only sink keeps the position, and the runner starts after that.
    pub(crate) is_position_kept: bool,
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
pub(crate) fn entries() -> impl Strategy<Value = Vec<Entry>> {
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

pub(crate) fn errors() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(prop::bool::weighted(0.3), 0..6)
}

prop_compose! {
    pub(crate) fn plan()(
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
