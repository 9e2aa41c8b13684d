//! The one writer: a task that owns the write connection and commits in groups.
//!
//! Requests send it closures. It takes all that wait, runs them in one transaction, commits once
//! (one sync of the disk), and only then answers them. A request that is dropped leaves nothing
//! open, because it never had a connection.

use std::sync::Arc;

use dms_core::{Error, ErrorChain, ErrorKind, Result};
use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error;
use crate::sql::DATABASE;

/// Bounds of the queue before the writer and of its transactions.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "a bound's name ends in its unit and `max`")]
pub(super) struct Bounds {
    pub(super) queue_jobs_max: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) group_jobs_max: usize,
}

/// Why a job has no result.
pub(super) enum Failure {
    /// It had no effect; the others in its transaction aren't concerned.
    Refused(Error),
    /// The transaction can't go on.
    Broken(sqlx::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// For the *first* statement of a job that writes. A failure of a later one must be
/// [`Failure::Broken`], or what the first wrote would be committed.
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if error::concerns_one_statement(&error) {
            Self::Refused(error::from_sqlx(error))
        } else {
            Self::Broken(error)
        }
    }
}

/// Room that a queued job takes besides its text.
const JOB_BYTES: usize = 1_024;

/// Sends jobs to the writer.
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    room: Arc<Semaphore>,
    room_bytes_max: usize,
    commits: watch::Receiver<u64>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<Option<SqliteConnection>>>>,
}

impl Writer {
    /// Starts the task. It ends when it's stopped or when the `Writer` is dropped, in both cases
    /// after the jobs that wait.
    pub(super) fn start(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        bounds: Bounds,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(bounds.queue_jobs_max.max(1));
        let (committed, commits) = watch::channel(0);
        let stop = CancellationToken::new();
        let room_bytes_max = bounds.queue_bytes_max.clamp(JOB_BYTES, Semaphore::MAX_PERMITS);
        // A semaphore counts its permits in `u32` when several are taken.
        let room_bytes_max = room_bytes_max.min(u32::MAX as usize);
        let task = Task {
            connection: Some(connection),
            options,
            queue,
            committed,
            stop: stop.clone(),
            group_jobs_max: bounds.group_jobs_max.max(1),
        };
        Self {
            jobs,
            room: Arc::new(Semaphore::new(room_bytes_max)),
            room_bytes_max,
            commits,
            stop,
            task: Mutex::new(Some(tokio::spawn(task.run()))),
        }
    }

    /// Runs `work` in a transaction; answers once it is durable. `text_bytes` is what it holds.
    ///
    /// A job writes with its first statement, or fails as [`Failure::Broken`] when a later one
    /// fails. If the future is dropped, the job takes effect or not, as a whole.
    ///
    /// # Errors
    /// - `Unavailable` at once if the queue is full or the writer stopped;
    /// - `Unavailable`, `StorageFull` if the transaction had no effect;
    /// - `Timeout` if that can't be known;
    /// - whatever `work` refuses with.
    pub(super) async fn write<T, W>(&self, text_bytes: usize, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Failure>>
            + Send
            + 'static,
    {
        let bytes = text_bytes.saturating_add(JOB_BYTES).min(self.room_bytes_max);
        let room = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.room).try_acquire_many_owned(bytes).ok())
            .ok_or_else(overloaded)?;
        let (answer, answered) = oneshot::channel();
        let job = Waiting { work: Some(work), outcome: None, answer, room };
        self.jobs.try_send(Box::new(job)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => overloaded(),
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        answered.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "writer ended before it answered"))
        })
    }

    /// Counts commits, and those that may have been, before anybody is answered.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Whether jobs are still taken.
    pub(super) fn check(&self) -> Result<()> {
        if self.jobs.is_closed() || self.stop.is_cancelled() { Err(closed()) } else { Ok(()) }
    }

    /// Refuses new jobs, finishes those that wait, ends the task; gives its connection the first
    /// time.
    pub(super) async fn stop(&self) -> Option<SqliteConnection> {
        self.stop.cancel();
        let mut task = self.task.lock().await;
        let connection = match task.as_mut() {
            Some(running) => running.await.unwrap_or_else(|e| {
                tracing::error!(error = %ErrorChain(&e), "database writer failed");
                None
            }),
            None => None,
        };
        *task = None;
        connection
    }
}

