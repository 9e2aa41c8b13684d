//! How many events a second are decoded, against the raw parse of the same bytes: Debezium's envelopes
//! with and without their schema, and messages of `pgoutput`.
//!
//! It prints what it measures and judges nothing. Nothing has to be running. `DMS_BENCH_EVENTS` says
//! how many events of each kind; 500,000 by default.
//!
//! The raw parse of an envelope is `serde_json` twice: into a `Value`, which is what a decoder without
//! types would begin with, and into nothing at all, which is the least that any parser has to do. That
//! of `pgoutput` is the message taken apart by `pg_walstream`, before anything is made of its columns.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use dms_cdc::debezium::DebeziumRecord;
use dms_cdc::postgres::{Decoded, WalDecoder};
use dms_core::model::change::Record;
use pg_walstream::{
    ColumnData, ColumnInfo, LogicalReplicationMessage as Message, LogicalReplicationParser,
    TupleData, encode_message_to_bytes,
};
use serde::de::IgnoredAny;

/// Different events of each kind: enough that none is in the processor's nearest caches when it comes
/// again.
const DIFFERENT: usize = 1_000;
const RELATION: u32 = 16_400;

/// As Debezium wrote them.
const ENVELOPES: [(&str, &str); 4] = [
    ("insert", include_str!("../tests/envelopes/current-insert.json")),
    ("update", include_str!("../tests/envelopes/current-update.json")),
    ("removal", include_str!("../tests/envelopes/current-delete.json")),
    ("update with its schema", include_str!("../tests/envelopes/wrapped-update.json")),
];

const COLUMNS: [&str; 12] = [
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

fn main() {
    let events = std::env::var("DMS_BENCH_EVENTS")
        .map_or(500_000, |events| events.parse().expect("a number of events"));
    for (name, envelope) in ENVELOPES {
        envelopes(name, envelope, events);
    }
    messages(events);
}

fn envelopes(name: &str, recorded: &str, events: usize) {
    let samples: Vec<_> = (0..DIFFERENT).map(|n| with_id_of(recorded, n)).collect();
    let bytes = recorded.len();
    println!("envelope, {name}, {bytes} bytes:");
    let nothing = time(events, |n| {
        let parsed = serde_json::from_slice::<IgnoredAny>(&samples[n]);
        black_box(parsed.expect("JSON"));
    });
    let value = time(events, |n| {
        let parsed = serde_json::from_slice::<serde_json::Value>(&samples[n]);
        black_box(parsed.expect("JSON"));
    });
    let decoded = time(events, |n| {
        let record = DebeziumRecord {
            topic: "cdc.documents",
            partition: 0,
            offset: i64::try_from(n).unwrap_or_default(),
            key: None,
            value: Some(&samples[n]),
        };
        let decoded = black_box(record.decode());
        assert!(matches!(decoded, Some(Record::Change(_))), "{decoded:?}");
    });
    print("raw parse into nothing", nothing, bytes, nothing);
    print("raw parse into a value", value, bytes, nothing);
    print("decoded", decoded, bytes, nothing);
}

/// The same envelope for another row.
fn with_id_of(recorded: &str, n: usize) -> Vec<u8> {
    let (_, rest) = recorded.split_once(r#""id":""#).expect("a row");
    let id = &rest[..36];
    let other = format!("{}{n:012x}", &id[..24]);
    recorded.replace(id, &other).into_bytes()
}

/// Transactions of one change each, an insert and an update by turns, as the product's writes are.
fn messages(events: usize) {
    let relation = encoded(&Message::Relation {
        relation_id: RELATION,
        namespace: "public".into(),
        relation_name: "documents".into(),
        replica_identity: b'f',
        columns: COLUMNS.iter().map(|name| ColumnInfo::new(1, (*name).into(), 25, -1)).collect(),
    });
    let samples: Vec<[Bytes; 3]> = (0..DIFFERENT).map(transaction).collect();
    let bytes = samples.iter().flatten().map(Bytes::len).sum::<usize>() / samples.len();
    println!("pgoutput, a transaction of one change, {bytes} bytes:");
    let mut parser = LogicalReplicationParser::with_protocol_version(1);
    let raw = time(events, |n| {
        for message in &samples[n] {
            let parsed = parser.parse_wal_message_bytes(message.clone());
            black_box(parsed.expect("readable"));
        }
    });
    let mut decoder = WalDecoder::new();
    decoder.decode(&relation).expect("readable");
    let decoded = time(events, |n| {
        let mut changes = 0;
        for message in &samples[n] {
            let decoded = black_box(decoder.decode(message).expect("readable"));
            let is_change =
                |decoded: &&Decoded| matches!(decoded, Decoded::Record(Record::Change(_)));
            changes += decoded.iter().filter(is_change).count();
        }
        assert_eq!(changes, 1, "the change of the transaction");
    });
    print("raw parse", raw, bytes, raw);
    print("decoded", decoded, bytes, raw);
}

fn transaction(n: usize) -> [Bytes; 3] {
    let final_lsn = 0x1700_0000 + 0x100 * n as u64;
    let row = |status, version| TupleData::new(row(n, status, version));
    let change = if n.is_multiple_of(2) {
        Message::Insert { relation_id: RELATION, tuple: row("created", "1") }
    } else {
        Message::Update {
            relation_id: RELATION,
            old_tuple: Some(row("created", "1")),
            new_tuple: row("signed", "2"),
            key_type: Some('O'),
        }
    };
    [
        encoded(&Message::Begin { final_lsn, timestamp: 848_000_000_000_000, xid: 7 }),
        encoded(&change),
        encoded(&Message::Commit {
            flags: 0,
            commit_lsn: final_lsn,
            end_lsn: final_lsn + 0x30,
            timestamp: 848_000_000_000_000,
        }),
    ]
}

fn row(n: usize, status: &str, version: &str) -> Vec<ColumnData> {
    let text = |value: &str| ColumnData::text(value.as_bytes().to_vec());
    let id = format!("0198c0de-0000-7000-8000-{n:012x}");
    vec![
        text(&id),
        text(&format!("Title of document {n}")),
        text("text/plain"),
        text("1024"),
        text("ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"),
        text(&format!("{id}/content")),
        text(status),
        text("ann@example.org"),
        text("2026-11-26 07:41:45.123456+00"),
        text("2026-11-26 07:41:45.123456+00"),
        text(version),
        ColumnData::null(),
    ]
}

fn encoded(message: &Message) -> Bytes {
    encode_message_to_bytes(message, 1).freeze()
}

/// How many seconds one event takes, once all samples have been seen.
#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn time(events: usize, mut each: impl FnMut(usize)) -> f64 {
    (0..DIFFERENT).for_each(&mut each);
    let began = Instant::now();
    for n in 0..events {
        each(n % DIFFERENT);
    }
    began.elapsed().as_secs_f64() / events.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn print(what: &str, seconds: f64, bytes: usize, raw: f64) {
    println!(
        "{what:>26}: {:>9.0} events/s, {:>6.0} MB/s, {:>5.1} % of the raw parse",
        1.0 / seconds,
        bytes as f64 / seconds / 1e6,
        100.0 * raw / seconds,
    );
}
