//! What goes wrong.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use tokio::time::sleep;

use crate::proxy::{GARBLED, Line};
use crate::scene::{Scene, Tier};
use crate::writers::create;

/// At this many dead letters the processor holds.
const BUDGET: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of the processor, at random moments.
    ProcessorKilled,
    /// `kill -9` of an engine.
    Killed(&'static str),
    /// `SIGSTOP` of an engine.
    Stopped(&'static str),
    /// The line between processor and Elasticsearch.
    Broken(Line),
    /// Elasticsearch refuses writes, as when its disk is full.
    ReadOnly,
    /// Somebody deletes the index.
    IndexDeleted,
    /// Somebody drops the replication slot.
    SlotDropped,
    /// A record that can't be decoded.
    Poison,
    /// A record that the index refuses, until somebody mends what makes it and replays the record.
    Refused,
    /// So many of them that the processor holds.
    ManyPoisons,
    /// The database is restored from an older dump.
    Restored,
}

impl Scene {
    /// Lets it happen, under load; it is over when this returns.
    pub(crate) async fn inflict(&mut self, fault: Fault) {
        self.say(&format!("{fault:?} …"));
        match fault {
            Fault::ProcessorKilled => {
                for _ in 0..if self.is_quick { 4 } else { 20 } {
                    sleep(Duration::from_millis(200 + self.random.below(1_500))).await;
                    self.processor.kill();
                    self.processor.start();
                }
            }
            Fault::Killed(engine) => {
                self.stack.signal(engine, "KILL");
                sleep(self.hold()).await;
                self.say_state().await;
                self.stack.up(&[engine]).await;
            }
            Fault::Stopped(engine) => {
                self.stack.signal(engine, "STOP");
                // Longer than anything is waited for, if there is time.
                sleep(self.hold() * 3).await;
                self.say_state().await;
                self.stack.signal(engine, "CONT");
            }
            Fault::Broken(line) => {
                self.proxy.set(line);
                sleep(self.hold() * 2).await;
                self.say_state().await;
                self.proxy.set(Line::Open);
            }
            Fault::ReadOnly => {
                self.eventually("it says that it holds", async |scene| {
                    // Again and again: an Elasticsearch that looks at its disk may lift it.
                    scene.block_writes(Some(true)).await;
                    let (is_ready, says) = scene.processor.ready().await;
                    !is_ready && says["checks"]["search-index"]["message"].is_string()
                })
                .await;
                sleep(self.hold()).await;
                self.say_state().await;
                self.block_writes(None).await;
            }
            Fault::IndexDeleted => {
                let name = self.index_name().await.expect("an index");
                self.elasticsearch("DELETE", &name, None).await.expect("deleted");
            }
            Fault::SlotDropped => self.drop_slot().await,
            Fault::Poison => self.poison().await,
            Fault::Refused => self.refuse_one().await,
            Fault::ManyPoisons => self.many_poisons().await,
            Fault::Restored => self.restore().await,
        }
    }

    /// What the processor says of itself while something is wrong.
    async fn say_state(&self) {
        let (is_ready, says) = self.processor.ready().await;
        let checks = says["checks"].as_object().into_iter().flatten();
        let down: Vec<_> = checks
            .filter_map(|(name, check)| Some(format!("{name}: {}", check["message"].as_str()?)))
            .collect();
        self.say(&format!("  ready: {is_ready}; {}", down.join("; ")));
    }

    async fn block_writes(&self, block: Option<bool>) {
        let settings = json!({ "index.blocks.read_only_allow_delete": block });
        self.elasticsearch("PUT", "documents/_settings", Some(settings)).await.expect("settings");
    }

    /// A slot can't be dropped while it is read, so nobody may read for a moment.
    async fn drop_slot(&self) {
        if self.tier == Tier::Kafka {
            self.connector("PUT", "/stop").await;
        }
        self.sql("ALTER ROLE docs NOREPLICATION").await;
        self.eventually("the slot is dropped", async |scene| {
            let dropped = sqlx::query(
                "SELECT CASE WHEN active_pid IS NULL THEN pg_drop_replication_slot(slot_name)::text
                    ELSE pg_terminate_backend(active_pid)::text END FROM pg_replication_slots",
            );
            drop(dropped.execute(&scene.superuser).await);
            let left = sqlx::query_scalar("SELECT count(*) FROM pg_replication_slots");
            left.fetch_one(&scene.superuser).await.is_ok_and(|left: i64| left == 0)
        })
        .await;
        // What is written now, no slot has.
        sleep(self.hold()).await;
        self.say_state().await;
        self.sql("ALTER ROLE docs REPLICATION").await;
        if self.tier == Tier::Kafka {
            self.register_anew().await;
        }
    }

    /// Debezium doesn't go on by itself once its slot is gone: as docs/engines.md says.
    async fn register_anew(&self) {
        self.eventually("the connector's offsets are gone", async |scene| {
            scene.connector("DELETE", "/offsets").await
        })
        .await;
        self.connector("DELETE", "").await;
        self.stack.up(&["connector"]).await;
    }

    async fn connector(&self, method: &str, path: &str) -> bool {
        let url = format!("http://{}/connectors/cdc{path}", self.stack.address(8083));
        let request = self.http.request(method.parse().expect("a method"), url);
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.superuser).await.expect(statement);
    }

    async fn poison(&mut self) {
        match self.tier {
            Tier::Kafka => self.produce("poison", 1),
            // The row before isn't known whole, so its version isn't.
            Tier::Wal => {
                let id = create(&self.database, "poison", 0).await.expect("created");
                let remove = format!(
                    "ALTER TABLE documents REPLICA IDENTITY DEFAULT;
                    DELETE FROM documents WHERE id = '{id}';
                    ALTER TABLE documents REPLICA IDENTITY FULL"
                );
                self.eventually("the document is found", async |scene| {
                    scene.elasticsearch("GET", &format!("documents/_doc/{id}"), None).await.is_ok()
                })
                .await;
                self.stack.superuser("docs_db", &remove);
            }
        }
        let position = self.letter_that_stays().await;
        let dropped = self.processor.run(&["dead-letters", "drop", &position]).await;
        assert!(dropped.status.success(), "{dropped:?}");
        assert!(self.letters().await.is_empty(), "nothing else is dead");
        if self.tier == Tier::Wal {
            // As the command says: what was dropped is for the repair to find.
            let repaired = self.processor.run(&["verify", "--repair"]).await;
            let text = String::from_utf8_lossy(&repaired.stdout);
            assert!(repaired.status.success(), "{repaired:?}");
            self.say(&format!("  {}", text.lines().last().unwrap_or_default()));
        }
    }

    /// The position of the one dead letter, which can be shown, and isn't gone by being replayed as
    /// long as its reason stands.
    async fn letter_that_stays(&self) -> String {
        self.eventually("there is a dead letter", async |scene| scene.letters().await.len() == 1)
            .await;
        let letters = self.letters().await;
        self.say(&format!("  {}", letters[0]));
        let position = letters[0].split_whitespace().next().expect("a position");
        let shown = self.processor.run(&["dead-letters", "show", position]).await;
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success() && text.contains("record"), "{shown:?}");
        let replayed = self.processor.run(&["dead-letters", "replay", position]).await;
        assert!(!replayed.status.success(), "it became right by itself: {replayed:?}");
        assert_eq!(self.letters().await.len(), 1, "it is kept");
        position.to_owned()
    }

    async fn refuse_one(&self) {
        self.writers.pause().await;
        self.proxy.set(Line::Garbled);
        let id = create(&self.database, GARBLED, 0).await.expect("created");
        let position = self.letter_that_stays().await;
        let entry = format!("documents/_doc/{id}");
        assert!(self.elasticsearch("GET", &entry, None).await.is_err(), "it isn't in the index");
        self.proxy.set(Line::Open);
        let replayed = self.processor.run(&["dead-letters", "replay", &position]).await;
        let text = String::from_utf8_lossy(&replayed.stdout);
        assert!(replayed.status.success() && text.contains("1 applied"), "{replayed:?}");
        assert!(self.letters().await.is_empty(), "nothing else is dead");
        self.elasticsearch("GET", &entry, None).await.expect("it is in the index");
        self.writers.resume();
    }

    async fn many_poisons(&mut self) {
        self.produce("poison", BUDGET);
        self.eventually("it says that it holds", async |scene| {
            let (is_ready, says) = scene.processor.ready().await;
            let message = says["checks"]["change-stream"]["message"].as_str().unwrap_or_default();
            !is_ready && message.contains("dead letters")
        })
        .await;
        self.say_state().await;
        let dropped = self.processor.run(&["dead-letters", "drop", "--all"]).await;
        assert!(dropped.status.success(), "{dropped:?}");
        // What came after the budget was reached.
        self.eventually("the rest is dead, too", async |scene| {
            let metrics = scene.processor.metrics().await;
            metrics.lines().any(|line| line.ends_with("outcome=\"poison\"} 1000"))
                || scene.letters().await.is_empty() && scene.processor.ready().await.0
        })
        .await;
        let dropped = self.processor.run(&["dead-letters", "drop", "--all"]).await;
        assert!(dropped.status.success(), "{dropped:?}");
    }

    fn produce(&self, key: &str, count: u64) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.stack.address(9092))
            .create()
            .expect("a producer");
        for _ in 0..count {
            let record = FutureRecord::to("cdc.documents").key(key).payload(b"{ not JSON \xff");
            let sent = producer.send_result(record);
            assert!(sent.is_ok(), "not sent");
        }
        rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).expect("sent");
    }

    /// The lines of the dead letters, as listed.
    pub(crate) async fn letters(&self) -> Vec<String> {
        let output = self.processor.run(&["dead-letters", "list"]).await;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[..lines.len().saturating_sub(1)].to_vec()
    }

    async fn restore(&mut self) {
        self.writers.pause().await;
        let dump = self.stack.folder("dump").join("docs_db.dump");
        let dump = dump.to_str().expect("a path");
        self.stack.postgres_program("pg_dump", &["-Fc", "-d", "docs_db", "-f", dump]);
        self.writers.resume();
        // The index has what the dump hasn't.
        sleep(self.hold()).await;
        self.writers.pause().await;
        self.stack.superuser("postgres", "CREATE DATABASE restored OWNER docs TEMPLATE template0");
        self.stack.postgres_program("pg_restore", &["-d", "restored", dump]);
        self.sql("ALTER DATABASE docs_db ALLOW_CONNECTIONS false").await;
        if self.tier == Tier::Kafka {
            self.connector("PUT", "/stop").await;
        }
        self.eventually("the old database is gone", async |scene| {
            let closed = sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'docs_db'",
            );
            drop(closed.execute(&scene.superuser).await);
            let dropped = sqlx::query(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                WHERE database = 'docs_db' AND active_pid IS NULL",
            );
            drop(dropped.execute(&scene.superuser).await);
            let dropped = sqlx::query("DROP DATABASE docs_db WITH (FORCE)");
            dropped.execute(&scene.superuser).await.is_ok()
        })
        .await;
        self.sql("ALTER DATABASE restored RENAME TO docs_db").await;
        self.writers.resume();
        if self.tier == Tier::Kafka {
            self.register_anew().await;
        }
    }
}
