//! `SQLite` does what the fake does, over random operations.
#![cfg(feature = "sqlite")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use dms_core::fake::{InMemoryDatabase, ManualClock};
use dms_core::model::change::{Change, DocumentRow, Operation, Position, RowChange, SignatureRow};
use dms_core::model::text::{TextFormat, TextKey};
use dms_core::model::timestamp;
use dms_core::ports::{
    DocumentRepository, IdempotencyKey, IdempotencyRecord, IdempotencyRepository,
    SignatureRepository, TextRepository,
};
use dms_core::{
    Document, DocumentId, DocumentPatch, DocumentStatus, ListQuery, NewDocument, NewSignature,
    Result, Sha256, Signature, SignatureId,
};
use dms_store::sqlite::{SqliteDatabase, SqliteOptions};
use proptest::prelude::*;
use uuid::Uuid;

#[derive(Debug, Clone)]
enum Step {
    Create { id: u8, by: u8, text: Option<u8>, key: Option<u8> },
    Update { id: u8, patch: DocumentPatch, expected: Option<i32>, key: Option<u8>, request: u8 },
    Delete { id: u8, expected: Option<i32> },
    List { limit: u32, before: Option<u8>, status: Option<DocumentStatus>, by: Option<u8> },
    Sign { id: u8, document: u8, email: u8, key: Option<u8> },
    MarkApplied { id: u8 },
    Discard { id: u8 },
    Reserve { key: u8, lease_s: u64 },
    Release { key: u8 },
    Purge { retention_s: u64 },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..6_u8;
    let key = || prop::option::weighted(0.4, 0..5_u8);
    let expected = || prop::option::of(1..6_i32);
    let status = || prop::option::of(prop::sample::select(DocumentStatus::ALL.to_vec()));
    let title = prop::option::of("[a-c'\"]{1,2}");
    let patch = (status(), title).prop_map(|(status, title)| DocumentPatch { status, title });
    prop_oneof![
        4 => (id.clone(), 0..3_u8, prop::option::of(0..3_u8), key())
            .prop_map(|(id, by, text, key)| Step::Create { id, by, text, key }),
        6 => (id.clone(), patch, expected(), key(), 0..2_u8).prop_map(
            |(id, patch, expected, key, request)| Step::Update { id, patch, expected, key, request }),
        1 => (id.clone(), expected()).prop_map(|(id, expected)| Step::Delete { id, expected }),
        3 => (1..5_u32, prop::option::of(id.clone()), status(), prop::option::of(0..3_u8))
            .prop_map(|(limit, before, status, by)| Step::List { limit, before, status, by }),
        3 => (0..5_u8, id.clone(), 0..3_u8, key())
            .prop_map(|(id, document, email, key)| Step::Sign { id, document, email, key }),
        1 => (0..5_u8).prop_map(|id| Step::MarkApplied { id }),
        1 => (0..5_u8).prop_map(|id| Step::Discard { id }),
        2 => (0..5_u8, 0..20_u64).prop_map(|(key, lease_s)| Step::Reserve { key, lease_s }),
        1 => (0..5_u8).prop_map(|key| Step::Release { key }),
        1 => (0..20_u64).prop_map(|retention_s| Step::Purge { retention_s }),
        2 => (0..10_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn uuid(n: u8) -> Uuid {
    Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0000 | u128::from(n))
}

fn document_id(n: u8) -> DocumentId {
    DocumentId::from_uuid(uuid(n))
}

fn signature_id(n: u8) -> SignatureId {
    SignatureId::from_uuid(uuid(n))
}

fn key(n: u8) -> IdempotencyKey {
    IdempotencyKey::new("model", None, &n.to_string()).unwrap()
}

fn record(n: u8, request: u8) -> IdempotencyRecord {
    IdempotencyRecord { key: key(n), request_sha256: Sha256::of(&[request]) }
}

fn text_key(n: u8) -> TextKey {
    TextKey { content_sha256: Sha256::of(&[n]), format: TextFormat::Plain }
}

#[derive(Clone, Copy)]
struct Ports<'a> {
    documents: &'a dyn DocumentRepository,
    signatures: &'a dyn SignatureRepository,
    texts: &'a dyn TextRepository,
    idempotency: &'a dyn IdempotencyRepository,
}

/// What a caller can tell of a result.
fn told<T: Debug>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(e) => format!("{:?} {} {:?}", e.kind(), e.code(), e.current_version()),
    }
}

