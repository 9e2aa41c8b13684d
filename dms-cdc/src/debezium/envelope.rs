//! The envelope around the rows.

use std::borrow::Cow;

use dms_core::model::change::{Operation, RowChange};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;

use super::field::{Field, moment_of};
use super::row::Columns;

const NOT_WHOLE: &str =
    "the removed row is not known beyond its key: its table needs REPLICA IDENTITY FULL";

/// What an envelope says.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) operation: Operation,
    pub(super) row: RowChange,
    pub(super) committed_at: OffsetDateTime,
}

/// An envelope, or the wrapper of one with its schema.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Envelope<'a> {
    #[serde(borrow)]
    before: Option<Columns<'a>>,
    #[serde(borrow)]
    after: Option<Columns<'a>>,
    #[serde(borrow)]
    source: Option<Source<'a>>,
    #[serde(borrow)]
    op: Field<'a>,
    #[serde(borrow)]
    ts_us: Field<'a>,
    #[serde(borrow)]
    ts_ms: Field<'a>,
    #[serde(deserialize_with = "present")]
    schema: Option<IgnoredAny>,
    /// None where there is no such field; within, none where it is null.
    #[expect(clippy::option_option, reason = "a null payload is a tombstone")]
    #[serde(borrow, deserialize_with = "present")]
    payload: Option<Option<Box<Envelope<'a>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source<'a> {
    #[serde(borrow)]
    table: Field<'a>,
    #[serde(borrow)]
    ts_us: Field<'a>,
    #[serde(borrow)]
    ts_ms: Field<'a>,
}

/// A field that is there, even if it is null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Documents,
    Signatures,
}

/// The change in the value of a record of a topic; none if there is nothing to deliver.
pub(super) fn decode(topic: &str, value: Option<&[u8]>) -> Result<Option<Event>, String> {
    let Some(value) = value else { return Ok(None) };
    let envelope: Option<Envelope<'_>> =
        serde_json::from_slice(value).map_err(|e| format!("unreadable envelope: {e}"))?;
    let Some(mut envelope) = envelope else { return Ok(None) };
    if envelope.schema.is_some() || envelope.payload.is_some() {
        envelope = match envelope.payload.take() {
            Some(Some(payload)) => *payload,
            Some(None) => return Ok(None),
            None => return Err("a schema without a payload".to_owned()),
        };
    }
    envelope.event(topic)
}

