//! The runner: reads batches from a source, gives them to sinks, and acknowledges.
//!
//! # What it promises
//!
//! - A change is acknowledged only after every sink has answered for it with something final, and
//!   after it is durably a dead letter if a sink rejected it or it couldn't be decoded.
//! - Changes of one key reach a sink in the order of the stream. Within a batch only what may still
//!   succeed goes again, together with the later changes of the same key.
//! - Nothing is dropped. What fails is tried again, with pauses that grow and vary, for as long as
//!   it takes; the [status](Runner::status) says what is waited for.
//! - One batch is in memory, whatever is down and for however long.
//!
//! # What it leaves to others
//!
//! Delivery is at least once: dropping the future at any point, or losing the process, means that
//! what was not acknowledged comes again, and sinks drop it by version.
//!
//! A runner may start after a position that a sink keeps in its own store
//! ([`ChangeSink::apply`] says when it may keep it), if that sink is its only one: another sink may
//! not have got as far.

mod backoff;
mod behind;
mod delivery;
mod meters;
mod options;
mod pass;
mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dms_core::model::change::RecordBatch;
use dms_core::ports::{ChangeSink, ChangeSource, Clock, DeadLetterRepository};
use dms_core::{Error, ErrorChain, ErrorKind, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use self::behind::Behind;
use self::meters::Meters;
pub use self::options::RunnerOptions;
pub use self::status::{RunnerState, RunnerStatus, StreamCounts};

/// How often lag and dead letters are measured.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);

const SOURCE: &str = "source";
const DEAD_LETTERS: &str = "dead-letters";

/// Drives a source into sinks for one consumer.
///
/// Sinks get each batch one after the other, and all must be done with it before the next: sinks
/// that shouldn't wait for each other want runners, and consumers, of their own.
///
/// ```
/// use std::sync::Arc;
///
/// use dms_cdc::{Runner, RunnerOptions};
/// use dms_core::ports::{ChangeSink, ChangeSource, DeadLetterRepository, SystemClock};
/// use tokio_util::sync::CancellationToken;
///
/// async fn index(
///     source: Arc<dyn ChangeSource>,
///     sink: Arc<dyn ChangeSink>,
///     dead_letters: Arc<dyn DeadLetterRepository>,
///     stop: CancellationToken,
/// ) -> dms_core::Result<()> {
///     let clock = Arc::new(SystemClock);
///     let options = RunnerOptions::new("indexer");
///     Runner::new(source, vec![sink], dead_letters, clock, options).run(stop).await
/// }
/// ```
pub struct Runner {
    source: Arc<dyn ChangeSource>,
    sinks: Vec<Arc<dyn ChangeSink>>,
    dead_letters: Arc<dyn DeadLetterRepository>,
    clock: Arc<dyn Clock>,
    options: RunnerOptions,
    meters: Meters,
    status: watch::Sender<RunnerStatus>,
    /// Whether the source has been asked for changes and hasn't answered.
    is_listening: AtomicBool,
    behind: Behind,
}

/// Why a run ends.
enum End {
    Stopped,
    PositionLost(Error),
}

type Flow<T> = Result<T, End>;

impl Runner {
    /// A runner that waits to be driven with [`run`](Self::run).
    pub fn new(
        source: Arc<dyn ChangeSource>,
        sinks: Vec<Arc<dyn ChangeSink>>,
        dead_letters: Arc<dyn DeadLetterRepository>,
        clock: Arc<dyn Clock>,
        options: RunnerOptions,
    ) -> Self {
        let meters = Meters::new(&options.consumer);
        let (status, _) = watch::channel(RunnerStatus::default());
        let is_listening = AtomicBool::new(false);
        let behind = Behind::default();
        Self { source, sinks, dead_letters, clock, options, meters, status, is_listening, behind }
    }

    /// What the runner says of itself, now and from now on.
    pub fn status(&self) -> watch::Receiver<RunnerStatus> {
        self.status.subscribe()
    }

    /// Drives the stream until `stop` is cancelled, then finishes the batch in flight if its sinks
    /// answer within [`RunnerOptions::stop_grace`]. One call at a time.
    ///
    /// Dropping the future is safe at any point: what wasn't acknowledged comes again. The status
    /// then stays as it was.
    ///
    /// # Errors
    /// `Conflict` with code `position_lost`: changes are gone that were not delivered, and what the
    /// sinks hold must be rebuilt. Everything else is tried again for as long as it takes.
    pub async fn run(&self, stop: CancellationToken) -> Result<()> {
        Meters::describe();
        let consumer = self.options.consumer.as_str();
        self.enter(RunnerState::Starting);
        let end = tokio::select! {
            biased;
            Err(end) = self.drive(&stop) => end,
            never = self.observe() => match never {},
            () = self.grace(&stop) => {
                tracing::warn!(consumer, "batch in flight given up at stop; it will come again");
                End::Stopped
            }
        };
        match end {
            End::Stopped => {
                tracing::info!(consumer, "change stream stopped");
                self.enter(RunnerState::Stopped);
                Ok(())
            }
            End::PositionLost(error) => {
                let error_text = ErrorChain(&error).to_string();
                tracing::error!(consumer, error = error_text, "position lost in change stream");
                self.enter(RunnerState::PositionLost);
                Err(error)
            }
        }
    }

    async fn grace(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(self.options.stop_grace).await;
    }

    async fn drive(&self, stop: &CancellationToken) -> Flow<Infallible> {
        self.start(stop).await?;
        let mut next_begin = Instant::now();
        loop {
            if Instant::now() < next_begin {
                unless_stopped(stop, tokio::time::sleep_until(next_begin)).await?;
            }
            let batch = self.next_batch(stop).await?;
            let (begin, records) = (Instant::now(), batch.records.len());
            self.deliver(batch, stop).await?;
            next_begin = begin + self.options.linger_after(records, begin.elapsed());
        }
    }

    async fn start(&self, stop: &CancellationToken) -> Flow<()> {
        let mut backoff = Backoff::new(self.options.retry);
        let at = &self.options.start;
        while let Err(error) = unless_stopped(stop, self.source.start(at.clone())).await? {
            self.source_failed(error, &mut backoff, stop).await?;
        }
        tracing::info!(consumer = self.options.consumer, ?at, "change stream started");
        self.enter(RunnerState::Running);
        Ok(())
    }

    async fn next_batch(&self, stop: &CancellationToken) -> Flow<RecordBatch> {
        let mut backoff = Backoff::new(self.options.retry);
        loop {
            self.is_listening.store(true, Ordering::Relaxed);
            let next = unless_stopped(stop, self.source.next_batch(self.options.limits)).await;
            self.is_listening.store(false, Ordering::Relaxed);
            match next? {
                Ok(batch) => {
                    self.enter(RunnerState::Running);
                    return Ok(batch);
                }
                Err(error) => self.source_failed(error, &mut backoff, stop).await?,
            }
        }
    }

    /// Measures lag and dead letters beside everything else, so that they are known whatever is
    /// down. Failures only leave the old figures.
    async fn observe(&self) -> Infallible {
        loop {
            let asked_at = self.clock.now();
            if let Ok(lag) = self.source.lag().await {
                if lag == 0 {
                    self.behind.reached(asked_at);
                    self.meters.lag_seconds(time::Duration::ZERO);
                } else {
                    self.measure_behind();
                }
                self.set_lag(lag);
            } else {
                // Nobody knows what was committed meanwhile.
                self.measure_behind();
            }
            if let Ok(count) = self.dead_letters.count(&self.options.consumer).await {
                self.set_dead_letters(count);
            }
            tokio::time::sleep(OBSERVE_EVERY).await;
        }
    }

    fn measure_behind(&self) {
        if let Some(behind) = self.behind.since(self.clock.now()) {
            self.meters.lag_seconds(behind);
        }
    }

    fn set_lag(&self, lag: u64) {
        self.meters.lag(lag);
        let is_listening = self.is_listening.load(Ordering::Relaxed);
        self.status.send_if_modified(|status| {
            // A source that waits for changes says nothing; that it answers here shows that it has
            // recovered.
            let recovered = is_listening
                && matches!(
                    status.state,
                    RunnerState::Retrying { component: SOURCE, .. }
                        | RunnerState::Holding { component: SOURCE, .. }
                );
            if recovered {
                status.state = RunnerState::Running;
            }
            status.lag_changes.replace(lag) != Some(lag) || recovered
        });
    }

    fn set_dead_letters(&self, count: u64) {
        self.meters.dead_letters(count);
        self.status.send_if_modified(|status| status.dead_letters.replace(count) != Some(count));
    }

    async fn source_failed(
        &self,
        error: Error,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Flow<()> {
        if error.kind() == ErrorKind::Conflict && error.code() == "position_lost" {
            return Err(End::PositionLost(error));
        }
        self.failed(SOURCE, &error, backoff, stop).await
    }

    /// Says that `component` failed and pauses.
    async fn failed(
        &self,
        component: &'static str,
        error: &Error,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Flow<()> {
        let pause = backoff.failed();
        let attempt = backoff.attempts();
        let reason = ErrorChain(error).to_string();
        let consumer = self.options.consumer.as_str();
        let pause_ms = pause.as_millis();
        if error.is_retryable() {
            tracing::warn!(consumer, component, error = reason, attempt, pause_ms, "will retry");
            self.enter(RunnerState::Retrying { component, reason, attempt });
        } else {
            tracing::error!(consumer, component, error = reason, attempt, pause_ms, "holding");
            self.enter(RunnerState::Holding { component, reason });
        }
        unless_stopped(stop, tokio::time::sleep(pause)).await
    }

    fn enter(&self, state: RunnerState) {
        self.status.send_if_modified(|status| {
            let changed = status.state != state;
            status.state = state;
            changed
        });
    }
}

async fn unless_stopped<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Flow<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(End::Stopped),
        output = future => Ok(output),
    }
}
