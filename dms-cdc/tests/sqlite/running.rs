//! A runner over the change log.

use std::sync::Arc;
use std::time::Duration;

use dms_cdc::sqlite::ChangeLogTrimmer;
use dms_cdc::{Runner, RunnerOptions};
use dms_core::DocumentId;
use dms_core::fake::{InMemoryDatabase, InMemoryDeadLetterRepository, RecordingSink};
use dms_core::model::change::{Operation, RowChange};
use dms_core::ports::{ChangeSource as _, DeadLetterRepository as _, StartAt, SystemClock};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::KEEP_NOTHING;
use crate::database::{Database, document};

const SOON: Duration = Duration::from_secs(30);
const VERSIONS: i32 = 300;

/// Versions in the order in which the sink saw them last.
fn last_seen(sink: &RecordingSink, id: DocumentId) -> Option<i32> {
    let version = |row: RowChange| match row {
        RowChange::Document { after: Some(row), .. } if row.id == id => Some(row.version),
        _ => None,
    };
    sink.changes().into_iter().filter_map(|change| version(change.row)).next_back()
}

#[tokio::test]
async fn a_consumer_that_is_dropped_again_and_again_misses_nothing_while_the_log_is_trimmed() {
    let database = Database::new().await;
    let dead_letters = Arc::new(dead_letters());
    let sink = Arc::new(RecordingSink::new("index"));
    let id = DocumentId::generate();
    // Registered before anything can be trimmed.
    database.source("indexer").start(StartAt::Acknowledged).await.expect("registered");

    let writing = async {
        for version in 1..=VERSIONS {
            if version % 50 == 0 {
                sqlx::raw_sql(
                    "INSERT INTO change_log (entity, operation, committed_at) VALUES ('x', 'y', 'z')",
                )
                .execute(&database.writes)
                .await
                .expect("poison inserted");
            }
            database.append(Operation::Update, document(id, version)).await;
        }
    };
    let trimming = async {
        let trimmer = ChangeLogTrimmer::new(database.writes.clone(), KEEP_NOTHING);
        trimmer.run(Duration::from_millis(3), CancellationToken::new()).await;
    };
    let consuming = async {
        for millis in (1_u64..).map(|round| round * 7 % 40) {
            let source = Arc::new(database.source("indexer"));
            let runner = Runner::new(
                source.clone(),
                vec![sink.clone()],
                dead_letters.clone(),
                Arc::new(SystemClock),
                RunnerOptions::new("indexer"),
            );
            let run = runner.run(CancellationToken::new());
            let ended = timeout(Duration::from_millis(millis), run).await;
            assert!(ended.is_err(), "dropped, not ended: {ended:?}");
            if millis % 2 == 0 {
                source.flush().await.expect("written");
            }
            if last_seen(&sink, id) == Some(VERSIONS) {
                break;
            }
        }
    };
    let consuming = async {
        tokio::select! {
            ((), ()) = async { tokio::join!(writing, consuming) } => {}
            () = trimming => {}
        }
    };
    timeout(SOON, consuming).await.expect("everything arrived");

    let mut seen: Vec<_> = sink.changes().into_iter().map(|change| change.position).collect();
    seen.sort_by_key(|position| position.as_str().parse::<i64>().expect("a number"));
    seen.dedup();
    assert_eq!(seen.len(), usize::try_from(VERSIONS).expect("a few"), "every change was seen");
    assert_eq!(dead_letters.count("indexer").await.expect("count"), 6, "and every poison kept");
}

#[tokio::test]
async fn a_stopped_runner_and_a_flush_leave_nothing_to_come_again() {
    let database = Database::new().await;
    let source = Arc::new(database.source("indexer"));
    let sink = Arc::new(RecordingSink::new("index"));
    let runner = Runner::new(
        source.clone(),
        vec![sink.clone()],
        Arc::new(dead_letters()),
        Arc::new(SystemClock),
        RunnerOptions::new("indexer"),
    );
    let stop = CancellationToken::new();
    let story = async {
        database.append_documents(3).await;
        sink.wait_until(|calls| calls.iter().map(|call| call.changes.len()).sum::<usize>() == 3)
            .await;
        stop.cancel();
    };
    let (end, ()) = timeout(SOON, async { tokio::join!(runner.run(stop.clone()), story) })
        .await
        .expect("stopped");
    end.expect("stopped in good order");
    source.flush().await.expect("written");
    assert_eq!(database.acknowledged("indexer").await, Some(3));
}

fn dead_letters() -> InMemoryDeadLetterRepository {
    InMemoryDatabase::default().dead_letters()
}
