//! The suites of the ports, on the fake.

use std::sync::Arc;
use std::time::Duration;

use futures_executor::block_on;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join, ready};

use super::InMemoryDatabase;
use crate::conformance::documents::DocumentPorts;
use crate::conformance::signatures::SignaturePorts;
use crate::conformance::{dead_letters, documents, idempotency, signatures, texts};
use crate::fake::ManualClock;
use crate::model::change::Operation;
use crate::ports::DocumentRepository as _;
use crate::{Document, DocumentId, DocumentPatch, DocumentStatus, NewDocument, Sha256};

fn database() -> (InMemoryDatabase, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (InMemoryDatabase::new(clock.clone()), clock)
}

fn pass_time(clock: Arc<ManualClock>) -> impl Fn(Duration) -> BoxFuture<'static, ()> {
    move |by| {
        clock.advance(by);
        Box::pin(ready(()))
    }
}

fn new_document() -> NewDocument {
    let id = DocumentId::generate();
    NewDocument {
        id,
        title: "title".into(),
        content_type: "text/plain".into(),
        content_size: 0,
        content_sha256: Sha256::of(b""),
        s3_key: Document::content_key(id),
        created_by: "creator".into(),
    }
}

#[test]
fn documents_in_memory_pass_the_suite() {
    let (database, _) = database();
    let (documents, texts) = (database.documents(), database.texts());
    let idempotency = database.idempotency();
    block_on(documents::suite(DocumentPorts {
        documents: &documents,
        texts: &texts,
        idempotency: &idempotency,
    }));
}

#[test]
fn signatures_in_memory_pass_the_suite() {
    let (database, clock) = database();
    let (signatures, documents) = (database.signatures(), database.documents());
    let idempotency = database.idempotency();
    let ports = SignaturePorts {
        signatures: &signatures,
        documents: &documents,
        idempotency: &idempotency,
    };
    block_on(signatures::suite(ports, &pass_time(clock)));
}

#[test]
fn idempotency_keys_in_memory_pass_the_suite() {
    let (database, clock) = database();
    block_on(idempotency::suite(&database.idempotency(), &database.documents(), &pass_time(clock)));
}

#[test]
fn texts_in_memory_pass_the_suite() {
    block_on(texts::suite(&database().0.texts()));
}

#[test]
fn dead_letters_in_memory_pass_the_suite() {
    block_on(dead_letters::suite(&database().0.dead_letters()));
}

#[test]
fn every_change_is_recorded_once_and_in_order() {
    let (database, _) = database();
    let documents = database.documents();
    let viewed = DocumentPatch::status(DocumentStatus::Viewed);
    block_on(async {
        let id = documents.create(new_document(), None, None).await.unwrap().id;
        documents.update(id, &viewed, None, None).await.unwrap();
        documents.update(id, &viewed, None, None).await.unwrap();
        documents.delete(id, None).await.unwrap();
    });
    let changes = database.changes();
    let operations: Vec<_> = changes.iter().map(|change| change.operation).collect();
    assert_eq!(operations, [Operation::Create, Operation::Update, Operation::Update]);
    let positions: Vec<_> = changes.iter().map(|change| change.position.as_str()).collect();
    assert_eq!(positions, ["1", "2", "3"]);
}

#[test]
fn who_waits_for_a_change_is_woken_by_it() {
    let (database, _) = database();
    let documents = database.documents();
    assert!(database.changes_after(0).now_or_never().is_none());
    let (seen, created) =
        block_on(join(database.changes_after(0), documents.create(new_document(), None, None)));
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].document_id(), Some(created.unwrap().id));
    assert!(database.changes_after(1).now_or_never().is_none());
}
