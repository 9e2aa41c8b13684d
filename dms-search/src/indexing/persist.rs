//! Rows written until each has a final answer, or patience ends.

use std::time::Duration;

use dms_core::model::change::DocumentRow;
use dms_core::ports::Outcome;
use dms_core::{Error, Result};
use tokio::time::{Instant, sleep};

use super::IndexingSink;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Final answers, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) indexed: u64,
    pub(super) skipped: u64,
    pub(super) rejected: u64,
}

/// Writes rows of different documents. What fails in a way that may pass is tried again until
/// nothing has succeeded for `patience`.
///
/// # Errors
/// The last one, once patience has ended, or at once if it isn't retryable.
pub(super) async fn write_rows(
    sink: &IndexingSink,
    rows: Vec<DocumentRow>,
    patience: Duration,
) -> Result<Written> {
    let mut written = Written::default();
    let mut remaining = rows;
    let mut pause = PAUSE_MIN;
    let mut give_up = Instant::now() + patience;
    while !remaining.is_empty() {
        let before = remaining.len();
        let error = match sink.index_rows(&remaining, None).await {
            Ok(outcomes) => {
                let mut why = None;
                let mut again = Vec::new();
                for (row, outcome) in remaining.into_iter().zip(outcomes) {
                    match outcome {
                        Outcome::Applied | Outcome::AlreadyNewer => written.indexed += 1,
                        Outcome::Skipped(_) => written.skipped += 1,
                        Outcome::Rejected(reason) => {
                            tracing::error!(document = %row.id, reason, "document can't be indexed");
                            written.rejected += 1;
                        }
                        Outcome::Retry(reason) => {
                            why = Some(reason);
                            again.push(row);
                        }
                    }
                }
                remaining = again;
                let Some(why) = why else { break };
                Error::unavailable("search", format!("documents can't be indexed now: {why}"))
            }
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error),
        };
        if remaining.len() < before {
            (pause, give_up) = (PAUSE_MIN, Instant::now() + patience);
        } else if Instant::now() >= give_up {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(written)
}
