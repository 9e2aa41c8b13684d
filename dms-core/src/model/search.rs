//! What can be asked of the search index, and what it answers.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::change::DocumentRow;
use super::{Document, DocumentId, DocumentStatus};
use crate::{Error, Result};

/// Exact conditions that every hit meets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchFilter {
    /// Status.
    pub status: Option<DocumentStatus>,
    /// Creator, whole.
    pub created_by: Option<String>,
    /// Media type, whole.
    pub content_type: Option<String>,
}

/// A search. Best hits first, ties newest first; without text everything, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    /// What somebody typed; never a query language that can be abused.
    pub text: Option<String>,
    /// Exact conditions.
    pub filter: SearchFilter,
    /// How many hits to skip; `from + size` is at most [`SearchQuery::WINDOW_MAX`].
    pub from: u32,
    /// How many hits to give, 0–100.
    pub size: u32,
}

impl Default for SearchQuery {
    fn default() -> Self {
        Self { text: None, filter: SearchFilter::default(), from: 0, size: 10 }
    }
}

impl SearchQuery {
    /// Longest text, in characters.
    pub const TEXT_CHARS_MAX: usize = 1_000;
    /// How deep pages may go.
    pub const WINDOW_MAX: u32 = 10_000;
    /// Largest page.
    pub const SIZE_MAX: u32 = 100;
}

/// The parts of hits that matched; matches in `<em>`, everything else escaped as HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Highlights {
    /// Of the title.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub title: Vec<String>,
    /// Of the content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<String>,
}

/// A document that matched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchHit {
    /// The document, as the index knows it.
    #[serde(flatten)]
    pub document: Document,
    /// How well it matched; 0 without text.
    pub score: f32,
    /// What matched.
    pub highlights: Highlights,
}

/// One page of hits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchResults {
    /// How many documents match in all.
    pub total: u64,
    /// The page.
    pub hits: Vec<SearchHit>,
}

/// A field whose values can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregationField {
    /// Status.
    Status,
    /// Creator.
    CreatedBy,
    /// Media type.
    ContentType,
}

impl AggregationField {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::CreatedBy => "created_by",
            Self::ContentType => "content_type",
        }
    }
}

impl fmt::Display for AggregationField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AggregationField {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for an unknown name.
    fn from_str(text: &str) -> Result<Self> {
        [Self::Status, Self::CreatedBy, Self::ContentType]
            .into_iter()
            .find(|field| field.as_str() == text)
            .ok_or_else(|| {
                Error::invalid("field", "must be one of status, created_by, content_type")
            })
    }
}

/// Counts the values of a field over the documents a search would find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregationQuery {
    /// The field.
    pub field: AggregationField,
    /// What somebody typed.
    pub text: Option<String>,
    /// Exact conditions.
    pub filter: SearchFilter,
    /// How many values at most, 1–100.
    pub size: u32,
}

/// A value and how many documents have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The value.
    pub key: String,
    /// How many documents have it.
    pub count: u64,
}

/// A document for the index: the row and its extracted text. A deleted row is kept as a mark, so
/// that an older version can't come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The row.
    pub row: DocumentRow,
    /// Text of the content; empty if there is none.
    pub text: String,
}

impl IndexEntry {
    /// For each entry whether it is the newest complete one of its document among them; of equals
    /// the last.
    pub fn newest_of_each(entries: &[Self]) -> Vec<bool> {
        let mut newest: HashMap<DocumentId, usize> = HashMap::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            if entry.row.is_incomplete() {
                continue;
            }
            let best = newest.entry(entry.row.id).or_insert(at);
            if entries[*best].row.version <= entry.row.version {
                *best = at;
            }
        }
        entries
            .iter()
            .enumerate()
            .map(|(at, entry)| newest.get(&entry.row.id) == Some(&at))
            .collect()
    }
}

/// Which version an index has of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexVersion {
    /// The document.
    pub id: DocumentId,
    /// The version.
    pub version: i32,
    /// Whether it is there only as the mark of a deleted document.
    pub deleted: bool,
}

impl From<&DocumentRow> for IndexVersion {
    fn from(row: &DocumentRow) -> Self {
        Self { id: row.id, version: row.version, deleted: row.deleted }
    }
}
