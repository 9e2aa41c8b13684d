//! A system of its own on shared engines: a database, a prefix in the bucket, a database of Redis, topics,
//! a connector and an alias, all of one name, all removed with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use dms_core::Sha256;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};

use super::{PATIENCE, Tier};

/// The bucket that all such systems share.
pub const BUCKET: &str = "dms-test-systems";
const TABLES: [&str; 2] = ["documents", "signatures"];
/// How curl signs requests.
const S3_ACCESS: [&str; 6] = [
    "--aws-sigv4",
    "aws:amz:us-east-1:s3",
    "--user",
    "minioadmin:minioadmin",
    "-H",
    "x-amz-content-sha256: UNSIGNED-PAYLOAD",
];
/// Marks a database of Redis as taken.
const TAKEN: &str = "dms-test-system";

pub fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn postgres_url() -> String {
    variable("DMS_TEST_POSTGRES_URL", "postgres://docs:docs_pw@127.0.0.1:5432/docs_db")
}

fn pgbouncer_url() -> String {
    variable("DMS_TEST_PGBOUNCER_URL", "postgres://docs:docs_pw@127.0.0.1:6432/docs_db")
}

fn redis_url() -> String {
    variable("DMS_TEST_REDIS_URL", "redis://127.0.0.1:6379")
}

pub fn s3_endpoint() -> String {
    variable("DMS_TEST_S3_ENDPOINT", "http://127.0.0.1:9000")
}

fn brokers() -> String {
    variable("DMS_TEST_KAFKA", "127.0.0.1:9092")
}

fn connect_url() -> String {
    variable("DMS_TEST_CONNECT_URL", "http://127.0.0.1:8083")
}

pub fn elasticsearch_url() -> String {
    variable("DMS_TEST_ELASTICSEARCH_URL", "http://127.0.0.1:9200")
}

/// The same server with another path.
fn with_path(url: &str, path: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}/{path}")
}

