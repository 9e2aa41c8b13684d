//! A database, topics and indices of the bench's own, all of one name, removed afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use crate::elasticsearch::Elasticsearch;
use crate::{connector, topic};

/// How long anything may take to happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

/// Where changes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Debezium writes to Kafka.
    Kafka,
    /// The processor reads the write-ahead log itself.
    Wal,
}

impl FromStr for Tier {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "kafka" => Ok(Self::Kafka),
            "wal" => Ok(Self::Wal),
            _ => Err(()),
        }
    }
}

pub(crate) struct System {
    /// Of everything that is its own.
    pub(crate) name: String,
    pub(crate) database: PostgresDatabase,
    pub(crate) elasticsearch: Elasticsearch,
    folder: TempDir,
}

/// Lets something be done with a system, and removes it whatever became of that. With a tier its
/// changes flow; without one its topics are empty and nobody writes to them.
pub(crate) fn with(runtime: &Runtime, tier: Option<Tier>, work: impl AsyncFnOnce(&System)) {
    let millis = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_millis();
    let name = format!("dmsb{millis:x}");
    let worked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let system = System::make(name.clone(), tier).await;
            work(&system).await;
        });
    }));
    runtime.block_on(remove(&name));
    if let Err(panic) = worked {
        resume_unwind(panic);
    }
}

impl System {
    async fn make(name: String, tier: Option<Tier>) -> Self {
        execute(&server_url(), &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        let url = database_url(&name);
        let database = PostgresDatabase::new(PostgresOptions::new(&url)).expect("options");
        database.prepare().await.expect("a database");
        if tier != Some(Tier::Wal) {
            topic::create(&name).await;
        }
        if tier == Some(Tier::Kafka) {
            connector::register(&name).await;
            let streams = format!(
                "SELECT count(*) FROM pg_replication_slots s JOIN pg_stat_activity a
                 ON a.pid = s.active_pid
                 WHERE s.slot_name = '{name}' AND a.query ~ '^START_REPLICATION'"
            );
            eventually("Debezium streams", async || query(&url, &streams).await == 1).await;
        }
        let folder = tempfile::tempdir().expect("a folder");
        Self { name, database, elasticsearch: Elasticsearch::new(), folder }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn database_url(&self) -> String {
        database_url(&self.name)
    }

    pub(crate) fn events_url(&self, tier: Tier) -> String {
        match tier {
            Tier::Kafka => format!("kafka://{}/{}", topic::brokers(), self.name),
            Tier::Wal => self.database_url(),
        }
    }

    /// The only column of the only row.
    pub(crate) async fn query(&self, sql: &str) -> i64 {
        query(&self.database_url(), sql).await
    }
}

async fn remove(name: &str) {
    connector::remove(name).await;
    let server = server_url();
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE database = '{name}'");
    let leave = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
         WHERE database = '{name}' AND active"
    );
    let drop = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
         WHERE database = '{name}' AND NOT active"
    );
    eventually("slots are removed", async || {
        execute(&server, &leave).await;
        execute(&server, &drop).await;
        query(&server, &slots).await == 0
    })
    .await;
    execute(&server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    topic::remove(name).await;
    Elasticsearch::new().remove(name).await;
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

pub(crate) fn server_url() -> String {
    variable("DMS_TEST_POSTGRES_URL", "postgres://docs:docs_pw@127.0.0.1:5432/docs_db")
}

pub(crate) fn database_url(name: &str) -> String {
    let url = server_url();
    let (before, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{before}/{name}")
}

pub(crate) async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL runs");
    let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    statement.execute(&mut connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

async fn query(url: &str, sql: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL runs");
    let statement = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    statement.fetch_one(&mut connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}
