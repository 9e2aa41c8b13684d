//! Rows written through `PgBouncer`, as they arrive through PostgreSQL, Debezium and Kafka.

use std::future::Future;
use std::time::Duration;

use dms_cdc::debezium::DebeziumRecord;
use dms_cdc::kafka::{KafkaChangeSource, KafkaSourceOptions};
use dms_core::model::change::{Change, Operation, PoisonRecord, Record, RowChange};
use dms_core::ports::{BatchLimits, ChangeSource as _, StartAt};
use dms_core::{DocumentId, DocumentStatus, Sha256, SignatureId};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message as _};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

/// The tables, as far as their changes are concerned.
const TABLES: &str = "
    CREATE TABLE documents (
        id uuid PRIMARY KEY, title text NOT NULL, content_type text NOT NULL,
        content_size bigint NOT NULL, content_sha256 text, s3_key text, status text NOT NULL,
        created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(), version int NOT NULL DEFAULT 1,
        deleted_at timestamptz);
    ALTER TABLE documents REPLICA IDENTITY FULL;
    CREATE TABLE signatures (
        id uuid PRIMARY KEY, document_id uuid NOT NULL, signer_email text NOT NULL,
        signer_name text NOT NULL, image_key text NOT NULL, image_content_type text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), status_applied boolean NOT NULL DEFAULT false);
    ALTER TABLE signatures REPLICA IDENTITY FULL;";

const INSERT: &str = "INSERT INTO documents
        (id, title, content_type, content_size, content_sha256, s3_key, status, created_by)
    VALUES ($1, $2, 'text/plain', 7, $3, $4, 'created', 'ann@example.org')";

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("done in time")
}

/// Tries until it holds, but not for ever.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let trying = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), trying)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

/// A database, connector and topics that nobody else has.
struct Stack {
    name: String,
    connect: String,
    http: reqwest::Client,
    /// To PostgreSQL itself, in the database that is always there.
    server: PgPool,
    kafka: AdminClient<DefaultClientContext>,
}

impl Stack {
    async fn new() -> Self {
        let url =
            variable("DMS_TEST_POSTGRES_URL", "postgres://docs:docs_pw@127.0.0.1:5432/docs_db");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", Self::brokers());
        Self {
            name: format!("test_{}", DocumentId::generate().as_uuid().simple()),
            connect: variable("DMS_TEST_CONNECT_URL", "http://127.0.0.1:8083"),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()
                .expect("a client"),
            server: PgPool::connect(&url).await.expect("PostgreSQL"),
            kafka: config.create().expect("an admin client"),
        }
    }

    fn brokers() -> String {
        variable("DMS_TEST_KAFKA", "127.0.0.1:9092")
    }

    fn url(&self, variable_name: &str, default: &str) -> String {
        let url = variable(variable_name, default);
        let (server, _) = url.rsplit_once('/').expect("a URL with a database");
        format!("{server}/{}", self.name)
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.{table}", self.name)
    }

    /// Database, tables and topics. Topics would come with their first record, which is too late.
    async fn build(&self) -> PgPool {
        let create = format!("CREATE DATABASE {}", self.name);
        sqlx::query(AssertSqlSafe(create)).execute(&self.server).await.expect("a database");
        let direct =
            self.url("DMS_TEST_POSTGRES_URL", "postgres://docs:docs_pw@127.0.0.1:5432/docs_db");
        let direct = PgPool::connect(&direct).await.expect("PostgreSQL");
        sqlx::raw_sql(TABLES).execute(&direct).await.expect("tables");
        direct.close().await;
        let names = ["documents", "signatures"].map(|table| self.topic(table));
        let topics =
            names.each_ref().map(|name| NewTopic::new(name, 3, TopicReplication::Fixed(1)));
        for made in self.kafka.create_topics(&topics, &AdminOptions::new()).await.expect("topics") {
            made.expect("a topic");
        }
        let pooled =
            self.url("DMS_TEST_PGBOUNCER_URL", "postgres://docs:docs_pw@127.0.0.1:6432/docs_db");
        PgPool::connect(&pooled).await.expect("PgBouncer")
    }

