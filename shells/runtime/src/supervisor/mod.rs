//! Background tasks with names: what they do is watched, and they end before the program does.

mod backoff;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dms_core::ErrorChain;
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use backoff::Backoff;

use crate::health::HealthRegistry;
use crate::telemetry::panic_message;

/// What a background task or a health check ends with.
pub type TaskResult = Result<(), Box<dyn StdError + Send + Sync>>;

/// A set of background tasks.
///
/// A task gets a token and is to end soon after that is cancelled; ending earlier, failing and panicking
/// are failures, which are logged and show in [`failing`](Self::failing). Dropping the supervisor aborts
/// whatever still runs.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    states: States,
}

/// Tasks that didn't end in time, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Leftover(pub Vec<&'static str>);

impl Supervisor {
    /// No tasks yet. They are asked to stop when `stop` is cancelled, or by
    /// [`shutdown`](Self::shutdown).
    pub fn new(stop: &CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop: stop.child_token(), states: States::default() }
    }

    /// Starts a task that is not started again if it fails. Must be called within a tokio runtime.
    pub fn spawn<F, T>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> T,
        T: Future<Output = TaskResult> + Send + 'static,
    {
        let (stop, states) = (self.stop.clone(), self.states.clone());
        let future = task(stop.clone());
        states.set(name, State::Running);
        self.tasks.spawn(async move {
            let ended = watched(future).await;
            if let Some(failure) = Failure::of(ended, &stop) {
                failure.log(name, None);
                states.set(name, State::Failed);
            } else {
                states.set(name, State::Ended);
            }
        });
    }

    /// Starts a task that is started again, after a growing wait, whenever it fails. Must be called
    /// within a tokio runtime.
    pub fn spawn_restarting<F, T>(&mut self, name: &'static str, backoff: Backoff, mut task: F)
    where
        F: FnMut(CancellationToken) -> T + Send + 'static,
        T: Future<Output = TaskResult> + Send + 'static,
    {
        let (stop, states) = (self.stop.clone(), self.states.clone());
        states.set(name, State::Running);
        self.tasks.spawn(async move {
            let mut failures = 0_u32;
            loop {
                let started = Instant::now();
                // calling it can panic as well as running it
                let run = std::panic::catch_unwind(AssertUnwindSafe(|| task(stop.clone())));
                let ended = match run {
                    Ok(future) => watched(future).await,
                    Err(panic) => Err(panic_message(&*panic).to_owned()),
                };
                let Some(failure) = Failure::of(ended, &stop) else { break };
                failures = if started.elapsed() >= backoff.forgiven_after {
                    1
                } else {
                    failures.saturating_add(1)
                };
                let wait = backoff.wait(failures);
                failure.log(name, Some(wait));
                states.set(name, State::Failed);
                metrics::counter!("dms_task_restarts_total", "task" => name).increment(1);
                if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    break;
                }
                states.set(name, State::Running);
            }
            states.set(name, State::Ended);
        });
    }

    /// Names of the tasks that have failed and aren't running again, sorted.
    pub fn failing(&self) -> Vec<&'static str> {
        self.states.failing()
    }

    /// Adds a needed check named `tasks` that fails while any task does.
    pub fn watch(&self, health: &HealthRegistry) {
        let states = self.states.clone();
        health.add("tasks", true, move || {
            let failing = states.failing();
            async move {
                if failing.is_empty() {
                    return Ok(());
                }
                Err(format!("not running: {}", failing.join(", ")).into())
            }
        });
    }

    /// Asks every task to stop, waits for at most `grace` and aborts those that are left, which are
    /// logged and returned.
    pub async fn shutdown(mut self, grace: Duration) -> Leftover {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_ok() {
            return Leftover(Vec::new());
        }
        let left = self.states.unended();
        tracing::error!(tasks = ?left, "background tasks did not end in time, aborting them");
        self.tasks.abort_all();
        Leftover(left)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Failed,
    Ended,
}

#[derive(Debug, Clone, Default)]
struct States(Arc<Mutex<BTreeMap<&'static str, State>>>);

impl States {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: &'static str, state: State) {
        self.lock().insert(name, state);
    }

    fn failing(&self) -> Vec<&'static str> {
        self.in_state(|state| state == State::Failed)
    }

    fn unended(&self) -> Vec<&'static str> {
        self.in_state(|state| state == State::Running)
    }

    fn in_state(&self, wanted: impl Fn(State) -> bool) -> Vec<&'static str> {
        self.lock().iter().filter(|(_, state)| wanted(**state)).map(|(name, _)| *name).collect()
    }
}

/// How a run ended; a panic as its message.
type Ended = Result<TaskResult, String>;

