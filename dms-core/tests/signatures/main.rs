//! Signing: what holds when the document service, the stores or the process itself fail.

mod world;

use std::time::Duration;

use dms_core::fake::{DocumentCall, DocumentFault};
use dms_core::use_cases::{CreateSignature, ReconcileReport};
use dms_core::{AppliedStatus, DocumentId, DocumentStatus, ErrorKind};
use futures_util::future::{join, poll_immediate};
use futures_util::{FutureExt as _, TryStreamExt as _, pin_mut};
use world::{PNG, World, caller};

fn report(applied: u64, discarded: u64, pending: u64) -> ReconcileReport {
    ReconcileReport { applied, discarded, pending }
}

#[tokio::test]
async fn signing_stores_the_image_and_tells_the_document() {
    let world = World::new().await;
    let signature = world.sign("bob@example.org").await.expect("signed");
    assert_eq!(signature.document_status, AppliedStatus::Signed);
    assert_eq!(signature.image_content_type, "image/png");
    assert_eq!(world.stored().await, std::slice::from_ref(&signature));
    assert_eq!((world.document().status, world.document().version), (DocumentStatus::Signed, 2));
    let id = world.document_id;
    let calls = [DocumentCall::Get(id), DocumentCall::MarkSigned(id, signature.id)];
    assert_eq!(world.documents.calls(), calls);
    let (_, image) = world.signatures.image(&caller(), signature.id).await.expect("an image");
    let bytes: Vec<_> = image.stream.try_collect().await.expect("readable");
    assert_eq!(bytes.concat(), PNG);
    assert_eq!(world.reconcile().await, ReconcileReport::default());
}

#[tokio::test]
async fn a_signature_waits_for_an_unreachable_document_service_and_is_applied_once() {
    let world = World::new().await;
    world.documents.fail_next(3, DocumentFault::Unreachable);
    let signature = world.sign("bob@example.org").await.expect("kept");
    assert_eq!(signature.document_status, AppliedStatus::Pending);
    assert_eq!(world.document().status, DocumentStatus::Created);
    assert_eq!(world.reconcile().await, report(0, 0, 1));
    assert_eq!(world.reconcile().await, report(1, 0, 0));
    assert_eq!(world.reconcile().await, ReconcileReport::default());
    assert_eq!((world.document().status, world.document().version), (DocumentStatus::Signed, 2));
    let [stored] = &world.stored().await[..] else { panic!("one signature") };
    assert_eq!(stored.document_status, AppliedStatus::Signed);
}

#[tokio::test]
async fn a_lost_answer_does_not_apply_a_signature_twice() {
    let world = World::new().await;
    world.documents.pass_next(1);
    world.documents.fail_next(1, DocumentFault::ReplyLost);
    let signature = world.sign("bob@example.org").await.expect("kept");
    assert_eq!(signature.document_status, AppliedStatus::Pending);
    assert_eq!(world.document().status, DocumentStatus::Signed);
    world.view();
    assert_eq!(world.reconcile().await, report(1, 0, 0));
    assert_eq!((world.document().status, world.document().version), (DocumentStatus::Viewed, 3));
}

#[tokio::test]
async fn a_process_that_dies_before_telling_the_document_leaves_work_for_the_reconciler() {
    let world = World::gated().await;
    world.gated.let_through(1);
    {
        let signing = world.sign("bob@example.org");
        pin_mut!(signing);
        assert!(poll_immediate(&mut signing).await.is_none(), "held before telling the document");
    }
    assert_eq!(world.stored().await.len(), 1);
    assert_eq!(world.document().status, DocumentStatus::Created);
    world.gated.let_through(10);
    assert_eq!(world.reconcile().await, report(1, 0, 0));
    assert_eq!(world.document().status, DocumentStatus::Signed);
}

#[tokio::test]
async fn signatures_younger_than_the_age_are_left_to_their_request() {
    let world = World::new().await;
    world.documents.fail_next(2, DocumentFault::Unreachable);
    world.sign("bob@example.org").await.expect("kept");
    let round = world.signatures.reconcile(Duration::from_secs(30), 100).await;
    assert_eq!(round.expect("readable"), ReconcileReport::default());
}

#[tokio::test]
async fn a_signature_whose_document_is_gone_is_discarded_with_its_image() {
    let world = World::new().await;
    world.documents.fail_next(2, DocumentFault::Unreachable);
    let signature = world.sign("bob@example.org").await.expect("kept");
    world.documents.remove(world.document_id);
    assert_eq!(world.reconcile().await, report(0, 1, 0));
    let gone = world.signatures.get(&caller(), signature.id).await;
    assert_eq!(gone.expect_err("discarded").kind(), ErrorKind::NotFound);
    assert!(world.images.keys().is_empty());
}

#[tokio::test]
async fn a_document_that_goes_while_it_is_signed_leaves_nothing_behind() {
    let world = World::new().await;
    world.documents.remove(world.document_id);
    world.documents.fail_next(1, DocumentFault::Unreachable);
    let refused = world.sign("bob@example.org").await.expect_err("no document");
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(world.stored().await.is_empty());
    assert!(world.images.keys().is_empty());
}

