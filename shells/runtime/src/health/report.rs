//! What readiness looks like on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether the program takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything works.
    Ready,
    /// Something that isn't needed doesn't work; requests are taken.
    Degraded,
    /// Something that is needed doesn't work.
    NotReady,
    /// The program isn't up yet.
    Starting,
    /// The program is about to end.
    Draining,
}

impl Status {
    /// Whether requests are to be sent here.
    pub fn takes_requests(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }
}

/// Outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It works.
    Up,
    /// It doesn't.
    Down,
}

/// What is known about one dependency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Whether it works.
    pub status: CheckStatus,
    /// Whether the program can't do without it.
    pub needed: bool,
    /// Why it doesn't work, on one line and without its causes: those are in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long the check took, in milliseconds; absent if it didn't end in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether the program takes requests.
    pub status: Status,
    /// Each dependency, by name.
    pub checks: BTreeMap<String, CheckReport>,
}

impl Report {
    /// The status that the checks alone lead to.
    pub(super) fn of(checks: BTreeMap<String, CheckReport>) -> Self {
        let down = |needed: bool| {
            checks.values().any(|one| one.needed == needed && one.status == CheckStatus::Down)
        };
        let status = match (down(true), down(false)) {
            (true, _) => Status::NotReady,
            (false, true) => Status::Degraded,
            (false, false) => Status::Ready,
        };
        Self { status, checks }
    }

    /// Names of the checks that failed.
    pub fn down(&self) -> impl Iterator<Item = &str> {
        let down = self.checks.iter().filter(|(_, one)| one.status == CheckStatus::Down);
        down.map(|(name, _)| name.as_str())
    }
}
