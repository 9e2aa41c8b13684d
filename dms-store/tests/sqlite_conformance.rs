//! `SQLite` passes the suites of the ports it implements.
#![cfg(feature = "sqlite")]

use std::sync::Arc;
use std::time::Duration;

use dms_core::conformance::documents::DocumentPorts;
use dms_core::conformance::signatures::SignaturePorts;
use dms_core::conformance::{dead_letters, documents, idempotency, signatures, texts};
use dms_core::fake::ManualClock;
use dms_store::sqlite::{SqliteDatabase, SqliteOptions};
use futures_util::future::{BoxFuture, ready};
use tempfile::TempDir;

struct Fixture {
    database: SqliteDatabase,
    clock: Arc<ManualClock>,
    _folder: TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() };
    let database = SqliteDatabase::open(&folder.path().join("dms.db"), options).await.unwrap();
    Fixture { database, clock, _folder: folder }
}

fn pass_time(clock: Arc<ManualClock>) -> impl Fn(Duration) -> BoxFuture<'static, ()> {
    move |by| {
        clock.advance(by);
        Box::pin(ready(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_in_sqlite_pass_the_suite() {
    let fixture = fixture().await;
    documents::suite(DocumentPorts {
        documents: &fixture.database.documents(),
        texts: &fixture.database.texts(),
        idempotency: &fixture.database.idempotency(),
    })
    .await;
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_in_sqlite_pass_the_suite() {
    let fixture = fixture().await;
    let ports = SignaturePorts {
        signatures: &fixture.database.signatures(),
        documents: &fixture.database.documents(),
        idempotency: &fixture.database.idempotency(),
    };
    signatures::suite(ports, &pass_time(fixture.clock.clone())).await;
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_keys_in_sqlite_pass_the_suite() {
    let fixture = fixture().await;
    idempotency::suite(
        &fixture.database.idempotency(),
        &fixture.database.documents(),
        &pass_time(fixture.clock.clone()),
    )
    .await;
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_in_sqlite_pass_the_suite() {
    let fixture = fixture().await;
    texts::suite(&fixture.database.texts()).await;
    fixture.database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_in_sqlite_pass_the_suite() {
    let fixture = fixture().await;
    dead_letters::suite(&fixture.database.dead_letters()).await;
    fixture.database.close().await.unwrap();
}
