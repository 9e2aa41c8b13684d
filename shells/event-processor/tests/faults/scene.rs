//! Everything together: engines, writers and the processor, and the question whether index and
//! database agree.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::time::{Instant, sleep, timeout};

use crate::processor::Processor;
use crate::proxy::Proxy;
use crate::stack::Stack;
use crate::writers::{Random, Writers, create};

/// Longest that anything may take to heal by itself: what only the drift check finds takes two of
/// its rounds.
const HEAL_MAX: Duration = Duration::from_mins(6);
/// What a debug build may have in memory, in KiB, whatever happens.
const MEMORY_MAX_KIB: u64 = 160 << 10;
/// Documents that nobody changes.
pub(crate) const STEADY: u64 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Debezium writes to Kafka.
    Kafka,
    /// The processor reads the write-ahead log itself; there is no Kafka.
    Wal,
}

pub(crate) struct Scene {
    pub(crate) tier: Tier,
    pub(crate) stack: Stack,
    pub(crate) database: PostgresDatabase,
    pub(crate) superuser: PgPool,
    pub(crate) proxy: Proxy,
    pub(crate) processor: Processor,
    pub(crate) writers: Writers,
    pub(crate) random: Random,
    /// Kept longer, and more often, unless it has to be quick.
    pub(crate) is_quick: bool,
    pub(crate) http: reqwest::Client,
    begun: Instant,
}

impl Scene {
    pub(crate) async fn set(tier: Tier, seed: u64, is_quick: bool) -> Self {
        let begun = Instant::now();
        let (offset, engines): (u16, &[&str]) = match tier {
            Tier::Wal => (11_000, &["postgres", "elasticsearch"]),
            Tier::Kafka => (12_000, &["postgres", "elasticsearch", "kafka", "connect"]),
        };
        let stack = Stack::start(offset, engines).await;
        let options = PostgresOptions::new(&stack.postgres_url());
        let database = PostgresDatabase::new(options).expect("options");
        database.prepare().await.expect("a database");
        if tier == Tier::Kafka {
            stack.up(&["connector"]).await;
        }
        let socket = PgConnectOptions::new()
            .socket(stack.folder("data/postgres"))
            .port(5432 + offset)
            .username("postgres")
            .database("postgres");
        let superuser = PgPoolOptions::new().max_connections(2).connect_lazy_with(socket);
        let proxy = Proxy::to(stack.address(9200)).await;
        let events = match tier {
            Tier::Wal => stack.postgres_url(),
            Tier::Kafka => format!("kafka://{}", stack.address(9092)),
        };
        let variables = vec![
            ("DMS_DATABASE_URL", stack.postgres_url()),
            ("DMS_EVENTS_URL", events),
            ("DMS_SEARCH_URL", format!("http://{}", proxy.address)),
            ("DMS_STORAGE_URL", format!("file://{}", stack.folder("content").display())),
            ("DMS_DATA_DIR", stack.folder("processor").display().to_string()),
            ("DMS_LOG_FORMAT", "json".to_owned()),
        ];
        let log = stack.folder("log").join("event-processor.log");
        let mut processor = Processor::new(variables, log);
        processor.start();
        for number in 0..STEADY {
            create(&database, "steady", number).await.expect("created");
        }
        let writers = Writers::start(&database, seed);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
        let scene = Self {
            tier,
            stack,
            database,
            superuser,
            proxy,
            processor,
            writers,
            random: Random::new(seed),
            is_quick,
            http: http.expect("a client"),
            begun,
        };
        scene.say(&format!("{tier:?} tier is up, seed {seed}"));
        scene
    }

    pub(crate) fn say(&self, line: &str) {
        println!("[{:6.1} s] {line}", self.begun.elapsed().as_secs_f64());
    }

    /// How long a fault lasts.
    pub(crate) fn hold(&self) -> Duration {
        Duration::from_secs(if self.is_quick { 4 } else { 15 })
    }

