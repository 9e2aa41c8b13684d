//! Documents: create, read, list, change, delete, count.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

use super::content::request_digest;
use super::intake::{CreateDocument, Intake};
use crate::ports::{
    BlobContent, BlobStore, ByteStream, DocumentCache, DocumentClient, DocumentLoader,
    DocumentRepository, IdempotencyKey, IdempotencyRecord, IdempotencyRepository, View,
    ViewCounter,
};
use crate::validate::{self, Refusals};
use crate::{
    Caller, Document, DocumentId, DocumentPage, DocumentPatch, DocumentStatus, ErrorChain,
    ListQuery, Result, SignatureId, ViewStats,
};

/// What [`Documents`] works on.
#[derive(Clone)]
pub struct DocumentsPorts {
    /// Where the rows are.
    pub documents: Arc<dyn DocumentRepository>,
    /// Where the content is.
    pub blobs: Arc<dyn BlobStore>,
    /// What makes reads fast.
    pub cache: Arc<dyn DocumentCache>,
    /// What counts views.
    pub views: Arc<dyn ViewCounter>,
    /// What makes retries safe.
    pub idempotency: Arc<dyn IdempotencyRepository>,
}

/// Bounds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentLimits {
    /// Largest content, in bytes.
    pub content_bytes_max: u64,
    /// Most text kept of one document, in bytes.
    pub text_bytes_max: usize,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self { content_bytes_max: 25 << 20, text_bytes_max: 1 << 20 }
    }
}

/// A document that was created, now or by an earlier request with the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created<T> {
    /// As it was when it was created.
    pub resource: T,
    /// Whether an earlier request had created it.
    pub replayed: bool,
}

/// The use cases of documents. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    pub(super) ports: DocumentsPorts,
    pub(super) limits: DocumentLimits,
}

impl Documents {
    /// Use cases on these ports.
    pub fn new(ports: DocumentsPorts, limits: DocumentLimits) -> Self {
        Self { ports, limits }
    }

    /// The bounds in force.
    pub fn limits(&self) -> DocumentLimits {
        self.limits
    }

    /// Creates a document: stores the content, then inserts one row.
    ///
    /// # Errors
    /// - `Invalid` for fields out of bounds, or with code `idempotency_key_reused` if the key was
    ///   used for another request;
    /// - `Conflict` with code `request_in_progress` while another request with the key runs;
    /// - `TooLarge`, `StorageFull`, `Unavailable`; whatever error the content ends with.
    ///
    /// After any error nothing is visible.
    pub async fn create(
        &self,
        caller: &Caller,
        request: CreateDocument,
        content: ByteStream,
        idempotency_key: Option<&str>,
    ) -> Result<Created<Document>> {
        let request = request.validated()?;
        let mut intake = self.begin(caller, idempotency_key).await?;
        if let Err(error) = intake.receive(content).await {
            intake.abort().await;
            return Err(error);
        }
        intake.finish(request).await
    }

    /// Begins a creation whose content may arrive before its fields, as in a multipart body.
    ///
    /// # Errors
    /// `Invalid` for a malformed key; `Conflict` with code `request_in_progress`.
    pub async fn begin(&self, caller: &Caller, idempotency_key: Option<&str>) -> Result<Intake> {
        Intake::begin(self.clone(), caller, idempotency_key).await
    }

