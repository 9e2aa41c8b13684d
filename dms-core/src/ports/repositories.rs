//! Ports to the database.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::change::DocumentRow;
use crate::model::text::TextKey;
use crate::{
    Document, DocumentId, DocumentPage, DocumentPatch, Error, FieldError, ListQuery, NewDocument,
    NewSignature, Result, Sha256, Signature, SignatureId,
};

/// Key under which a client may repeat a `POST` safely: a scope and what the client sent.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey {
    scope: Arc<str>,
    key: Arc<str>,
}

impl IdempotencyKey {
    /// Longest key, in bytes.
    pub const LENGTH_MAX: usize = 255;

    /// A key of one caller and one operation: keys of others never meet it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) unless `key` is 1–255 visible ASCII
    /// characters.
    pub fn new(operation: &str, subject: Option<&str>, key: &str) -> Result<Self> {
        let visible = |c: u8| c.is_ascii_graphic() || c == b' ';
        if key.is_empty() || key.len() > Self::LENGTH_MAX || !key.bytes().all(visible) {
            return Err(Error::invalid_fields(vec![FieldError::new(
                "Idempotency-Key",
                "must be 1 to 255 visible ASCII characters",
            )]));
        }
        let scope = format!("{operation}/{}", subject.unwrap_or_default());
        Ok(Self { scope: Arc::from(scope), key: Arc::from(key) })
    }

    /// Operation and caller.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// What the client sent.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.key)
    }
}

/// Stored in the same transaction as the row that the request made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The key.
    pub key: IdempotencyKey,
    /// Digest of everything in the request that matters.
    pub request_sha256: Sha256,
}

/// State of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// It was free and is now the caller's, until released, completed or expired.
    Acquired,
    /// Another request holds it.
    Running,
    /// A request with this digest made the resource with this id.
    Completed {
        /// Digest of that request.
        request_sha256: Sha256,
        /// Id of what it made.
        resource_id: uuid::Uuid,
        /// The resource as it was first answered, in JSON; null if it isn't kept.
        first_answer: serde_json::Value,
    },
}

/// Idempotency keys, kept for at least 24 hours after they are completed.
///
/// A key is completed by the repository that stores the resource, in the same transaction.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait IdempotencyRepository: Send + Sync {
    /// Takes the key if it's free. Of several concurrent calls exactly one gets
    /// [`Reservation::Acquired`]. A reservation that is neither completed nor released lapses
    /// after `lease`.
    async fn reserve(&self, key: &IdempotencyKey, lease: Duration) -> Result<Reservation>;

    /// Gives back a reservation whose request failed. Does nothing to a completed key.
    async fn release(&self, key: &IdempotencyKey) -> Result<()>;

    /// Forgets keys completed longer than `retention` ago; says how many.
    async fn purge(&self, retention: Duration) -> Result<u64>;
}

/// A document after an update, and whether anything changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// As it is now.
    pub document: Document,
    /// False if everything was already as asked; the version is then not raised.
    pub changed: bool,
}

/// Documents in the database.
///
/// Every write is atomic, durable when it returns, and one change event. The database raises
/// `version` by one on each change, whoever writes. Dropping a future never leaves a transaction
/// open; the write then either happened or not.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DocumentRepository: Send + Sync {
    /// Inserts a document with version 1 and status `created`, and completes the idempotency key
    /// in the same transaction. `text` is kept too if it's given and not there yet.
    ///
    /// # Errors
    /// - `Conflict` with code `already_exists` if there is a document with this id;
    /// - `Conflict` with code `idempotency_key_completed` if the key was completed meanwhile.
    async fn create(
        &self,
        document: NewDocument,
        text: Option<(TextKey, String)>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Document>;

    /// The live document, as of the last committed write.
    ///
    /// # Errors
    /// `NotFound` if there is none or it is deleted.
    async fn get(&self, id: DocumentId) -> Result<Document>;

    /// Live documents, newest first by id.
    async fn list(&self, query: &ListQuery) -> Result<DocumentPage>;

    /// Applies a patch. With `expected_version`, of several concurrent calls with the same version
    /// that change something at most one succeeds. With an idempotency record the patch takes
    /// effect once: when its key is completed already, the document is given as it is now.
    ///
    /// # Errors
    /// - `NotFound` if there is no live document;
    /// - `VersionMismatch` if it isn't at `expected_version`, even if nothing would change;
    /// - `Invalid` with code `idempotency_key_reused` if the key completed another request.
    async fn update(
        &self,
        id: DocumentId,
        patch: &DocumentPatch,
        expected_version: Option<i32>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Updated>;

    /// Marks a document deleted, raising its version; gives the raised version.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    async fn delete(&self, id: DocumentId, expected_version: Option<i32>) -> Result<i32>;

    /// Rows in ascending order of id, deleted ones too, beginning after `after`: for rebuilding
    /// what is derived from them. At most `limit`.
    async fn scan(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<DocumentRow>>;

    /// Those of `ids` that have a row whose content must be kept. A deleted document's is kept.
    async fn referenced(&self, ids: &[DocumentId]) -> Result<HashSet<DocumentId>>;

    /// Whether the database answers.
    async fn check(&self) -> Result<()>;
}

/// Signatures in the database. What [`DocumentRepository`] says of writes holds here too.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SignatureRepository: Send + Sync {
    /// Inserts a signature as `pending`, and completes the idempotency key in the same transaction.
    ///
    /// # Errors
    /// - `NotFound` if the document has no row; a deleted one has;
    /// - `Conflict` with code `already_signed` if the document has one with this address
    ///   (compared without regard to ASCII case);
    /// - `Conflict` with code `idempotency_key_completed` if the key was completed meanwhile.
    async fn create(
        &self,
        signature: NewSignature,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Signature>;

    /// One signature.
    ///
    /// # Errors
    /// `NotFound`.
    async fn get(&self, id: SignatureId) -> Result<Signature>;

    /// The signatures of a document, oldest first; at most 1,000.
    async fn list(&self, document_id: DocumentId) -> Result<Vec<Signature>>;

    /// Records that the document knows. Doing it again changes nothing.
    async fn mark_applied(&self, id: SignatureId) -> Result<()>;

    /// Removes a signature that is still `pending`: its document is gone, so it can never be applied.
    async fn discard(&self, id: SignatureId) -> Result<()>;

    /// Signatures still `pending` that were made at least `age` ago, oldest first; at most `limit`.
    async fn pending(&self, age: Duration, limit: u32) -> Result<Vec<Signature>>;

    /// Those of `ids` that have a row.
    async fn referenced(&self, ids: &[SignatureId]) -> Result<HashSet<SignatureId>>;
}

/// Extracted texts by content hash, outside the change stream.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TextRepository: Send + Sync {
    /// The texts that are there, read in one query.
    async fn get_many(&self, keys: &[TextKey]) -> Result<HashMap<TextKey, String>>;

    /// Keeps texts; those already there stay as they are.
    async fn put_many(&self, texts: &[(TextKey, String)]) -> Result<()>;
}
