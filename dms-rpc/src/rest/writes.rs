//! Writes that run to their end even when the client goes away.

use dms_core::{Error, Result};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::problem::Problem;

/// The writes under way. Whoever serves closes it after the last request and waits for it.
pub type Writes = TaskTracker;

/// Runs a write in a task of its own and waits for it. A server drops a handler whose client has
/// gone; the write then still finishes, or cleans up after itself.
///
/// # Errors
/// Those of the write; `Internal` if it was ended from outside.
///
/// # Panics
/// When the write does, which [`layers`](super::layers) answers.
pub async fn uncancelled<T: Send + 'static>(
    writes: &Writes,
    write: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    match writes.spawn(write.in_current_span()).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::internal("a write was ended").with_source(error).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_write_outlives_whoever_waits_for_it() {
        let writes = Writes::new();
        let (go, gone) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let waiting = uncancelled(&writes, async move {
            let _ = gone.await;
            let _ = done.send(());
            Ok(())
        });
        assert!(futures_util::FutureExt::now_or_never(waiting).is_none());
        go.send(()).unwrap();
        finished.await.unwrap();
        writes.close();
        writes.wait().await;
    }
}
