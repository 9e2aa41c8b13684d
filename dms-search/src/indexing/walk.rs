//! Rows and index side by side, in order of id, a bounded part at a time.

use std::collections::HashMap;

use dms_core::model::change::DocumentRow;
use dms_core::model::search::IndexVersion;
use dms_core::ports::{DocumentRepository, SearchIndex};
use dms_core::{DocumentId, Result};
use uuid::Uuid;

/// How the index differs from the rows in one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriftKind {
    /// There is a row, and nothing in the index.
    Missing,
    /// The index has an older version than the row.
    Stale,
    /// There is no row, and a document that can be found.
    Extra,
    /// The index has a newer version than the row, or something else under the same version: the
    /// database was restored from an older backup. Only a rebuild helps.
    Ahead,
}

impl DriftKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Stale, Self::Extra, Self::Ahead];

    /// The name in metrics and for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Extra => "extra",
            Self::Ahead => "ahead",
        }
    }
}

/// The rows and versions of a range of ids.
pub(super) struct Part {
    pub(super) rows: Vec<DocumentRow>,
    pub(super) known: Vec<IndexVersion>,
}

/// Goes through rows and index at once. What is gone through is not looked at again, so a document
/// that changes meanwhile is seen as it was before or after.
pub(super) struct Walk<'a> {
    index: &'a dyn SearchIndex,
    documents: &'a dyn DocumentRepository,
    rows_max: u32,
    after: Option<DocumentId>,
    /// The index has nothing more.
    is_index_done: bool,
    is_done: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        index: &'a dyn SearchIndex,
        documents: &'a dyn DocumentRepository,
        rows_max: u32,
    ) -> Self {
        let rows_max = rows_max.max(1);
        Self { index, documents, rows_max, after: None, is_index_done: false, is_done: false }
    }

    /// The next part; none once everything was seen. Rows are read before the index, which then has
    /// what was written of them, or more.
    pub(super) async fn next(&mut self) -> Result<Option<Part>> {
        if self.is_done {
            return Ok(None);
        }
        let mut rows = self.documents.scan(self.after, self.rows_max).await?;
        let mut known = if self.is_index_done {
            Vec::new()
        } else {
            self.index.versions(self.after, self.rows_max).await?
        };
        let full = self.rows_max as usize;
        let rows_end = rows.last().filter(|_| rows.len() >= full).map(|row| row.id);
        let known_end = known.last().filter(|_| known.len() >= full).map(|known| known.id);
        match [rows_end, known_end].into_iter().flatten().min() {
            Some(end) => {
                self.is_index_done = known_end.is_none() && known.iter().all(|k| k.id <= end);
                rows.retain(|row| row.id <= end);
                known.retain(|known| known.id <= end);
                self.after = Some(end);
            }
            None => self.is_done = true,
        }
        Ok(Some(Part { rows, known }))
    }
}

/// A document in which row and index differ.
#[derive(Debug, Clone)]
pub(super) struct Difference<'a> {
    pub(super) id: DocumentId,
    pub(super) kind: DriftKind,
    pub(super) row: Option<&'a DocumentRow>,
    pub(super) known: Option<IndexVersion>,
}

impl Part {
    /// Where rows and index differ.
    pub(super) fn differences(&self) -> Vec<Difference<'_>> {
        let mut known: HashMap<DocumentId, IndexVersion> =
            self.known.iter().map(|known| (known.id, *known)).collect();
        let mut differences = Vec::new();
        for row in &self.rows {
            let known = known.remove(&row.id);
            if let Some(kind) = compare(Some(row), known) {
                differences.push(Difference { id: row.id, kind, row: Some(row), known });
            }
        }
        for known in known.into_values() {
            if let Some(kind) = compare(None, Some(known)) {
                differences.push(Difference { id: known.id, kind, row: None, known: Some(known) });
            }
        }
        differences
    }
}

/// How a row and what the index has differ, if they do.
///
/// The mark of a deleted document that has no row any more can't be found, and does no harm. A row
/// without stored content isn't for the index yet.
pub(super) fn compare(row: Option<&DocumentRow>, known: Option<IndexVersion>) -> Option<DriftKind> {
    match (row, known) {
        (Some(row), _) if row.is_incomplete() => None,
        (Some(_), None) => Some(DriftKind::Missing),
        (Some(row), Some(known)) if known.version < row.version => Some(DriftKind::Stale),
        (Some(row), Some(known)) => (known != row.into()).then_some(DriftKind::Ahead),
        (None, Some(known)) => (!known.deleted).then_some(DriftKind::Extra),
        (None, None) => None,
    }
}

/// The rows with these ids, as they are now. `ids` are in ascending order.
pub(super) async fn rows_of(
    documents: &dyn DocumentRepository,
    ids: &[DocumentId],
) -> Result<HashMap<DocumentId, DocumentRow>> {
    let mut found = HashMap::with_capacity(ids.len());
    let mut rest = ids;
    while let Some((first, _)) = rest.split_first() {
        let limit = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let rows = documents.scan(before(*first), limit).await?;
        // Everything up to the last row is known now; after fewer rows than asked for, everything.
        let end = rows.last().filter(|_| rows.len() >= rest.len()).map(|row| row.id);
        let seen = end.map_or(rest.len(), |end| rest.partition_point(|id| *id <= end));
        let wanted = &rest[..seen];
        found.extend(
            rows.into_iter()
                .filter(|row| wanted.binary_search(&row.id).is_ok())
                .map(|row| (row.id, row)),
        );
        // The first id was asked for, so there is always something seen.
        rest = &rest[seen.max(1)..];
    }
    Ok(found)
}

/// The id right before one.
fn before(id: DocumentId) -> Option<DocumentId> {
    let number = id.as_uuid().as_u128().checked_sub(1)?;
    Some(DocumentId::from_uuid(Uuid::from_u128(number)))
}