    /// The connector, running.
    async fn connect(&self, has_schemas: bool) {
        let name = &self.name;
        let options = self.server.connect_options();
        let config = json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": options.get_host(),
            "database.port": options.get_port().to_string(),
            "database.user": variable("DMS_TEST_POSTGRES_USER", "docs"),
            "database.password": variable("DMS_TEST_POSTGRES_PASSWORD", "docs_pw"),
            "database.dbname": name,
            "topic.prefix": name,
            "plugin.name": "pgoutput",
            "slot.name": name,
            "publication.name": name,
            "publication.autocreate.mode": "filtered",
            "schema.include.list": "public",
            "table.include.list": "public.documents,public.signatures",
            "snapshot.mode": "initial",
            "tombstones.on.delete": "true",
            "decimal.handling.mode": "string",
            "time.precision.mode": "isostring",
            "heartbeat.interval.ms": "1000",
            "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'heartbeat', now()::text)",
            "message.prefix.exclude.list": "heartbeat",
            "poll.interval.ms": "20",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": has_schemas.to_string(),
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": has_schemas.to_string(),
            "topic.creation.default.partitions": "3",
            "topic.creation.default.replication.factor": "1",
            "producer.override.compression.type": "lz4",
            "transforms": "table",
            "transforms.table.type": "org.apache.kafka.connect.transforms.RegexRouter",
            "transforms.table.regex": format!("{name}\\.[^.]+\\.(documents|signatures)"),
            "transforms.table.replacement": format!("{name}.$1"),
        });
        // Connect answers 409 while it makes room for another connector.
        until("the connector is taken", || async {
            let sent = self.http.put(self.address("config")).json(&config).send().await;
            sent.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        until("the connector runs", || async {
            let Ok(answer) = self.http.get(self.address("status")).send().await else {
                return false;
            };
            let status: Value = answer.json().await.unwrap_or_default();
            assert_ne!(status["tasks"][0]["state"], "FAILED", "{status}");
            status["tasks"][0]["state"] == "RUNNING"
        })
        .await;
    }

    fn address(&self, path: &str) -> String {
        format!("{}/connectors/{}/{path}", self.connect, self.name)
    }

    /// Everything goes: connector first, its offsets before it, then what it held on to.
    async fn remove(&self) {
        let connector = format!("{}/connectors/{}", self.connect, self.name);
        let exists = self.http.get(&connector).send().await;
        if exists.is_ok_and(|answer| answer.status().is_success()) {
            let _ = self.http.put(self.address("stop")).send().await;
            until("the connector's offsets are gone", || async {
                let deleted = self.http.delete(self.address("offsets")).send().await;
                deleted.is_ok_and(|answer| answer.status().is_success())
            })
            .await;
            until("the connector is gone", || async {
                let deleted = self.http.delete(&connector).send().await;
                deleted.is_ok_and(|answer| answer.status().is_success() || answer.status() == 404)
            })
            .await;
        }
        until("the slot is gone", || async {
            let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                WHERE slot_name = $1";
            sqlx::query(drop).bind(&self.name).execute(&self.server).await.is_ok()
        })
        .await;
        // The publication is in the database.
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        sqlx::query(AssertSqlSafe(drop)).execute(&self.server).await.expect("dropped");
        let heartbeats = format!("__debezium-heartbeat.{}", self.name);
        let names = [self.topic("documents"), self.topic("signatures"), heartbeats];
        // The last is there only once a heartbeat was.
        let _ =
            self.kafka.delete_topics(&names.each_ref().map(|n| &**n), &AdminOptions::new()).await;
    }

    fn source(&self) -> KafkaChangeSource {
        let options = KafkaSourceOptions {
            topics: vec![self.topic("documents"), self.topic("signatures")],
            request_timeout: Duration::from_secs(10),
            ..KafkaSourceOptions::new(Self::brokers(), format!("{}-reader", self.name))
        };
        KafkaChangeSource::new(options).expect("a source")
    }
}

/// Reads one record after the other.
struct Reader {
    source: KafkaChangeSource,
}

impl Reader {
    async fn next(&self) -> Record {
        let limits = BatchLimits { records_max: 1, ..BatchLimits::default() };
        let mut batch = within(60, self.source.next_batch(limits)).await.expect("a record");
        self.source.ack(&batch.position).await.expect("acknowledged");
        batch.records.remove(0)
    }

