//! Dead letters, decoded again.

use dms_core::model::change::Record;

use crate::{RawChange, debezium};

/// Decodes the `raw` of a dead letter, whichever source or sink refused it, as it would be decoded
/// today: a change to apply, or poison still. None if it is nothing that a source or the runner of
/// this crate wrote.
pub fn decode_dead_letter(raw: &[u8]) -> Option<Record> {
    RawChange::from_json(raw).map(RawChange::decode).or_else(|| debezium::decode_dead_letter(raw))
}