/// What a command prints; its failure is the test's.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{} doesn't start: {error}", command.get_program().display());
    });
    assert!(
        output.status.success(),
        "{}: {}{}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What PostgreSQL answers, without its decoration.
fn psql(url: &str, sql: &str) -> String {
    output(Command::new("psql").args([url, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]))
}

fn redis(database: u8, words: &[&str]) -> String {
    let url = with_path(&redis_url(), &database.to_string());
    output(Command::new("redis-cli").args(["-u", &url, "--no-auth-warning"]).args(words))
}

/// Status and body of a request.
pub fn curl(method: &str, url: &str, arguments: &[&str]) -> (u16, String) {
    let text = output(
        Command::new("curl")
            .args(["-sS", "-m", "60", "-w", "\n%{http_code}", "-X", method])
            .args(arguments)
            .arg(url),
    );
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    (status.parse().expect("a status"), body.to_owned())
}

/// Signed for S3.
pub fn s3(method: &str, path: &str, arguments: &[&str]) -> (u16, String) {
    let mut all = S3_ACCESS.to_vec();
    all.extend(arguments);
    curl(method, &format!("{}/{path}", s3_endpoint()), &all)
}

/// Waits until there is an answer, on a thread that may block.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A system on the engines, removed when it is dropped. Its programs must have ended by then.
pub struct System {
    /// Of everything that is its own.
    pub name: String,
    tier: Tier,
    redis_database: Option<u8>,
    has_connector: bool,
}

impl System {
    /// An empty one. An engine that is away fails the test.
    pub fn create(tier: Tier) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dmst{:x}p{}n{count}", now.as_millis(), std::process::id());
        psql(&postgres_url(), &format!("CREATE DATABASE {name} TEMPLATE template0"));
        let mut system = Self { name, tier, redis_database: None, has_connector: false };
        if tier == Tier::Full {
            system.redis_database = Some(free_redis_database());
            system.create_topics();
        }
        system
    }

    fn database_url(&self) -> String {
        with_path(&postgres_url(), &self.name)
    }

    /// What PostgreSQL answers to a question about this system.
    pub fn query(&self, sql: &str) -> String {
        psql(&self.database_url(), sql)
    }

    /// The settings of its programs.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("DMS_DATABASE_URL", with_path(&pgbouncer_url(), &self.name)),
            ("DMS_DATABASE_DIRECT_URL", self.database_url()),
            ("DMS_CONSUMER_GROUP", self.name.clone()),
        ];
        if let Some(database) = self.redis_database {
            variables.extend([
                ("DMS_STORAGE_URL", format!("s3://{BUCKET}/{}", self.name)),
                ("AWS_ENDPOINT_URL", s3_endpoint()),
                ("AWS_ACCESS_KEY_ID", "minioadmin".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "minioadmin".to_owned()),
                ("DMS_CACHE_URL", with_path(&redis_url(), &database.to_string())),
                ("DMS_EVENTS_URL", format!("kafka://{}/{}", brokers(), self.name)),
                ("DMS_SEARCH_URL", with_path(&elasticsearch_url(), &self.name)),
            ]);
        }
        variables
    }

    /// Registers Debezium, once the tables are there, and waits until it streams.
    pub fn connect(&mut self) {
        if !self.has_connector {
            let file = super::root().join("deploy/debezium/connector.json");
            let text = std::fs::read_to_string(file).expect("the connector's settings");
            let mut settings: Value = serde_json::from_str(&text).expect("JSON");
            let name = &self.name;
            settings["database.dbname"] = json!(name);
            settings["topic.prefix"] = json!(name);
            settings["slot.name"] = json!(name);
            settings["transforms.table.regex"] =
                json!(format!("{name}\\.[^.]+\\.(documents|signatures)"));
            settings["transforms.table.replacement"] = json!(format!("{name}.$1"));
            self.has_connector = true;
            let mut is_as_is = true;
            wait_for("the connector to be taken", || {
                let (status, body) = curl(
                    "PUT",
                    &format!("{}/connectors/{name}/config", connect_url()),
                    &["-H", "content-type: application/json", "-d", &settings.to_string()],
                );
                if status == 400 {
                    // A Connect that wasn't told where the database is, as the file wants it.
                    assert!(is_as_is, "refused: {body}");
                    is_as_is = false;
                    settings.as_object_mut().expect("an object").extend(place_of_database());
                }
                (status / 100 == 2).then_some(())
            });
        }
        let streams = format!(
            "SELECT count(*) FROM pg_replication_slots s JOIN pg_stat_activity a \
             ON a.pid = s.active_pid WHERE s.slot_name = '{}' AND a.query ~ '^START_REPLICATION'",
            self.name
        );
        wait_for("Debezium to stream", || (self.query(&streams) == "1").then_some(()));
    }

    fn create_topics(&self) {
        let names = self.topics();
        admin(async |client| {
            let topics: Vec<_> = names[..TABLES.len()]
                .iter()
                .map(|name| NewTopic::new(name, 3, TopicReplication::Fixed(1)))
                .collect();
            let made = client.create_topics(&topics, &AdminOptions::new()).await.expect("Kafka");
            for topic in made {
                topic.expect("a new topic");
            }
        });
    }

    /// Its topics, and those that Debezium makes besides.
    fn topics(&self) -> Vec<String> {
        let mut topics: Vec<_> =
            TABLES.iter().map(|table| format!("{}.{table}", self.name)).collect();
        topics.push(format!("__debezium-heartbeat.{}", self.name));
        topics
    }

    /// Hash of the content by id, as each store has it: the row, the object's own bytes, the index.
    pub fn hashes(&self) -> [BTreeMap<String, String>; 3] {
        let rows = self.query(
            "SELECT id, s3_key, content_sha256 FROM documents WHERE status <> 'deleted' ORDER BY id",
        );
        let mut keys = BTreeMap::new();
        let mut in_rows = BTreeMap::new();
        for row in rows.lines() {
            let fields: Vec<_> = row.split('|').collect();
            let [id, key, hash] = fields[..] else { panic!("{row}") };
            keys.insert(id.to_owned(), key.to_owned());
            in_rows.insert(id.to_owned(), hash.to_owned());
        }
        [in_rows, self.hashes_of_objects(&keys), self.hashes_in_index()]
    }

    fn hashes_of_objects(&self, keys: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // One process for all of them.
        let mut list = String::new();
        for (id, key) in keys {
            let url = format!("{}/{BUCKET}/{}/{key}", s3_endpoint(), self.name);
            let file = folder.path().join(id);
            let _ = writeln!(list, "url = \"{url}\"\noutput = \"{}\"", file.display());
        }
        let file = folder.path().join("list");
        std::fs::write(&file, list).expect("a list");
        output(Command::new("curl").args(["-sS", "--fail", "-K"]).arg(&file).args(S3_ACCESS));
        let hash = |id: &String| {
            let bytes = std::fs::read(folder.path().join(id)).unwrap_or_default();
            (id.clone(), Sha256::of(&bytes).to_string())
        };
        keys.keys().map(hash).collect()
    }

    fn hashes_in_index(&self) -> BTreeMap<String, String> {
        let url = format!("{}/{}/_search", elasticsearch_url(), self.name);
        let question = json!({
            "size": 10_000, "query": {"term": {"deleted": false}}, "_source": ["id", "content_sha256"],
        });
        let (status, body) = curl(
            "POST",
            &url,
            &["-H", "content-type: application/json", "-d", &question.to_string()],
        );
        assert_eq!(status, 200, "{body}");
        let found: Value = serde_json::from_str(&body).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let hits = found["hits"]["hits"].as_array().expect("hits");
        hits.iter()
            .map(|hit| (text(&hit["_source"]["id"]), text(&hit["_source"]["content_sha256"])))
            .collect()
    }

    /// Removes its indices from Elasticsearch.
    pub fn remove_indices(&self) {
        let indices = format!("{}/_cat/indices/{}*?h=index", elasticsearch_url(), self.name);
        for index in curl("GET", &indices, &[]).1.split_whitespace() {
            curl("DELETE", &format!("{}/{index}", elasticsearch_url()), &[]);
        }
    }

    fn remove(&mut self) {
        let name = self.name.clone();
        if self.has_connector {
            let connector = format!("{}/connectors/{name}", connect_url());
            // Offsets outlive the connector, and can go only while it is stopped.
            curl("PUT", &format!("{connector}/stop"), &[]);
            wait_for("the connector's offsets to go", || {
                (curl("DELETE", &format!("{connector}/offsets"), &[]).0 == 200).then_some(())
            });
            curl("DELETE", &connector, &[]);
        }
        let slots = format!("SELECT slot_name FROM pg_replication_slots WHERE database = '{name}'");
        wait_for("the slots to be left", || {
            let drop = format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE database = '{name}' AND NOT active"
            );
            psql(&postgres_url(), &drop);
            psql(&postgres_url(), &slots).is_empty().then_some(())
        });
        psql(&postgres_url(), &format!("DROP DATABASE {name} WITH (FORCE)"));
        if self.tier != Tier::Full {
            return;
        }
        let topics = self.topics();
        admin(async |client| {
            let topics: Vec<_> = topics.iter().map(String::as_str).collect();
            // The heartbeat's may not have been made, and the group not either.
            let _ = client.delete_topics(&topics, &AdminOptions::new()).await;
            let _ = client.delete_groups(&[name.as_str()], &AdminOptions::new()).await;
        });
        self.remove_indices();
        s3("DELETE", &format!("{BUCKET}/{name}/"), &["-H", "x-minio-force-delete: true"]);
        if let Some(database) = self.redis_database.take() {
            redis(database, &["FLUSHDB"]);
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What went wrong is told already; a second panic would hide it.
            let removed = std::panic::AssertUnwindSafe(|| self.remove());
            let _ = std::panic::catch_unwind(removed);
        } else {
            self.remove();
        }
    }
}