    /// Waits until index and database agree, nothing having been done by hand but what `what` names;
    /// says how long it took from now.
    pub(crate) async fn heals(&mut self, what: &str) {
        let healed = Instant::now();
        // Load goes on while it heals.
        sleep(Duration::from_secs(1)).await;
        self.writers.pause().await;
        let agreed = timeout(HEAL_MAX, async {
            loop {
                match self.differences().await {
                    Ok(none) if none.is_empty() => return,
                    _ => sleep(Duration::from_millis(100)).await,
                }
            }
        });
        if agreed.await.is_err() {
            let differences = self.differences().await;
            let (_, ready) = self.processor.ready().await;
            panic!("{what}: didn't heal: {differences:?}; the processor says {ready}");
        }
        let seconds = healed.elapsed().as_secs_f64();
        self.eventually("the processor is ready", async |scene| scene.processor.ready().await.0)
            .await;
        self.verify().await;
        self.processor.assert_runs();
        let memory = self.processor.memory_kib();
        let documents = self.rows().await.expect("rows").len();
        self.say(&format!(
            "{what}: healed in {seconds:.1} s; {documents} documents agree; at most {} MiB",
            memory >> 10
        ));
        assert!(memory <= MEMORY_MAX_KIB, "{memory} KiB");
        self.writers.resume();
    }

    /// The command finds nothing.
    pub(crate) async fn verify(&self) {
        let output = self.processor.run(&["verify"]).await;
        assert!(output.status.success(), "verify: {output:?}");
    }

    pub(crate) async fn eventually(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let met = timeout(HEAL_MAX, async {
            while !condition(self).await {
                sleep(Duration::from_millis(50)).await;
            }
        });
        if met.await.is_err() {
            let (_, ready) = self.processor.ready().await;
            panic!("not in time: {what}; the processor says {ready}");
        }
    }

    /// What {id → version} has in the database and in the index, where that isn't the same.
    async fn differences(&self) -> Result<Vec<String>, String> {
        let rows = self.rows().await.map_err(|error| error.to_string())?;
        let entries = self.entries().await?;
        let mut differences = Vec::new();
        for (id, row) in &rows {
            let entry = entries.get(id);
            if entry != Some(row) {
                differences.push(format!("{id}: row {row:?}, entry {entry:?}"));
            }
        }
        for (id, entry) in &entries {
            // The mark of a document whose row was removed by hand may stay.
            if !rows.contains_key(id) && !entry.1 {
                differences.push(format!("{id}: no row, entry {entry:?}"));
            }
        }
        Ok(differences)
    }

    /// Version of each row, and whether it is deleted.
    async fn rows(&self) -> Result<BTreeMap<String, (i32, bool)>, sqlx::Error> {
        let options: PgConnectOptions = self.stack.postgres_url().parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(options);
        let rows: Vec<(String, i32, bool)> =
            sqlx::query_as("SELECT id::text, version, deleted_at IS NOT NULL FROM documents")
                .fetch_all(&pool)
                .await?;
        pool.close().await;
        Ok(rows.into_iter().map(|(id, version, deleted)| (id, (version, deleted))).collect())
    }

    /// The same of the index, read past the program.
    async fn entries(&self) -> Result<BTreeMap<String, (i32, bool)>, String> {
        let mut entries = BTreeMap::new();
        self.elasticsearch("POST", "documents/_refresh", None).await?;
        let mut after = None;
        loop {
            let mut search = json!({
                "size": 5_000, "sort": [{ "id": "asc" }], "_source": ["id", "version", "deleted"],
            });
            if let Some(after) = after {
                search["search_after"] = after;
            }
            let answer = self.elasticsearch("POST", "documents/_search", Some(search)).await?;
            let hits = answer["hits"]["hits"].as_array().ok_or("no hits")?;
            for hit in hits {
                let source = &hit["_source"];
                let id = source["id"].as_str().ok_or("no id")?.to_owned();
                let version = source["version"].as_i64().and_then(|v| i32::try_from(v).ok());
                let deleted = source["deleted"].as_bool().unwrap_or(false);
                entries.insert(id, (version.ok_or("no version")?, deleted));
            }
            match hits.last() {
                Some(last) => after = Some(last["sort"].clone()),
                None => return Ok(entries),
            }
        }
    }

    /// Asks Elasticsearch, past the proxy.
    pub(crate) async fn elasticsearch(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let url = format!("http://{}/{path}", self.stack.address(9200));
        let method = method.parse().map_err(|_| "no method")?;
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(answer) } else { Err(answer.to_string()) }
    }

    /// The name of the index behind the alias.
    pub(crate) async fn index_name(&self) -> Option<String> {
        let answer = self.elasticsearch("GET", "_alias/documents", None).await.ok()?;
        answer.as_object()?.keys().next().cloned()
    }
}
