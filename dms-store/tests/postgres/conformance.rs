//! `PostgreSQL` passes the suites of the ports it implements.

use std::time::Duration;

use dms_core::conformance::documents::DocumentPorts;
use dms_core::conformance::signatures::SignaturePorts;
use dms_core::conformance::{dead_letters, documents, idempotency, signatures, texts};
use dms_store::postgres::PostgresOptions;
use futures_util::future::BoxFuture;

use super::bed::{Bed, prepared};

/// Leases and ages are by the clock of the database, which nobody sets.
fn pass_time(by: Duration) -> BoxFuture<'static, ()> {
    Box::pin(tokio::time::sleep(by))
}

async fn documents_suite(options: PostgresOptions) {
    let database = prepared(options).await;
    documents::suite(DocumentPorts {
        documents: &database.documents(),
        texts: &database.texts(),
        idempotency: &database.idempotency(),
    })
    .await;
    database.close().await;
}

async fn signatures_suite(options: PostgresOptions) {
    let database = prepared(options).await;
    let ports = SignaturePorts {
        signatures: &database.signatures(),
        documents: &database.documents(),
        idempotency: &database.idempotency(),
    };
    signatures::suite(ports, &pass_time).await;
    database.close().await;
}

async fn idempotency_suite(options: PostgresOptions) {
    let database = prepared(options).await;
    idempotency::suite(&database.idempotency(), &database.documents(), &pass_time).await;
    database.close().await;
}

async fn texts_suite(options: PostgresOptions) {
    let database = prepared(options).await;
    texts::suite(&database.texts()).await;
    database.close().await;
}

async fn dead_letters_suite(options: PostgresOptions) {
    let database = prepared(options).await;
    dead_letters::suite(&database.dead_letters()).await;
    database.close().await;
}

macro_rules! straight_and_pooled {
    ($($suite:ident: $straight:ident, $pooled:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs PostgreSQL"]
        async fn $straight() {
            let bed = Bed::new().await;
            $suite(bed.direct()).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs PgBouncer"]
        async fn $pooled() {
            let bed = Bed::new().await.with_lock_timeout("20s").await;
            $suite(bed.pooled()).await;
        }
    )+};
}

straight_and_pooled! {
    documents_suite: documents_pass_the_suite, documents_pass_the_suite_through_the_pooler;
    signatures_suite: signatures_pass_the_suite, signatures_pass_the_suite_through_the_pooler;
    idempotency_suite: idempotency_keys_pass_the_suite,
        idempotency_keys_pass_the_suite_through_the_pooler;
    texts_suite: texts_pass_the_suite, texts_pass_the_suite_through_the_pooler;
    dead_letters_suite: dead_letters_pass_the_suite, dead_letters_pass_the_suite_through_the_pooler;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn lists_come_from_the_replica_and_from_the_database_while_it_is_away() {
    let bed = Bed::new().await;
    let mut options = bed.direct();
    options.replica_url = Some(bed.direct_url());
    documents_suite(options.clone()).await;
    // Nobody listens there.
    options.replica_url = Some("postgres://docs@127.0.0.1:1/none".into());
    documents_suite(options).await;
}
