//! A source over the write-ahead log of PostgreSQL.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::model::change::{Position, RecordBatch};
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use dms_core::{DocumentId, Error, ErrorChain, Result};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::{not_started, position_lost};
use super::options::WalOptions;
use super::position::WalPosition;
use super::reader::Reader;
use super::slot::Slot;
use super::state::{Phase, Shared, Start, State};

/// How long a measurement waits for the server to have sent all there is.
const MEASURE_MAX: Duration = Duration::from_secs(3);
/// How long it waits for a connection.
const CONNECTED_MAX: Duration = Duration::from_secs(5);
/// How often the server is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How long an acknowledgement may take to arrive.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// How long the task may take to end.
const END_MAX: Duration = Duration::from_secs(2);
/// Longest beginning of the name of a temporary slot, which a random part follows.
const TEMPORARY_PREFIX_MAX: usize = 30;

/// A [`ChangeSource`] over the write-ahead log of a PostgreSQL database, by a replication slot.
///
/// A task reads the log ahead of the consumer, at most `queue_bytes_max` of it, and then leaves the
/// rest with the server; it tells the server that the consumer lives, and what it acknowledged,
/// whether batches are asked for or not. It ends when the source is dropped, and with it the
/// connection. A broken connection is an error of [`next_batch`](ChangeSource::next_batch); the next
/// call connects again, and nothing is missing or comes twice.
///
/// A **durable** consumer ([`new`](Self::new)) has a slot of its own, made when it is missing. A
/// consumer whose slot is new on a database with rows, or was dropped, or lost its log, or whose
/// database was restored from an older copy, has lost its position: it reads
/// [`head`](ChangeSource::head), copies the rows, and starts after that head. Until it does, it keeps
/// being told, so that a crash during the copy does no harm. While the log moves without changes for
/// the consumer, it is confirmed too, in steps of `idle_bytes_max`, and a consumer with an older
/// position can still go on.
///
/// The slot serves **one consumer at a time**: another source with the same slot waits until the
/// first is gone, and goes on with what that acknowledged.
///
/// A **transient** consumer ([`transient`](Self::transient)) has a temporary slot that leaves no
/// trace. It begins with the changes committed from its start on; once its connection breaks, its
/// position is lost.
///
/// [`lag`](ChangeSource::lag) counts the changes read and not acknowledged, after the server had
/// three seconds to send what there is. With a consumer so far behind that its queue is full, that
/// is less than there are; the gauge `dms_stream_slot_bytes`, measured with it, isn't bounded so.
///
/// ```no_run
/// use dms_cdc::postgres::{WalChangeSource, WalOptions};
///
/// # async fn example() -> dms_core::Result<()> {
/// let options = WalOptions::new("postgres://docs@localhost/docs", "dms_index");
/// let source = WalChangeSource::new(options)?;
/// # Ok(())
/// # }
/// ```
pub struct WalChangeSource {
    shared: Arc<Shared>,
    slot: Slot,
    options: Arc<WalOptions>,
    is_transient: bool,
    task: Mutex<Option<Task>>,
}

struct Task {
    handle: JoinHandle<()>,
    stop: DropGuard,
}

impl fmt::Debug for WalChangeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalChangeSource")
            .field("options", &self.options)
            .field("is_transient", &self.is_transient)
            .finish_non_exhaustive()
    }
}

impl WalChangeSource {
    /// A source for a durable consumer. Nothing is connected yet; it has to be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// `Invalid` if an option can't be meant.
    pub fn new(options: WalOptions) -> Result<Self> {
        Self::open(options, false)
    }

    /// A source for a consumer that needs only what is committed while it runs. The slot's name is
    /// the beginning of that of the temporary one. [`StartAt::Acknowledged`] means [`StartAt::Now`]
    /// to it.
    ///
    /// # Errors
    /// `Invalid` if an option can't be meant.
    pub fn transient(options: WalOptions) -> Result<Self> {
        Self::open(options, true)
    }

    fn open(options: WalOptions, is_transient: bool) -> Result<Self> {
        options.validate()?;
        let slot = Slot::new(&options)?;
        let shared = Arc::new(Shared::new(options.queue_bytes_max));
        let task = Mutex::new(None);
        Ok(Self { shared, slot, options: Arc::new(options), is_transient, task })
    }

