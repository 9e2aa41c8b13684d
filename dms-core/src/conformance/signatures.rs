//! Signatures: [`SignatureRepository`].

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::documents::{new_document, record, refusal};
use super::idempotency::PassTime;
use crate::ports::{DocumentRepository, IdempotencyRepository, Reservation, SignatureRepository};
use crate::{AppliedStatus, DocumentId, ErrorKind, NewSignature, Result, Signature, SignatureId};

const LEASE: Duration = Duration::from_mins(1);

/// The ports that meet in [`SignatureRepository::create`], on one database.
#[derive(Clone, Copy)]
pub struct SignaturePorts<'a> {
    /// What is checked.
    pub signatures: &'a dyn SignatureRepository,
    /// The documents that are signed.
    pub documents: &'a dyn DocumentRepository,
    /// Shows the keys that are completed with signatures.
    pub idempotency: &'a dyn IdempotencyRepository,
}

/// Checks everything that [`SignatureRepository`] promises, except durability and cancellation.
/// Leaves rows behind.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(ports: SignaturePorts<'_>, pass_time: PassTime<'_>) {
    create_and_get(ports).await;
    one_signature_per_address(ports).await;
    unknown_and_deleted_documents(ports).await;
    key_is_completed_with_the_signature(ports).await;
    lists(ports).await;
    applied_and_discarded(ports).await;
    pending(ports, pass_time).await;
    referenced(ports).await;
}

fn new_signature(document_id: DocumentId, signer_email: &str) -> NewSignature {
    let id = SignatureId::generate();
    NewSignature {
        id,
        document_id,
        signer_email: signer_email.into(),
        signer_name: "Søren \"O'Neil\" 文".into(),
        image_key: Signature::image_key(id),
        image_content_type: "image/png".into(),
    }
}

async fn document(ports: SignaturePorts<'_>) -> DocumentId {
    ports.documents.create(new_document(), None, None).await.expect("create a document").id
}

async fn sign(ports: SignaturePorts<'_>, document_id: DocumentId, email: &str) -> Signature {
    let new = new_signature(document_id, email);
    ports.signatures.create(new, None).await.expect("create a signature")
}

fn not_found<T: std::fmt::Debug>(result: Result<T>, step: &str) {
    refusal(result, ErrorKind::NotFound, "not_found", step);
}

async fn create_and_get(ports: SignaturePorts<'_>) {
    let document_id = document(ports).await;
    let new = new_signature(document_id, "first@example.com");
    not_found(ports.signatures.get(new.id).await, "get before create");
    let created = ports.signatures.create(new.clone(), None).await.expect("create");
    assert_eq!(created.id, new.id, "create: id");
    assert_eq!(created.document_id, document_id, "create: document");
    assert_eq!(created.signer_email, new.signer_email, "create: address");
    assert_eq!(created.signer_name, new.signer_name, "create: name");
    assert_eq!(created.image_key, new.image_key, "create: key of the image");
    assert_eq!(created.image_content_type, new.image_content_type, "create: type of the image");
    assert_eq!(created.document_status, AppliedStatus::Pending, "create: status");
    assert_eq!(created.created_at.nanosecond() % 1_000, 0, "create: finer than microseconds");
    assert_eq!(ports.signatures.get(new.id).await.expect("get"), created, "get after create");
    let version = ports.documents.get(document_id).await.expect("get the document").version;
    assert_eq!(version, 1, "a signature changes the document");
}

async fn one_signature_per_address(ports: SignaturePorts<'_>) {
    let document_id = document(ports).await;
    let first = sign(ports, document_id, "Jane.Doe+x@Example.com").await;
    for same in ["Jane.Doe+x@Example.com", "jane.doe+x@example.com", "JANE.DOE+X@EXAMPLE.COM"] {
        refusal(
            ports.signatures.create(new_signature(document_id, same), None).await,
            ErrorKind::Conflict,
            "already_signed",
            same,
        );
    }
    assert_eq!(ports.signatures.list(document_id).await.expect("list"), [first], "after refusals");
    sign(ports, document_id, "jane.doe@example.com").await;
    sign(ports, document_id, "o'neil%_*@example.com").await;
    sign(ports, document(ports).await, "jane.doe+x@example.com").await;

    let contested = document(ports).await;
    let racers =
        (0..8).map(|_| ports.signatures.create(new_signature(contested, "a@example.com"), None));
    let results = join_all(racers).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "concurrent signatures");
    for lost in results.into_iter().filter(Result::is_err) {
        refusal(lost, ErrorKind::Conflict, "already_signed", "concurrent signatures");
    }
    let left = ports.signatures.list(contested).await.expect("list");
    assert_eq!(left.len(), 1, "concurrent signatures");
}

async fn unknown_and_deleted_documents(ports: SignaturePorts<'_>) {
    let once = record(b"sign");
    let orphan = new_signature(DocumentId::generate(), "a@example.com");
    let created = ports.signatures.create(orphan.clone(), Some(once.clone())).await;
    not_found(created, "signature of an unknown document");
    not_found(ports.signatures.get(orphan.id).await, "signature of an unknown document");
    let key = ports.idempotency.reserve(&once.key, LEASE).await.expect("reserve");
    assert_eq!(key, Reservation::Acquired, "key of a refused signature");

    let deleted = document(ports).await;
    ports.documents.delete(deleted, None).await.expect("delete");
    sign(ports, deleted, "a@example.com").await;
}

