//! What the writer does when a transaction fails.

use std::path::Path;

use dms_core::ErrorKind;
use futures_util::future::join;
use sqlx::query_scalar;

use super::*;

const BOUNDS: Bounds =
    Bounds { queue_jobs_max: 100, queue_bytes_max: 100 << 20, group_jobs_max: 100 };

async fn start(path: &Path, pages_max: u32) -> Writer {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .pragma("max_page_count", pages_max.to_string());
    let mut connection = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE t (v)").execute(&mut connection).await.unwrap();
    Writer::start(connection, options, BOUNDS)
}

fn put(
    value: String,
) -> impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(), Failure>> {
    move |connection| {
        Box::pin(async move {
            sqlx::query("INSERT INTO t VALUES ($1)").bind(value).execute(connection).await?;
            Ok(())
        })
    }
}

fn half(connection: &mut SqliteConnection) -> BoxFuture<'_, Result<(), Failure>> {
    let first = put("half".into())(connection);
    Box::pin(async move {
        first.await?;
        Err(Failure::Broken(sqlx::Error::WorkerCrashed))
    })
}

async fn stored(path: &Path) -> Vec<String> {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    query_scalar("SELECT substr(v, 1, 10) FROM t ORDER BY rowid")
        .fetch_all(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_full_disk_fails_the_transaction_and_not_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let writer = start(&path, 20).await;
    writer.write(0, put("before".into())).await.unwrap();
    // On one thread both jobs wait before the writer looks: they share a transaction.
    let (small, large) =
        join(writer.write(0, put("small".into())), writer.write(0, put("x".repeat(1 << 20)))).await;
    for error in [small.unwrap_err(), large.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
    }
    writer.write(0, put("after".into())).await.unwrap();
    assert_eq!(stored(&path).await, ["before", "after"]);
    assert!(writer.stop().await.is_some());
}

#[tokio::test]
async fn a_job_that_fails_half_way_takes_its_transaction_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let writer = start(&path, 1_000).await;
    let (whole, half) = join(writer.write(0, put("whole".into())), writer.write(0, half)).await;
    for error in [whole.unwrap_err(), half.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    writer.write(0, put("after".into())).await.unwrap();
    assert_eq!(stored(&path).await, ["after"]);
}

#[tokio::test]
async fn a_commit_that_fails_without_a_known_outcome_is_a_timeout() {
    let outcome_unknown = Arc::new(sqlx::Error::WorkerCrashed);
    assert_eq!(error::commit_failed(&outcome_unknown).kind(), ErrorKind::Timeout);
    assert_eq!(error::not_committed(&outcome_unknown).kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn jobs_nobody_waits_for_are_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let writer = start(&path, 1_000).await;
    let abandoned = writer.write(0, put("abandoned".into()));
    assert!(futures_util::FutureExt::now_or_never(abandoned).is_none());
    writer.write(0, put("wanted".into())).await.unwrap();
    assert_eq!(stored(&path).await, ["wanted"]);
}
