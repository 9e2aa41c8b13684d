//! How many transactions a second come through the source into a sink that counts, against
//! `pg_recvlogical` writing the same stretch of the log to `/dev/null`.
//!
//! Needs PostgreSQL (`DMS_TEST_POSTGRES_URL`), whose role may make databases, and `pg_recvlogical`
//! in `PATH` or where Debian puts it. `DMS_BENCH_TRANSACTIONS` says how many; 30,000 by default.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use dms_cdc::postgres::{WalChangeSource, WalOptions};
use dms_core::DocumentId;
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const ROUNDS: usize = 2;

const SCHEMA: &str = "
    CREATE TABLE documents (
        id uuid PRIMARY KEY, title text NOT NULL, content_type text NOT NULL,
        content_size bigint NOT NULL, content_sha256 text, s3_key text, status text NOT NULL,
        created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(), version integer NOT NULL DEFAULT 1,
        deleted_at timestamptz);
    CREATE TABLE signatures (
        id uuid PRIMARY KEY, document_id uuid NOT NULL, signer_email text NOT NULL,
        signer_name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
    ALTER TABLE documents REPLICA IDENTITY FULL;
    ALTER TABLE signatures REPLICA IDENTITY FULL;
    CREATE PUBLICATION cdc FOR TABLE documents, signatures;";

fn main() {
    let transactions = std::env::var("DMS_BENCH_TRANSACTIONS")
        .map_or(30_000, |count| count.parse().expect("a number of transactions"));
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let server = std::env::var("DMS_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://docs:docs_pw@127.0.0.1:5432/docs_db".into());
    let name = format!("wal_bench_{}", DocumentId::generate().as_uuid().simple());
    let measured = runtime.block_on(async {
        execute(&server, &format!("CREATE DATABASE {name}")).await;
        let run = tokio::spawn(measure(server.clone(), name.clone(), transactions));
        let measured = run.await;
        // Whatever became of it.
        clean(&server, &name).await;
        measured
    });
    measured.expect("measured");
}

async fn measure(server: String, name: String, transactions: u64) {
    let (before, _) = server.rsplit_once('/').expect("a URL with a database");
    let url = format!("{before}/{name}");
    execute(&url, SCHEMA).await;
    for round in 0..ROUNDS {
        let slot = recvlogical_slot(&name, round);
        execute(&url, &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"))
            .await;
        let source = source(&url, &name, round);
        source.start(StartAt::Acknowledged).await.expect("an empty database");
    }
    // One statement, which commits as it goes; the disk is not what is measured.
    execute(&server, &format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let write = format!(
        "DO $$ BEGIN
            FOR n IN 1..{} LOOP
                INSERT INTO documents (id, title, content_type, content_size, content_sha256, s3_key,
                    status, created_by)
                VALUES (md5(n::text)::uuid, 'Title of document ' || n, 'text/plain', n,
                    repeat('0', 64), 'blobs/' || n, 'created', 'somebody@example.org');
                COMMIT;
                UPDATE documents SET status = 'signed', version = 2 WHERE id = md5(n::text)::uuid;
                COMMIT;
            END LOOP;
        END $$",
        transactions / 2
    );
    execute(&url, &write).await;
    let mut connection = PgConnection::connect(&url).await.expect("PostgreSQL runs");
    let end: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
        .fetch_one(&mut connection)
        .await
        .expect("end of the log");
    // Beyond the end, so that the other side sees it pass.
    execute(&url, "SELECT pg_logical_emit_message(true, 'bench', 'end')").await;

    for round in 0..ROUNDS {
        let began = Instant::now();
        let status = Command::new(recvlogical())
            .args(["--dbname", &url, "--slot", &recvlogical_slot(&name, round), "--start"])
            .args(["--file", "/dev/null", "--no-loop", "--endpos", &end])
            .args(["--option", "proto_version=1", "--option", "publication_names=cdc"])
            .status();
        assert!(status.expect("pg_recvlogical runs").success());
        report("pg_recvlogical into /dev/null", transactions, began.elapsed());

        let source = source(&url, &name, round);
        let began = Instant::now();
        source.start(StartAt::Acknowledged).await.expect("start");
        let (mut records, mut held_max) = (0, 0);
        while records < transactions {
            let batch = source.next_batch(BatchLimits::default()).await.expect("batch");
            records += batch.records.len() as u64;
            held_max = held_max.max(source.held().1);
            source.ack(&batch.position).await.expect("ack");
        }
        report("source into a counting sink", transactions, began.elapsed());
        println!("{held_max:>34} bytes held at most");
        source.flush().await.expect("flush");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn report(what: &str, transactions: u64, took: Duration) {
    let rate = transactions as f64 / took.as_secs_f64();
    println!("{what:>34}: {transactions} transactions in {took:.2?}, {rate:.0}/s");
}

fn source(url: &str, name: &str, round: usize) -> WalChangeSource {
    let options = WalOptions::new(url, format!("{name}_{round}"));
    WalChangeSource::new(options).expect("options")
}

fn recvlogical_slot(name: &str, round: usize) -> String {
    format!("{name}_r{round}")
}

fn recvlogical() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    debian
        .map(|version| version.path().join("bin/pg_recvlogical"))
        .find(|path| path.exists())
        .unwrap_or_else(|| "pg_recvlogical".into())
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL runs");
    let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    query.execute(&mut connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

async fn clean(server: &str, name: &str) {
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL runs");
    let steps = [
        format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
             WHERE database = '{name}' AND active"
        ),
        format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
             WHERE database = '{name}'"
        ),
        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
    ];
    for _ in 0..200 {
        let mut is_clean = true;
        for step in steps.clone() {
            let done = sqlx::raw_sql(AssertSqlSafe(step)).execute(&mut connection).await;
            is_clean &= done.is_ok();
        }
        if is_clean {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("database {name} is left over");
}