/// Where the database is, in words of the connector.
fn place_of_database() -> [(String, Value); 4] {
    let url = postgres_url();
    let (_, rest) = url.split_once("://").expect("a URL");
    let (account, place) = rest.split_once('@').expect("an account");
    let (user, password) = account.split_once(':').expect("a password");
    let (address, _) = place.split_once('/').expect("a database");
    let (host, port) = address.split_once(':').unwrap_or((address, "5432"));
    [("hostname", host), ("port", port), ("user", user), ("password", password)]
        .map(|(name, value)| (format!("database.{name}"), json!(value)))
}

/// A database of Redis that nobody uses, marked as taken.
fn free_redis_database() -> u8 {
    for database in 1..16 {
        let taken = redis(database, &["SET", TAKEN, "1", "NX", "EX", "3600"]);
        if taken != "OK" {
            continue;
        }
        if redis(database, &["DBSIZE"]) == "1" {
            return database;
        }
        redis(database, &["DEL", TAKEN]);
    }
    panic!("every database of Redis is used by somebody");
}

/// Tells Kafka something, on a thread where that may block.
fn admin(tell: impl AsyncFnOnce(&AdminClient<DefaultClientContext>) + Send) {
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers()).set("log_level", "2");
            let client: AdminClient<_> = config.create().expect("an admin client");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(tell(&client));
        });
        told.join().expect("Kafka does it");
    });
}
