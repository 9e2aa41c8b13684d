//! What a runner says of itself.

use std::fmt;

use dms_core::model::change::Position;
use time::OffsetDateTime;

/// What a runner is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunnerState {
    /// It isn't driven yet, or is finding its place in the stream.
    #[default]
    Starting,
    /// It takes changes as they come.
    Running,
    /// Something failed in a way that may pass; it waits, then tries again.
    Retrying {
        /// What failed: `source`, `dead-letters` or the name of a sink.
        component: &'static str,
        /// How.
        reason: String,
        /// How often in a row, without any progress.
        attempt: u32,
    },
    /// Something failed in a way that won't pass by itself. It tries again all the same, and drops
    /// nothing; somebody has to look.
    Holding {
        /// What failed: `source`, `dead-letters` or the name of a sink.
        component: &'static str,
        /// How.
        reason: String,
    },
    /// The consumer has as many dead letters as it may; it goes on once some are removed.
    DeadLetterBudgetReached {
        /// How many there are.
        count: u64,
        /// How many there may be.
        budget: u64,
    },
    /// It was told to stop, and has.
    Stopped,
    /// Changes it needs are gone: what it feeds must be rebuilt.
    PositionLost,
}

impl RunnerState {
    /// Whether changes flow.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}

impl fmt::Display for RunnerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Retrying { component, reason, attempt } => {
                write!(f, "waiting to try {component} again after attempt {attempt}: {reason}")
            }
            Self::Holding { component, reason } => {
                write!(f, "holding because of {component}: {reason}")
            }
            Self::DeadLetterBudgetReached { count, budget } => {
                write!(f, "holding because of {count} dead letters with a budget of {budget}")
            }
            Self::Stopped => f.write_str("stopped"),
            Self::PositionLost => f.write_str("position lost"),
        }
    }
}

/// How many changes a runner has dealt with since it was made, summed over its sinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Took effect.
    pub applied: u64,
    /// Were there already, or something newer was.
    pub already_newer: u64,
    /// Weren't for the sink.
    pub skipped: u64,
    /// Were refused by a sink for good.
    pub rejected: u64,
    /// Were given to a sink again; one change may count several times.
    pub retried: u64,
    /// Couldn't be decoded.
    pub poison: u64,
}

/// What a runner says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunnerStatus {
    /// What it is doing.
    pub state: RunnerState,
    /// What it acknowledged last.
    pub position: Option<Position>,
    /// What it has done.
    pub counts: StreamCounts,
    /// Changes committed but not acknowledged, as last measured, which is about once a second.
    pub lag_changes: Option<u64>,
    /// Dead letters of the consumer, as last measured.
    pub dead_letters: Option<u64>,
    /// When it acknowledged last.
    pub last_progress_at: Option<OffsetDateTime>,
}
