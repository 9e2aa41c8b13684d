//! The replication slot and what is remembered of its consumer, by ordinary queries.

use std::future::Future;
use std::time::Duration;

use dms_core::{Error, Result};
use metrics::{Unit, describe_gauge, gauge};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::time::timeout;

use super::error::{position_lost, query_failed};
use super::options::WalOptions;
use super::position::{Lsn, WalPosition};

/// How long a query may take.
const QUERY_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a new slot may wait for the transactions that run already.
const CREATE_MAX: Duration = Duration::from_mins(1);
/// How long the head may wait for transactions that are about to commit.
const COMMITTING_MAX: Duration = Duration::from_secs(2);
/// How often it looks whether they have.
const COMMITTING_EVERY: Duration = Duration::from_millis(10);

const SLOT_BYTES: &str = "dms_stream_slot_bytes";

const SLOT: &str = "SELECT plugin, database = current_database(), active_pid, wal_status,
        confirmed_flush_lsn::text, restart_lsn::text, pg_current_wal_insert_lsn()::text
    FROM (SELECT $1::text AS name) AS wanted
    LEFT JOIN pg_replication_slots ON slot_name = name";

const STREAMED: &str = "SELECT count(*) FROM pg_publication_tables
    WHERE pubname = $1 AND schemaname = 'public' AND tablename IN ('documents', 'signatures')";

const CREATE_SLOT: &str =
    "SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')";

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS public.wal_consumers (
    slot text PRIMARY KEY,
    acknowledged text,
    skipped_to text)";

const HAS_TABLE: &str = "SELECT to_regclass('public.wal_consumers') IS NOT NULL";

const HAS_ROWS: &str = "SELECT EXISTS (SELECT FROM public.documents)
    OR EXISTS (SELECT FROM public.signatures)";

const REMEMBER: &str = "INSERT INTO public.wal_consumers (slot, acknowledged, skipped_to)
    VALUES ($1, $2, NULL)
    ON CONFLICT (slot) DO UPDATE SET acknowledged = excluded.acknowledged, skipped_to = NULL";

const MEMORY: &str = "SELECT acknowledged, skipped_to FROM public.wal_consumers WHERE slot = $1";

// What was acknowledged before a stretch that was skipped stays, however the stretch grows.
const SKIP: &str = "UPDATE public.wal_consumers SET skipped_to = $3, acknowledged = CASE
        WHEN skipped_to::pg_lsn >= $4::pg_lsn THEN acknowledged ELSE $2 END
    WHERE slot = $1 AND acknowledged IS NOT NULL";

const HEAD: &str = "SELECT pg_current_wal_insert_lsn()::text, pg_current_snapshot()::text";

// Those of other databases of the server, as far as that can be seen, don't matter.
const STILL_RUNNING: &str = "SELECT EXISTS (
    SELECT FROM pg_snapshot_xip($1::pg_snapshot) AS running
    WHERE pg_xact_status(running) = 'in progress' AND NOT EXISTS (
        SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
            AND transactionid = running::xid AND datname <> current_database()))";

/// How a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotState {
    /// The process that reads from it.
    pub(super) active_pid: Option<i32>,
    /// What the server knows its consumer to have.
    pub(super) confirmed: Lsn,
    /// From where the server keeps its log.
    restart: Lsn,
    /// The server threw away log that it needs.
    is_lost: bool,
}

/// What is remembered of a slot's consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    /// What it acknowledged before `skipped_to`; none if it must be rebuilt.
    acknowledged: Option<WalPosition>,
    /// Up to here nothing after `acknowledged` was for it.
    skipped_to: Option<Lsn>,
}

/// A slot of a database.
#[derive(Clone)]
pub(super) struct Slot {
    pool: PgPool,
    name: String,
    publication: String,
}

impl Slot {
    /// # Errors
    /// `Invalid` if the URL isn't one; it isn't repeated.
    pub(super) fn new(options: &WalOptions) -> Result<Self> {
        let connect: PgConnectOptions = options.url.parse().map_err(|_| {
            Error::invalid("url", "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE")
        })?;
        let connect = connect.application_name("dms-cdc");
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(CONNECT_MAX)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(connect);
        Ok(Self { pool, name: options.slot.clone(), publication: options.publication.clone() })
    }

