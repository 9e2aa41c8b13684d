//! A change as text columns, as logs and dead letters hold it, and its decoder.

use dms_core::model::change::{
    Change, DocumentRow, Operation, PoisonRecord, Position, Record, RowChange, SignatureRow,
};
use dms_core::model::timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Most bytes of a value that a reason repeats.
const QUOTED_BYTES_MAX: usize = 64;
/// Longest reason, in characters; a JSON error repeats the value it is about.
const REASON_CHARS_MAX: usize = 300;

/// One change as columns of text, none of which is known to be sound.
///
/// It is what a row of the change log holds, and as JSON ([`to_json`](Self::to_json)) what the
/// `raw` of a dead letter is, so that a dead letter can be decoded and applied later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawChange {
    /// Where the change is in its stream.
    pub position: Position,
    /// `document` or `signature`.
    #[serde(with = "text_or_bytes")]
    pub entity: Vec<u8>,
    /// `create`, `update`, `delete` or `snapshot`.
    #[serde(with = "text_or_bytes")]
    pub operation: Vec<u8>,
    /// The row before, as JSON.
    #[serde(with = "text_or_bytes::option")]
    pub before: Option<Vec<u8>>,
    /// The row after, as JSON.
    #[serde(with = "text_or_bytes::option")]
    pub after: Option<Vec<u8>>,
    /// RFC 3339.
    #[serde(with = "text_or_bytes")]
    pub committed_at: Vec<u8>,
}

impl RawChange {
    /// The columns of a change; [`decode`](Self::decode) is the inverse.
    pub fn encode(change: &Change) -> Self {
        let (entity, before, after) = match &change.row {
            RowChange::Document { before, after } => {
                ("document", before.as_ref().map(json), after.as_ref().map(json))
            }
            RowChange::Signature { before, after } => {
                ("signature", before.as_ref().map(json), after.as_ref().map(json))
            }
        };
        let operation = match change.operation {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Snapshot => "snapshot",
        };
        Self {
            position: change.position.clone(),
            entity: entity.into(),
            operation: operation.into(),
            before,
            after,
            committed_at: timestamp::format(change.committed_at).into(),
        }
    }

    /// The change, or poison that holds the columns as they are and says what is wrong with them.
    ///
    /// Never panics, whatever the columns hold. Fields of a row that aren't known are passed over,
    /// so a column added to a table stops nobody.
    pub fn decode(self) -> Record {
        match self.change() {
            Ok(change) => Record::Change(Box::new(change)),
            Err(reason) => {
                let (key, raw) = (self.key(), self.to_json());
                Record::Poison(PoisonRecord { position: self.position, key, raw, reason })
            }
        }
    }

    /// The columns as JSON. Text stays legible; what isn't UTF-8 becomes an array of its bytes.
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }

    /// The inverse of [`to_json`](Self::to_json); none if `raw` isn't what that writes.
    pub fn from_json(raw: &[u8]) -> Option<Self> {
        serde_json::from_slice(raw).ok()
    }

    fn change(&self) -> Result<Change, String> {
        let operation = match self.operation.as_slice() {
            b"create" => Operation::Create,
            b"update" => Operation::Update,
            b"delete" => Operation::Delete,
            b"snapshot" => Operation::Snapshot,
            other => return Err(format!("unknown operation {}", quoted(other))),
        };
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let row = match self.entity.as_slice() {
            b"document" => {
                let (before, after) = images(operation, before, after, |row: &DocumentRow| row.id)?;
                RowChange::Document { before, after }
            }
            b"signature" => {
                let (before, after) =
                    images(operation, before, after, |row: &SignatureRow| row.id)?;
                RowChange::Signature { before, after }
            }
            other => return Err(format!("unknown entity {}", quoted(other))),
        };
        let committed_at = std::str::from_utf8(&self.committed_at)
            .ok()
            .and_then(|text| timestamp::parse(text).ok())
            .ok_or_else(|| format!("unreadable committed_at {}", quoted(&self.committed_at)))?;
        Ok(Change { operation, row, position: self.position.clone(), committed_at })
    }

    /// The row's id, as far as it can be read from rows that can't be decoded.
    fn key(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Keyed {
            id: String,
        }
        let id = |row: &Vec<u8>| serde_json::from_slice(row).ok().map(|Keyed { id }| id);
        let after = self.after.as_ref().and_then(id);
        after
            .or_else(|| self.before.as_ref().and_then(id))
            .filter(|id| id.len() <= QUOTED_BYTES_MAX)
    }
}

/// The row before and after, as far as the operation has them.
fn images<T: DeserializeOwned, Id: PartialEq>(
    operation: Operation,
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    id: impl Fn(&T) -> Id,
) -> Result<(Option<T>, Option<T>), String> {
    let read = |side: &str, bytes: Option<&[u8]>| -> Result<Option<T>, String> {
        let row = bytes.map(serde_json::from_slice).transpose();
        row.map_err(|e| {
            format!("unreadable row {side}: {e}").chars().take(REASON_CHARS_MAX).collect()
        })
    };
    let (before, after) = (read("before", before)?, read("after", after)?);
    match (operation, &before, &after) {
        (Operation::Delete, None, None) => Err("a removed row without the row before".into()),
        (Operation::Delete, _, Some(_)) => Err("a removed row with a row after".into()),
        (Operation::Create | Operation::Update | Operation::Snapshot, _, None) => {
            Err("no row after".into())
        }
        (_, Some(old), Some(new)) if id(old) != id(new) => {
            Err("the rows before and after have different ids".into())
        }
        _ => Ok((before, after)),
    }
}

/// Rows and columns of text always serialize: there is no map with keys that aren't strings.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn quoted(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
    format!("{:?}", String::from_utf8_lossy(shown))
}

/// Bytes as a JSON string where they are UTF-8, as an array of numbers where they aren't.
pub(crate) mod text_or_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Bytes(Vec<u8>),
    }

    impl From<Value> for Vec<u8> {
        fn from(value: Value) -> Self {
            match value {
                Value::Text(text) => text.into_bytes(),
                Value::Bytes(bytes) => bytes,
            }
        }
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => bytes.serialize(serializer),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        Value::deserialize(deserializer).map(Vec::from)
    }

    pub(crate) mod option {
        use super::{Deserialize, Deserializer, Serializer, Value};

        #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
        pub(crate) fn serialize<S: Serializer>(
            bytes: &Option<Vec<u8>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match bytes {
                Some(bytes) => super::serialize(bytes, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Vec<u8>>, D::Error> {
            Ok(Option::<Value>::deserialize(deserializer)?.map(Vec::from))
        }
    }
}
