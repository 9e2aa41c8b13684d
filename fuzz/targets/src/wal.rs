//! Changes from the write-ahead log.

use bytes::Bytes;
use dms_cdc::postgres::{self, Decoded, WalDecoder};
use dms_core::model::change::Record;

use crate::changes::{assert_bounded, comes_back};

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
