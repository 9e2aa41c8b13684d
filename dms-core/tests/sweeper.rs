//! Sweeping content that no row points at.

use std::sync::Arc;
use std::time::Duration;

use dms_core::fake::{InMemoryBlobStore, InMemoryDatabase, ManualClock};
use dms_core::ports::{BlobStore as _, DocumentRepository as _, SignatureRepository as _};
use dms_core::use_cases::{SweepReport, Sweeper, bytes_stream};
use dms_core::{Document, DocumentId, NewDocument, NewSignature, Sha256, Signature, SignatureId};

const GRACE: Duration = Duration::from_hours(1);
const MOMENT: Duration = Duration::from_micros(1);

struct World {
    clock: Arc<ManualClock>,
    blobs: Arc<InMemoryBlobStore>,
    database: InMemoryDatabase,
    sweeper: Sweeper,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let blobs = Arc::new(InMemoryBlobStore::new(clock.clone()));
        let database = InMemoryDatabase::new(clock.clone());
        let sweeper = Sweeper {
            blobs: blobs.clone(),
            documents: Arc::new(database.documents()),
            signatures: Arc::new(database.signatures()),
            clock: clock.clone(),
            grace: GRACE,
        };
        Self { clock, blobs, database, sweeper }
    }

    async fn store(&self, key: String) -> String {
        self.blobs.put(&key, bytes_stream("x")).await.expect("put");
        key
    }

    /// A document with its content.
    async fn document(&self) -> DocumentId {
        let id = DocumentId::generate();
        let s3_key = self.store(Document::content_key(id)).await;
        let document = NewDocument {
            id,
            title: "title".into(),
            content_type: "text/plain".into(),
            content_size: 1,
            content_sha256: Sha256::of(b"x"),
            s3_key,
            created_by: "jane".into(),
        };
        self.database.documents().create(document, None, None).await.expect("create");
        id
    }

    /// A signature with its image.
    async fn signature(&self, document_id: DocumentId) -> SignatureId {
        let id = SignatureId::generate();
        let image_key = self.store(Signature::image_key(id)).await;
        let signature = NewSignature {
            id,
            document_id,
            signer_email: format!("{id}@example.org"),
            signer_name: "jane".into(),
            image_key,
            image_content_type: "image/png".into(),
        };
        self.database.signatures().create(signature, None).await.expect("create");
        id
    }

    async fn sweep(&self) -> SweepReport {
        self.sweeper.sweep().await.expect("sweep")
    }
}

#[tokio::test]
async fn an_empty_store_is_swept() {
    assert_eq!(World::new().sweep().await, SweepReport::default());
}

#[tokio::test]
async fn content_without_a_row_is_removed_and_the_rest_stays() {
    let world = World::new();
    let document = world.document().await;
    let deleted = world.document().await;
    world.database.documents().delete(deleted, None).await.expect("delete");
    let signature = world.signature(document).await;
    let orphans = [
        world.store(Document::content_key(DocumentId::generate())).await,
        world.store(Signature::image_key(SignatureId::generate())).await,
        // A row of the other kind with the same id doesn't count.
        world.store(format!("signatures/{document}/image")).await,
        world.store(format!("{signature}/content")).await,
    ];
    let foreign = [
        world.store("notes.txt".into()).await,
        world.store(format!("{}/preview", DocumentId::generate())).await,
    ];
    world.clock.advance(GRACE * 2);
    assert_eq!(world.sweep().await, SweepReport { scanned: 9, removed: 4 });

    let mut left = vec![
        Document::content_key(document),
        Document::content_key(deleted),
        Signature::image_key(signature),
    ];
    left.extend(foreign);
    left.sort();
    assert_eq!(world.blobs.keys(), left, "removed: {orphans:?}");
    assert_eq!(
        world.sweep().await,
        SweepReport { scanned: 5, removed: 0 },
        "nothing is left to do"
    );
}

#[tokio::test]
async fn content_is_kept_while_its_request_may_still_be_running() {
    let world = World::new();
    let old = world.store(Document::content_key(DocumentId::generate())).await;
    world.clock.advance(MOMENT);
    let young = world.store(Document::content_key(DocumentId::generate())).await;

    world.clock.advance(GRACE.saturating_sub(MOMENT));
    assert_eq!(world.sweep().await.removed, 0, "exactly as old as the grace period");
    world.clock.advance(MOMENT);
    assert_eq!(world.sweep().await.removed, 1, "older");
    assert!(world.blobs.bytes(&old).is_none());
    assert!(world.blobs.bytes(&young).is_some());
    world.clock.advance(MOMENT);
    assert_eq!(world.sweep().await.removed, 1);
    assert!(world.blobs.keys().is_empty());
}

#[tokio::test]
async fn more_orphans_than_fit_into_one_query_are_removed() {
    let world = World::new();
    for i in 0..1_203 {
        if i % 3 == 0 {
            world.document().await;
        } else {
            world.store(Document::content_key(DocumentId::generate())).await;
        }
    }
    world.clock.advance(GRACE * 2);
    assert_eq!(world.sweep().await, SweepReport { scanned: 1_203, removed: 802 });
    assert_eq!(world.blobs.keys().len(), 401);
}

#[cfg(feature = "mock")]
mod failures {
    use dms_core::ports::{BlobInfo, MockBlobStore, MockDocumentRepository};
    use dms_core::{Error, ErrorKind};
    use futures_util::{StreamExt as _, stream};

    use super::*;

    fn old_blob() -> BlobInfo {
        BlobInfo {
            key: Document::content_key(DocumentId::generate()),
            size: 1,
            modified_at: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn unavailable() -> Error {
        Error::unavailable("database", "no answer")
    }

    #[tokio::test]
    async fn nothing_is_removed_while_the_rows_cannot_be_read() {
        let mut world = World::new();
        world.store(Document::content_key(DocumentId::generate())).await;
        world.clock.advance(GRACE * 2);
        let mut documents = MockDocumentRepository::new();
        documents.expect_referenced().times(1).returning(|_| Err(unavailable()));
        world.sweeper.documents = Arc::new(documents);
        let error = world.sweeper.sweep().await.expect_err("the rows can't be read");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(world.blobs.keys().len(), 1);
    }

    #[tokio::test]
    async fn a_listing_that_breaks_off_ends_the_round() {
        let mut world = World::new();
        let mut blobs = MockBlobStore::new();
        blobs.expect_list().times(1).returning(|_| {
            let seen = (0..600).map(|_| Ok(old_blob())).collect::<Vec<_>>();
            stream::iter(seen).chain(stream::iter([Err(unavailable())])).boxed()
        });
        blobs.expect_delete().times(500).returning(|_| Ok(()));
        world.sweeper.blobs = Arc::new(blobs);
        let error = world.sweeper.sweep().await.expect_err("the listing broke off");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