    /// Waits until the server has what was acknowledged. Worth a call after the runner has stopped:
    /// without it the newest changes may come again after a restart.
    ///
    /// # Errors
    /// `Unavailable`; nothing but the acknowledgement is lost.
    pub async fn flush(&self) -> Result<()> {
        let confirmed = {
            let state = self.shared.lock();
            if self.is_transient || state.start.is_none() {
                return Ok(());
            }
            state.ledger.confirmed()
        };
        let mut failure = None;
        let arrived = async {
            loop {
                let (slot, _) = self.slot.inspect().await?;
                if slot.is_some_and(|slot| slot.confirmed >= confirmed) {
                    return Ok(());
                }
                let failed = self.shared.lock().failure.take();
                match failed {
                    Some(error) if !error.is_retryable() => return Err(error),
                    failed => failure = failed.or(failure.take()),
                }
                self.ensure_task().await;
                self.ask();
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        if let Ok(arrived) = timeout(FLUSH_MAX, arrived).await {
            return arrived;
        }
        let error = Error::unavailable("database", "the acknowledgement doesn't arrive");
        Err(match failure {
            Some(failure) => error.with_source(failure),
            None => error,
        })
    }

    /// Leaves the slot to another consumer, and closes the connection. The source has to be started
    /// again before it can go on. Dropping it does the same, without waiting.
    pub async fn release(&self) {
        // First, so that nobody who waits for a batch starts it again.
        self.shared.lock().start = None;
        self.stop_task().await;
    }

    /// How many changes, and bytes of them, are held for the consumer right now.
    pub fn held(&self) -> (usize, usize) {
        self.shared.lock().ledger.queued()
    }

    /// Asks the server how far it is.
    fn ask(&self) {
        self.shared.lock().is_asked = true;
        self.shared.control.notify_one();
    }

    /// Ends the task, so that the slot is free.
    async fn stop_task(&self) {
        let task = self.task.lock().await.take();
        if let Some(Task { handle, stop }) = task {
            drop(stop);
            if timeout(END_MAX, handle).await.is_err() {
                tracing::warn!(slot = self.slot.name(), "the reading task is slow to end");
            }
        }
    }

    /// Starts the task unless it runs.
    async fn ensure_task(&self) {
        let mut task = self.task.lock().await;
        {
            let mut state = self.shared.lock();
            if state.phase != Phase::Stopped || state.failure.is_some() {
                return;
            }
            state.phase = Phase::Connecting;
        }
        let stop = CancellationToken::new();
        let temporary_slot = self.is_transient.then(|| {
            let prefix: String = self.options.slot.chars().take(TEMPORARY_PREFIX_MAX).collect();
            format!("{prefix}_{}", DocumentId::generate().as_uuid().simple())
        });
        let reader = Reader {
            shared: Arc::clone(&self.shared),
            slot: self.slot.clone(),
            options: Arc::clone(&self.options),
            temporary_slot,
            stop: stop.clone(),
        };
        *task = Some(Task { handle: tokio::spawn(reader.run()), stop: stop.drop_guard() });
    }

    /// Where a durable consumer begins, and who says so.
    async fn begin(&self, at: StartAt) -> Result<(WalPosition, Start)> {
        let (slot, head) = self.slot.ensure().await?;
        self.slot.check_publication().await?;
        match at {
            StartAt::Acknowledged => Ok((self.slot.acknowledged(&slot).await?, Start::Slot)),
            StartAt::After(position) => {
                let at = parse(&position)?;
                let from = self.slot.after(at, &slot, head).await?;
                if from == at {
                    self.slot.remember(at).await?;
                }
                Ok((at, Start::Consumer))
            }
            StartAt::Now => {
                let (_, inserted) = self.slot.log_end().await?;
                let now = WalPosition::between(inserted);
                self.slot.remember(now).await?;
                Ok((now, Start::Consumer))
            }
        }
    }

    /// Begins a temporary slot, which has to be there before this returns.
    async fn start_transient(&self, at: &StartAt) -> Result<()> {
        let wanted = match at {
            StartAt::After(position) => parse(position)?,
            StartAt::Acknowledged | StartAt::Now => WalPosition::default(),
        };
        if wanted != WalPosition::default() {
            let (_, end) = self.slot.log_end().await?;
            if wanted.lsn > end {
                return Err(position_lost("the database's log doesn't reach to the position"));
            }
        }
        self.reset(wanted, Start::Consumer);
        let mut changed = self.shared.subscribe();
        self.ensure_task().await;
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(failure) = state.failure.take() {
                    return Err(failure);
                }
                if state.phase == Phase::Streaming {
                    return Ok(());
                }
            }
            // The sender lives as long as this source.
            drop(changed.changed().await);
        }
    }

