//! A few connections that many calls share.
//!
//! sqlx's own pool asks the server for a sign of life before and after each use, which through a
//! pooler is a transaction each, and tries for its whole timeout to reach a server that refuses.
//! Here a statement is one exchange, and a server that is away costs nothing.
//!
//! A statement runs in a task of its own, which ends when the server has answered or the time is up:
//! a caller that leaves never leaves a connection in the middle of something. A connection that
//! failed is closed, and those that were idle at the time are asked for a sign of life before they
//! are used. A connection is made in a task of its own, too: one that comes too late for the call that
//! asked for it serves the next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dms_core::{Error, ErrorChain, Result};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, Postgres};
use sqlx::query::QueryAs;
use sqlx::{ConnectOptions as _, Connection as _, FromRow};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{
    Failure, code, found_no_server, from_sqlx, is_refusal, leaves_connection_sound, no_answer,
    outcome_unknown, sqlstate,
};
use crate::sql::DATABASE;

/// A statement with its arguments, whose rows are read as `O`.
pub(super) type Statement<O> = QueryAs<'static, Postgres, O, PgArguments>;

/// Connections that are being made at once. To log in costs both sides a thousand times what a
/// statement does: when many calls come to a pool that is cold, those connections that are there
/// first answer most of them.
const CONNECTING_MAX: usize = 4;

/// How long logging in may take. Longer than most calls wait: were it given up with the call, a server
/// that is busy would have to begin anew with each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection idle for longer is asked for a sign of life.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// A connection idle for longer is closed when another one is given back.
const IDLE_MAX: Duration = Duration::from_mins(5);

/// A connection older than this is closed after use: the server's memory for it only grows.
const AGE_MAX: Duration = Duration::from_mins(30);

/// How much longer than the server, which knows what became of a statement, its answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_millis(250);

/// How long a connection that is idle is given to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bounds of some connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections_max: u32,
    pub(super) waiting_max: usize,
    pub(super) acquire_timeout: Duration,
    pub(super) statement_timeout: Duration,
}

/// What the connections to the database are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections that may be open.
    pub connections_max: usize,
    /// Connections that wait for a statement.
    pub idle: usize,
    /// Statements that run, or connect in order to.
    pub busy: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
}

/// What a statement that was sent may have done when no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Write,
}

/// Connections to one address. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    /// With what the server should know of this session; a pooler refuses it.
    tuned: PgConnectOptions,
    plain: PgConnectOptions,
    refuses_tuning: AtomicBool,
    bounds: Bounds,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Idle>,
    given_back: Notify,
    /// Connections that may be open or made.
    places: Arc<Semaphore>,
    connecting: Arc<Semaphore>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct Idle {
    /// The one used last stands at the end.
    connections: Vec<Open>,
    /// When a connection failed last.
    failed_at: Option<Instant>,
}

struct Open {
    connection: PgConnection,
    opened_at: Instant,
    used_at: Instant,
    _place: OwnedSemaphorePermit,
}

impl Connections {
    /// Connects to nothing yet.
    pub(super) fn new(options: PgConnectOptions, bounds: Bounds) -> Self {
        let milliseconds = |duration: Duration| duration.as_millis().clamp(1, 1 << 30).to_string();
        let tuned = options.clone().options([
            ("statement_timeout", milliseconds(bounds.statement_timeout)),
            ("lock_timeout", milliseconds(bounds.statement_timeout / 2)),
            // Nothing here is ever idle in a transaction.
            ("idle_in_transaction_session_timeout", milliseconds(bounds.statement_timeout)),
        ]);
        let connections = bounds.connections_max.clamp(1, 10_000) as usize;
        Self {
            shared: Arc::new(Shared {
                tuned,
                plain: options,
                refuses_tuning: AtomicBool::new(false),
                bounds: Bounds {
                    connections_max: bounds.connections_max.clamp(1, 10_000),
                    ..bounds
                },
                permits: Arc::new(Semaphore::new(connections)),
                waiting: AtomicUsize::new(0),
                idle: Mutex::default(),
                given_back: Notify::new(),
                places: Arc::new(Semaphore::new(connections)),
                connecting: Arc::new(Semaphore::new(CONNECTING_MAX)),
                tasks: TaskTracker::new(),
                closing: CancellationToken::new(),
            }),
        }
    }