impl Envelope<'_> {
    fn event(mut self, topic: &str) -> Result<Option<Event>, String> {
        let Some(operation) = self.operation()? else { return Ok(None) };
        let table = self.table(topic)?;
        if let (Some(after), Some(before)) = (&mut self.after, &self.before)
            && !before.is_made_up()
        {
            after.complete_from(before);
        }
        let row = if operation == Operation::Delete {
            self.removed(table)?
        } else {
            self.written(table)?
        };
        let committed_at = self.committed_at(&row).ok_or("the envelope has no timestamp")?;
        Ok(Some(Event { operation, row, committed_at }))
    }

    /// What happened; none if it's nothing that concerns a row.
    fn operation(&self) -> Result<Option<Operation>, String> {
        let op = match &self.op {
            Field::Missing | Field::Null => None,
            Field::Text(op) => Some(&**op),
            _ => return Err("op is not a text".to_owned()),
        };
        match op {
            Some("c") => Ok(Some(Operation::Create)),
            Some("u") => Ok(Some(Operation::Update)),
            Some("d") => Ok(Some(Operation::Delete)),
            Some("r") => Ok(Some(Operation::Snapshot)),
            Some("m") => Ok(None),
            Some("t") => Err("the table was truncated".to_owned()),
            Some(other) => {
                let shown: String = other.chars().take(16).collect();
                Err(format!("unknown op {shown:?}"))
            }
            None => match (&self.before, &self.after) {
                (None, Some(_)) => Ok(Some(Operation::Create)),
                (Some(_), Some(_)) => Ok(Some(Operation::Update)),
                (Some(_), None) => Ok(Some(Operation::Delete)),
                (None, None) if self.is_heartbeat() => Ok(None),
                (None, None) => Err("an envelope without op and rows".to_owned()),
            },
        }
    }

    /// A heartbeat has a time and nothing else.
    fn is_heartbeat(&self) -> bool {
        self.op == Field::Missing
            && self.source.is_none()
            && matches!(self.ts_ms, Field::Integer(_))
    }

    fn table(&self, topic: &str) -> Result<Table, String> {
        let name: Cow<'_, str> = match self.source.as_ref().map(|source| &source.table) {
            Some(Field::Text(table)) => Cow::Borrowed(table),
            _ => Cow::Borrowed(topic.rsplit('.').next().unwrap_or(topic)),
        };
        match &*name {
            "documents" => Ok(Table::Documents),
            "signatures" => Ok(Table::Signatures),
            other => {
                let shown: String = other.chars().take(64).collect();
                Err(format!("unknown table {shown:?}"))
            }
        }
    }

    fn written(&self, table: Table) -> Result<RowChange, String> {
        let after = self.after.as_ref().ok_or("no row after")?;
        // All that matters is in the row after. One before that can't be read is as good as none,
        // which an update may come with anyway.
        let before = self.before.as_ref();
        Ok(match table {
            Table::Documents => {
                let after = after.document().map_err(in_row("after"))?;
                let before = before.and_then(|before| before.document().ok());
                same_id(before.as_ref().map(|row| &row.id), &after.id)?;
                RowChange::Document { before, after: Some(after) }
            }
            Table::Signatures => {
                let after = after.signature().map_err(in_row("after"))?;
                let before = before.and_then(|before| before.signature().ok());
                same_id(before.as_ref().map(|row| &row.id), &after.id)?;
                RowChange::Signature { before, after: Some(after) }
            }
        })
    }

    fn removed(&self, table: Table) -> Result<RowChange, String> {
        if self.after.is_some() {
            return Err("a removed row with a row after".to_owned());
        }
        let before = self.before.as_ref().filter(|row| !row.is_made_up()).ok_or(NOT_WHOLE)?;
        Ok(match table {
            Table::Documents => {
                let before = before.document().map_err(in_row("before"))?;
                RowChange::Document { before: Some(before), after: None }
            }
            Table::Signatures => {
                let before = before.signature().map_err(in_row("before"))?;
                RowChange::Signature { before: Some(before), after: None }
            }
        })
    }

    /// When it was committed; else when it was written; else what the row says.
    fn committed_at(&self, row: &RowChange) -> Option<OffsetDateTime> {
        let of_source = self.source.as_ref().map(|source| [&source.ts_us, &source.ts_ms]);
        let fields = of_source.into_iter().flatten().chain([&self.ts_us, &self.ts_ms]);
        let mut told = fields.filter_map(|field| match field {
            Field::Integer(number) if *number > 0 => moment_of(*number),
            _ => None,
        });
        told.next().or_else(|| match row {
            RowChange::Document { before, after } => {
                after.as_ref().or(before.as_ref()).map(|row| row.updated_at)
            }
            RowChange::Signature { before, after } => {
                after.as_ref().or(before.as_ref()).map(|row| row.created_at)
            }
        })
    }
}

fn in_row(side: &str) -> impl Fn(String) -> String {
    move |reason| format!("row {side}: {reason}")
}

fn same_id<Id: PartialEq>(before: Option<&Id>, after: &Id) -> Result<(), String> {
    if before.is_none_or(|before| before == after) {
        return Ok(());
    }
    Err("the rows before and after have different ids".to_owned())
}

/// The id in the key of a record, with or without schema.
pub(super) fn key_of(key: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Key {
        Bare(String),
        Plain { id: String },
        Wrapped { payload: Plain },
    }
    #[derive(Deserialize)]
    struct Plain {
        id: String,
    }
    read(key).map(|key| match key {
        Key::Bare(id) | Key::Plain { id } | Key::Wrapped { payload: Plain { id } } => id,
    })
}

/// The id in the rows of an envelope, as far as it can be read.
pub(super) fn key_of_rows(value: &[u8]) -> Option<String> {
    let mut envelope = serde_json::from_slice::<Envelope<'_>>(value).ok()?;
    if let Some(Some(payload)) = envelope.payload.take() {
        envelope = *payload;
    }
    match envelope.after.or(envelope.before)?.id {
        Field::Text(id) => Some(id.into_owned()),
        _ => None,
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}
