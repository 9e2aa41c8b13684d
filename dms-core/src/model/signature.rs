//! Signatures.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{DocumentId, SignatureId, timestamp};

/// Whether the document has been told of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppliedStatus {
    /// Recorded; the document will become `signed`.
    Pending,
    /// The document became `signed` because of it.
    Signed,
}

/// Somebody's signature under a document; at most one per document and address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Its id.
    pub id: SignatureId,
    /// The document.
    pub document_id: DocumentId,
    /// Address of the signer, at most 320 characters.
    pub signer_email: String,
    /// Name of the signer, 1–200 characters.
    pub signer_name: String,
    /// Where the image is in the blob store: `signatures/ID/image`.
    pub image_key: String,
    /// Media type of the image, by its first bytes.
    pub image_content_type: String,
    /// When it was made.
    #[serde(with = "timestamp")]
    pub created_at: OffsetDateTime,
    /// Whether the document has been told.
    pub document_status: AppliedStatus,
}

impl Signature {
    /// Where the image of signature `id` is kept.
    pub fn image_key(id: SignatureId) -> String {
        format!("signatures/{id}/image")
    }
}

/// What a repository needs to insert a signature. The time comes from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSignature {
    /// Its id.
    pub id: SignatureId,
    /// The document, which exists.
    pub document_id: DocumentId,
    /// Validated address.
    pub signer_email: String,
    /// Validated name.
    pub signer_name: String,
    /// Where the image was stored.
    pub image_key: String,
    /// Media type of the image.
    pub image_content_type: String,
}
