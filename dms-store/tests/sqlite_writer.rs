//! The writer: groups, bounds, cancellation, closing.
#![cfg(feature = "sqlite")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{
    DocumentRepository as _, IdempotencyKey, IdempotencyRecord, IdempotencyRepository as _,
    Reservation, SignatureRepository as _, TextRepository as _,
};
use dms_core::{
    Document, DocumentId, DocumentPatch, Error, ErrorKind, NewDocument, NewSignature, Sha256,
    Signature, SignatureId,
};
use dms_store::sqlite::{SqliteDatabase, SqliteDocumentRepository, SqliteOptions};
use futures_util::future::{join, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use proptest::prelude::*;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection, query, query_as, query_scalar};
use tempfile::TempDir;

const GENEROUS: Duration = Duration::from_mins(1);

struct Fixture {
    database: SqliteDatabase,
    documents: SqliteDocumentRepository,
    path: PathBuf,
    _folder: TempDir,
}

async fn fixture(options: SqliteOptions) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dms.db");
    let database = SqliteDatabase::open(&path, options).await.unwrap();
    let documents = database.documents();
    Fixture { database, documents, path, _folder: folder }
}

fn patient() -> SqliteOptions {
    SqliteOptions { busy_timeout: GENEROUS, ..SqliteOptions::default() }
}

fn new_document() -> NewDocument {
    let id = DocumentId::generate();
    NewDocument {
        id,
        title: "title".into(),
        content_type: "text/plain".into(),
        content_size: 1,
        content_sha256: Sha256::of(id.as_uuid().as_bytes()),
        s3_key: Document::content_key(id),
        created_by: "jane".into(),
    }
}

/// Another process that holds the lock for writing until this is dropped.
async fn lock(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
    connection
}