    async fn change(&self) -> Change {
        match self.next().await {
            Record::Change(change) => *change,
            Record::Poison(poison) => {
                panic!("{}: {}", poison.reason, String::from_utf8_lossy(&poison.raw))
            }
        }
    }

    async fn poison(&self) -> PoisonRecord {
        match self.next().await {
            Record::Poison(poison) => poison,
            Record::Change(change) => panic!("{change:?}"),
        }
    }
}

async fn insert(rows: &PgPool, id: DocumentId, title: &str) {
    let query = sqlx::query(INSERT).bind(id.as_uuid()).bind(title);
    let query = query.bind(Sha256::of(b"content").to_string()).bind(format!("{id}/content"));
    query.execute(rows).await.expect("inserted");
}

async fn execute(rows: &PgPool, sql: &'static str, id: DocumentId) {
    sqlx::query(sql).bind(id.as_uuid()).execute(rows).await.expect("executed");
}

const VIEW: &str = "UPDATE documents
    SET status = 'viewed', version = version + 1, updated_at = now() WHERE id = $1";

/// A text that PostgreSQL stores out of line, and can't compress away.
fn large_title() -> String {
    (0..200_u32).map(|at| Sha256::of(&at.to_le_bytes()).to_string()).collect()
}

async fn rows_arrive(stack: &Stack, has_schemas: bool) {
    let rows = stack.build().await;
    let [early, id, large] = [(); 3].map(|()| DocumentId::generate());
    insert(&rows, early, "there before the connector").await;
    stack.connect(has_schemas).await;
    let reader = Reader { source: stack.source() };
    reader.source.start(StartAt::Acknowledged).await.expect("started");

    let change = reader.change().await;
    assert_eq!((change.operation, change.document_id()), (Operation::Snapshot, Some(early)));

    insert(&rows, id, "Ünïcode “title”\u{1f4c4}").await;
    let change = reader.change().await;
    assert_eq!(change.operation, Operation::Create);
    let RowChange::Document { before: None, after: Some(created) } = change.row else { panic!() };
    assert_eq!((created.id, &*created.title), (id, "Ünïcode “title”\u{1f4c4}"));
    assert_eq!((&*created.content_type, created.content_size), ("text/plain", 7));
    assert_eq!(created.content_sha256, Some(Sha256::of(b"content")));
    assert_eq!(created.s3_key, Some(format!("{id}/content")));
    assert_eq!((created.version, created.deleted), (1, false));
    let at = created.created_at;
    let skew = (change.committed_at - at).abs();
    assert!(
        skew < time::Duration::seconds(30),
        "committed at {}, made at {at}",
        change.committed_at
    );

    execute(&rows, VIEW, id).await;
    let change = reader.change().await;
    assert_eq!(change.operation, Operation::Update);
    let RowChange::Document { before: Some(before), after: Some(viewed) } = change.row else {
        panic!()
    };
    assert_eq!(before, created);
    assert_eq!((viewed.status, viewed.version), (DocumentStatus::Viewed, 2));

    let signature = SignatureId::generate();
    let sign = "INSERT INTO signatures
        (id, document_id, signer_email, signer_name, image_key, image_content_type)
        VALUES ($1, $2, 'bob@example.org', 'Bob', 'k', 'image/png')";
    let sign = sqlx::query(sign).bind(signature.as_uuid()).bind(id.as_uuid());
    sign.execute(&rows).await.expect("signed");
    let change = reader.change().await;
    let RowChange::Signature { before: None, after: Some(row) } = change.row else { panic!() };
    assert_eq!((row.id, row.document_id, &*row.signer_name), (signature, id, "Bob"));

    let delete = "UPDATE documents
        SET deleted_at = now(), version = version + 1, updated_at = now() WHERE id = $1";
    execute(&rows, delete, id).await;
    let RowChange::Document { after: Some(deleted), .. } = reader.change().await.row else {
        panic!()
    };
    assert_eq!((deleted.deleted, deleted.version), (true, 3));
    execute(&rows, "DELETE FROM documents WHERE id = $1", id).await;
    let change = reader.change().await;
    assert_eq!(change.operation, Operation::Delete);
    assert_eq!(change.row, RowChange::Document { before: Some(deleted), after: None });

    // Behind the tombstone of the row that was removed.
    let title = large_title();
    insert(&rows, large, &title).await;
    reader.change().await;
    execute(&rows, VIEW, large).await;
    let RowChange::Document { after: Some(row), .. } = reader.change().await.row else { panic!() };
    assert_eq!((row.title == title, row.version), (true, 2), "an unchanged large value is whole");

    // What arrives when somebody takes the full identity away.
    sqlx::query("ALTER TABLE documents REPLICA IDENTITY DEFAULT")
        .execute(&rows)
        .await
        .expect("altered");
    execute(&rows, VIEW, large).await;
    let poison = reader.poison().await;
    assert!(poison.reason.contains("title was not sent"), "{}", poison.reason);
    assert_eq!(poison.key, Some(large.to_string()));
    execute(&rows, "DELETE FROM documents WHERE id = $1", large).await;
    let poison = reader.poison().await;
    assert!(poison.reason.contains("REPLICA IDENTITY FULL"), "{}", poison.reason);

    reader.source.close().await;
    rows.close().await;
    raw_records_are_envelopes(stack, has_schemas).await;
}

