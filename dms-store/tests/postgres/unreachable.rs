//! A database that is away, hangs, or comes late.

use std::time::{Duration, Instant};

use dms_core::ports::DocumentRepository as _;
use dms_core::{Error, ErrorKind, ListQuery};
use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use futures_util::future::join_all;

use super::bed::{Bed, address, at_port, impatient, new_document, prepared};
use super::proxy::{Line, Proxy};

/// Far more than any single wait is told to take, and far less than a call that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a statement may take where it shows that nobody answers.
const SOON: Duration = Duration::from_secs(2);

struct Fixture {
    proxy: Proxy,
    database: PostgresDatabase,
    bed: Bed,
}

/// Reached through a line that can be cut.
async fn fixture(url: impl Fn(&Bed) -> String, statement_timeout: Duration) -> Fixture {
    let bed = Bed::new().await;
    prepared(bed.direct()).await.close().await;
    let url = url(&bed);
    let proxy = Proxy::new(address(&url)).await;
    let url = at_port(&url, proxy.port());
    let options = PostgresOptions { statement_timeout, ..impatient(&url) };
    let database = PostgresDatabase::new(options).unwrap();
    Fixture { proxy, database, bed }
}

/// Calls until one succeeds.
async fn heals(database: &PostgresDatabase) {
    let start = Instant::now();
    while let Err(error) = database.check().await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(start.elapsed() < PATIENCE, "not healed: {error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn unavailable(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(error.dependency(), Some("database"), "{error:?}");
    assert!(error.retry_after().is_some(), "{error:?}");
}

async fn away_and_back(fixture: Fixture) {
    let Fixture { proxy, database, bed } = fixture;
    heals(&database).await;
    let documents = database.documents();
    let document = documents.create(new_document(), None, None).await.unwrap();

    for line in [Line::Cut, Line::Frozen, Line::Cut] {
        proxy.set(line);
        // More callers than connections: nobody waits for the sum of all time-outs.
        let calls = (0..64).map(|_| tokio::time::timeout(PATIENCE, documents.get(document.id)));
        for answer in join_all(calls).await {
            unavailable(&answer.expect("an answer in time").unwrap_err());
        }
        let list = documents.list(&ListQuery::default()).await;
        unavailable(&list.unwrap_err());
        let late = new_document();
        // Every connection has failed by now, so that nothing can be sent.
        let created = documents.create(late.clone(), None, None).await;
        unavailable(&created.unwrap_err());
        unavailable(&database.prepare().await.unwrap_err());

        proxy.set(Line::Open);
        heals(&database).await;
        assert_eq!(documents.get(document.id).await.unwrap(), document);
        let lost = documents.get(late.id).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::NotFound, "unavailable means no effect");
    }
    database.close().await;
    drop(bed);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_database_away_or_hung_is_unavailable_soon_and_heals() {
    away_and_back(fixture(Bed::direct_url, SOON).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PgBouncer"]
async fn a_pooler_away_or_hung_is_unavailable_soon_and_heals() {
    away_and_back(fixture(Bed::pooled_url, SOON).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_write_without_an_answer_may_have_happened_and_is_not_called_unavailable() {
    let Fixture { proxy, database, bed } = fixture(Bed::direct_url, 4 * SOON).await;
    heals(&database).await;
    let documents = database.documents();
    // Its statement is known to the server from now on: what is held back is the row alone.
    documents.create(new_document(), None, None).await.unwrap();
    let new = new_document();
    // The row waits for this lock until nobody hears the answer any more.
    let mut shell = bed.shell().await;
    super::bed::run(&mut shell, "BEGIN; LOCK TABLE documents IN EXCLUSIVE MODE").await.unwrap();
    let write = {
        let (documents, new) = (documents.clone(), new.clone());
        tokio::spawn(async move { documents.create(new, None, None).await })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_as::<_, (i64,)>(waits).fetch_one(&mut shell).await.unwrap() != (1,) {
        assert!(!write.is_finished(), "the row didn't wait for the lock");
    }
    proxy.set(Line::Frozen);
    super::bed::run(&mut shell, "COMMIT").await.unwrap();
    let error = write.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    proxy.set(Line::Open);
    heals(&database).await;
    assert_eq!(documents.get(new.id).await.unwrap().id, new.id, "it has happened");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_row_that_others_lock_is_unavailable_and_the_write_has_no_effect() {
    let bed = Bed::new().await;
    let database = prepared(impatient(&bed.direct_url())).await;
    let document = database.documents().create(new_document(), None, None).await.unwrap();
    let mut shell = bed.shell().await;
    super::bed::run(&mut shell, "BEGIN; SELECT * FROM documents FOR UPDATE").await.unwrap();
    let error = database.documents().delete(document.id, None).await.unwrap_err();
    unavailable(&error);
    super::bed::run(&mut shell, "COMMIT").await.unwrap();
    assert_eq!(database.documents().get(document.id).await.unwrap(), document);
    assert_eq!(database.documents().delete(document.id, None).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn connections_that_the_server_ends_are_replaced() {
    let bed = Bed::new().await;
    let database = prepared(bed.direct()).await;
    let documents = database.documents();
    let calls = (0..32).map(|_| documents.create(new_document(), None, None));
    for created in join_all(calls).await {
        created.unwrap();
    }
    let mut shell = bed.shell().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let (ended,): (i64,) = sqlx::query_as(end).fetch_one(&mut shell).await.unwrap();
    assert!(ended > 0);
    let mut failed = 0;
    for _ in 0..100 {
        failed += i32::from(documents.list(&ListQuery::default()).await.is_err());
    }
    // The first may meet a connection that was used a moment ago; then the others are looked at.
    assert!(failed <= 1, "{failed} calls failed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_login_too_slow_for_one_call_serves_the_next() {
    let Fixture { proxy, database, bed: _bed } = fixture(Bed::direct_url, SOON).await;
    proxy.set(Line::Frozen);
    unavailable(&database.documents().list(&ListQuery::default()).await.unwrap_err());
    proxy.set(Line::Open);
    let start = Instant::now();
    while database.pool_stats().idle == 0 {
        assert!(start.elapsed() < PATIENCE, "the login was given up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    database.documents().list(&ListQuery::default()).await.unwrap();
    assert_eq!(proxy.accepted(), 1, "connections");
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_needs_no_database_and_nobody_waits_for_one_that_refuses() {
    // A port that was free a moment ago.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgres://docs:hunter2@127.0.0.1:{port}/docs_db");
    let database = PostgresDatabase::new(PostgresOptions::new(&url)).unwrap();
    unavailable(&database.check().await.unwrap_err());
    let error = database.prepare().await.unwrap_err();
    unavailable(&error);
    let shown = format!("{database:?} {error:?} {}", dms_core::ErrorChain(&error));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains(&format!("127.0.0.1:{port}/docs_db")), "{shown}");
    database.close().await;
    unavailable(&database.check().await.unwrap_err());

    let bad = PostgresOptions {
        replica_url: Some("mysql://docs:hunter2@h/d".into()),
        ..PostgresOptions::new(&url)
    };
    let error = PostgresDatabase::new(bad).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.fields()[0].field, "replica_url");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}
