//! Idempotency keys: [`IdempotencyRepository`].

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use super::documents::{new_document, record};
use crate::ports::{
    DocumentRepository, IdempotencyKey, IdempotencyRecord, IdempotencyRepository, Reservation,
};

/// Lets at least this much time pass on the clock that the implementation looks at: sets a clock by
/// hand, or sleeps.
pub type PassTime<'a> = &'a (dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync);

const LONG: Duration = Duration::from_mins(10);

/// Checks everything that [`IdempotencyRepository`] promises. `documents` is on the same database.
/// Forgets every key that was completed before.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(
    idempotency: &dyn IdempotencyRepository,
    documents: &dyn DocumentRepository,
    pass_time: PassTime<'_>,
) {
    reserve_and_release(idempotency).await;
    scopes(idempotency).await;
    concurrent_reservations(idempotency).await;
    leases(idempotency, pass_time).await;
    completed_keys(idempotency, documents, pass_time).await;
    lapsed_leases(idempotency, documents, pass_time).await;
    purge(idempotency, documents, pass_time).await;
}

fn key() -> IdempotencyKey {
    record(b"").key
}

async fn reserve(idempotency: &dyn IdempotencyRepository, key: &IdempotencyKey) -> Reservation {
    idempotency.reserve(key, LONG).await.expect("reserve")
}

async fn complete(documents: &dyn DocumentRepository, record: &IdempotencyRecord) {
    documents.create(new_document(), None, Some(record.clone())).await.expect("create");
}

fn is_completed(reservation: &Reservation) -> bool {
    matches!(reservation, Reservation::Completed { .. })
}

async fn reserve_and_release(idempotency: &dyn IdempotencyRepository) {
    let key = key();
    idempotency.release(&key).await.expect("release of a free key");
    for round in 0..3 {
        assert_eq!(reserve(idempotency, &key).await, Reservation::Acquired, "free, {round}");
        assert_eq!(reserve(idempotency, &key).await, Reservation::Running, "taken, {round}");
        idempotency.release(&key).await.expect("release");
    }
}

async fn scopes(idempotency: &dyn IdempotencyRepository) {
    let text = format!("{} '\"\\; --", record(b"").key.key());
    let keys = [
        IdempotencyKey::new("documents", Some("jane"), &text),
        IdempotencyKey::new("documents", Some("john"), &text),
        IdempotencyKey::new("documents", None, &text),
        IdempotencyKey::new("signatures", Some("jane"), &text),
        IdempotencyKey::new("documents", Some("jane"), &text.to_uppercase()),
        IdempotencyKey::new("documents", Some("jane"), &format!("{text} ")),
    ];
    for key in keys {
        let key = key.expect("a valid key");
        assert_eq!(reserve(idempotency, &key).await, Reservation::Acquired, "{key:?} is its own");
    }
}

async fn concurrent_reservations(idempotency: &dyn IdempotencyRepository) {
    for _ in 0..4 {
        let key = key();
        let results = join_all((0..16).map(|_| reserve(idempotency, &key))).await;
        let acquired = results.iter().filter(|r| **r == Reservation::Acquired).count();
        let running = results.iter().filter(|r| **r == Reservation::Running).count();
        assert_eq!((acquired, running), (1, 15), "concurrent reservations");
    }
}

async fn leases(idempotency: &dyn IdempotencyRepository, pass_time: PassTime<'_>) {
    let (short, long, endless) = (key(), key(), key());
    let lease = Duration::from_millis(50);
    let acquired = idempotency.reserve(&short, lease).await.expect("reserve");
    assert_eq!(acquired, Reservation::Acquired, "reserve for long");
    assert_eq!(reserve(idempotency, &long).await, Reservation::Acquired, "reserve for longer");
    let acquired = idempotency.reserve(&endless, Duration::MAX).await.expect("reserve");
    assert_eq!(acquired, Reservation::Acquired, "reserve for ever");
    pass_time(lease * 2).await;
    assert_eq!(reserve(idempotency, &short).await, Reservation::Acquired, "lapsed lease");
    assert_eq!(reserve(idempotency, &short).await, Reservation::Running, "lease taken over");
    assert_eq!(reserve(idempotency, &long).await, Reservation::Running, "lease that lasts");
    assert_eq!(reserve(idempotency, &endless).await, Reservation::Running, "endless lease");
}

async fn completed_keys(
    idempotency: &dyn IdempotencyRepository,
    documents: &dyn DocumentRepository,
    pass_time: PassTime<'_>,
) {
    let record = record(b"request");
    assert_eq!(reserve(idempotency, &record.key).await, Reservation::Acquired, "reserve");
    let new = new_document();
    let made =
        documents.create(new, None, Some(record.clone())).await.expect("create what is reserved");
    let expected = Reservation::Completed {
        request_sha256: record.request_sha256,
        resource_id: made.id.as_uuid(),
        first_answer: serde_json::to_value(&made).expect("JSON of a document"),
    };
    for result in join_all((0..8).map(|_| reserve(idempotency, &record.key))).await {
        assert_eq!(result, expected, "completed key");
    }
    idempotency.release(&record.key).await.expect("release of a completed key");
    assert_eq!(reserve(idempotency, &record.key).await, expected, "released completed key");
    pass_time(Duration::from_millis(10)).await;
    idempotency.purge(LONG).await.expect("purge");
    assert_eq!(reserve(idempotency, &record.key).await, expected, "a young key isn't forgotten");
}

/// A request so slow that its lease lapsed meets the one that took over.
async fn lapsed_leases(
    idempotency: &dyn IdempotencyRepository,
    documents: &dyn DocumentRepository,
    pass_time: PassTime<'_>,
) {
    let record = record(b"slow");
    let lease = Duration::from_millis(50);
    let slow = idempotency.reserve(&record.key, lease).await.expect("reserve");
    assert_eq!(slow, Reservation::Acquired, "the slow request");
    pass_time(lease * 2).await;
    assert_eq!(reserve(idempotency, &record.key).await, Reservation::Acquired, "the other one");
    complete(documents, &record).await;
    let refused = documents.create(new_document(), None, Some(record.clone())).await;
    let code = refused.expect_err("both requests succeeded").code();
    assert_eq!(code, "idempotency_key_completed", "the slow request ends");
    assert!(is_completed(&reserve(idempotency, &record.key).await), "key of both");
}

async fn purge(
    idempotency: &dyn IdempotencyRepository,
    documents: &dyn DocumentRepository,
    pass_time: PassTime<'_>,
) {
    idempotency.purge(Duration::MAX).await.expect("purge of keys older than time");
    let held = key();
    assert_eq!(reserve(idempotency, &held).await, Reservation::Acquired, "reserve");
    let records: Vec<_> = (0..5).map(|_| record(b"old")).collect();
    for record in &records {
        complete(documents, record).await;
    }
    pass_time(Duration::from_millis(20)).await;
    let purged = idempotency.purge(Duration::from_millis(10)).await.expect("purge");
    assert!(purged >= 5, "purge of at least 5: {purged}");
    for record in &records {
        let again = reserve(idempotency, &record.key).await;
        assert_eq!(again, Reservation::Acquired, "a forgotten key is free");
    }
    assert_eq!(reserve(idempotency, &held).await, Reservation::Running, "held through a purge");
    let purged = idempotency.purge(Duration::from_millis(10)).await.expect("purge");
    assert_eq!(purged, 0, "purge of none");
}