    fn reset(&self, at: WalPosition, start: Start) {
        let mut state = self.shared.lock();
        state.ledger.begin(at);
        state.failure = None;
        state.start = Some(start);
        state.has_begun = false;
    }
}

#[async_trait]
impl ChangeSource for WalChangeSource {
    async fn start(&self, at: StartAt) -> Result<()> {
        self.stop_task().await;
        if self.is_transient {
            return self.start_transient(&at).await;
        }
        let (at, start) = self.begin(at).await?;
        self.reset(at, start);
        self.ensure_task().await;
        Ok(())
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        let mut changed = self.shared.subscribe();
        loop {
            // Before the look, so that a change during it isn't missed.
            changed.mark_unchanged();
            {
                let mut state = self.shared.lock();
                if state.start.is_none() {
                    return Err(not_started());
                }
                if let Some(batch) = state.ledger.take(limits) {
                    drop(state);
                    // There is room now.
                    self.shared.control.notify_one();
                    return Ok(batch);
                }
                if let Some(failure) = state.failure.take() {
                    return Err(failure);
                }
            }
            self.ensure_task().await;
            // The sender lives as long as this source.
            drop(changed.changed().await);
        }
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        let position = WalPosition::parse(position)
            .ok_or_else(|| Error::invalid("position", "must be a place in the database's log"))?;
        {
            let mut state = self.shared.lock();
            if state.start.is_none() {
                return Err(not_started());
            }
            state.ledger.acknowledge(position);
        }
        self.shared.control.notify_one();
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        let head = if self.is_transient {
            self.slot.log_end().await?.1
        } else {
            // From here on the slot keeps the log.
            let (slot, _) = self.slot.ensure().await?;
            // What the slot has already is more than enough, if a transaction takes too long.
            self.slot.head().await?.unwrap_or(slot.confirmed)
        };
        self.shared.lock().ledger.known(head);
        Ok(WalPosition::between(head).to_position())
    }

    async fn lag(&self) -> Result<u64> {
        let (flushed, inserted) = self.slot.log_end().await?;
        if !self.is_transient
            && let (Some(slot), head) = self.slot.inspect().await?
        {
            self.slot.measure(&slot, head);
        }
        let connected_by = Instant::now() + CONNECTED_MAX;
        let mut deadline = connected_by;
        let mut changed = self.shared.subscribe();
        loop {
            changed.mark_unchanged();
            {
                let mut state = self.shared.lock();
                state.ledger.known(inserted);
                let now = Instant::now();
                match state.phase {
                    Phase::Streaming => deadline = deadline.min(now + MEASURE_MAX),
                    Phase::Connecting if now < connected_by => {}
                    _ => return Err(unread(&state)),
                }
                let is_read = state.ledger.received() >= flushed || state.ledger.is_full();
                if state.phase == Phase::Streaming && (is_read || now >= deadline) {
                    return Ok(state.ledger.unacknowledged());
                }
            }
            self.ask();
            drop(timeout_at(deadline.min(Instant::now() + ASK_EVERY), changed.changed()).await);
        }
    }
}

fn unread(state: &State) -> Error {
    let error = Error::unavailable("database", "the change stream isn't read");
    match &state.failure {
        Some(failure) => error.with_source(ErrorChain(failure).to_string()),
        None => error,
    }
}

fn parse(position: &Position) -> Result<WalPosition> {
    WalPosition::parse(position)
        .ok_or_else(|| position_lost("the position is not one of a database's log"))
}
