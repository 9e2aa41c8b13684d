//! Changes: what the change stream carries.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Document, DocumentId, DocumentStatus, Sha256, SignatureId, timestamp};

/// A place in a change stream, opaque to all but the source that made it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(String);

impl Position {
    /// The position a source writes as `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the source wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({})", self.0)
    }
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Inserted.
    Create,
    /// Changed; a soft delete is a change too.
    Update,
    /// Removed.
    Delete,
    /// Read by a snapshot: it was there before the stream began.
    Snapshot,
}

/// A row of the documents table. Unlike [`Document`] it may be deleted or lack content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRow {
    /// Its id.
    pub id: DocumentId,
    /// Title.
    pub title: String,
    /// Media type.
    pub content_type: String,
    /// Bytes.
    pub content_size: u64,
    /// SHA-256 of the content, once it is stored.
    #[serde(default)]
    pub content_sha256: Option<Sha256>,
    /// Where the content is, once it is stored.
    #[serde(default)]
    pub s3_key: Option<String>,
    /// Status.
    pub status: DocumentStatus,
    /// Creator.
    pub created_by: String,
    /// When it was created.
    #[serde(with = "timestamp")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "timestamp")]
    pub updated_at: OffsetDateTime,
    /// Version.
    pub version: i32,
    /// Whether it is deleted.
    #[serde(default)]
    pub deleted: bool,
}

impl DocumentRow {
    /// Whether the row is live without stored content: nothing can be done with it yet.
    pub const fn is_incomplete(&self) -> bool {
        !self.deleted && (self.content_sha256.is_none() || self.s3_key.is_none())
    }

    /// The document, unless the row is deleted or its content isn't stored yet.
    pub fn into_document(self) -> Option<Document> {
        if self.deleted {
            return None;
        }
        Some(Document {
            id: self.id,
            title: self.title,
            content_type: self.content_type,
            content_size: self.content_size,
            content_sha256: self.content_sha256?,
            s3_key: self.s3_key?,
            status: self.status,
            created_by: self.created_by,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
        })
    }
}

impl From<Document> for DocumentRow {
    fn from(document: Document) -> Self {
        Self {
            id: document.id,
            title: document.title,
            content_type: document.content_type,
            content_size: document.content_size,
            content_sha256: Some(document.content_sha256),
            s3_key: Some(document.s3_key),
            status: document.status,
            created_by: document.created_by,
            created_at: document.created_at,
            updated_at: document.updated_at,
            version: document.version,
            deleted: false,
        }
    }
}

/// A row of the signatures table, as far as the stream's consumers need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureRow {
    /// Its id.
    pub id: SignatureId,
    /// The document.
    pub document_id: DocumentId,
    /// Address of the signer.
    pub signer_email: String,
    /// Name of the signer.
    pub signer_name: String,
    /// When it was made.
    #[serde(with = "timestamp")]
    pub created_at: OffsetDateTime,
}

/// A change of one row: as it was, and as it is.
///
/// `before` may be missing even for an update; `after` is missing for a removed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// Of the documents table.
    Document {
        /// The row before.
        before: Option<DocumentRow>,
        /// The row after.
        after: Option<DocumentRow>,
    },
    /// Of the signatures table.
    Signature {
        /// The row before.
        before: Option<SignatureRow>,
        /// The row after.
        after: Option<SignatureRow>,
    },
}

/// One change of one row, in the order of commit for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub operation: Operation,
    /// To which row.
    pub row: RowChange,
    /// Where the change is in the stream.
    pub position: Position,
    /// When it was committed, as far as the source knows.
    pub committed_at: OffsetDateTime,
}

impl Change {
    /// The document the change is about: its own id, or that of the document signed.
    pub fn document_id(&self) -> Option<DocumentId> {
        match &self.row {
            RowChange::Document { before, after } => {
                after.as_ref().or(before.as_ref()).map(|row| row.id)
            }
            RowChange::Signature { before, after } => {
                after.as_ref().or(before.as_ref()).map(|row| row.document_id)
            }
        }
    }

    /// Key of the row, by which the order is kept.
    pub fn key(&self) -> Option<String> {
        match &self.row {
            RowChange::Document { before, after } => {
                after.as_ref().or(before.as_ref()).map(|row| row.id.to_string())
            }
            RowChange::Signature { before, after } => {
                after.as_ref().or(before.as_ref()).map(|row| row.id.to_string())
            }
        }
    }
}

/// A record that can't be decoded, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoisonRecord {
    /// Where it is in the stream.
    pub position: Position,
    /// Key of the row, if that much could be read.
    pub key: Option<String>,
    /// The record as it came.
    pub raw: Vec<u8>,
    /// Why it can't be decoded.
    pub reason: String,
}

/// What a source yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A change.
    Change(Box<Change>),
    /// Something that can't be decoded.
    Poison(PoisonRecord),
}

/// Records that are delivered and acknowledged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    /// At least one record, in order for each key.
    pub records: Vec<Record>,
    /// Covers every record delivered up to and including this batch.
    pub position: Position,
}
