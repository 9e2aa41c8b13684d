//! From rows to what the ports give.

use dms_core::model::change::DocumentRow;
use dms_core::model::text::TextFormat;
use dms_core::{Document, DocumentId, DocumentPage, Error, Result};

/// The live document of a row that a change applies to, or what keeps the change from applying.
///
/// # Errors
/// `NotFound`, `VersionMismatch`.
pub(crate) fn live_at(
    row: Option<DocumentRow>,
    id: DocumentId,
    expected_version: Option<i32>,
) -> Result<Document> {
    let document =
        row.and_then(DocumentRow::into_document).ok_or_else(|| Error::not_found("document", id))?;
    match expected_version {
        Some(expected) if expected != document.version => {
            Err(Error::version_mismatch(expected, document.version))
        }
        _ => Ok(document),
    }
}

/// A page of at most `limit` of these documents, of which there is one more if others follow.
pub(crate) fn page(mut documents: Vec<Document>, limit: u32) -> DocumentPage {
    let limit = limit as usize;
    let more = documents.len() > limit;
    documents.truncate(limit);
    let next = if more { documents.last().map(|document| document.id) } else { None };
    DocumentPage { documents, next }
}

/// The inverse of [`TextFormat::as_str`].
pub(crate) fn format_named(name: &str) -> Result<TextFormat> {
    [TextFormat::Plain, TextFormat::Html, TextFormat::Markdown]
        .into_iter()
        .find(|format| format.as_str() == name)
        .ok_or_else(|| Error::internal("stored text has an unknown format"))
}