/// What is in the topic is what the contract says.
async fn raw_records_are_envelopes(stack: &Stack, has_schemas: bool) {
    let topic = stack.topic("documents");
    let records = tokio::task::spawn_blocking(move || raw_records(&topic)).await.expect("read");
    assert!(records.iter().any(|(_, value)| value.is_none()), "a tombstone follows a delete");
    let mut ops = Vec::new();
    for (key, value) in &records {
        let record = DebeziumRecord {
            topic: "cdc.documents",
            partition: 0,
            offset: 0,
            key: Some(key),
            value: value.as_deref(),
        };
        println!("{}", String::from_utf8_lossy(&record.to_json()));
        let key: Value = serde_json::from_slice(key).expect("a key in JSON");
        let key = if has_schemas { &key["payload"] } else { &key };
        key["id"].as_str().expect("an id").parse::<DocumentId>().expect("the primary key");
        let Some(value) = value else { continue };
        let value: Value = serde_json::from_slice(value).expect("an envelope in JSON");
        let value = if has_schemas { &value["payload"] } else { &value };
        for field in ["before", "after", "source", "op", "ts_ms"] {
            assert!(value.get(field).is_some(), "no {field} in {value}");
        }
        assert!(value.get("schema").is_none());
        ops.push(value["op"].as_str().expect("an op").to_owned());
    }
    ops.sort_unstable();
    assert_eq!(ops, ["c", "c", "d", "d", "r", "u", "u", "u", "u"]);
}

type RawRecord = (Vec<u8>, Option<Vec<u8>>);

fn raw_records(topic: &str) -> Vec<RawRecord> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Stack::brokers()).set("group.id", topic);
    let client: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    let mut count = 0;
    for partition in 0..3 {
        let bounds = client.fetch_watermarks(topic, partition, Duration::from_secs(10));
        count += bounds.expect("bounds").1;
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    client.assign(&list).expect("assigned");
    let mut records = Vec::new();
    for _ in 0..count {
        let message = client.poll(Duration::from_secs(20)).expect("a record").expect("a record");
        let value = message.payload().map(<[u8]>::to_vec);
        records.push((message.key().expect("a key").to_vec(), value));
    }
    records
}

async fn on_a_stack(has_schemas: bool) {
    let stack = std::sync::Arc::new(Stack::new().await);
    let stage = std::sync::Arc::clone(&stack);
    let test = tokio::spawn(async move { rows_arrive(&stage, has_schemas).await });
    let outcome = test.await;
    stack.remove().await;
    outcome.expect("rows arrive as they should");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL, PgBouncer, Connect and Kafka"]
async fn rows_written_through_the_pooler_arrive_as_envelopes() {
    on_a_stack(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL, PgBouncer, Connect and Kafka"]
async fn rows_arrive_with_inline_schemas_too() {
    on_a_stack(true).await;
}
