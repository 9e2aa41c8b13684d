//! Change events as Debezium writes them to Kafka, decoded. Pure: bytes in, records out.
//!
//! The format is the [data change event] of Debezium's PostgreSQL connector in JSON, with or
//! without its inline schema:
//!
//! - The row is read from `after`, or `before` for a removed one. Columns that aren't known are
//!   passed over. Timestamps are ISO 8601 texts, or numbers since 1970 in milliseconds, microseconds
//!   or nanoseconds, told apart by their size.
//! - `op` is `c`, `u`, `d` or `r`; where it is missing it follows from which rows are there.
//! - A column too large to be sent again unless it changed comes as
//!   [`UNAVAILABLE`]; it is taken from the row before, and if that doesn't have it the record is
//!   poison: a value is never blanked.
//! - Tombstones, heartbeats and messages (`op` `m`) hold nothing to deliver.
//! - A truncated table (`op` `t`) is poison: what was derived from its rows has to be looked at.
//! - A removed row needs to be known whole, since its version tells whether the removal is newer.
//!   Without `REPLICA IDENTITY FULL` Debezium makes up all but the key, which is recognised and is
//!   poison.
//!
//! [data change event]: https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events

mod envelope;
mod field;
mod row;

use std::str::FromStr as _;

use dms_core::DocumentId;
use dms_core::model::change::{Change, PoisonRecord, Position, Record};
use serde::{Deserialize, Serialize};

use crate::raw_change::text_or_bytes;

/// What stands for the value of a column that is stored out of line and didn't change.
pub const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// Longest reason, in characters; a JSON error repeats the value it is about.
const REASON_CHARS_MAX: usize = 300;
/// Longest text that is taken for the key of a row, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// One record of a topic that Debezium writes, none of which is known to be sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebeziumRecord<'a> {
    /// Name of the topic. After its last full stop is the name of the table, for envelopes that
    /// don't say.
    pub topic: &'a str,
    /// Number of the partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Key, the primary key of the row.
    pub key: Option<&'a [u8]>,
    /// Value, the envelope.
    pub value: Option<&'a [u8]>,
}

impl DebeziumRecord<'_> {
    /// Where the record is, as `TOPIC/PARTITION@OFFSET`: the same whenever it is read.
    pub fn position(&self) -> Position {
        Position::new(format!("{}/{}@{}", self.topic, self.partition, self.offset))
    }

    /// The change, or poison that holds the record as it is and says what is wrong with it; none if
    /// there is nothing to deliver.
    ///
    /// Never panics, whatever the record holds.
    pub fn decode(&self) -> Option<Record> {
        match envelope::decode(self.topic, self.value) {
            Ok(None) => None,
            Ok(Some(event)) => Some(Record::Change(Box::new(Change {
                operation: event.operation,
                row: event.row,
                position: self.position(),
                committed_at: event.committed_at,
            }))),
            Err(reason) => Some(Record::Poison(self.poison(&reason))),
        }
    }

    /// The record as JSON, which is the `raw` of a dead letter. Text stays legible; what isn't
    /// UTF-8 becomes an array of its bytes. [`decode_dead_letter`] reads it.
    pub fn to_json(&self) -> Vec<u8> {
        let kept = Kept {
            topic: self.topic.to_owned(),
            partition: self.partition,
            offset: self.offset,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
        };
        // Texts, numbers and arrays of them always serialize.
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    fn poison(&self, reason: &str) -> PoisonRecord {
        PoisonRecord {
            position: self.position(),
            key: self.row_key(),
            raw: self.to_json(),
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
        }
    }

    /// The row's id, as far as it can be read from the record's key or rows that can't be decoded.
    fn row_key(&self) -> Option<String> {
        let of_key = self.key.and_then(|key| {
            let bare =
                || std::str::from_utf8(key).ok().filter(|id| DocumentId::from_str(id).is_ok());
            envelope::key_of(key).or_else(|| bare().map(str::to_owned))
        });
        let id = of_key.or_else(|| self.value.and_then(envelope::key_of_rows));
        id.filter(|id| id.len() <= KEY_BYTES_MAX)
    }
}

/// Decodes the `raw` of a dead letter that [`DebeziumRecord::to_json`] wrote, as it would be decoded
/// today; none if it isn't one, or holds nothing to deliver.
pub fn decode_dead_letter(raw: &[u8]) -> Option<Record> {
    let kept: Kept = serde_json::from_slice(raw).ok()?;
    let record = DebeziumRecord {
        topic: &kept.topic,
        partition: kept.partition,
        offset: kept.offset,
        key: kept.key.as_deref(),
        value: kept.value.as_deref(),
    };
    record.decode()
}

/// A record as a dead letter keeps it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(with = "text_or_bytes::option")]
    key: Option<Vec<u8>>,
    #[serde(with = "text_or_bytes::option")]
    value: Option<Vec<u8>>,
}
