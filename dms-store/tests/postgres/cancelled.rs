//! Callers that leave at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{
    DocumentRepository as _, IdempotencyKey, IdempotencyRecord, IdempotencyRepository as _,
    Reservation, SignatureRepository as _, TextRepository as _,
};
use dms_core::{DocumentId, DocumentPatch, DocumentStatus, ListQuery, Sha256};
use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use tokio::task::JoinSet;

use super::bed::{Bed, new_document, new_signature, prepared};

/// Calls that are cancelled; each is begun by one of [`WORKERS`].
const CALLS: u64 = 2_000;
const WORKERS: u64 = 16;

/// xorshift64*, so that a run differs from the next and no two calls are alike.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

fn record(id: DocumentId) -> IdempotencyRecord {
    IdempotencyRecord {
        key: IdempotencyKey::new("create", Some("jane"), &id.to_string()).unwrap(),
        request_sha256: Sha256::of(id.as_uuid().as_bytes()),
    }
}

fn text_key(id: DocumentId) -> TextKey {
    TextKey { content_sha256: Sha256::of(id.as_uuid().as_bytes()), format: TextFormat::Plain }
}

/// One call of each kind in turn; what it was given is for the caller to drop.
async fn call(database: &PostgresDatabase, kind: u64, id: DocumentId, known: DocumentId) {
    let documents = database.documents();
    let patch = DocumentPatch::status(DocumentStatus::ALL[usize::try_from(kind).unwrap() % 3]);
    match kind {
        0..=3 => {
            let mut new = new_document();
            new.id = id;
            let text = Some((text_key(id), "text".to_owned()));
            let _ = documents.create(new, text, Some(record(id))).await;
        }
        4 => drop(documents.update(known, &patch, None, None).await),
        5 => drop(documents.update(known, &patch, None, Some(record(id))).await),
        6 => drop(documents.get(known).await),
        7 => drop(documents.list(&ListQuery::default()).await),
        8 => drop(database.signatures().create(new_signature(known, &id.to_string()), None).await),
        _ => drop(database.idempotency().reserve(&record(id).key, Duration::from_mins(1)).await),
    }
}

async fn callers_leave(bed: &Bed, options: PostgresOptions) {
    let database = prepared(options).await;
    let known = database.documents().create(new_document(), None, None).await.unwrap().id;
    let left = Arc::new(AtomicU64::new(0));
    let seed = u64::from_le_bytes(
        DocumentId::generate().as_uuid().as_bytes()[8..].try_into().expect("8 of 16 bytes"),
    );
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (database, left) = (database.clone(), Arc::clone(&left));
        let mut random = Random(seed ^ (worker + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        workers.spawn(async move {
            let mut creates = Vec::new();
            for n in 0..CALLS / WORKERS {
                let id = DocumentId::generate();
                let kind = random.below(10);
                let delay = Duration::from_micros(random.below(4_000));
                let running = call(&database, kind, id, known);
                tokio::pin!(running);
                if n % 2 == 0 {
                    // Polled some times, then dropped.
                    let mut polls = random.below(5);
                    let done = std::future::poll_fn(|context| {
                        use std::task::Poll;
                        if polls == 0 {
                            return Poll::Ready(false);
                        }
                        polls -= 1;
                        running.as_mut().poll(context).map(|()| true)
                    });
                    left.fetch_add(u64::from(!done.await), Ordering::Relaxed);
                } else {
                    let done = tokio::time::timeout(delay, running).await;
                    left.fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
                }
                if kind < 4 {
                    creates.push(id);
                }
            }
            creates
        });
    }
    let creates: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    let left = left.load(Ordering::Relaxed);
    assert!(left > CALLS / 10, "{left} callers left before the end");

    // Statements that nobody waits for any more end by themselves.
    while database.pool_stats().busy > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut shell = bed.shell().await;
    let (open,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid() AND (state LIKE 'idle in transaction%' OR state = 'active')",
    )
    .fetch_one(&mut shell)
    .await
    .unwrap();
    assert_eq!(open, 0, "connections in a transaction");
    let stats = database.pool_stats();
    assert!(stats.idle > 0 && stats.waiting == 0, "{stats:?}");

    // Row, text and key are there together or not at all.
    let mut whole = 0;
    for id in &creates {
        let row = database.documents().get(*id).await.is_ok();
        let text = database.texts().get_many(&[text_key(*id)]).await.unwrap().len() == 1;
        let key = database.idempotency().reserve(&record(*id).key, Duration::from_secs(1)).await;
        let key = matches!(key.unwrap(), Reservation::Completed { .. });
        assert_eq!((row, row), (text, key), "half of a create: row, text, key");
        whole += u32::from(row);
    }
    assert!(whole > 0, "no create of {} took effect", creates.len());
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn callers_that_leave_leave_nothing_behind() {
    let bed = Bed::new().await;
    callers_leave(&bed, PostgresOptions { connections_max: 4, ..bed.direct() }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PgBouncer"]
async fn callers_that_leave_leave_nothing_behind_in_the_pooler() {
    let bed = Bed::new().await.with_lock_timeout("20s").await;
    callers_leave(&bed, PostgresOptions { connections_max: 4, ..bed.pooled() }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn closing_waits_for_what_nobody_waits_for() {
    let bed = Bed::new().await;
    let database = prepared(bed.direct()).await;
    let new = new_document();
    let documents = database.documents();
    {
        let creating = documents.create(new.clone(), None, None);
        tokio::pin!(creating);
        // Polled once: the statement is on its way.
        assert!(futures_util::poll!(creating.as_mut()).is_pending());
    }
    database.close().await;
    let again = prepared(bed.direct()).await;
    again.documents().get(new.id).await.expect("the row of a caller that left");
}