    /// The slot, if it is there, and how far the log reaches.
    pub(super) async fn inspect(&self) -> Result<(Option<SlotState>, Lsn)> {
        type Row = (
            Option<String>,
            Option<bool>,
            Option<i32>,
            Option<String>,
            Option<String>,
            Option<String>,
            String,
        );
        let query = sqlx::query_as(SLOT).bind(&self.name).fetch_one(&self.pool);
        let (plugin, is_here, active_pid, wal_status, confirmed, restart, head): Row =
            answer(QUERY_MAX, query).await?;
        let Some(plugin) = plugin else { return Ok((None, lsn(&head)?)) };
        if plugin != "pgoutput" || is_here != Some(true) {
            let message = format!("slot {} is another database's or plugin's", self.name);
            return Err(Error::internal(message));
        }
        let state = SlotState {
            active_pid,
            confirmed: confirmed.as_deref().map_or(Ok(Lsn::default()), lsn)?,
            restart: restart.as_deref().map_or(Ok(Lsn::default()), lsn)?,
            is_lost: wal_status.as_deref() == Some("lost") || restart.is_none(),
        };
        Ok((Some(state), lsn(&head)?))
    }

    /// # Errors
    /// `Unavailable` unless the publication streams both tables: migrations may come later.
    pub(super) async fn check_publication(&self) -> Result<()> {
        let query = sqlx::query_scalar(STREAMED).bind(&self.publication).fetch_one(&self.pool);
        let tables: i64 = answer(QUERY_MAX, query).await?;
        if tables == 2 {
            return Ok(());
        }
        let message = format!(
            "publication {} doesn't stream the tables documents and signatures (yet)",
            self.publication
        );
        Err(Error::unavailable("database", message))
    }

    /// The slot, made if it is missing or lost; its consumer has then to be rebuilt, unless there
    /// are no rows. Also how far the log reaches.
    pub(super) async fn ensure(&self) -> Result<(SlotState, Lsn)> {
        if !answer(QUERY_MAX, sqlx::query_scalar(HAS_TABLE).fetch_one(&self.pool)).await? {
            answer(QUERY_MAX, sqlx::query(CREATE_TABLE).execute(&self.pool)).await?;
        }
        let (state, head) = self.inspect().await?;
        match state {
            Some(state) if !state.is_lost => {
                if self.memory().await?.is_none() {
                    self.introduce(&state).await?;
                }
                return Ok((state, head));
            }
            Some(_) => {
                tracing::error!(slot = self.name, "replication slot lost, made anew");
                let query = sqlx::query("SELECT pg_drop_replication_slot($1)").bind(&self.name);
                answer(QUERY_MAX, query.execute(&self.pool)).await?;
            }
            None => tracing::warn!(slot = self.name, "no replication slot, made one"),
        }
        // Its log must begin after the publication, which is looked up as of then.
        self.check_publication().await?;
        self.forget().await?;
        let query = sqlx::query_scalar(CREATE_SLOT).bind(&self.name).fetch_one(&self.pool);
        let _: String = answer(CREATE_MAX, query).await?;
        let (state, head) = self.inspect().await?;
        let state =
            state.ok_or_else(|| Error::unavailable("database", "the slot was dropped again"))?;
        self.introduce(&state).await?;
        Ok((state, head))
    }

    /// Remembers a consumer whose slot is new. Whatever was committed before the slot is visible
    /// now, so without rows there is nothing that it misses.
    async fn introduce(&self, state: &SlotState) -> Result<()> {
        let has_rows: bool =
            answer(QUERY_MAX, sqlx::query_scalar(HAS_ROWS).fetch_one(&self.pool)).await?;
        let acknowledged = (!has_rows).then(|| WalPosition::between(state.confirmed));
        self.write_memory(acknowledged).await
    }

    /// The consumer has to be rebuilt before it may follow.
    pub(super) async fn forget(&self) -> Result<()> {
        self.write_memory(None).await
    }

    /// The consumer has everything up to `at`.
    pub(super) async fn remember(&self, at: WalPosition) -> Result<()> {
        self.write_memory(Some(at)).await
    }

    async fn write_memory(&self, acknowledged: Option<WalPosition>) -> Result<()> {
        let acknowledged = acknowledged.map(|at| at.to_string());
        let query = sqlx::query(REMEMBER).bind(&self.name).bind(acknowledged);
        answer(QUERY_MAX, query.execute(&self.pool)).await?;
        Ok(())
    }

    /// After `acknowledged` nothing was for the consumer, up to `to`.
    pub(super) async fn skip(&self, acknowledged: WalPosition, to: Lsn) -> Result<()> {
        let query = sqlx::query(SKIP)
            .bind(&self.name)
            .bind(acknowledged.to_string())
            .bind(to.to_string())
            .bind(acknowledged.lsn.to_string());
        answer(QUERY_MAX, query.execute(&self.pool)).await?;
        Ok(())
    }

    async fn memory(&self) -> Result<Option<Memory>> {
        let query = sqlx::query_as(MEMORY).bind(&self.name).fetch_optional(&self.pool);
        let row: Option<(Option<String>, Option<String>)> = answer(QUERY_MAX, query).await?;
        let Some((acknowledged, skipped_to)) = row else { return Ok(None) };
        Ok(Some(Memory {
            acknowledged: acknowledged.and_then(|text| text.parse().ok()),
            skipped_to: skipped_to.and_then(|text| text.parse().ok()),
        }))
    }