#[tokio::test]
async fn an_unknown_document_is_refused_and_leaves_no_image() {
    let world = World::new().await;
    let request =
        CreateSignature { document_id: DocumentId::generate(), ..world.request("b@c.de") };
    let refused = world.signatures.create(&caller(), request.clone(), None).await;
    assert_eq!(refused.expect_err("no document").kind(), ErrorKind::NotFound);
    // The row's reference guards when the service can't be asked.
    world.documents.fail_next(1, DocumentFault::Unreachable);
    let refused = world.signatures.create(&caller(), request, None).await;
    assert_eq!(refused.expect_err("no document").kind(), ErrorKind::NotFound);
    assert!(world.images.keys().is_empty());
}

#[tokio::test]
async fn signing_twice_is_refused_and_leaves_no_second_image() {
    let world = World::new().await;
    let first = world.sign("bob@example.org").await.expect("signed");
    for email in ["bob@example.org", "BOB@example.org"] {
        let refused = world.sign(email).await.expect_err("signed already");
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Conflict, "already_signed"));
    }
    assert_eq!(world.images.keys(), [first.image_key]);
    world.sign("carol@example.org").await.expect("somebody else may sign");
}

#[tokio::test]
async fn an_image_that_cannot_be_stored_leaves_no_row() {
    let world = World::new().await;
    world.images.fill();
    let refused = world.sign("bob@example.org").await.expect_err("no space");
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert!(world.stored().await.is_empty());
}

#[tokio::test]
async fn fields_are_all_checked_before_anything_is_asked() {
    let world = World::new().await;
    let request = CreateSignature {
        document_id: world.document_id,
        signer_email: "bob".into(),
        signer_name: " ".into(),
        signature_data: "***".into(),
    };
    let refused = world.signatures.create(&caller(), request, None).await.expect_err("refused");
    let fields: Vec<_> = refused.fields().iter().map(|refusal| refusal.field.as_str()).collect();
    assert_eq!(fields, ["signer_email", "signer_name", "signature_data"]);
    assert!(world.documents.calls().is_empty());
}

#[tokio::test]
async fn a_repetition_with_the_same_key_gives_the_same_signature() {
    let world = World::new().await;
    world.documents.fail_next(2, DocumentFault::Unreachable);
    let create = async || {
        let request = world.request("bob@example.org");
        world.signatures.create(&caller(), request, Some("key-1")).await
    };
    let first = create().await.expect("kept");
    assert!(!first.replayed);
    assert_eq!(first.resource.document_status, AppliedStatus::Pending);
    world.reconcile().await;
    let again = create().await.expect("replayed");
    assert!(again.replayed);
    assert_eq!(again.resource.id, first.resource.id);
    assert_eq!(again.resource.document_status, AppliedStatus::Signed);
    assert_eq!(world.images.keys().len(), 1);
    assert_eq!(world.document().version, 2);
}

#[tokio::test]
async fn a_key_used_for_another_request_is_refused() {
    let world = World::new().await;
    let create =
        async |email| world.signatures.create(&caller(), world.request(email), Some("key-1")).await;
    create("bob@example.org").await.expect("signed");
    let refused = create("carol@example.org").await.expect_err("another request");
    let expected = (ErrorKind::Invalid, "idempotency_key_reused");
    assert_eq!((refused.kind(), refused.code()), expected);
    assert_eq!(world.stored().await.len(), 1);
}

#[tokio::test]
async fn a_key_whose_request_failed_can_be_used_again() {
    let world = World::new().await;
    let document = world.document();
    world.documents.remove(world.document_id);
    let create = async || {
        let request = world.request("bob@example.org");
        world.signatures.create(&caller(), request, Some("key-1")).await
    };
    assert_eq!(create().await.expect_err("no document").kind(), ErrorKind::NotFound);
    world.documents.put(document);
    assert!(!create().await.expect("signed").replayed);
}

#[tokio::test]
async fn of_two_requests_with_one_key_at_a_time_one_signs() {
    let world = World::gated().await;
    let create = async || {
        let request = world.request("bob@example.org");
        world.signatures.create(&caller(), request, Some("key-1")).await
    };
    let first = create();
    pin_mut!(first);
    assert!(poll_immediate(&mut first).await.is_none(), "held while it asks for the document");
    let second = create().now_or_never().expect("doesn't wait");
    let refused = second.expect_err("the first still runs");
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Conflict, "request_in_progress"));
    world.gated.let_through(10);
    let first = first.await.expect("signed");
    let third = create().await.expect("replayed");
    assert!(!first.replayed && third.replayed);
    assert_eq!(third.resource.id, first.resource.id);
    assert_eq!(world.stored().await.len(), 1);
}

#[tokio::test]
async fn of_two_requests_without_a_key_one_signs_and_the_other_conflicts() {
    let world = World::gated().await;
    let both = join(world.sign("bob@example.org"), world.sign("bob@example.org"));
    let opened = async { world.gated.let_through(10) };
    let ((one, other), ()) = join(both, opened).await;
    let (signed, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(refused.expect_err("one conflicts").code(), "already_signed");
    assert_eq!(world.images.keys(), [signed.expect("one signs").image_key]);
}
