//! Whatever a record holds, it is decoded, passed over, or kept whole as poison.
//!
//! `cargo +nightly fuzz run debezium tests/envelopes`, in `dms-cdc`.

#![no_main]

use dms_cdc::debezium::DebeziumRecord;
use dms_cdc::decode_dead_letter;
use dms_core::model::change::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    for topic in ["cdc.documents", "cdc.signatures"] {
        let record = DebeziumRecord {
            topic,
            partition: 0,
            offset: 0,
            key: Some(br#"{"id":"01900000-0000-7000-8000-000000000002"}"#),
            value: Some(value),
        };
        if let Some(Record::Poison(poison)) = record.decode() {
            let again = decode_dead_letter(&poison.raw);
            assert_eq!(again, Some(Record::Poison(poison)));
        }
    }
    // As the key, and as the text of a dead letter.
    let keyed = DebeziumRecord {
        topic: "cdc.documents",
        partition: 0,
        offset: 0,
        key: Some(value),
        value: Some(b"?"),
    };
    assert!(matches!(keyed.decode(), Some(Record::Poison(_))));
    decode_dead_letter(value);
});