    /// Where a consumer goes on that relies on the slot.
    ///
    /// # Errors
    /// `position_lost` if it has to be rebuilt.
    pub(super) async fn acknowledged(&self, state: &SlotState) -> Result<WalPosition> {
        match self.memory().await? {
            Some(Memory { acknowledged: Some(_), .. }) => Ok(WalPosition::between(state.confirmed)),
            _ => {
                Err(position_lost("the slot doesn't have all changes since the consumer was built"))
            }
        }
    }

    /// Where a consumer goes on that knows its position.
    ///
    /// # Errors
    /// `position_lost` if the log doesn't reach to `at`, or the slot has changes after it no more.
    pub(super) async fn after(
        &self,
        at: WalPosition,
        state: &SlotState,
        head: Lsn,
    ) -> Result<WalPosition> {
        if at.lsn > head {
            return Err(position_lost("the database's log doesn't reach to the position"));
        }
        if at.lsn >= state.confirmed {
            return Ok(at);
        }
        match self.memory().await? {
            Some(Memory { acknowledged: Some(acknowledged), skipped_to: Some(skipped_to) })
                if at >= acknowledged && state.confirmed <= skipped_to =>
            {
                Ok(WalPosition::between(state.confirmed))
            }
            _ => Err(position_lost("the slot no longer has the changes after the position")),
        }
    }

    /// A place in the log before which everything that commits is visible to queries from now on.
    /// None if a transaction takes too long to tell.
    pub(super) async fn head(&self) -> Result<Option<Lsn>> {
        let query = sqlx::query_as(HEAD).fetch_one(&self.pool);
        let (head, snapshot): (String, String) = answer(QUERY_MAX, query).await?;
        // A commit is in the log a moment before it is visible. What ran at that moment has to end.
        let ended = async {
            loop {
                let query = sqlx::query_scalar(STILL_RUNNING).bind(&snapshot);
                if !answer::<bool>(QUERY_MAX, query.fetch_one(&self.pool)).await? {
                    return Ok(());
                }
                tokio::time::sleep(COMMITTING_EVERY).await;
            }
        };
        match timeout(COMMITTING_MAX, ended).await {
            Ok(ended) => ended.and_then(|()| lsn(&head).map(Some)),
            Err(_) => Ok(None),
        }
    }

    /// Where the log ends that is safe on disk, and where the next record goes.
    pub(super) async fn log_end(&self) -> Result<(Lsn, Lsn)> {
        const END: &str =
            "SELECT pg_current_wal_flush_lsn()::text, pg_current_wal_insert_lsn()::text";
        let query = sqlx::query_as(END).fetch_one(&self.pool);
        let (flushed, inserted): (String, String) = answer(QUERY_MAX, query).await?;
        Ok((lsn(&flushed)?, lsn(&inserted)?))
    }

    /// Ends a connection of ours that the server still takes for alive.
    pub(super) async fn terminate(&self, pid: i32) -> Result<()> {
        const TERMINATE: &str = "SELECT pg_terminate_backend(active_pid)
            FROM pg_replication_slots WHERE slot_name = $1 AND active_pid = $2";
        let query = sqlx::query(TERMINATE).bind(&self.name).bind(pid);
        answer(QUERY_MAX, query.execute(&self.pool)).await?;
        Ok(())
    }

    /// Drops a slot that can't be decoded; its consumer has to be rebuilt.
    pub(super) async fn drop_broken(&self) -> Result<()> {
        const DROP: &str = "SELECT pg_drop_replication_slot(slot_name)
            FROM pg_replication_slots WHERE slot_name = $1";
        tracing::error!(slot = self.name, "log of the slot is older than the publication");
        self.forget().await?;
        answer(QUERY_MAX, sqlx::query(DROP).bind(&self.name).execute(&self.pool)).await?;
        Ok(())
    }

    /// Measures how much of its log the server keeps for the slot.
    #[expect(clippy::cast_precision_loss, reason = "precise up to 2^52 bytes")]
    pub(super) fn measure(&self, state: &SlotState, head: Lsn) {
        describe_gauge!(SLOT_BYTES, Unit::Bytes, "log that the database keeps for a slot");
        let bytes = head.0.saturating_sub(state.restart.0);
        gauge!(SLOT_BYTES, "slot" => self.name.clone()).set(bytes as f64);
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

async fn answer<T>(max: Duration, query: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match timeout(max, query).await {
        Ok(answer) => answer.map_err(query_failed),
        Err(_) => Err(Error::unavailable("database", "the database doesn't answer")),
    }
}

fn lsn(text: &str) -> Result<Lsn> {
    text.parse().map_err(|()| Error::internal("the database gave an unknown place in its log"))
}
