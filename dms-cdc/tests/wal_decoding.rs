//! The decoder of the write-ahead log, over what servers and strangers send.

use bytes::Bytes;
use dms_cdc::postgres::{Decoded, WalDecoder, decode_dead_letter};
use dms_core::model::change::{Operation, PoisonRecord, Record, RowChange};
use pg_walstream::{
    ColumnData, ColumnInfo, LogicalReplicationMessage as Message, TupleData,
    encode_message_to_bytes,
};
use proptest::prelude::*;

const DOCUMENT: u32 = 1;
const SIGNATURE: u32 = 2;
const OTHER: u32 = 3;

const DOCUMENT_COLUMNS: [&str; 13] = [
    "id",
    "title",
    "content_type",
    "content_size",
    "content_sha256",
    "s3_key",
    "unknown",
    "status",
    "created_by",
    "created_at",
    "updated_at",
    "version",
    "deleted_at",
];
const SIGNATURE_COLUMNS: [&str; 8] = [
    "id",
    "document_id",
    "signer_email",
    "signer_name",
    "image_key",
    "image_content_type",
    "created_at",
    "status_applied",
];

fn relation(id: u32, name: &str, columns: &[&str]) -> Message {
    Message::Relation {
        relation_id: id,
        namespace: "public".into(),
        relation_name: name.into(),
        replica_identity: b'f',
        columns: columns.iter().map(|name| ColumnInfo::new(1, (*name).into(), 25, -1)).collect(),
    }
}

fn begin() -> Message {
    Message::Begin { final_lsn: 0x100, timestamp: 0, xid: 7 }
}

fn commit() -> Message {
    Message::Commit { flags: 0, commit_lsn: 0x100, end_lsn: 0x130, timestamp: 0 }
}

fn send(decoder: &mut WalDecoder, message: &Message) -> Result<Vec<Decoded>, String> {
    decoder.decode(&encode_message_to_bytes(message, 1).freeze())
}

/// A decoder within a transaction, with the tables described.
fn decoder() -> WalDecoder {
    let mut decoder = WalDecoder::new();
    for message in [
        begin(),
        relation(DOCUMENT, "documents", &DOCUMENT_COLUMNS),
        relation(SIGNATURE, "signatures", &SIGNATURE_COLUMNS),
        relation(OTHER, "unrelated", &["filler"]),
    ] {
        send(&mut decoder, &message).expect("readable");
    }
    decoder
}

fn text(value: &str) -> ColumnData {
    ColumnData::text(value.as_bytes().to_vec())
}

fn document() -> Vec<ColumnData> {
    vec![
        text("0198c0de-0000-7000-8000-000000000001"),
        text("Title"),
        text("text/plain"),
        text("12"),
        ColumnData::null(),
        ColumnData::null(),
        text("whatever"),
        text("created"),
        text("somebody"),
        text("2026-11-26 07:41:45.123456+00"),
        text("2026-11-26 07:41:45.123456+00"),
        text("3"),
        ColumnData::null(),
    ]
}

fn one(decoded: &Result<Vec<Decoded>, String>) -> Record {
    match decoded.as_deref() {
        Ok([Decoded::Record(record)]) => record.clone(),
        other => panic!("not one record: {other:?}"),
    }
}

fn poison(record: &Record) -> &PoisonRecord {
    match record {
        Record::Poison(poison) => poison,
        Record::Change(change) => panic!("{change:?}"),
    }
}

#[test]
fn places_are_those_of_the_commit_and_count_within_it() {
    let mut decoder = decoder();
    for position in ["0/100+1", "0/100+2"] {
        let insert = Message::Insert { relation_id: DOCUMENT, tuple: TupleData::new(document()) };
        let Record::Change(change) = one(&send(&mut decoder, &insert)) else { panic!("poison") };
        assert_eq!(change.position.as_str(), position);
        assert_eq!(change.operation, Operation::Create);
        let RowChange::Document { before: None, after: Some(row) } = change.row else { panic!() };
        assert_eq!((row.version, row.deleted, row.content_sha256), (3, false, None));
        assert!(row.is_incomplete());
    }
    assert_eq!(send(&mut decoder, &commit()), Ok(vec![Decoded::Commit(0x130)]));
    let insert = Message::Insert { relation_id: DOCUMENT, tuple: TupleData::new(document()) };
    send(&mut decoder, &insert).expect_err("outside of a transaction");
}

#[test]
fn unknown_tables_are_passed_over() {
    let mut decoder = decoder();
    let insert =
        Message::Insert { relation_id: OTHER, tuple: TupleData::new(vec![text("anything")]) };
    assert_eq!(send(&mut decoder, &insert), Ok(vec![]));
    let insert = Message::Insert { relation_id: 99, tuple: TupleData::new(document()) };
    let record = one(&send(&mut decoder, &insert));
    assert_eq!(poison(&record).reason, "a row of a table that was not described");
    assert!(decode_dead_letter(&poison(&record).raw).is_some());
}