    /// Reads a document and counts a view. A view that can't be counted doesn't fail the read.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, caller: &Caller, id: DocumentId) -> Result<Arc<Document>> {
        let view = View { visitor: caller.visitor(), counter: Arc::clone(&self.ports.views) };
        let viewed = self.ports.cache.get_or_load_viewed(id, self.load(id), view).await?;
        match viewed.counted {
            // The product goes on without its cache, which has said itself that it's away.
            Err(error) if error.dependency() == Some("cache") && error.is_retryable() => {
                tracing::debug!(document_id = %id, request_id = %caller.request_id,
                    error = %ErrorChain(&error), "view not counted");
            }
            Err(error) => {
                tracing::warn!(document_id = %id, request_id = %caller.request_id,
                    error = %ErrorChain(&error), "view not counted");
            }
            Ok(()) => {}
        }
        Ok(viewed.document)
    }

    /// Reads a document without counting a view.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn peek(&self, id: DocumentId) -> Result<Arc<Document>> {
        self.ports.cache.get_or_load(id, self.load(id)).await
    }

    fn load(&self, id: DocumentId) -> DocumentLoader {
        let documents = Arc::clone(&self.ports.documents);
        async move { documents.get(id).await.map(Arc::new) }.boxed()
    }

    /// Lists documents, newest first.
    ///
    /// # Errors
    /// `Invalid` for a limit out of bounds; `Unavailable`.
    pub async fn list(&self, _caller: &Caller, query: &ListQuery) -> Result<DocumentPage> {
        let mut refusals = Refusals::default();
        refusals.take(validate::page_size("limit", query.limit));
        refusals.finish()?;
        self.ports.documents.list(query).await
    }

    /// Opens the content of a document, or a part of it.
    ///
    /// # Errors
    /// `NotFound`, `RangeNotSatisfiable`, `Unavailable`.
    pub async fn content(
        &self,
        _caller: &Caller,
        id: DocumentId,
        range: Option<Range<u64>>,
    ) -> Result<(Arc<Document>, BlobContent)> {
        let document = self.peek(id).await?;
        let content = self.ports.blobs.get(&document.s3_key, range).await?;
        Ok((document, content))
    }

    /// Changes a document. Setting what already is changes nothing.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, `VersionMismatch`, `Unavailable`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: DocumentId,
        patch: DocumentPatch,
        expected_version: Option<i32>,
    ) -> Result<Document> {
        self.update_once(caller, id, patch, expected_version, None).await
    }

    /// Changes a document once per idempotency key: a repetition gives it as it is by then.
    ///
    /// # Errors
    /// As [`update`](Self::update); `Invalid` with code `idempotency_key_reused`.
    pub async fn update_once(
        &self,
        caller: &Caller,
        id: DocumentId,
        mut patch: DocumentPatch,
        expected_version: Option<i32>,
        idempotency_key: Option<&str>,
    ) -> Result<Document> {
        let mut refusals = Refusals::default();
        if let Some(title) = patch.title.take() {
            patch.title = refusals.take(validate::title(&title));
        }
        refusals.finish()?;
        let idempotency = match idempotency_key {
            Some(key) => Some(IdempotencyRecord {
                key: IdempotencyKey::new("documents.update", caller.subject(), key)?,
                request_sha256: request_digest(&[
                    id.as_uuid().as_bytes(),
                    patch.status.map_or("", DocumentStatus::as_str).as_bytes(),
                    patch.title.as_deref().unwrap_or_default().as_bytes(),
                ]),
            }),
            None => None,
        };
        let updated =
            self.ports.documents.update(id, &patch, expected_version, idempotency).await?;
        self.ports.cache.put(Arc::new(updated.document.clone())).await;
        Ok(updated.document)
    }

    /// Deletes a document; reads then give `NotFound`. Its row and content are kept.
    ///
    /// # Errors
    /// `NotFound`, `VersionMismatch`, `Unavailable`.
    pub async fn delete(
        &self,
        _caller: &Caller,
        id: DocumentId,
        expected_version: Option<i32>,
    ) -> Result<()> {
        let version = self.ports.documents.delete(id, expected_version).await?;
        self.ports.cache.put_deleted(id, version).await;
        Ok(())
    }

    /// How often a document was viewed, exact at once after the views.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn stats(&self, _caller: &Caller, id: DocumentId) -> Result<ViewStats> {
        self.peek(id).await?;
        self.ports.views.stats(id).await
    }
}

/// Signing in the same process needs no network between the two.
#[async_trait]
impl DocumentClient for Documents {
    async fn get(&self, _caller: &Caller, id: DocumentId) -> Result<Document> {
        self.ports.documents.get(id).await
    }

    async fn mark_signed(
        &self,
        _caller: &Caller,
        id: DocumentId,
        signature: SignatureId,
    ) -> Result<Document> {
        // The key belongs to the signature, whoever repeats the call.
        let key = format!("signature/{signature}");
        let caller = Caller::system("signatures");
        let patch = DocumentPatch::status(DocumentStatus::Signed);
        self.update_once(&caller, id, patch, None, Some(&key)).await
    }
}
