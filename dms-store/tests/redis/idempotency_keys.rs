//! Completed keys are answered from Redis, all others by the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::fake::{InMemoryDatabase, ManualClock};
use dms_core::ports::{
    DocumentRepository as _, IdempotencyKey, IdempotencyRecord, IdempotencyRepository, Reservation,
};
use dms_core::{Document, DocumentId, NewDocument, Result, Sha256};
use dms_store::redis::RedisIdempotencyRepository;

use crate::common::until;
use crate::proxy::{Line, Proxy};
use crate::support::{Keys, address};

/// Counts how often the repository behind is asked.
struct Counted<T>(T, AtomicUsize);

#[async_trait]
impl<T: IdempotencyRepository> IdempotencyRepository for Counted<T> {
    async fn reserve(&self, key: &IdempotencyKey, lease: Duration) -> Result<Reservation> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.reserve(key, lease).await
    }

    async fn release(&self, key: &IdempotencyKey) -> Result<()> {
        self.0.release(key).await
    }

    async fn purge(&self, retention: Duration) -> Result<u64> {
        self.0.purge(retention).await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn completed_keys_are_answered_without_the_database_and_others_never() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let database = InMemoryDatabase::new(Arc::new(ManualClock::default()));
    let inner = Arc::new(Counted(database.idempotency(), AtomicUsize::new(0)));
    let client = keys.hasty_client(&proxy);
    until("connected", || async { client.check().await.is_ok() }).await;
    let fast = RedisIdempotencyRepository::new(client.clone(), inner.clone());
    let reserve = async |key: &IdempotencyKey| {
        let before = inner.1.load(Ordering::SeqCst);
        let reservation = fast.reserve(key, Duration::from_mins(1)).await.unwrap();
        (reservation, inner.1.load(Ordering::SeqCst) - before)
    };
    let complete = async |key: &IdempotencyKey| {
        let id = DocumentId::generate();
        let new = NewDocument {
            id,
            title: "title".into(),
            content_type: "text/plain".into(),
            content_size: 0,
            content_sha256: Sha256::of(b""),
            s3_key: Document::content_key(id),
            created_by: "creator".into(),
        };
        let record = IdempotencyRecord { key: key.clone(), request_sha256: Sha256::of(b"request") };
        let made = database.documents().create(new, None, Some(record)).await.unwrap();
        Reservation::Completed {
            request_sha256: Sha256::of(b"request"),
            resource_id: made.id.as_uuid(),
            first_answer: serde_json::to_value(&made).unwrap(),
        }
    };
    let new_key = || {
        let text = DocumentId::generate().to_string();
        IdempotencyKey::new("documents", Some("jane"), &text).unwrap()
    };

    let key = new_key();
    assert_eq!(reserve(&key).await, (Reservation::Acquired, 1));
    assert_eq!(reserve(&key).await, (Reservation::Running, 1));
    let expected = complete(&key).await;
    assert_eq!(reserve(&key).await, (expected.clone(), 1), "the first repetition");
    assert_eq!(reserve(&key).await, (expected.clone(), 0), "from then on");
    fast.release(&key).await.unwrap();
    assert_eq!(reserve(&key).await, (expected.clone(), 0), "released, still completed");
    // Another process and another caller.
    let other = RedisIdempotencyRepository::new(keys.client(), inner.clone());
    assert_eq!(other.reserve(&key, Duration::from_mins(1)).await.unwrap(), expected);
    let theirs = IdempotencyKey::new("documents", Some("john"), key.key()).unwrap();
    assert_eq!(reserve(&theirs).await, (Reservation::Acquired, 1));

    let [redis_key] = &keys.all()[..] else { panic!("only the completed key is kept") };
    let expires_in_s: i64 = Keys::ask(redis::cmd("TTL").arg(redis_key));
    assert!((86_000..=86_400).contains(&expires_in_s), "{expires_in_s}");
    let () = Keys::ask(redis::cmd("SET").arg(redis_key).arg("{\"resource_id\":7}"));
    assert_eq!(reserve(&key).await, (expected.clone(), 1), "garbage");
    assert_eq!(reserve(&key).await, (expected.clone(), 0), "made good");
    let () = Keys::ask(redis::cmd("DEL").arg(redis_key));
    assert_eq!(reserve(&key).await, (expected.clone(), 1), "lost");

    for line in [Line::Cut, Line::Held] {
        proxy.set(line);
        assert_eq!(reserve(&key).await, (expected.clone(), 1), "{line:?}");
        let key = new_key();
        assert_eq!(reserve(&key).await, (Reservation::Acquired, 1), "{line:?}");
        let expected = complete(&key).await;
        assert_eq!(reserve(&key).await, (expected, 1), "{line:?}");
    }
    proxy.set(Line::Open);
    until("back", || async { client.check().await.is_ok() }).await;
    assert_eq!(reserve(&key).await.0, expected);
    assert_eq!(reserve(&key).await, (expected, 0));
}
