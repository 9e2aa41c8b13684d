//! View counts in `SQLite`.
#![cfg(feature = "sqlite")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dms_core::ports::ViewCounter as _;
use dms_core::{DocumentId, ErrorKind, ViewStats, Visitor};
use dms_store::sqlite::SqliteViewCounter;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

async fn open(path: &Path) -> SqliteViewCounter {
    SqliteViewCounter::open(path).await.expect("open")
}

fn visitor(number: usize) -> Visitor {
    Visitor(Arc::from(format!("sub:{number}")))
}

async fn stats(views: &SqliteViewCounter, id: DocumentId) -> (u64, u64) {
    let ViewStats { total_views, unique_views } = views.stats(id).await.expect("stats");
    (total_views, unique_views)
}

#[tokio::test]
async fn passes_the_suite_on_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let views = open(&folder.path().join("views.db")).await;
    dms_core::conformance::views::suite(&views).await;
    views.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_suite_on_many_threads() {
    let folder = tempfile::tempdir().unwrap();
    let views = open(&folder.path().join("views.db")).await;
    dms_core::conformance::views::suite(&views).await;
    views.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_stay_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    let id = DocumentId::generate();
    for round in 1..=3 {
        let views = open(&path).await;
        join_all((0..100).map(|i| {
            let views = views.clone();
            async move { views.record(id, &visitor(i % 60)).await.expect("record") }
        }))
        .await;
        views.record(id, &visitor(1_000 + usize::try_from(round).unwrap())).await.unwrap();
        assert_eq!(stats(&views, id).await, (101 * round, 60 + round));
        views.close().await.unwrap();
        let mut files: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len() > 0))
            .collect();
        files.sort();
        let expected = [("views.db".into(), true), ("views.db-log".into(), false)];
        assert_eq!(files, expected, "closing moves both logs into the file");
    }
}

#[tokio::test]
async fn a_closed_counter_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let views = open(&folder.path().join("views.db")).await;
    let id = DocumentId::generate();
    views.record(id, &visitor(1)).await.unwrap();
    views.close().await.unwrap();
    views.close().await.expect("closing again");
    assert_eq!(views.record(id, &visitor(2)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(views.stats(id).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn closing_answers_everyone_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    let id = DocumentId::generate();
    let views = open(&path).await;
    let waiting: Vec<_> = (0..20_000)
        .map(|i| {
            let views = views.clone();
            tokio::spawn(async move { views.record(id, &visitor(i)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    views.close().await.unwrap();
    let mut counted = 0;
    for outcome in join_all(waiting).await {
        match outcome.unwrap() {
            Ok(()) => counted += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
    }
    let views = open(&path).await;
    assert_eq!(stats(&views, id).await, (counted, counted), "counted exactly if acknowledged");
    views.close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    use sqlx::{ConnectOptions as _, Connection as _};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 3").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let error = SqliteViewCounter::open(&path).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "schema_newer"));
}

#[tokio::test]
async fn what_cannot_be_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = SqliteViewCounter::open(&folder.path().join("gone/views.db")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let other = folder.path().join("other.txt");
    std::fs::write(
        &other,
        "this is not a database, and long enough to be read as one\n".repeat(99),
    )
    .unwrap();
    let error = SqliteViewCounter::open(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn views_that_the_tables_cannot_take_wait_in_the_log() {
    use sqlx::{ConnectOptions as _, Connection as _};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    let views = open(&path).await;
    let id = DocumentId::generate();
    views.record(id, &visitor(1)).await.unwrap();
    assert_eq!(stats(&views, id).await, (1, 1));
    let mut other =
        sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("ALTER TABLE view_visitors RENAME TO elsewhere")
        .execute(&mut other)
        .await
        .unwrap();
    views.record(id, &visitor(2)).await.unwrap();
    let error = views.stats(id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    views.record(id, &visitor(3)).await.unwrap();
    views.close().await.unwrap();
    let views = open(&path).await;
    assert_eq!(views.stats(id).await.unwrap_err().kind(), ErrorKind::Internal);
    sqlx::raw_sql("ALTER TABLE elsewhere RENAME TO view_visitors")
        .execute(&mut other)
        .await
        .unwrap();
    other.close().await.unwrap();
    views.record(id, &visitor(4)).await.unwrap();
    assert_eq!(stats(&views, id).await, (4, 4), "each view is counted once, and whole");
    views.close().await.unwrap();
}

/// More views than the log has room for, while the tables take none.
#[tokio::test]
async fn a_full_log_makes_views_wait() {
    use sqlx::ConnectOptions as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    let views = open(&path).await;
    let id = DocumentId::generate();
    let mut other =
        sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let mut recorded = 0;
    let last = loop {
        let mut record = {
            let views = views.clone();
            Box::pin(async move { views.record(id, &visitor(1)).await })
        };
        match futures_util::future::poll_immediate(&mut record).await {
            Some(outcome) => outcome.unwrap(),
            None => break record,
        }
        recorded += 1;
        assert!(recorded < 1_000_000, "no bound");
    };
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    last.await.expect("room again");
    assert_eq!(stats(&views, id).await, (recorded + 1, 1));
    views.close().await.unwrap();
}

const CHILD_PATH: &str = "DMS_TEST_VIEWS_PATH";

/// Not a test by itself: what [`what_was_acknowledged_survives_kill`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_counts_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_PATH) else { return };
    let views = open(Path::new(&path)).await;
    let ids: Vec<_> = (0..5).map(|_| DocumentId::generate()).collect();
    stream::iter(0..)
        .for_each_concurrent(32, |i| {
            let (views, id) = (&views, ids[i % 5]);
            async move {
                views.record(id, &visitor(i)).await.expect("record");
                println!("viewed {id}");
            }
        })
        .await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_counts_until_it_is_killed", "--nocapture"])
            .env(CHILD_PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut lines = lines
            .filter_map(|line| line.split_once("viewed ").map(|it| it.1.trim().to_owned()))
            .filter_map(|id| id.parse::<DocumentId>().ok());
        let mut acknowledged: Vec<_> = lines.by_ref().take(500).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines);
        let mut expected = HashMap::<_, u64>::new();
        for id in acknowledged {
            *expected.entry(id).or_default() += 1;
        }
        let views = open(&path).await;
        for (id, acknowledged) in expected {
            let (total, unique) = stats(&views, id).await;
            assert!(total >= acknowledged, "{total} of {acknowledged} views of {id}");
            assert_eq!(total, unique, "totals and visitors belong together");
        }
        let closed = tokio::time::timeout(Duration::from_secs(20), views.close()).await;
        closed.expect("closing in time").unwrap();
    }
}
