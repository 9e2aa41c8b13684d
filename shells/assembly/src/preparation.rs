//! What an engine needs once before it can be used: migrations, a bucket, a look at its version.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_core::{Error, ErrorChain, ErrorKind, Result};
use dms_runtime::{HealthRegistry, StartupError, Supervisor};
use futures_util::future::{BoxFuture, join_all};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long a start waits for engines; what takes longer goes on while the program serves.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// How long to wait before the next try.
const PAUSE: Duration = Duration::from_millis(500);

type Run = Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What has to be done once with each engine.
#[derive(Default)]
pub(crate) struct Preparations {
    all: Vec<Preparation>,
    /// Closed by [`run`](Self::run); what goes on after that holds a token.
    open: TaskTracker,
}

struct Preparation {
    /// The setting that names the engine, for messages.
    setting: &'static str,
    /// Of the background task and the health check.
    name: &'static str,
    run: Run,
}

impl Preparations {
    /// Adds one; it may be run several times, until it succeeds.
    #[cfg(any(feature = "engines", test))]
    pub(crate) fn add(
        &mut self,
        setting: &'static str,
        name: &'static str,
        run: impl Fn() -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) {
        self.all.push(Preparation { setting, name, run: Box::new(run) });
    }

    /// Runs all of them. What an engine that is away can't do yet goes on in the background, until
    /// then the program isn't ready.
    ///
    /// # Errors
    /// What can't become right by waiting: the program must not start.
    pub(crate) async fn run(
        &mut self,
        supervisor: &mut Supervisor,
        health: &HealthRegistry,
    ) -> Result<(), StartupError> {
        let all = std::mem::take(&mut self.all);
        let outcomes = join_all(all.iter().map(|one| tokio::time::timeout(WAIT_MAX, (one.run)())));
        let outcomes = outcomes.await;
        for (preparation, outcome) in all.into_iter().zip(outcomes) {
            let error = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(error)) if !error.is_retryable() => {
                    return Err(StartupError::from_part(preparation.setting, error));
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "no answer yet"),
            };
            tracing::warn!(part = preparation.name, error = %ErrorChain(&error),
                "not there yet, serving what doesn't need it");
            preparation.go_on(error.to_string(), self.open.token(), supervisor, health);
        }
        self.open.close();
        Ok(())
    }

    /// Comes once all of them have succeeded, which may be long after [`run`](Self::run) has returned.
    pub(crate) fn done(&self) -> impl Future<Output = ()> + Send + use<> {
        let open = self.open.clone();
        async move { open.wait().await }
    }
}

impl Preparation {
    /// Tries again until it succeeds; meanwhile the program says that it isn't ready, and why.
    fn go_on(
        self,
        why: String,
        open: TaskTrackerToken,
        supervisor: &mut Supervisor,
        health: &HealthRegistry,
    ) {
        let waiting = Arc::new(Mutex::new(Some(why)));
        let told = Arc::clone(&waiting);
        health.add(self.name, true, move || {
            let why = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move { why.map_or(Ok(()), |why| Err(why.into())) }
        });
        let Self { name, run, .. } = self;
        supervisor.spawn(name, async move |stop| {
            loop {
                let Some(outcome) = stop.run_until_cancelled(run()).await else { return Ok(()) };
                let why = outcome.as_ref().err().map(ToString::to_string);
                *waiting.lock().unwrap_or_else(PoisonError::into_inner) = why;
                let Err(error) = outcome else { break };
                if !error.is_retryable() {
                    // Nothing but somebody's hand helps; readiness says so until it has.
                    tracing::error!(part = name, error = %ErrorChain(&error), "can't be used");
                }
                if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                    return Ok(());
                }
            }
            tracing::info!(part = name, "is there now");
            drop(open);
            stop.cancelled().await;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt as _;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// A preparation of an engine that is there when the switch says so.
    fn prepared_when(switch: &Arc<AtomicBool>) -> Preparations {
        let mut preparations = Preparations::default();
        let switch = Arc::clone(switch);
        preparations.add("DMS_DATABASE_URL", "database-preparation", move || {
            let is_there = switch.load(Ordering::SeqCst);
            async move {
                if is_there { Ok(()) } else { Err(Error::unavailable("database", "refused")) }
            }
            .boxed()
        });
        preparations
    }

    #[tokio::test(start_paused = true)]
    async fn done_comes_after_an_engine_that_was_away_and_not_before() {
        let switch = Arc::new(AtomicBool::new(false));
        let mut preparations = prepared_when(&switch);
        let mut done = Box::pin(preparations.done());
        assert_eq!(done.as_mut().now_or_never(), None, "nothing has been tried");
        let mut supervisor = Supervisor::new(&CancellationToken::new());
        preparations.run(&mut supervisor, &HealthRegistry::new()).await.expect("it may come later");
        let long = tokio::time::timeout(10 * PAUSE, done.as_mut()).await;
        assert!(long.is_err(), "the engine is away");
        switch.store(true, Ordering::SeqCst);
        done.await;
    }

    #[tokio::test]
    async fn done_comes_at_once_when_every_engine_is_there() {
        let mut preparations = prepared_when(&Arc::new(AtomicBool::new(true)));
        let mut supervisor = Supervisor::new(&CancellationToken::new());
        preparations.run(&mut supervisor, &HealthRegistry::new()).await.expect("prepared");
        assert_eq!(preparations.done().now_or_never(), Some(()));
    }
}
