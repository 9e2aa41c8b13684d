//! A document to sign, and everything around it under control.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dms_core::fake::{InMemoryDatabase, InMemoryDocumentClient, ManualClock};
use dms_core::ports::{
    BlobContent, BlobInfo, BlobStore, ByteStream, DocumentClient, DocumentRepository as _,
    SignatureRepository as _,
};
use dms_core::use_cases::{CreateSignature, ReconcileReport, Signatures, SignaturesPorts};
use dms_core::{
    Caller, Document, DocumentId, DocumentStatus, Error, ErrorKind, NewDocument, Result, Sha256,
    Signature, SignatureId,
};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

/// Holds every call to the document service until it is let through.
pub(crate) struct GatedDocuments {
    documents: Arc<InMemoryDocumentClient>,
    gate: Semaphore,
}

impl GatedDocuments {
    pub(crate) fn let_through(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    async fn pass(&self) {
        self.gate.acquire().await.expect("the gate stays").forget();
    }
}

#[async_trait]
impl DocumentClient for GatedDocuments {
    async fn get(&self, caller: &Caller, id: DocumentId) -> Result<Document> {
        self.pass().await;
        self.documents.get(caller, id).await
    }

    async fn mark_signed(
        &self,
        caller: &Caller,
        id: DocumentId,
        signature: SignatureId,
    ) -> Result<Document> {
        self.pass().await;
        self.documents.mark_signed(caller, id, signature).await
    }
}

/// A blob store that can be full.
#[derive(Default)]
pub(crate) struct Images {
    blobs: Mutex<BTreeMap<String, Bytes>>,
    full: Mutex<bool>,
}

impl Images {
    pub(crate) fn keys(&self) -> Vec<String> {
        self.blobs.lock().expect("not poisoned").keys().cloned().collect()
    }

    pub(crate) fn fill(&self) {
        *self.full.lock().expect("not poisoned") = true;
    }
}

#[async_trait]
impl BlobStore for Images {
    async fn put(&self, key: &str, content: ByteStream) -> Result<u64> {
        if *self.full.lock().expect("not poisoned") {
            return Err(Error::new(ErrorKind::StorageFull, "no space left"));
        }
        let chunks: Vec<_> = content.try_collect().await?;
        let bytes = Bytes::from(chunks.concat());
        let size = bytes.len() as u64;
        self.blobs.lock().expect("not poisoned").insert(key.to_owned(), bytes);
        Ok(size)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<BlobContent> {
        assert_eq!(range, None, "an image is read whole");
        let blobs = self.blobs.lock().expect("not poisoned");
        let bytes = blobs.get(key).ok_or_else(|| Error::not_found("blob", key))?.clone();
        Ok(BlobContent { size: bytes.len() as u64, stream: stream::iter([Ok(bytes)]).boxed() })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.blobs.lock().expect("not poisoned").remove(key);
        Ok(())
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo>> {
        let blobs = self.blobs.lock().expect("not poisoned");
        let found: Vec<_> = blobs
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, bytes)| {
                let modified_at = OffsetDateTime::UNIX_EPOCH;
                Ok(BlobInfo { key: key.clone(), size: bytes.len() as u64, modified_at })
            })
            .collect();
        stream::iter(found).boxed()
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

pub(crate) struct World {
    clock: Arc<ManualClock>,
    database: InMemoryDatabase,
    pub(crate) images: Arc<Images>,
    pub(crate) documents: Arc<InMemoryDocumentClient>,
    pub(crate) gated: Arc<GatedDocuments>,
    pub(crate) signatures: Signatures,
    pub(crate) document_id: DocumentId,
}

impl World {
    /// A document nobody has signed; every call is let through.
    pub(crate) async fn new() -> Self {
        let world = Self::gated().await;
        world.gated.let_through(1_000);
        world
    }

    /// The same, but no call is let through yet.
    pub(crate) async fn gated() -> Self {
        let clock = Arc::<ManualClock>::default();
        let database = InMemoryDatabase::new(Arc::<ManualClock>::clone(&clock));
        let images = Arc::<Images>::default();
        let documents = Arc::<InMemoryDocumentClient>::default();
        let gate = Semaphore::new(0);
        let gated = Arc::new(GatedDocuments { documents: Arc::clone(&documents), gate });
        let id = DocumentId::generate();
        let document = NewDocument {
            id,
            title: "Contract".into(),
            content_type: "text/plain".into(),
            content_size: 5,
            content_sha256: Sha256::of(b"hello"),
            s3_key: Document::content_key(id),
            created_by: "ann".into(),
        };
        let document = database.documents().create(document, None, None).await.expect("created");
        documents.put(document);
        let signatures = Signatures::new(SignaturesPorts {
            signatures: Arc::new(database.signatures()),
            blobs: Arc::<Images>::clone(&images),
            documents: Arc::<GatedDocuments>::clone(&gated),
            idempotency: Arc::new(database.idempotency()),
        });
        Self { clock, database, images, documents, gated, signatures, document_id: id }
    }

    pub(crate) fn request(&self, email: &str) -> CreateSignature {
        CreateSignature {
            document_id: self.document_id,
            signer_email: email.into(),
            signer_name: "Bob".into(),
            signature_data: STANDARD.encode(PNG),
        }
    }

    pub(crate) async fn sign(&self, email: &str) -> Result<Signature> {
        let created = self.signatures.create(&caller(), self.request(email), None).await?;
        assert!(!created.replayed);
        Ok(created.resource)
    }

    /// A round of the reconciler, a minute later.
    pub(crate) async fn reconcile(&self) -> ReconcileReport {
        self.clock.advance(Duration::from_mins(1));
        let round = self.signatures.reconcile(Duration::from_secs(30), 100);
        round.await.expect("signatures can be read")
    }

    pub(crate) async fn stored(&self) -> Vec<Signature> {
        self.database.signatures().list(self.document_id).await.expect("listed")
    }

    pub(crate) fn document(&self) -> Document {
        self.documents.document(self.document_id).expect("the document is there")
    }

    /// Somebody opens the document after it was signed.
    pub(crate) fn view(&self) {
        let mut document = self.document();
        document.status = DocumentStatus::Viewed;
        document.version += 1;
        self.documents.put(document);
    }
}

pub(crate) fn caller() -> Caller {
    Caller::system("test")
}