impl Ports<'_> {
    async fn take(self, step: &Step) -> String {
        match step.clone() {
            Step::Create { id, by, text, key } => {
                let id = document_id(id);
                let new = NewDocument {
                    id,
                    title: "a".into(),
                    content_type: "text/plain".into(),
                    content_size: 1,
                    content_sha256: Sha256::of(&[by]),
                    s3_key: Document::content_key(id),
                    created_by: format!("creator {by}"),
                };
                let text = text.map(|n| (text_key(n), format!("text {by}")));
                told(self.documents.create(new, text, key.map(|key| record(key, 0))).await)
            }
            Step::Update { id, patch, expected, key, request } => {
                let record = key.map(|key| record(key, request));
                told(self.documents.update(document_id(id), &patch, expected, record).await)
            }
            Step::Delete { id, expected } => {
                told(self.documents.delete(document_id(id), expected).await)
            }
            Step::List { limit, before, status, by } => {
                let created_by = by.map(|by| format!("creator {by}"));
                let before = before.map(document_id);
                told(self.documents.list(&ListQuery { limit, before, status, created_by }).await)
            }
            Step::Sign { id, document, email, key } => {
                let id = signature_id(id);
                let new = NewSignature {
                    id,
                    document_id: document_id(document),
                    signer_email: ["a@b.c", "A@B.C", "d@e.f"][usize::from(email)].into(),
                    signer_name: "n".into(),
                    image_key: Signature::image_key(id),
                    image_content_type: "image/png".into(),
                };
                told(self.signatures.create(new, key.map(|key| record(key, 1))).await)
            }
            Step::MarkApplied { id } => told(self.signatures.mark_applied(signature_id(id)).await),
            Step::Discard { id } => told(self.signatures.discard(signature_id(id)).await),
            Step::Reserve { key: n, lease_s } => {
                told(self.idempotency.reserve(&key(n), Duration::from_secs(lease_s)).await)
            }
            Step::Release { key: n } => told(self.idempotency.release(&key(n)).await),
            Step::Purge { retention_s } => {
                told(self.idempotency.purge(Duration::from_secs(retention_s)).await)
            }
            Step::Wait { .. } => String::new(),
        }
    }

    /// All that is stored.
    async fn contents(self) -> Vec<String> {
        let mut contents = vec![told(self.documents.scan(None, 1_000).await)];
        for id in 0..6 {
            contents.push(told(self.documents.get(document_id(id)).await));
            contents.push(told(self.signatures.list(document_id(id)).await));
        }
        contents.push(told(self.signatures.pending(Duration::ZERO, 100).await));
        for n in 0..3 {
            contents.push(told(self.texts.get_many(&[text_key(n)]).await));
        }
        contents
    }
}

async fn logged(database: &SqliteDatabase) -> Vec<Change> {
    type Row = (i64, String, String, Option<String>, Option<String>, String);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT seq, entity, operation, before, after, committed_at FROM change_log ORDER BY seq",
    )
    .fetch_all(&database.read_pool())
    .await
    .unwrap();
    rows.into_iter()
        .map(|(seq, entity, operation, before, after, committed_at)| Change {
            operation: serde_json::from_value(operation.into()).unwrap(),
            row: if entity == "document" {
                let row = |json: String| serde_json::from_str::<DocumentRow>(&json).unwrap();
                RowChange::Document { before: before.map(row), after: after.map(row) }
            } else {
                let row = |json: String| serde_json::from_str::<SignatureRow>(&json).unwrap();
                RowChange::Signature { before: before.map(row), after: after.map(row) }
            },
            position: Position::new(seq.to_string()),
            committed_at: timestamp::parse(&committed_at).unwrap(),
        })
        .collect()
}

async fn compare(steps: &[Step]) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() };
    let real = SqliteDatabase::open(&folder.path().join("dms.db"), options).await.unwrap();
    let fake = InMemoryDatabase::new(clock.clone());
    let (documents, signatures) = (real.documents(), real.signatures());
    let (texts, idempotency) = (real.texts(), real.idempotency());
    let real_ports = Ports {
        documents: &documents,
        signatures: &signatures,
        texts: &texts,
        idempotency: &idempotency,
    };
    let (documents, signatures) = (fake.documents(), fake.signatures());
    let (texts, idempotency) = (fake.texts(), fake.idempotency());
    let fake_ports = Ports {
        documents: &documents,
        signatures: &signatures,
        texts: &texts,
        idempotency: &idempotency,
    };
    for (n, step) in steps.iter().enumerate() {
        if let Step::Wait { seconds } = step {
            clock.advance(Duration::from_secs(*seconds));
        }
        assert_eq!(real_ports.take(step).await, fake_ports.take(step).await, "step {n}: {step:?}");
    }
    assert_eq!(real_ports.contents().await, fake_ports.contents().await);
    let (logged, expected) = (logged(&real).await, fake.changes());
    assert_eq!(logged.len(), expected.len());
    for (mut logged, expected) in logged.into_iter().zip(expected) {
        if logged.operation == Operation::Delete {
            // A removed row has no time of its own: the file's clock is SQLite's.
            logged.committed_at = expected.committed_at;
        }
        assert_eq!(logged, expected);
    }
    real.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_fake_does(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(&steps));
    }
}
