//! What is kept of a change that can't be decoded, so that it can be once it is understood.

use dms_core::model::change::{PoisonRecord, Position, Record};
use dms_core::model::timestamp as rfc3339;
use serde_json::{Map, Value as Json, json};
use time::OffsetDateTime;

use super::row;
use super::tuple::{Tuple, Value};
use crate::RawChange;

/// Longest key that is repeated, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// The change that a dead letter of this stream holds, decoded by the rules of today: a change, or
/// poison if it still can't be. None if `raw` isn't what the stream writes.
pub fn decode_dead_letter(raw: &[u8]) -> Option<Record> {
    RawChange::from_json(raw).map(RawChange::decode)
}

/// A change that can't be decoded, as the columns a [`RawChange`] has.
pub(super) struct Unreadable<'a> {
    pub(super) position: Position,
    pub(super) committed_at: OffsetDateTime,
    pub(super) entity: &'a str,
    pub(super) operation: &'a str,
    pub(super) before: Option<Tuple<'a>>,
    pub(super) after: Option<Tuple<'a>>,
    pub(super) reason: String,
}

impl Unreadable<'_> {
    pub(super) fn into_record(self) -> Record {
        let key = self.after.as_ref().or(self.before.as_ref()).and_then(key);
        let image = |tuple: Tuple<'_>| json(&tuple).to_string().into_bytes();
        let raw = RawChange {
            position: self.position.clone(),
            entity: self.entity.into(),
            operation: self.operation.into(),
            before: self.before.map(image),
            after: self.after.map(image),
            committed_at: rfc3339::format(self.committed_at).into(),
        };
        Record::Poison(PoisonRecord {
            position: self.position,
            key,
            raw: raw.to_json(),
            reason: self.reason,
        })
    }
}

/// A message of the log that can't be read at all.
pub(super) fn unreadable_message(
    position: Position,
    committed_at: OffsetDateTime,
    message: &[u8],
    reason: String,
) -> Record {
    let raw = RawChange {
        position: position.clone(),
        entity: b"pgoutput".into(),
        operation: b"message".into(),
        before: None,
        after: Some(message.into()),
        committed_at: rfc3339::format(committed_at).into(),
    };
    Record::Poison(PoisonRecord { position, key: None, raw: raw.to_json(), reason })
}

/// The row's id, if it is short enough to be one.
fn key(tuple: &Tuple<'_>) -> Option<String> {
    match tuple.value(0) {
        Value::Text(bytes) if bytes.len() <= KEY_BYTES_MAX => {
            std::str::from_utf8(bytes).ok().map(Into::into)
        }
        _ => None,
    }
}

/// The row in the form that the model reads. What can't be read stays as the text it was; what the
/// log doesn't have becomes something that no field takes, so that it is never mistaken for a null.
fn json(tuple: &Tuple<'_>) -> Json {
    let mut fields = Map::new();
    for (index, column) in tuple.relation.table.columns().iter().enumerate() {
        let value = match tuple.value(index) {
            Value::Absent => json!({}),
            Value::Null if *column == "deleted_at" => json!(false),
            Value::Null => Json::Null,
            Value::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => typed(column, text),
                Err(_) => json!(bytes),
            },
        };
        let field = if *column == "deleted_at" { "deleted" } else { column };
        fields.insert(field.to_owned(), value);
    }
    Json::Object(fields)
}

fn typed(column: &str, text: &str) -> Json {
    let number = || text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number));
    let time = || row::timestamp(text).map_or_else(|| json!(text), |at| json!(rfc3339::format(at)));
    match column {
        "content_size" | "version" => number(),
        "created_at" | "updated_at" => time(),
        "deleted_at" => json!(true),
        _ => json!(text),
    }
}