#[test]
fn each_known_column_is_needed_and_never_blank() {
    let absent = |column: usize| {
        let mut decoder = decoder();
        let mut new = document();
        new[column] = ColumnData::unchanged();
        let update = |old: Option<Vec<ColumnData>>| Message::Update {
            relation_id: DOCUMENT,
            key_type: old.as_ref().map(|_| 'O'),
            old_tuple: old.map(TupleData::new),
            new_tuple: TupleData::new(new.clone()),
        };
        let with = one(&send(&mut decoder, &update(Some(document()))));
        let without = one(&send(&mut decoder, &update(None)));
        (with, without)
    };
    for (column, name) in DOCUMENT_COLUMNS.iter().enumerate() {
        let (with, without) = absent(column);
        assert!(matches!(with, Record::Change(_)), "{name} is in the row before: {with:?}");
        if *name == "unknown" {
            assert!(matches!(without, Record::Change(_)), "{name} isn't read");
            continue;
        }
        assert_eq!(poison(&without).reason, format!("the log has no value of {name}"));
        // Not even if it is tried again.
        let again = decode_dead_letter(&poison(&without).raw).expect("a letter of ours");
        assert!(matches!(again, Record::Poison(_)), "{name}: {again:?}");
    }
}

#[test]
fn a_message_that_cannot_be_read_is_poison_within_a_transaction_and_an_error_outside() {
    let mut decoder = decoder();
    let record = one(&decoder.decode(&Bytes::from_static(b"?\xff\x00")));
    assert_eq!(poison(&record).position.as_str(), "0/100+1");
    let again = decode_dead_letter(&poison(&record).raw).expect("a letter of ours");
    assert!(matches!(again, Record::Poison(_)));
    WalDecoder::new().decode(&Bytes::from_static(b"?")).expect_err("no transaction");
}

fn column() -> impl Strategy<Value = ColumnData> {
    prop_oneof![
        1 => Just(ColumnData::null()),
        1 => Just(ColumnData::unchanged()),
        2 => prop::collection::vec(any::<u8>(), 0..80).prop_map(ColumnData::text),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(ColumnData::binary),
        1 => "[0-9:. +-]{0,32}".prop_map(|value| text(&value)),
    ]
}

/// A row with some columns spoilt, some of them missing at the end.
fn row() -> impl Strategy<Value = Vec<ColumnData>> {
    (prop::collection::vec((0..13_usize, column()), 0..4), 0..16_usize).prop_map(
        |(spoilt, length)| {
            let mut row = document();
            for (index, value) in spoilt {
                row[index] = value;
            }
            row.truncate(length.max(1));
            row
        },
    )
}

fn operation() -> impl Strategy<Value = Message> {
    let relation_id = prop_oneof![4 => Just(DOCUMENT), 1 => Just(SIGNATURE), 1 => Just(OTHER)];
    let key = prop_oneof![3 => Just('O'), 1 => Just('K')];
    (relation_id, row(), prop::option::of(row()), key, 0..4).prop_map(
        |(relation_id, new, old, key, kind)| match (kind, old) {
            (0, _) => Message::Insert { relation_id, tuple: TupleData::new(new) },
            (1, _) => {
                Message::Delete { relation_id, old_tuple: TupleData::new(new), key_type: key }
            }
            (2, _) => Message::Truncate { relation_ids: vec![relation_id], flags: 0 },
            (_, old) => Message::Update {
                relation_id,
                key_type: old.as_ref().map(|_| key),
                old_tuple: old.map(TupleData::new),
                new_tuple: TupleData::new(new),
            },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Whatever the columns hold, there is a change or poison, and poison can be read again.
    #[test]
    fn any_row_is_a_change_or_poison(operation in operation()) {
        let decoded = send(&mut decoder(), &operation).expect("within a transaction");
        for decoded in decoded {
            let Decoded::Record(record) = decoded else { panic!("{decoded:?}") };
            if let Record::Poison(poison) = record {
                prop_assert!(!poison.reason.is_empty());
                let again = decode_dead_letter(&poison.raw);
                let Some(Record::Poison(again)) = again else { panic!("{again:?}") };
                prop_assert_eq!(again.position, poison.position);
            }
        }
    }

    /// Whatever comes over the line, and however it is cut or spoilt.
    #[test]
    fn no_message_panics(
        messages in prop::collection::vec(operation(), 1..4),
        spoil in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut decoder = decoder();
        for message in messages {
            let mut bytes = encode_message_to_bytes(&message, 1).to_vec();
            for (at, value) in &spoil {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let _ = decoder.decode(&bytes.into());
            let _ = decoder.decode(&noise.clone().into());
        }
        let _ = decode_dead_letter(&noise);
    }
}
