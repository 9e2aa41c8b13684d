//! Documents.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{DocumentId, Sha256, timestamp};
use crate::{Error, Result};

/// Where a document stands. Any status may follow any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentStatus {
    /// Nobody has acted on it yet.
    Created,
    /// Somebody has opened it.
    Viewed,
    /// Somebody has signed it.
    Signed,
}

impl DocumentStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Created, Self::Viewed, Self::Signed];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Viewed => "viewed",
            Self::Signed => "signed",
        }
    }
}

impl fmt::Display for DocumentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DocumentStatus {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for an unknown name.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::invalid("status", "must be one of created, viewed, signed"))
    }
}

/// A live document, as every reader sees it. The content itself is in the blob store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its id.
    pub id: DocumentId,
    /// 1–500 characters.
    pub title: String,
    /// Media type of the content.
    pub content_type: String,
    /// Size of the content in bytes.
    pub content_size: u64,
    /// SHA-256 of the content.
    pub content_sha256: Sha256,
    /// Where the content is in the blob store: `ID/content`.
    pub s3_key: String,
    /// Where it stands.
    pub status: DocumentStatus,
    /// Who created it, 1–320 characters.
    pub created_by: String,
    /// When it was created.
    #[serde(with = "timestamp")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "timestamp")]
    pub updated_at: OffsetDateTime,
    /// Raised by one by the database on each change; starts at 1.
    pub version: i32,
}

impl Document {
    /// Where content of document `id` is kept.
    pub fn content_key(id: DocumentId) -> String {
        format!("{id}/content")
    }
}

/// What a repository needs to insert a document. Times and version come from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Its id.
    pub id: DocumentId,
    /// Validated title.
    pub title: String,
    /// Validated media type.
    pub content_type: String,
    /// Size of the stored content in bytes.
    pub content_size: u64,
    /// SHA-256 of the stored content.
    pub content_sha256: Sha256,
    /// Where the content was stored.
    pub s3_key: String,
    /// Validated creator.
    pub created_by: String,
}

/// Changes to a document; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentPatch {
    /// New status.
    pub status: Option<DocumentStatus>,
    /// New, validated title.
    pub title: Option<String>,
}

impl DocumentPatch {
    /// A patch that sets the status alone.
    pub fn status(status: DocumentStatus) -> Self {
        Self { status: Some(status), title: None }
    }

    /// Whether it would leave `document` as it is.
    pub fn is_noop_for(&self, document: &Document) -> bool {
        self.status.is_none_or(|status| status == document.status)
            && self.title.as_ref().is_none_or(|title| *title == document.title)
    }
}

/// Which documents to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListQuery {
    /// How many at most, 1–100.
    pub limit: u32,
    /// Only those older than this one.
    pub before: Option<DocumentId>,
    /// Only those with this status.
    pub status: Option<DocumentStatus>,
    /// Only those of this creator.
    pub created_by: Option<String>,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self { limit: 20, before: None, status: None, created_by: None }
    }
}

/// One page of documents, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentPage {
    /// The documents.
    pub documents: Vec<Document>,
    /// [`ListQuery::before`] of the next page; none on the last.
    pub next: Option<DocumentId>,
}

/// How often a document was viewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewStats {
    /// Views.
    pub total_views: u64,
    /// Distinct viewers.
    pub unique_views: u64,
}
