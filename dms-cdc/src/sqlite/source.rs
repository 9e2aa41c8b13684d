//! A source over the change log of a SQLite database.

use std::time::Duration;

use async_trait::async_trait;
use dms_core::model::change::{Position, RecordBatch};
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use dms_core::{Error, ErrorChain, Result};
use sqlx::SqlitePool;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::error::{position_lost, query_failed};
use super::progress::Progress;
use super::reader::Reader;

/// How often the log is looked at without being told of a commit.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How long a busy writer may keep an acknowledgement waiting before the write is put off.
const ACK_WRITE_MAX: Duration = Duration::from_millis(250);

const REGISTER_OR_RESUME: &str = "INSERT INTO change_consumers (consumer, acknowledged, updated_at)
    VALUES ($1, 0, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
    ON CONFLICT (consumer) DO UPDATE SET updated_at = excluded.updated_at
    RETURNING acknowledged";

// No further than the head, or a position beyond it would let the log be trimmed under its consumer.
const REGISTER_AT: &str = "INSERT INTO change_consumers (consumer, acknowledged, updated_at)
    SELECT $1, min($2, head), strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') FROM (
        SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0) AS head)
    WHERE true
    ON CONFLICT (consumer) DO UPDATE
        SET acknowledged = excluded.acknowledged, updated_at = excluded.updated_at
    RETURNING acknowledged";

const ACKNOWLEDGE: &str = "UPDATE change_consumers
    SET acknowledged = $2, updated_at = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    WHERE consumer = $1";

const ACKNOWLEDGED: &str = "SELECT acknowledged FROM change_consumers WHERE consumer = $1";

/// A [`ChangeSource`] over the tables `change_log` and `change_consumers`. Positions are decimal
/// `seq` numbers.
///
/// It wakes as soon as the writer tells of a commit, and looks by itself once a second, so that
/// changes made by another process (the `sqlite3` shell, say) arrive too.
///
/// A **durable** consumer ([`new`](Self::new)) registers itself when it starts, and trimming waits
/// for it from then on, whether it runs or not, until
/// [`forget_consumer`](super::ChangeLogTrimmer::forget_consumer). One that is new and finds that the
/// log was trimmed before it came has lost its position, rather than beginning in the middle. A
/// consumer that lost its position stays registered, so that what is committed while it rebuilds is
/// kept for it.
///
/// **Acknowledgements** count at once in memory, and are written at most once a second and on
/// [`flush`](Self::flush): each write costs an `fsync`, and to lose some is harmless, because
/// whatever comes again has no effect.
///
/// A **transient** consumer ([`transient`](Self::transient)) leaves no trace: it begins with the
/// changes committed from its start on, and trimming doesn't wait for it. If the log is trimmed past
/// it, its next read fails with `position_lost`.
#[derive(Debug)]
pub struct SqliteChangeSource {
    reader: Reader,
    commits: watch::Receiver<u64>,
    registration: Option<Registration>,
    progress: Progress,
    poll_every: Duration,
}

/// What only a durable consumer has.
#[derive(Debug)]
struct Registration {
    consumer: String,
    writes: SqlitePool,
}

impl Registration {
    async fn resume(&self) -> Result<i64> {
        let query = sqlx::query_scalar(REGISTER_OR_RESUME).bind(&self.consumer);
        query.fetch_one(&self.writes).await.map_err(query_failed)
    }

    /// Registers at `seq` or at the head, whichever is less.
    async fn register(&self, seq: i64) -> Result<i64> {
        let query = sqlx::query_scalar(REGISTER_AT).bind(&self.consumer).bind(seq);
        query.fetch_one(&self.writes).await.map_err(query_failed)
    }

    async fn acknowledge(&self, seq: i64) -> Result<()> {
        let query = sqlx::query(ACKNOWLEDGE).bind(&self.consumer).bind(seq);
        query.execute(&self.writes).await.map_err(query_failed)?;
        Ok(())
    }
}

impl SqliteChangeSource {
    /// A source for a durable consumer.
    ///
    /// `reads` and `writes` are pools of one database; `commits` is raised by its writer after each
    /// commit. `consumer` names the consumer across restarts; only one source at a time may use it.
    pub fn new(
        reads: SqlitePool,
        writes: SqlitePool,
        commits: watch::Receiver<u64>,
        consumer: &str,
    ) -> Self {
        let registration = Registration { consumer: consumer.to_owned(), writes };
        Self { registration: Some(registration), ..Self::transient(reads, commits) }
    }