    /// Runs a statement that changes nothing; gives its rows.
    ///
    /// # Errors
    /// `Unavailable` if there is no answer.
    pub(super) async fn read<O>(&self, statement: Statement<O>) -> Result<Vec<O>>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        Ok(self.run(statement, Effect::None).await?)
    }

    /// Runs a statement that changes something; gives its rows once the change is durable.
    ///
    /// # Errors
    /// `Unavailable` if it had no effect; `Timeout` if nobody knows.
    pub(super) async fn write<O>(&self, statement: Statement<O>) -> Result<Vec<O>, Failure>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        self.run(statement, Effect::Write).await
    }

    async fn run<O>(&self, statement: Statement<O>, effect: Effect) -> Result<Vec<O>, Failure>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let deadline = Instant::now() + self.shared.bounds.acquire_timeout;
        let permit = self.shared.permit(deadline).await.map_err(Failure::Other)?;
        let shared = Arc::clone(&self.shared);
        let task = async move {
            // Given back last, after the connection.
            let _permit = permit;
            shared.perform(statement, effect, deadline).await
        };
        match self.shared.tasks.spawn(task).await {
            Ok(outcome) => outcome,
            Err(error) => {
                Err(Failure::Other(Error::internal("statement was given up").with_source(error)))
            }
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        let connections_max = self.shared.bounds.connections_max as usize;
        PoolStats {
            connections_max,
            idle: self.shared.idle().connections.len(),
            busy: connections_max.saturating_sub(self.shared.permits.available_permits()),
            waiting: self.shared.waiting.load(Ordering::Relaxed),
        }
    }

    /// Refuses new statements, waits for those that run, closes every connection.
    pub(super) async fn close(&self) {
        self.shared.permits.close();
        self.shared.closing.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        let idle = std::mem::take(&mut self.shared.idle().connections);
        for open in idle {
            // What the server misses of this it learns from the end of the connection.
            let _ = timeout(CLOSE_TIMEOUT, open.connection.close()).await;
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        // No code panics while it holds the lock; if it did, the list would still be sound.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to one of the connections.
    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit> {
        let closed = || Error::unavailable(DATABASE, "database closed");
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(closed()),
            Err(tokio::sync::TryAcquireError::NoPermits) => {}
        }
        let waiting = Waiting::enter(&self.waiting);
        if waiting.before >= self.bounds.waiting_max {
            return Err(Error::unavailable(DATABASE, "too many requests wait for the database"));
        }
        match timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(closed()),
            Err(elapsed) => {
                Err(Error::unavailable(DATABASE, "no database connection free in time")
                    .with_source(elapsed))
            }
        }
    }

    async fn perform<O>(
        self: &Arc<Self>,
        statement: Statement<O>,
        effect: Effect,
        deadline: Instant,
    ) -> Result<Vec<O>, Failure>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut open = self.acquire(deadline).await.map_err(Failure::Other)?;
        // All rows are read, also where one is expected: the answer ends after the commit.
        let answer = statement.fetch_all(&mut open.connection);
        let source = match timeout(self.bounds.statement_timeout + ANSWER_GRACE, answer).await {
            Ok(Ok(rows)) => {
                self.give_back(open);
                return Ok(rows);
            }
            Ok(Err(error)) if is_refusal(&error) => {
                if leaves_connection_sound(&error) {
                    self.give_back(open);
                }
                return Err(Failure::Refused(error));
            }
            Ok(Err(error @ (sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }))) => {
                return Err(Failure::Other(from_sqlx(error)));
            }
            Ok(Err(error)) => error,
            Err(elapsed) => sqlx::Error::Io(elapsed.into()),
        };
        self.distrust();
        Err(Failure::Other(match effect {
            Effect::None => no_answer(source),
            Effect::Write => outcome_unknown(source),
        }))
    }

    /// A connection whose other end was there a moment ago.
    async fn acquire(self: &Arc<Self>, deadline: Instant) -> Result<Open> {
        match timeout_at(deadline, self.idle_or_new()).await {
            Ok(outcome) => outcome,
            Err(elapsed) => {
                self.distrust();
                Err(no_answer(elapsed))
            }
        }
    }

    async fn idle_or_new(self: &Arc<Self>) -> Result<Open> {
        loop {
            while let Some(mut open) = self.take_idle() {
                if self.is_trusted(&open) {
                    return Ok(open);
                }
                match open.connection.ping().await {
                    Ok(()) => return Ok(open),
                    // It may have been closed by a server that is back.
                    Err(error) => {
                        tracing::debug!(error = %ErrorChain(&error), "idle connection lost");
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.given_back.notified() => {}
                made = self.make() => return made,
            }
        }
    }

    /// A new connection, once there may be one more. If this is dropped it's made all the same and
    /// given back.
    async fn make(self: &Arc<Self>) -> Result<Open> {
        let closed = |_| Error::unavailable(DATABASE, "database closed");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(closed)?;
        let turn = Arc::clone(&self.connecting).acquire_owned().await.map_err(closed)?;
        let shared = Arc::clone(self);
        let (mut hand, made) = oneshot::channel();
        self.tasks.spawn(async move {
            let is_useless = async {
                shared.closing.cancelled().await;
                hand.closed().await;
            };
            let outcome = tokio::select! {
                biased;
                () = is_useless => return,
                outcome = timeout(CONNECT_TIMEOUT, shared.connect()) => outcome,
            };
            drop(turn);
            let outcome = match outcome {
                Ok(Ok(connection)) => {
                    let now = Instant::now();
                    Ok(Open { connection, opened_at: now, used_at: now, _place: place })
                }
                Ok(Err(error)) => Err(from_sqlx(error)),
                Err(elapsed) => Err(no_answer(elapsed)),
            };
            if let Err(Ok(unclaimed)) = hand.send(outcome) {
                shared.give_back(unclaimed);
            }
        });
        made.await.map_err(|_| Error::unavailable(DATABASE, "database closed"))?
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        if !self.refuses_tuning.load(Ordering::Relaxed) {
            match self.tuned.connect().await {
                // A startup parameter that the other end doesn't know.
                Err(error)
                    if sqlstate(&error) == Some(code::PROTOCOL_VIOLATION)
                        && !found_no_server(&error) =>
                {
                    self.refuses_tuning.store(true, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        self.plain.connect().await
    }

    fn take_idle(&self) -> Option<Open> {
        self.idle().connections.pop()
    }

    fn is_trusted(&self, open: &Open) -> bool {
        let failed_since = self.idle().failed_at.is_some_and(|at| at >= open.used_at);
        !failed_since && open.used_at.elapsed() < TRUSTED_IDLE
    }

    /// A connection failed: others may have, too.
    fn distrust(&self) {
        self.idle().failed_at = Some(Instant::now());
    }

    fn give_back(&self, mut open: Open) {
        open.used_at = Instant::now();
        if self.permits.is_closed() || open.opened_at.elapsed() > AGE_MAX {
            return;
        }
        let mut idle = self.idle();
        idle.connections.push(open);
        let oldest_is_stale =
            idle.connections.first().is_some_and(|open| open.used_at.elapsed() > IDLE_MAX);
        if oldest_is_stale {
            idle.connections.remove(0);
        }
        drop(idle);
        self.given_back.notify_one();
    }
}

/// One who waits, as long as this lives.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
