//! Documents.

use dms_core::{Document, DocumentId, DocumentStatus};
use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
use super::schema;

/// How `content` of a [`CreateDocumentBody`] is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub enum ContentEncoding {
    /// The text itself.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Bytes in base64 (RFC 4648, section 4).
    #[serde(rename = "base64")]
    Base64,
}

/// Creates a document: `POST /documents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = CreateDocument))]
pub struct CreateDocumentBody {
    /// 1–500 characters, none a control character.
    #[cfg_attr(feature = "server", schema(min_length = 1, max_length = 500))]
    pub title: String,
    /// The content, written as `content_encoding` says.
    pub content: String,
    /// Who creates it, 1–320 characters.
    #[cfg_attr(feature = "server", schema(min_length = 1, max_length = 320))]
    pub created_by: String,
    /// Media type of the content; `text/plain` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(max_length = 127, example = "text/plain"))]
    pub content_type: Option<String>,
    /// How `content` is written; `utf-8` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<ContentEncoding>,
}

/// Changes a document: `PATCH /documents/{id}`. What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = PatchDocument))]
pub struct PatchDocumentBody {
    /// New status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<schema::DocumentStatus>))]
    pub status: Option<DocumentStatus>,
    /// New title, 1–500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(min_length = 1, max_length = 500))]
    pub title: Option<String>,
}

/// A page of documents, newest first: `GET /documents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = DocumentList))]
pub struct DocumentListBody {
    /// The documents.
    #[cfg_attr(feature = "server", schema(value_type = Vec<schema::Document>))]
    pub documents: Vec<Document>,
    /// `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// How often a document was viewed: `GET /documents/{id}/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = Stats))]
pub struct StatsBody {
    /// The document.
    #[cfg_attr(feature = "server", schema(value_type = uuid::Uuid))]
    pub document_id: DocumentId,
    /// Views.
    pub total_views: u64,
    /// Distinct viewers.
    pub unique_views: u64,
}
