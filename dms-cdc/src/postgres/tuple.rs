//! Values of one row as the log has them, by the columns that we know.

use pg_walstream::{ColumnInfo, TupleData};

/// Most bytes of a value that a reason repeats.
const QUOTED_BYTES_MAX: usize = 64;

/// A table whose changes are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Documents,
    Signatures,
}

pub(super) const DOCUMENT_COLUMNS: &[&str] = &[
    "id",
    "title",
    "content_type",
    "content_size",
    "content_sha256",
    "s3_key",
    "status",
    "created_by",
    "created_at",
    "updated_at",
    "version",
    "deleted_at",
];
pub(super) const SIGNATURE_COLUMNS: &[&str] =
    &["id", "document_id", "signer_email", "signer_name", "created_at"];

impl Table {
    /// The table of this name, if its changes are decoded.
    pub(super) fn of(namespace: &str, name: &str) -> Option<Self> {
        match (namespace, name) {
            ("public", "documents") => Some(Self::Documents),
            ("public", "signatures") => Some(Self::Signatures),
            _ => None,
        }
    }

    /// As in [`RawChange::entity`](crate::RawChange::entity).
    pub(super) const fn entity(self) -> &'static str {
        match self {
            Self::Documents => "document",
            Self::Signatures => "signature",
        }
    }

    /// The columns that are read. Others are passed over.
    pub(super) const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Documents => DOCUMENT_COLUMNS,
            Self::Signatures => SIGNATURE_COLUMNS,
        }
    }
}

/// A table as the log described it last.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) table: Table,
    /// Where each known column is; in the order of [`Table::columns`].
    places: Vec<Option<usize>>,
}

impl Relation {
    pub(super) fn new(table: Table, columns: &[ColumnInfo]) -> Self {
        let place = |known: &&str| columns.iter().position(|column| *column.name == **known);
        Self { table, places: table.columns().iter().map(place).collect() }
    }
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// As text, which may not be UTF-8.
    Text(&'a [u8]),
    /// SQL null.
    Null,
    /// The log doesn't have it.
    Absent,
}

/// A row in the log.
#[derive(Clone, Copy)]
pub(super) struct Tuple<'a> {
    pub(super) relation: &'a Relation,
    pub(super) data: &'a TupleData,
    /// The whole row before, which has what the update left alone.
    pub(super) before: Option<&'a TupleData>,
}

impl<'a> Tuple<'a> {
    /// The value of the column at `index` of [`Table::columns`].
    pub(super) fn value(&self, index: usize) -> Value<'a> {
        let Some(place) = self.relation.places.get(index).copied().flatten() else {
            return Value::Absent;
        };
        match value(self.data, place) {
            Value::Absent => self.before.map_or(Value::Absent, |before| value(before, place)),
            known => known,
        }
    }

    /// Text that must be there.
    pub(super) fn text(&self, index: usize) -> Result<&'a str, String> {
        self.optional_text(index)?.ok_or_else(|| format!("{} is null", self.column(index)))
    }

    /// Text, or none for a null.
    pub(super) fn optional_text(&self, index: usize) -> Result<Option<&'a str>, String> {
        match self.value(index) {
            Value::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.unreadable(index, bytes)),
            },
            Value::Null => Ok(None),
            Value::Absent => Err(format!("the log has no value of {}", self.column(index))),
        }
    }

    /// A value that must be there, and readable by `parse`.
    pub(super) fn parsed<T>(
        &self,
        index: usize,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, String> {
        let text = self.text(index)?;
        parse(text).ok_or_else(|| self.unreadable(index, text.as_bytes()))
    }

    pub(super) fn unreadable(&self, index: usize, bytes: &[u8]) -> String {
        let shown = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
        format!("unreadable {} {:?}", self.column(index), String::from_utf8_lossy(shown))
    }

    fn column(&self, index: usize) -> &'static str {
        self.relation.table.columns().get(index).copied().unwrap_or("a column")
    }
}

fn value(data: &TupleData, place: usize) -> Value<'_> {
    match data.get_column(place) {
        Some(column) if column.is_text() => Value::Text(column.as_bytes()),
        Some(column) if column.is_null() => Value::Null,
        // Unchanged, or in a form that was not asked for.
        _ => Value::Absent,
    }
}