fn overloaded() -> Error {
    Error::unavailable(DATABASE, "too many writes wait for the database")
}

fn closed() -> Error {
    Error::unavailable(DATABASE, "database closed")
}

/// A job whose result type is forgotten.
trait Job: Send {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;

    /// Runs it inside the transaction and keeps its outcome.
    fn run<'c>(
        &'c mut self,
        connection: &'c mut SqliteConnection,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>>;

    /// Answers with the outcome, or with what became of the transaction.
    fn answer(self: Box<Self>, transaction: Result<()>);
}

struct Waiting<T, W> {
    work: Option<W>,
    outcome: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
    room: OwnedSemaphorePermit,
}

impl<T, W> Job for Waiting<T, W>
where
    T: Send + 'static,
    W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Failure>>
        + Send
        + 'static,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run<'c>(
        &'c mut self,
        connection: &'c mut SqliteConnection,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        let work = self.work.take();
        let outcome = &mut self.outcome;
        Box::pin(async move {
            if let Some(work) = work {
                *outcome = Some(match work(connection).await {
                    Ok(value) => Ok(value),
                    Err(Failure::Refused(error)) => Err(error),
                    Err(Failure::Broken(error)) => return Err(error),
                });
            }
            Ok(())
        })
    }

    fn answer(self: Box<Self>, transaction: Result<()>) {
        let Self { outcome, answer, room, .. } = *self;
        // Who is answered finds the room free again.
        drop(room);
        let result = transaction
            .and_then(|()| outcome.unwrap_or_else(|| Err(Error::internal("write was never run"))));
        // The request may be gone; what it wrote stays.
        let _ = answer.send(result);
    }
}

/// How far a transaction came that failed.
enum Broken {
    BeforeCommit(sqlx::Error),
    AtCommit(sqlx::Error),
}

struct Task {
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    queue: mpsc::Receiver<Box<dyn Job>>,
    committed: watch::Sender<u64>,
    stop: CancellationToken,
    group_jobs_max: usize,
}

impl Task {
    async fn run(mut self) -> Option<SqliteConnection> {
        let mut group = Vec::with_capacity(self.group_jobs_max);
        let stop = self.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                () = stopped.as_mut(), if open => {
                    self.queue.close();
                    open = false;
                }
                received = self.queue.recv_many(&mut group, self.group_jobs_max) => {
                    if received == 0 {
                        return self.connection;
                    }
                    self.commit(&mut group).await;
                }
            }
        }
    }

    async fn commit(&mut self, group: &mut Vec<Box<dyn Job>>) {
        group.retain(|job| !job.is_abandoned());
        if group.is_empty() {
            return;
        }
        let (cause, to_error): (_, fn(&Arc<sqlx::Error>) -> Error) =
            match self.try_commit(group).await {
                Ok(()) => {
                    self.committed.send_modify(|commits| *commits += 1);
                    for job in group.drain(..) {
                        job.answer(Ok(()));
                    }
                    return;
                }
                Err(Broken::BeforeCommit(cause)) => (cause, error::not_committed),
                Err(Broken::AtCommit(cause)) => (cause, error::commit_failed),
            };
        tracing::error!(error = %ErrorChain(&cause), jobs = group.len(), "transaction failed");
        // It may have been committed all the same.
        self.committed.send_modify(|commits| *commits += 1);
        // Whether the transaction is still open depends on the error; a new connection has none.
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = %ErrorChain(&error), "connection not closed in order");
        }
        let cause = Arc::new(cause);
        for job in group.drain(..) {
            job.answer(Err(to_error(&cause)));
        }
    }

    async fn try_commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Broken> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            lost => lost.insert(self.options.connect().await.map_err(Broken::BeforeCommit)?),
        };
        let begin = sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection);
        begin.await.map_err(Broken::BeforeCommit)?;
        for job in group {
            job.run(connection).await.map_err(Broken::BeforeCommit)?;
        }
        let commit = sqlx::query("COMMIT").execute(connection);
        commit.await.map_err(Broken::AtCommit)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
