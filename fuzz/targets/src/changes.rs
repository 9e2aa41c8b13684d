//! Changes, from Kafka, from the write-ahead log, and from dead letters.

use bytes::Bytes;
use dms_cdc::debezium::{self, DebeziumRecord};
use dms_cdc::postgres::{self, Decoded, WalDecoder};
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

fn comes_back(change: &Change) {
    let again = RawChange::encode(change).decode();
    assert_eq!(again, Record::Change(Box::new(change.clone())));
}

fn assert_bounded(poison: &PoisonRecord) {
    assert!(!poison.reason.is_empty() && poison.reason.chars().count() < 1_000, "{poison:?}");
    assert!(poison.key.as_ref().is_none_or(|key| key.len() <= 64), "{poison:?}");
}

/// Messages of `pgoutput`, each after its length in two bytes; if the first byte of all is even, the
/// tables have been described and a transaction has begun. Each record has the next position of its
/// transaction, and what is poison can be tried again.
pub fn pgoutput(input: &[u8]) {
    let Some((first, mut rest)) = super::choice(input) else { return };
    let mut decoder = WalDecoder::new();
    let mut place = None;
    if first % 2 == 0 {
        for message in prelude() {
            let decoded = decoder.decode(&message).expect("a sound message");
            if let [Decoded::Begin(lsn)] = decoded[..] {
                place = Some((lsn, 0));
            }
        }
    }
    while let Some(message) = next_message(&mut rest) {
        let Ok(decoded) = decoder.decode(&message) else { continue };
        for decoded in decoded {
            match decoded {
                Decoded::Begin(lsn) => place = Some((lsn, 0)),
                Decoded::Commit(_) => assert!(place.take().is_some(), "a commit of nothing"),
                Decoded::Record(record) => {
                    let (lsn, index) = place.as_mut().expect("a record of a transaction");
                    *index += 1;
                    let position =
                        format!("{:X}/{:X}+{index}", *lsn >> 32, *lsn & u64::from(u32::MAX));
                    check_of_log(&record, &position);
                }
            }
        }
    }
}

fn check_of_log(record: &Record, position: &str) {
    match record {
        Record::Change(change) => {
            assert_eq!(change.position.as_str(), position);
            comes_back(change);
        }
        Record::Poison(poison) => {
            assert_eq!(poison.position.as_str(), position);
            assert_bounded(poison);
            // Such as a timestamp written another way may be understood from there.
            match postgres::decode_dead_letter(&poison.raw) {
                Some(Record::Change(change)) => assert_eq!(change.position, poison.position),
                Some(Record::Poison(again)) => assert_eq!(again.position, poison.position),
                None => panic!("a dead letter that can't be read: {poison:?}"),
            }
        }
    }
}

fn next_message(rest: &mut &[u8]) -> Option<Bytes> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
    let (message, after) = after.split_at(length);
    *rest = after;
    Some(Bytes::copy_from_slice(message))
}

/// Descriptions of both tables, and the beginning of a transaction.
fn prelude() -> [Bytes; 3] {
    let documents = [
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
    let signatures = ["id", "document_id", "signer_email", "signer_name", "created_at"];
    let begin = [&b"B"[..], &0x100_u64.to_be_bytes(), &0_u64.to_be_bytes(), &7_u32.to_be_bytes()];
    [
        relation(1, "documents", &documents),
        relation(2, "signatures", &signatures),
        begin.concat().into(),
    ]
}

/// The message `Relation` (PostgreSQL, "Logical Replication Message Formats"), of columns of text.
fn relation(id: u32, name: &str, columns: &[&str]) -> Bytes {
    let count = u16::try_from(columns.len()).expect("few columns");
    let mut message = [
        b"R",
        &id.to_be_bytes()[..],
        b"public\0",
        name.as_bytes(),
        b"\0f",
        &count.to_be_bytes()[..],
    ]
    .concat();
    for column in columns {
        message.push(1);
        message.extend_from_slice(column.as_bytes());
        message.push(0);
        message.extend_from_slice(&25_u32.to_be_bytes());
        message.extend_from_slice(&(-1_i32).to_be_bytes());
    }
    message.into()
}
