//! What is done from time to time: finishing signatures, sweeping orphans, forgetting keys.

use std::sync::Arc;
use std::time::Duration;

use dms_core::ports::IdempotencyRepository;
use dms_core::use_cases::{Signatures, Sweeper};
use dms_core::{ErrorChain, Result};
use metrics::counter;
use tokio_util::sync::CancellationToken;

/// How often pending signatures are looked for, and how old they must be not to be a request's that
/// still runs.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
const PENDING_AGE: Duration = Duration::from_secs(30);
const PENDING_MAX: u32 = 100;

/// How often orphans are swept.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// How old content without a row must be: far longer than a request may take.
pub const ORPHAN_GRACE: Duration = Duration::from_hours(1);

/// How often old idempotency keys are forgotten, and how long they are kept: longer than the 24
/// hours promised, so that a signature pending for two days is still applied once.
const PURGE_EVERY: Duration = Duration::from_hours(1);
const KEY_RETENTION: Duration = Duration::from_hours(72);

/// Finishes signatures that a crash interrupted. Right after the start none can be a running
/// request's, so none is too young.
pub async fn reconcile(signatures: Signatures, stop: CancellationToken) -> Result<()> {
    let mut age = Duration::ZERO;
    loop {
        let Some(report) = stop.run_until_cancelled(signatures.reconcile(age, PENDING_MAX)).await
        else {
            return Ok(());
        };
        if let Some(report) = told(report) {
            age = PENDING_AGE;
            counter!("dms_signatures_reconciled_total").increment(report.applied);
        }
        if is_over_after(RECONCILE_EVERY, &stop).await {
            return Ok(());
        }
    }
}

/// Removes content that no row points at.
pub async fn sweep(sweeper: Arc<Sweeper>, stop: CancellationToken) -> Result<()> {
    loop {
        let Some(report) = stop.run_until_cancelled(sweeper.sweep()).await else { return Ok(()) };
        if let Some(report) = told(report) {
            counter!("dms_orphans_removed_total").increment(report.removed);
        }
        if is_over_after(SWEEP_EVERY, &stop).await {
            return Ok(());
        }
    }
}

/// Forgets idempotency keys that nobody will use again.
pub async fn purge(keys: Arc<dyn IdempotencyRepository>, stop: CancellationToken) -> Result<()> {
    loop {
        let purge = keys.purge(KEY_RETENTION);
        let Some(purged) = stop.run_until_cancelled(purge).await else { return Ok(()) };
        told(purged);
        if is_over_after(PURGE_EVERY, &stop).await {
            return Ok(());
        }
    }
}

/// What fails is told and tried next time.
fn told<T>(outcome: Result<T>) -> Option<T> {
    outcome.inspect_err(|error| tracing::warn!(error = %ErrorChain(error), "upkeep failed")).ok()
}

/// Waits; says whether it was told to stop meanwhile.
async fn is_over_after(pause: Duration, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none()
}