async fn watched(task: impl Future<Output = TaskResult>) -> Ended {
    AssertUnwindSafe(task).catch_unwind().await.map_err(|panic| panic_message(&*panic).to_owned())
}

enum Failure {
    EndedEarly,
    Failed(Box<dyn StdError + Send + Sync>),
    Panicked(String),
}

impl Failure {
    fn of(ended: Ended, stop: &CancellationToken) -> Option<Self> {
        match ended {
            Err(panic) => Some(Self::Panicked(panic)),
            Ok(Err(error)) => Some(Self::Failed(error)),
            Ok(Ok(())) if stop.is_cancelled() => None,
            Ok(Ok(())) => Some(Self::EndedEarly),
        }
    }

    fn log(&self, task: &str, restarts_after: Option<Duration>) {
        let wait_ms =
            restarts_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        match self {
            Self::EndedEarly => {
                tracing::error!(task, restarts_after_ms = wait_ms, "background task ended early");
            }
            Self::Failed(error) => {
                let error = ErrorChain(&**error).to_string();
                tracing::error!(task, restarts_after_ms = wait_ms, error, "background task failed");
            }
            Self::Panicked(panic) => {
                tracing::error!(
                    task,
                    restarts_after_ms = wait_ms,
                    panic,
                    "background task panicked"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::health::Status;

    fn supervisor() -> Supervisor {
        Supervisor::new(&CancellationToken::new())
    }

    async fn eventually(mut condition: impl FnMut() -> bool) {
        let reached = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reached).await.expect("condition is reached");
    }

    const FAST: Backoff = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(2),
        forgiven_after: Duration::from_hours(1),
    };

    #[tokio::test]
    async fn a_task_that_stops_when_asked_is_no_failure() {
        let mut tasks = supervisor();
        tasks.spawn("runner", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        assert!(tasks.failing().is_empty());
        assert_eq!(tasks.shutdown(Duration::from_secs(30)).await, Leftover(vec![]));
    }

    #[tokio::test]
    async fn ending_early_failing_and_panicking_are_failures() {
        let mut tasks = supervisor();
        tasks.spawn("early", |_| async { Ok(()) });
        tasks.spawn("failed", |_| async { Err("broken".into()) });
        tasks.spawn("panicked", |_| async { panic!("on purpose") });
        tasks.spawn("fine", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        eventually(|| tasks.failing() == ["early", "failed", "panicked"]).await;
    }

    #[tokio::test]
    async fn readiness_turns_red_when_a_task_fails() {
        let mut tasks = supervisor();
        let health = HealthRegistry::new();
        tasks.watch(&health);
        health.set_serving();
        assert_eq!(health.report().await.status, Status::Ready);
        tasks.spawn("runner", |_| async { panic!("on purpose") });
        eventually(|| !tasks.failing().is_empty()).await;
        let health = HealthRegistry::new();
        tasks.watch(&health);
        health.set_serving();
        let report = health.report().await;
        assert_eq!(report.status, Status::NotReady);
        assert_eq!(report.checks["tasks"].message.as_deref(), Some("not running: runner"));
    }

    #[tokio::test]
    async fn a_restarting_task_is_started_until_it_runs() {
        let starts = Arc::new(AtomicU32::new(0));
        let mut tasks = supervisor();
        let counted = Arc::clone(&starts);
        tasks.spawn_restarting("runner", FAST, move |stop| {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            assert!(start != 1, "on purpose, before the task is made");
            async move {
                match start {
                    0 => panic!("on purpose"),
                    2 => Err("broken".into()),
                    3 => Ok(()),
                    _ => {
                        stop.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        eventually(|| starts.load(Ordering::SeqCst) == 5 && tasks.failing().is_empty()).await;
        assert_eq!(tasks.shutdown(Duration::from_secs(30)).await, Leftover(vec![]));
        assert_eq!(starts.load(Ordering::SeqCst), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_named_and_aborted() {
        struct Dropped(CancellationToken);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }
        let dropped = CancellationToken::new();
        let guard = Dropped(dropped.clone());
        let mut tasks = supervisor();
        tasks.spawn("stuck", |_| async move {
            let _guard = guard;
            std::future::pending().await
        });
        tasks.spawn("quick", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        let left = tasks.shutdown(Duration::from_secs(5)).await;
        assert_eq!(left, Leftover(vec!["stuck"]));
        dropped.cancelled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_to_restart_does_not_delay_stopping() {
        let mut tasks = supervisor();
        let slow =
            Backoff { first: Duration::from_hours(1), longest: Duration::from_hours(1), ..FAST };
        tasks.spawn_restarting("runner", slow, |_| async { Err("broken".into()) });
        eventually(|| !tasks.failing().is_empty()).await;
        assert_eq!(tasks.shutdown(Duration::from_secs(1)).await, Leftover(vec![]));
    }
}
