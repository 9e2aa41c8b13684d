//! A line that breaks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dms_cdc::postgres::{WalChangeSource, WalOptions};
use dms_core::ports::{BatchLimits, ChangeSource, StartAt};

use crate::database::{Database, PATIENCE, document, eventually};
use crate::proxy::{Line, Proxy};

/// More than the buffers of the line hold several times over.
const ROWS: u64 = 20_000;

async fn through_proxy(database: &Database) -> (Proxy, WalChangeSource) {
    let (before, after) = database.url.rsplit_once('@').expect("a URL with a host");
    let (host, path) = after.split_once('/').expect("a URL with a database");
    let proxy = Proxy::to(host.to_owned()).await;
    let url = format!("{before}@{}/{path}", proxy.address);
    let options = WalOptions {
        url,
        queue_bytes_max: 256 << 10,
        silence_max: Duration::from_secs(2),
        ..database.options("index")
    };
    (proxy, WalChangeSource::new(options).expect("options"))
}

/// The line breaks again and again in the midst of one transaction; its rows come all the same, in
/// order, none missing and none twice.
async fn no_gap_when_the_line_is(broken: Line) {
    let database = Database::new().await;
    let (proxy, source) = through_proxy(&database).await;
    source.start(StartAt::Acknowledged).await.expect("start");
    database
        .run(&format!(
            "INSERT INTO documents (id, title, content_type, content_size, status, created_by)
             SELECT gen_random_uuid(), repeat('t', 1500), 'text/plain', n, 'created', 'somebody'
             FROM generate_series(1, {ROWS}) AS n"
        ))
        .await;
    let limits = BatchLimits { records_max: 100, ..BatchLimits::default() };
    let (mut count, mut breaks, mut failures) = (0, 0, 0);
    let read = async {
        while count < ROWS {
            if count >= breaks * 5_000 + 3_000 {
                breaks += 1;
                proxy.set(broken);
            }
            match source.next_batch(limits).await {
                Ok(batch) => {
                    for record in &batch.records {
                        count += 1;
                        assert_eq!(document(record).content_size, count);
                    }
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    failures += 1;
                    proxy.set(Line::Open);
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("all of it comes");
    proxy.set(Line::Open);
    assert!(failures > 1, "the line never broke");
    assert!(proxy.received.load(Ordering::Relaxed) > 0);
    let last = source.next_batch(BatchLimits::default());
    let nothing = tokio::time::timeout(Duration::from_millis(50), last).await;
    assert!(!matches!(nothing, Ok(Ok(_))), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn no_gap_when_the_line_is_cut() {
    no_gap_when_the_line_is(Line::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn no_gap_when_the_line_is_frozen() {
    no_gap_when_the_line_is(Line::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_consumer_that_takes_its_time_keeps_its_connection() {
    let database = Database::new().await;
    // The server gives up on a silent consumer after this long.
    database.run(&format!("ALTER DATABASE {} SET wal_sender_timeout = '1s'", database.name)).await;
    let mut options = database.options("index");
    options.queue_bytes_max = 64 << 10;
    let source = WalChangeSource::new(options).expect("options");
    source.start(StartAt::Acknowledged).await.expect("start");
    let active = format!(
        "SELECT max(active_pid)::text FROM pg_replication_slots WHERE slot_name = '{}'",
        database.slot("index")
    );
    database
        .run(
            "INSERT INTO documents (id, title, content_type, content_size, status, created_by)
             SELECT gen_random_uuid(), repeat('t', 1000), 'text/plain', n, 'created', 'somebody'
             FROM generate_series(1, 20000) AS n",
        )
        .await;
    eventually("queue full", async || source.held().1 >= 64 << 10).await;
    let pid = database.text(&active).await.expect("connected");
    // What takes its time here is the consumer.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(database.text(&active).await, Some(pid));
    source.next_batch(BatchLimits::default()).await.expect("batch");
}