async fn unlock(mut connection: SqliteConnection) {
    query("ROLLBACK").execute(&mut connection).await.unwrap();
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GENEROUS, future).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_share_a_commit() {
    let fixture = fixture(patient()).await;
    let commits = fixture.database.commits();
    let lock = lock(&fixture.path).await;
    let creates = join_all((0..200).map(|_| fixture.documents.create(new_document(), None, None)));
    let mut creates = pin!(creates);
    assert!(futures_util::FutureExt::now_or_never(creates.as_mut()).is_none());
    unlock(lock).await;
    for created in within(creates).await {
        created.unwrap();
    }
    // The first group is what was there when the writer looked, the second all the rest.
    assert!(*commits.borrow() <= 2, "{} commits", *commits.borrow());
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_fails_alone() {
    let fixture = fixture(patient()).await;
    let taken = fixture.documents.create(new_document(), None, None).await.unwrap().id;
    let lock = lock(&fixture.path).await;
    let news: Vec<_> =
        (0..30)
            .map(|n| {
                if n % 3 == 1 {
                    NewDocument { id: taken, ..new_document() }
                } else {
                    new_document()
                }
            })
            .collect();
    let creates = join_all(news.iter().enumerate().map(|(n, new)| {
        let key = TextKey { content_sha256: new.content_sha256, format: TextFormat::Plain };
        let text = (n % 2 == 0).then(|| (key, "text".to_owned()));
        fixture.documents.create(new.clone(), text, None)
    }));
    let (results, ()) = within(join(creates, unlock(lock))).await;
    for (new, result) in news.iter().zip(results) {
        match result {
            Ok(made) => assert_eq!(fixture.documents.get(new.id).await.unwrap(), made),
            Err(error) => assert_eq!((error.code(), new.id), ("already_exists", taken)),
        }
    }
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let options = SqliteOptions { queue_jobs_max: 4, group_jobs_max: 2, ..patient() };
    let fixture = fixture(options).await;
    let lock = lock(&fixture.path).await;
    let mut waiting = FuturesUnordered::new();
    let refused: Error = loop {
        let id = DocumentId::generate();
        let new = NewDocument { id, ..new_document() };
        let mut create = fixture.documents.create(new, None, None);
        match futures_util::FutureExt::now_or_never(&mut create) {
            None => waiting.push(async move { (id, create.await) }),
            Some(result) => break result.unwrap_err(),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert_eq!(refused.dependency(), Some("database"));
    assert!(refused.retry_after().is_some());
    assert!((4..=6).contains(&waiting.len()), "{} wait", waiting.len());
    unlock(lock).await;
    while let Some((id, created)) = within(waiting.next()).await {
        assert_eq!(created.unwrap().id, id);
    }
    fixture.documents.create(new_document(), None, None).await.unwrap();
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_in_bytes() {
    let fixture = fixture(SqliteOptions { queue_bytes_max: 1 << 20, ..patient() }).await;
    let texts = fixture.database.texts();
    let text = |n: u8, length: usize| {
        let key = TextKey { content_sha256: Sha256::of(&[n]), format: TextFormat::Plain };
        [(key, "x".repeat(length))]
    };
    let (first, second, third) = (text(1, 600_000), text(2, 600_000), text(3, 3 << 20));
    let lock = lock(&fixture.path).await;
    let mut put = texts.put_many(&first);
    assert!(futures_util::FutureExt::now_or_never(&mut put).is_none());
    let error = texts.put_many(&second).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    unlock(lock).await;
    within(put).await.unwrap();
    texts.put_many(&second).await.unwrap();
    texts.put_many(&third).await.expect("larger than the bound, but alone");
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_held_too_long_is_unavailable_and_leaves_no_effect() {
    let options =
        SqliteOptions { busy_timeout: Duration::from_millis(20), ..SqliteOptions::default() };
    let fixture = fixture(options).await;
    let lock = lock(&fixture.path).await;
    let new = new_document();
    let error = within(fixture.documents.create(new.clone(), None, None)).await.unwrap_err();
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("database")));
    assert!(std::error::Error::source(&error).is_some());
    assert!(fixture.documents.get(new.id).await.is_err(), "reads go on");
    unlock(lock).await;
    fixture.documents.create(new, None, None).await.unwrap();
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_finishes_what_waits_and_refuses_what_comes() {
    let fixture = fixture(patient()).await;
    let lock = lock(&fixture.path).await;
    let news: Vec<_> = (0..20).map(|_| new_document()).collect();
    let creates = join_all(news.iter().map(|n| fixture.documents.create(n.clone(), None, None)));
    let mut creates = pin!(creates);
    assert!(futures_util::FutureExt::now_or_never(creates.as_mut()).is_none());
    let close = fixture.database.close();
    let (results, closed, ()) = within(async { tokio::join!(creates, close, unlock(lock)) }).await;
    closed.unwrap();
    for result in results {
        result.unwrap();
    }
    let error = fixture.documents.create(new_document(), None, None).await.unwrap_err();
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("database")));
    let error = fixture.documents.get(news[0].id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.documents.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    fixture.database.close().await.expect("closing again");

    let reopened = SqliteDatabase::open(&fixture.path, SqliteOptions::default()).await.unwrap();
    for new in news {
        reopened.documents().get(new.id).await.unwrap();
    }
    reopened.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_dropped_finishes_what_waits() {
    let fixture = fixture(patient()).await;
    let lock = lock(&fixture.path).await;
    let new = new_document();
    let mut create = fixture.documents.create(new.clone(), None, None);
    assert!(futures_util::FutureExt::now_or_never(&mut create).is_none());
    drop(create);
    let kept = new_document();
    let documents = fixture.documents.clone();
    let last = tokio::spawn({
        let kept = kept.clone();
        async move { documents.create(kept, None, None).await }
    });
    let Fixture { database, documents, path, _folder } = fixture;
    drop((database, documents));
    unlock(lock).await;
    within(last).await.unwrap().unwrap();
    let reopened = SqliteDatabase::open(&path, SqliteOptions::default()).await.unwrap();
    reopened.documents().get(kept.id).await.unwrap();
    reopened.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_woken_by_commits() {
    let fixture = fixture(SqliteOptions::default()).await;
    let mut commits = fixture.database.commits();
    commits.mark_unchanged();
    fixture.documents.create(new_document(), None, None).await.unwrap();
    within(commits.changed()).await.unwrap();
    let seen: i64 = query_scalar("SELECT max(seq) FROM change_log")
        .fetch_one(&fixture.database.read_pool())
        .await
        .unwrap();
    assert_eq!(seen, 1);

    query("INSERT INTO change_consumers VALUES ('index', 1, '2026-01-01T00:00:00.000000Z')")
        .execute(&fixture.database.maintenance_pool())
        .await
        .unwrap();
    let refused = query("DELETE FROM change_log").execute(&fixture.database.read_pool()).await;
    assert!(refused.is_err(), "the pool for reading writes");
    fixture.database.close().await.unwrap();
    assert!(commits.changed().await.is_err(), "the counter ends with the writer");
}

/// A request whose client goes away after a while.
async fn abandoned<T>(patience: u16, request: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = async { for _ in 0..patience { tokio::task::yield_now().await } } => None,
        done = request => Some(done),
    }
}

#[derive(Debug, Clone)]
enum Request {
    Create,
    Rename(usize),
    Delete(usize),
    Sign(usize),
}

fn request() -> impl Strategy<Value = (u16, Request)> {
    let request = prop_oneof![
        3 => Just(Request::Create),
        3 => (0..4_usize).prop_map(Request::Rename),
        1 => (0..4_usize).prop_map(Request::Delete),
        2 => (0..4_usize).prop_map(Request::Sign),
    ];
    (prop_oneof![0..3_u16, 0..60_u16, 200..400_u16], request)
}

/// The id that a request may have made, with the key it may have completed.
type Attempt = (String, IdempotencyKey, Option<TextKey>);

async fn serve(
    database: &SqliteDatabase,
    shared: &[DocumentId],
    n: usize,
    patience: u16,
    request: Request,
) -> Option<Attempt> {
    let key = IdempotencyKey::new("request", None, &n.to_string()).unwrap();
    let record = IdempotencyRecord { key: key.clone(), request_sha256: Sha256::of(b"") };
    match request {
        Request::Create => {
            let new = new_document();
            let text = TextKey { content_sha256: new.content_sha256, format: TextFormat::Plain };
            let id = new.id.to_string();
            let documents = database.documents();
            let create = documents.create(new, Some((text, "text".into())), Some(record));
            abandoned(patience, create).await;
            Some((id, key, Some(text)))
        }
        Request::Rename(document) => {
            let patch = DocumentPatch { title: Some(format!("title {n}")), status: None };
            let documents = database.documents();
            let update = documents.update(shared[document], &patch, None, Some(record));
            abandoned(patience, update).await;
            None
        }
        Request::Delete(document) => {
            abandoned(patience, database.documents().delete(shared[document], None)).await;
            None
        }
        Request::Sign(document) => {
            let id = SignatureId::generate();
            let new = NewSignature {
                id,
                document_id: shared[document],
                signer_email: format!("{n}@example.com"),
                signer_name: "n".into(),
                image_key: Signature::image_key(id),
                image_content_type: "image/png".into(),
            };
            abandoned(patience, database.signatures().create(new, Some(record))).await;
            Some((id.to_string(), key, None))
        }
    }
}

async fn cancelled_at_random(requests: Vec<(u16, Request)>) {
    let options = SqliteOptions { group_jobs_max: 5, ..SqliteOptions::default() };
    let fixture = fixture(options).await;
    let mut shared = Vec::new();
    for _ in 0..4 {
        shared.push(fixture.documents.create(new_document(), None, None).await.unwrap().id);
    }
    let served = requests
        .into_iter()
        .enumerate()
        .map(|(n, (patience, request))| serve(&fixture.database, &shared, n, patience, request));
    let attempts = within(join_all(served)).await;

    // The queue is in order: once this is answered, everything before it has happened or not.
    within(fixture.documents.create(new_document(), None, None)).await.unwrap();
    let reads = fixture.database.read_pool();
    for (id, key, text) in attempts.into_iter().flatten() {
        let made: bool = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM documents WHERE id = $1
                UNION ALL SELECT 1 FROM signatures WHERE id = $1)",
        )
        .bind(id)
        .fetch_one(&reads)
        .await
        .unwrap();
        let reservation = fixture.database.idempotency().reserve(&key, GENEROUS).await.unwrap();
        assert_eq!(matches!(reservation, Reservation::Completed { .. }), made);
        if let Some(text) = text {
            let kept = fixture.database.texts().get_many(&[text]).await.unwrap();
            assert_eq!(!kept.is_empty(), made);
        }
    }
    let counts: Vec<(String, i64, i64)> = query_as(
        "SELECT id, version, (
            SELECT count(*) FROM change_log WHERE entity = 'document' AND after ->> 'id' = id)
        FROM documents",
    )
    .fetch_all(&reads)
    .await
    .unwrap();
    for (id, version, logged) in counts {
        assert_eq!(version, logged, "one change event for each version of {id}");
    }
    unlock(lock(&fixture.path).await).await;
    fixture.database.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_cancelled_anywhere_leave_the_writer_well_and_every_write_whole(
        requests in prop::collection::vec(request(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(cancelled_at_random(requests));
    }
}
