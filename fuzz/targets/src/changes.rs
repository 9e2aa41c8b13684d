//! Changes, from Kafka and from dead letters.

use dms_cdc::debezium::{self, DebeziumRecord};
use dms_cdc::{RawChange, decode_dead_letter};
use dms_core::model::change::{Change, PoisonRecord, Record};

/// A record of Debezium: it is decoded, passed over, or kept whole as poison.
pub fn debezium(input: &[u8]) {
    for topic in ["cdc.documents", "cdc.signatures"] {
        let record = DebeziumRecord {
            topic,
            partition: 0,
            offset: 0,
            key: Some(br#"{"id":"01900000-0000-7000-8000-000000000002"}"#),
            value: Some(input),
        };
        let decoded = record.decode();
        assert_eq!(debezium::decode_dead_letter(&record.to_json()), decoded);
        check(decoded.as_ref());
    }
    let keyed = DebeziumRecord {
        topic: "cdc.documents",
        partition: 0,
        offset: 0,
        key: Some(input),
        value: Some(b"?"),
    };
    let poison = keyed.decode();
    assert!(matches!(poison, Some(Record::Poison(_))));
    check(poison.as_ref());
}

/// What was kept of a change that couldn't be decoded: what is read of it can be written and read
/// again.
pub fn dead_letter(input: &[u8]) {
    if let Some(raw) = RawChange::from_json(input) {
        assert_eq!(RawChange::from_json(&raw.to_json()).as_ref(), Some(&raw));
    }
    check(decode_dead_letter(input).as_ref());
}

fn check(record: Option<&Record>) {
    match record {
        Some(Record::Change(change)) => comes_back(change),
        Some(Record::Poison(poison)) => {
            assert_bounded(poison);
            assert_eq!(decode_dead_letter(&poison.raw).as_ref(), record);
        }
        None => {}
    }
}

/// The change, written as columns, is read as the same.
pub(crate) fn comes_back(change: &Change) {
    let again = RawChange::encode(change).decode();
    assert_eq!(again, Record::Change(Box::new(change.clone())));
}

pub(crate) fn assert_bounded(poison: &PoisonRecord) {
    assert!(!poison.reason.is_empty() && poison.reason.chars().count() < 1_000, "{poison:?}");
    assert!(poison.key.as_ref().is_none_or(|key| key.len() <= 64), "{poison:?}");
}