async fn key_is_completed_with_the_signature(ports: SignaturePorts<'_>) {
    let document_id = document(ports).await;
    let once = record(b"sign");
    let new = new_signature(document_id, "a@example.com");
    let created = ports.signatures.create(new, Some(once.clone())).await.expect("create");
    match ports.idempotency.reserve(&once.key, LEASE).await.expect("reserve") {
        Reservation::Completed { request_sha256, resource_id, .. } => {
            assert_eq!(request_sha256, once.request_sha256, "digest of the signature");
            assert_eq!(resource_id, created.id.as_uuid(), "resource of the key");
        }
        other => panic!("key after create: {other:?}"),
    }
    let late = new_signature(document_id, "b@example.com");
    refusal(
        ports.signatures.create(late.clone(), Some(once)).await,
        ErrorKind::Conflict,
        "idempotency_key_completed",
        "create with a completed key",
    );
    not_found(ports.signatures.get(late.id).await, "signature of a completed key");

    let unused = record(b"sign");
    refusal(
        ports
            .signatures
            .create(new_signature(document_id, "A@example.com"), Some(unused.clone()))
            .await,
        ErrorKind::Conflict,
        "already_signed",
        "create with a key and a known address",
    );
    let key = ports.idempotency.reserve(&unused.key, LEASE).await.expect("reserve");
    assert_eq!(key, Reservation::Acquired, "key of a refused signature");
}

async fn lists(ports: SignaturePorts<'_>) {
    let document_id = document(ports).await;
    assert_eq!(ports.signatures.list(document_id).await.expect("list"), [], "list of none");
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(sign(ports, document_id, &format!("{n}@example.com")).await);
    }
    assert_eq!(ports.signatures.list(document_id).await.expect("list"), made, "oldest first");
    let unknown = ports.signatures.list(DocumentId::generate()).await.expect("list");
    assert_eq!(unknown, [], "list of an unknown document");
}

async fn applied_and_discarded(ports: SignaturePorts<'_>) {
    let signatures = ports.signatures;
    let document_id = document(ports).await;
    let applied = sign(ports, document_id, "a@example.com").await;
    for _ in 0..2 {
        signatures.mark_applied(applied.id).await.expect("mark applied");
        let read = signatures.get(applied.id).await.expect("get");
        let expected = Signature { document_status: AppliedStatus::Signed, ..applied.clone() };
        assert_eq!(read, expected, "after being applied");
    }
    signatures.discard(applied.id).await.expect("discard an applied one");
    signatures.get(applied.id).await.expect("an applied signature isn't discarded");

    let discarded = sign(ports, document_id, "b@example.com").await;
    for _ in 0..2 {
        signatures.discard(discarded.id).await.expect("discard");
        not_found(signatures.get(discarded.id).await, "get after discard");
    }
    sign(ports, document_id, "b@example.com").await;
}

async fn pending(ports: SignaturePorts<'_>, pass_time: PassTime<'_>) {
    // Whatever else is pending must not be in the way.
    for earlier in ports.signatures.pending(Duration::ZERO, u32::MAX).await.expect("pending") {
        ports.signatures.mark_applied(earlier.id).await.expect("mark applied");
    }
    let document_id = document(ports).await;
    let applied = sign(ports, document_id, "applied@example.com").await;
    ports.signatures.mark_applied(applied.id).await.expect("mark applied");
    let old = sign(ports, document_id, "old@example.com").await;
    let older_than = Duration::from_millis(200);
    pass_time(older_than).await;
    let young = sign(ports, document_id, "young@example.com").await;

    let all = ports.signatures.pending(Duration::ZERO, 10).await.expect("pending");
    assert_eq!(all, [old.clone(), young], "pending, oldest first");
    let first = ports.signatures.pending(Duration::ZERO, 1).await.expect("pending");
    assert_eq!(first, std::slice::from_ref(&old), "pending, one of two");
    let aged = ports.signatures.pending(older_than, 10).await.expect("pending");
    assert_eq!(aged.first(), Some(&old), "pending for long");
    for age in [Duration::from_hours(24), Duration::from_hours(24 * 366 * 3_000), Duration::MAX] {
        let aged = ports.signatures.pending(age, 10).await.expect("pending");
        assert_eq!(aged, [], "pending for {age:?}");
    }
}

async fn referenced(ports: SignaturePorts<'_>) {
    let known = sign(ports, document(ports).await, "a@example.com").await.id;
    let unknown = (0..500).map(|_| SignatureId::generate());
    let asked: Vec<_> = std::iter::once(known).chain(unknown).collect();
    let found = ports.signatures.referenced(&asked).await.expect("referenced");
    assert_eq!(found, HashSet::from([known]), "referenced");
    let none = ports.signatures.referenced(&[]).await.expect("referenced");
    assert_eq!(none, HashSet::new(), "referenced among none");
}