    /// A source for a consumer that needs only what is committed while it runs.
    /// [`StartAt::Acknowledged`] means [`StartAt::Now`] to it.
    pub fn transient(reads: SqlitePool, commits: watch::Receiver<u64>) -> Self {
        Self {
            reader: Reader(reads),
            commits,
            registration: None,
            progress: Progress::default(),
            poll_every: POLL_EVERY,
        }
    }

    /// Looks for commits it isn't told of at this interval instead of once a second.
    #[must_use]
    pub fn with_poll_interval(self, poll_every: Duration) -> Self {
        Self { poll_every, ..self }
    }

    /// Writes what was acknowledged, if that hasn't been done yet. Worth a call after the runner has
    /// stopped: without it up to a second's changes come again after a restart.
    ///
    /// # Errors
    /// `Unavailable` or `StorageFull`; nothing but the write is lost.
    pub async fn flush(&self) -> Result<()> {
        let Some(registration) = &self.registration else { return Ok(()) };
        let Some(seq) = self.progress.to_write() else { return Ok(()) };
        registration.acknowledge(seq).await?;
        self.progress.written(seq);
        Ok(())
    }

    /// When what was acknowledged is to be written: never for a consumer that isn't registered.
    fn write_due(&self) -> Option<Instant> {
        self.registration.as_ref().and_then(|_| self.progress.write_due())
    }

    /// Writes what was acknowledged; a failure is only told, and the write tried again later.
    async fn flush_quietly(&self) {
        if let Err(error) = self.flush().await {
            let consumer = self.registration.as_ref().map(|registered| &*registered.consumer);
            let error = ErrorChain(&error).to_string();
            tracing::warn!(consumer, error, "acknowledged position not written");
        }
    }

    /// Waits until a look at the log is worth while, and writes acknowledgements meanwhile.
    async fn wait(&self, commits: &mut watch::Receiver<u64>) {
        let poll_at = Instant::now() + self.poll_every;
        let commit = async {
            // Without a writer in this process nobody tells of commits.
            if commits.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let flush = async {
            while let Some(due) = self.write_due() {
                sleep_until(due).await;
                self.flush_quietly().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = commit => {}
            () = sleep_until(poll_at) => {}
            () = flush => {}
        }
    }
}

#[async_trait]
impl ChangeSource for SqliteChangeSource {
    async fn start(&self, at: StartAt) -> Result<()> {
        // Registering comes first: from then on nothing is trimmed that the check found.
        let seq = match (&self.registration, at) {
            (Some(registration), StartAt::Acknowledged) => registration.resume().await?,
            (Some(registration), StartAt::Now) => registration.register(i64::MAX).await?,
            (Some(registration), StartAt::After(position)) => {
                let seq = parse(&position).ok_or_else(foreign)?;
                registration.register(seq).await?;
                seq
            }
            (None, StartAt::Acknowledged | StartAt::Now) => self.reader.head().await?,
            (None, StartAt::After(position)) => parse(&position).ok_or_else(foreign)?,
        };
        self.reader.check(seq).await?;
        self.progress.begin(seq);
        Ok(())
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        let mut commits = self.commits.clone();
        loop {
            // Before the look, so that a commit during it isn't missed.
            commits.mark_unchanged();
            let delivered = self.progress.delivered()?;
            if let Some((last, batch)) = self.reader.read(delivered, limits).await? {
                self.progress.deliver(last);
                return Ok(batch);
            }
            self.wait(&mut commits).await;
        }
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        let seq = parse(position)
            .ok_or_else(|| Error::invalid("position", "must be a number of the change log"))?;
        self.progress.acknowledge(seq)?;
        let is_due = self.write_due().is_some_and(|due| due <= Instant::now());
        if is_due && timeout(ACK_WRITE_MAX, self.flush_quietly()).await.is_err() {
            tracing::debug!(seq, "writer busy, acknowledged position to be written later");
        }
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        Ok(Position::new(self.reader.head().await?.to_string()))
    }

    async fn lag(&self) -> Result<u64> {
        let head = self.reader.head().await?;
        let acknowledged = match (self.progress.acknowledged(), &self.registration) {
            (Some(acknowledged), _) => acknowledged,
            (None, Some(registration)) => {
                let query = sqlx::query_scalar(ACKNOWLEDGED).bind(&registration.consumer);
                let found = query.fetch_optional(&self.reader.0).await.map_err(query_failed)?;
                found.unwrap_or(0)
            }
            (None, None) => head,
        };
        Ok(u64::try_from(head.saturating_sub(acknowledged)).unwrap_or(0))
    }
}

/// The number of a position, if it is one that this log could have given.
fn parse(position: &Position) -> Option<i64> {
    position.as_str().parse().ok().filter(|seq| *seq >= 0)
}

fn foreign() -> Error {
    position_lost("the position is not one of a change log in SQLite")
}
