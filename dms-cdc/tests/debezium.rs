//! Envelopes that Debezium wrote, what others may write, and bytes of strangers.

use dms_cdc::debezium::{DebeziumRecord, UNAVAILABLE};
use dms_cdc::decode_dead_letter;
use dms_core::model::change::{Change, DocumentRow, Operation, PoisonRecord, Record, RowChange};
use dms_core::model::timestamp;
use dms_core::{DocumentStatus, Sha256};
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "01900000-0000-7000-8000-000000000002";
const KEY: &[u8] = br#"{"id":"01900000-0000-7000-8000-000000000002"}"#;

/// Values that Debezium 3.4 wrote, of tables as they are (`current-…`) and as they once were.
const ENVELOPES: [(&str, &[u8]); 16] = [
    ("insert", include_bytes!("envelopes/insert.json")),
    ("update", include_bytes!("envelopes/update.json")),
    ("delete", include_bytes!("envelopes/delete.json")),
    ("snapshot-read", include_bytes!("envelopes/snapshot-read.json")),
    ("signature-insert", include_bytes!("envelopes/signature-insert.json")),
    ("insert-toast", include_bytes!("envelopes/insert-toast.json")),
    ("toast-full", include_bytes!("envelopes/update-toast-unchanged-identity-full.json")),
    ("toast-default", include_bytes!("envelopes/update-toast-unchanged-identity-default.json")),
    ("delete-default", include_bytes!("envelopes/delete-identity-default.json")),
    ("current-insert", include_bytes!("envelopes/current-insert.json")),
    ("current-update", include_bytes!("envelopes/current-update.json")),
    ("current-update-unavailable", include_bytes!("envelopes/current-update-unavailable.json")),
    ("current-soft-delete", include_bytes!("envelopes/current-soft-delete.json")),
    ("current-delete", include_bytes!("envelopes/current-delete.json")),
    ("current-delete-made-up", include_bytes!("envelopes/current-delete-made-up.json")),
    ("current-snapshot", include_bytes!("envelopes/current-snapshot.json")),
];

/// The same with their schema.
const WRAPPED: [(&str, &[u8]); 2] = [
    ("wrapped-update", include_bytes!("envelopes/wrapped-update.json")),
    ("wrapped-delete", include_bytes!("envelopes/wrapped-delete.json")),
];

fn envelope(name: &str) -> &'static [u8] {
    ENVELOPES.iter().chain(&WRAPPED).find(|(known, _)| *known == name).expect("an envelope").1
}

fn parsed(name: &str) -> Value {
    serde_json::from_slice(envelope(name)).expect("JSON")
}

fn record<'a>(topic: &'a str, value: Option<&'a [u8]>) -> DebeziumRecord<'a> {
    DebeziumRecord { topic, partition: 2, offset: 7, key: Some(KEY), value }
}

fn decode(value: &[u8]) -> Option<Record> {
    record("cdc.documents", Some(value)).decode()
}

fn change(value: &[u8]) -> Change {
    match decode(value) {
        Some(Record::Change(change)) => *change,
        other => panic!("no change: {other:?}"),
    }
}

fn poison(value: &[u8]) -> PoisonRecord {
    match decode(value) {
        Some(Record::Poison(poison)) => poison,
        other => panic!("no poison: {other:?}"),
    }
}

fn change_of(value: &Value) -> Change {
    change(value.to_string().as_bytes())
}

fn reason_of(value: &Value) -> String {
    poison(value.to_string().as_bytes()).reason
}

#[test]
fn operations_and_rows_are_as_debezium_says() {
    let insert = change(envelope("insert"));
    assert_eq!(insert.operation, Operation::Create);
    assert_eq!(insert.position.as_str(), "cdc.documents/2@7");
    assert_eq!(timestamp::format(insert.committed_at), "2026-11-22T14:48:26.906595Z");
    let RowChange::Document { before: None, after: Some(row) } = insert.row else { panic!() };
    assert_eq!((row.id.to_string().as_str(), &*row.title), (ID, "Contract"));
    assert_eq!((&*row.content_type, row.content_size), ("application/pdf", 4_096));
    assert_eq!((row.status, &*row.created_by), (DocumentStatus::Created, "ann@example.org"));
    assert_eq!(timestamp::format(row.created_at), "2026-11-22T14:48:26.905700Z");
    assert_eq!((row.version, row.deleted, row.content_sha256), (1, false, None));

    let update = change(envelope("update"));
    assert_eq!(update.operation, Operation::Update);
    let RowChange::Document { before: Some(before), after: Some(after) } = update.row else {
        panic!()
    };
    assert_eq!((before.version, after.version), (1, 2));
    assert_eq!((before.status, after.status), (DocumentStatus::Created, DocumentStatus::Viewed));

    let delete = change(envelope("delete"));
    assert_eq!(delete.operation, Operation::Delete);
    assert!(
        matches!(&delete.row, RowChange::Document { before: Some(row), after: None } if row.version == 2)
    );
    assert_eq!(change(envelope("snapshot-read")).operation, Operation::Snapshot);

    let signed = change(envelope("signature-insert"));
    let RowChange::Signature { before: None, after: Some(row) } = signed.row else { panic!() };
    assert_eq!((row.document_id.to_string().as_str(), &*row.signer_name), (ID, "Bob"));
    assert_eq!(row.signer_email, "bob@example.org");
}

#[test]
fn columns_of_today_are_read() {
    let sha256 = "ab".repeat(32);
    let mut value = parsed("insert");
    value["after"]["content_sha256"] = json!(sha256);
    value["after"]["deleted_at"] = json!("2026-11-22T15:00:00.000001Z");
    value["after"]["added_later"] = json!({"x": [1, {"y": null}]});
    let RowChange::Document { after: Some(row), .. } = change_of(&value).row else { panic!() };
    assert_eq!(row.content_sha256.expect("a digest").to_string(), sha256);
    assert!(row.deleted);
    value["after"]["content_sha256"] = Value::Null;
    value["after"]["s3_key"] = Value::Null;
    value["after"]["deleted_at"] = Value::Null;
    let RowChange::Document { after: Some(row), .. } = change_of(&value).row else { panic!() };
    assert_eq!((row.content_sha256, row.s3_key, row.deleted), (None, None, false));
}

#[test]
fn rows_as_they_are_today_come_whole() {
    let versions = |name: &str| {
        let RowChange::Document { before, after } = change(envelope(name)).row else { panic!() };
        for row in before.iter().chain(&after) {
            assert_eq!(row.content_sha256, Some(Sha256::of(b"content")), "{name}");
            assert_eq!(row.s3_key, Some(format!("{}/content", row.id)), "{name}");
        }
        let told = |row: DocumentRow| (row.version, row.deleted);
        (before.map(told), after.map(told))
    };
    assert_eq!(versions("current-snapshot"), (None, Some((1, false))));
    assert_eq!(versions("current-insert"), (None, Some((1, false))));
    assert_eq!(versions("current-update"), (Some((1, false)), Some((2, false))));
    assert_eq!(versions("current-soft-delete"), (Some((2, false)), Some((3, true))));
    assert_eq!(versions("current-delete"), (Some((3, true)), None));
    assert_eq!(versions("wrapped-update"), (Some((1, false)), Some((2, false))));
    assert_eq!(versions("wrapped-delete"), (Some((3, true)), None));
    for (name, reason) in [
        ("current-update-unavailable", "title was not sent"),
        ("current-delete-made-up", "REPLICA IDENTITY FULL"),
    ] {
        let poison = poison(envelope(name));
        assert!(poison.reason.contains(reason), "{}", poison.reason);
    }
}

#[test]
fn a_missing_op_follows_from_the_rows() {
    for (name, expected) in [
        ("insert", Operation::Create),
        ("update", Operation::Update),
        ("delete", Operation::Delete),
        ("snapshot-read", Operation::Create),
    ] {
        let mut value = parsed(name);
        value.as_object_mut().expect("an object").remove("op");
        assert_eq!(change_of(&value).operation, expected, "{name} without op");
        value["op"] = Value::Null;
        assert_eq!(change_of(&value).operation, expected, "{name} with a null op");
    }
    let mut value = parsed("update");
    value.as_object_mut().expect("an object").remove("before");
    let change = change_of(&value);
    assert_eq!(change.operation, Operation::Update);
    assert!(matches!(change.row, RowChange::Document { before: None, after: Some(_) }));
}

#[test]
fn the_inline_schema_is_passed_over() {
    for (name, _) in ENVELOPES {
        let schema = json!({"type": "struct", "fields": [{"field": "before", "optional": true}]});
        let wrapped = json!({"schema": schema, "payload": parsed(name)}).to_string();
        let (plain, wrapped) = (decode(envelope(name)), decode(wrapped.as_bytes()));
        match (plain, wrapped) {
            (Some(Record::Change(plain)), Some(Record::Change(wrapped))) => {
                assert_eq!(plain, wrapped, "{name}");
            }
            (Some(Record::Poison(plain)), Some(Record::Poison(wrapped))) => {
                assert_eq!(plain.reason, wrapped.reason, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let reason = reason_of(&json!({"schema": {"type": "struct"}}));
    assert_eq!(reason, "a schema without a payload");
}

#[test]
fn there_are_records_with_nothing_to_deliver() {
    assert_eq!(record("cdc.documents", None).decode(), None, "tombstone");
    let message = json!({
        "op": "m", "ts_ms": 1, "source": {"table": ""},
        "message": {"prefix": "heartbeat", "content": "MTIz"}
    });
    for (what, value) in [
        ("tombstone through a converter", json!(null)),
        ("tombstone with a schema", json!({"schema": null, "payload": null})),
        ("message", message),
        ("heartbeat", json!({"ts_ms": 1_795_358_906_944_i64})),
        ("heartbeat with a schema", json!({"schema": {}, "payload": {"ts_ms": 1}})),
    ] {
        assert_eq!(decode(value.to_string().as_bytes()), None, "{what}");
    }
}

#[test]
fn a_value_that_was_not_sent_is_never_blanked() {
    let full = change(envelope("toast-full"));
    let RowChange::Document { after: Some(row), .. } = full.row else { panic!() };
    assert!(row.title.len() > 10_000);

    let left_out = poison(envelope("toast-default"));
    assert_eq!(left_out.reason, "row after: column title was not sent and the row before lacks it");

    // Taken from the row before, even if that is otherwise unreadable.
    let mut value = parsed("update");
    value["after"]["title"] = json!(UNAVAILABLE);
    value["before"]["version"] = json!("none");
    let RowChange::Document { before, after: Some(row) } = change_of(&value).row else { panic!() };
    assert_eq!((row.title.as_str(), before), ("Contract", None));
    value["before"]["title"] = json!(UNAVAILABLE);
    assert!(reason_of(&value).contains("title was not sent"));
    // Made up, as for an update of the key without full identity.
    value["before"] = json!({"id": ID, "title": "", "status": "", "created_by": "", "version": 1});
    assert!(reason_of(&value).contains("title was not sent"));
    let mut value = parsed("update");
    value["after"]["s3_key"] = json!(UNAVAILABLE);
    value["before"]["s3_key"] = Value::Null;
    let RowChange::Document { after: Some(row), .. } = change_of(&value).row else { panic!() };
    assert_eq!(row.s3_key, None);
}

#[test]
fn a_removed_row_that_is_not_known_whole_is_poison() {
    let made_up = poison(envelope("delete-default"));
    assert!(made_up.reason.contains("REPLICA IDENTITY FULL"), "{}", made_up.reason);
    assert_eq!(made_up.key.as_deref(), Some(ID));
    let mut value = parsed("delete");
    value["before"] = Value::Null;
    assert!(reason_of(&value).contains("REPLICA IDENTITY FULL"));
    value["after"] = parsed("insert")["after"].clone();
    assert_eq!(reason_of(&value), "a removed row with a row after");
}

#[test]
fn timestamps_may_be_numbers() {
    let mut value = parsed("insert");
    value["after"]["created_at"] = json!(1_795_358_906_905_700_i64);
    value["after"]["updated_at"] = json!(1_795_358_906_905_i64);
    value["source"].as_object_mut().expect("an object").remove("ts_us");
    let change = change_of(&value);
    assert_eq!(timestamp::format(change.committed_at), "2026-11-22T14:48:26.906000Z");
    let RowChange::Document { after: Some(row), .. } = change.row else { panic!() };
    assert_eq!(timestamp::format(row.created_at), "2026-11-22T14:48:26.905700Z");
    assert_eq!(timestamp::format(row.updated_at), "2026-11-22T14:48:26.905000Z");
}

#[test]
fn without_any_time_it_is_that_of_the_row() {
    let value = json!({"before": null, "after": parsed("insert")["after"], "op": "c"});
    let at = change_of(&value).committed_at;
    assert_eq!(timestamp::format(at), "2026-11-22T14:48:26.905700Z");
}

#[test]
fn the_table_is_that_of_the_source_or_the_topic() {
    let mut value = parsed("signature-insert");
    value.as_object_mut().expect("an object").remove("source");
    let text = value.to_string();
    let of_topic = record("cdc.signatures", Some(text.as_bytes())).decode();
    assert!(matches!(of_topic, Some(Record::Change(change))
        if matches!(change.row, RowChange::Signature { .. })));
    let elsewhere = record("orders", Some(text.as_bytes())).decode();
    assert!(matches!(elsewhere, Some(Record::Poison(poison))
        if poison.reason == "unknown table \"orders\""));
}

#[test]
fn poison_says_what_is_wrong() {
    let with = |column: &str, wrong: Value| {
        let mut value = parsed("insert");
        value["after"][column] = wrong;
        reason_of(&value)
    };
    assert_eq!(
        with("version", json!([])),
        "row after: column version is an array instead of a number"
    );
    assert_eq!(
        with("version", json!(5_000_000_000_i64)),
        "row after: column version is out of range: 5000000000"
    );
    assert_eq!(
        with("content_size", json!(-1)),
        "row after: column content_size is out of range: -1"
    );
    assert_eq!(with("title", json!(null)), "row after: column title is null instead of a text");
    assert_eq!(with("status", json!("lost")), "row after: column status is unreadable: \"lost\"");
    assert_eq!(
        with("content_sha256", json!("xy")),
        "row after: column content_sha256 is unreadable: \"xy\""
    );
    assert_eq!(
        with("created_at", json!("now")),
        "row after: column created_at is unreadable: \"now\""
    );
    assert_eq!(
        with("deleted_at", json!(true)),
        "row after: column deleted_at is a truth value instead of a timestamp"
    );
    let mut value = parsed("insert");
    value["after"].as_object_mut().expect("a row").remove("created_by");
    assert_eq!(reason_of(&value), "row after: column created_by is missing instead of a text");
    let mut value = parsed("update");
    value["before"]["id"] = json!("01900000-0000-7000-8000-000000000009");
    assert_eq!(reason_of(&value), "the rows before and after have different ids");
    for (op, expected) in [("t", "the table was truncated"), ("x", "unknown op \"x\"")] {
        let mut value = parsed("insert");
        value["op"] = json!(op);
        assert_eq!(reason_of(&value), expected);
    }
    assert_eq!(reason_of(&json!({})), "an envelope without op and rows");
    assert!(poison(b"").reason.starts_with("unreadable envelope: "));
    assert!(poison(b"\xff\xfe").reason.starts_with("unreadable envelope: "));
    let deep = "[".repeat(100_000);
    assert!(poison(deep.as_bytes()).reason.starts_with("unreadable envelope: "));
    let long = format!(r#"{{"op":"{}"}}"#, "x".repeat(100_000));
    assert!(poison(long.as_bytes()).reason.len() < 1_000);
}

#[test]
fn the_key_is_found_where_it_is() {
    let keyed = |key: Option<&[u8]>, value: &[u8]| {
        let record = DebeziumRecord { key, ..record("cdc.documents", Some(value)) };
        match record.decode() {
            Some(Record::Poison(poison)) => poison.key,
            other => panic!("no poison: {other:?}"),
        }
    };
    let wrapped = format!(r#"{{"schema":{{}},"payload":{{"id":"{ID}"}}}}"#);
    for key in [KEY, wrapped.as_bytes(), ID.as_bytes(), format!("{ID:?}").as_bytes()] {
        assert_eq!(keyed(Some(key), b"?").as_deref(), Some(ID));
    }
    let broken = format!(r#"{{"op":"x","after":{{"id":"{ID}"}}}}"#);
    assert_eq!(keyed(None, broken.as_bytes()).as_deref(), Some(ID));
    assert_eq!(keyed(Some(b"\xff"), broken.as_bytes()).as_deref(), Some(ID));
    assert_eq!(keyed(None, b"?"), None);
}

#[test]
fn what_was_poison_is_a_change_once_it_can_be_read() {
    // As after a release that knows the new status: the letter holds the record as it came.
    let text = String::from_utf8(envelope("insert").to_vec()).expect("text");
    let broken = text.replace("\"created\"", "\"archived\"");
    let letter = String::from_utf8(poison(broken.as_bytes()).raw).expect("text stays legible");
    let mended = letter.replace("archived", "created");
    let expected = decode(envelope("insert"));
    assert_eq!(decode_dead_letter(mended.as_bytes()), expected);
    assert_eq!(decode_dead_letter(b"{}"), None);
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6);
    (prop::sample::select([&ENVELOPES[..], &WRAPPED[..]].concat()), edits).prop_map(
        |((_, bytes), edits)| {
            let mut bytes = bytes.to_vec();
            for (at, byte, kind) in edits {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.truncate(at),
                    2 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        },
    )
}

/// A real envelope with one value anywhere in it replaced by another.
fn retyped() -> impl Strategy<Value = Vec<u8>> {
    let other = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!([]),
        json!({}),
        json!(UNAVAILABLE),
        json!(i64::MIN),
        json!("\u{0}"),
    ]);
    (
        prop::sample::select([&ENVELOPES[..], &WRAPPED[..]].concat()),
        any::<prop::sample::Index>(),
        other,
    )
        .prop_map(|((_, bytes), at, other)| {
            let mut value: Value = serde_json::from_slice(bytes).expect("JSON");
            let mut pointers = Vec::new();
            collect("", &value, &mut pointers);
            let pointer = &pointers[at.index(pointers.len())];
            *value.pointer_mut(pointer).expect("a value") = other;
            value.to_string().into_bytes()
        })
}

fn collect(at: &str, value: &Value, pointers: &mut Vec<String>) {
    pointers.push(at.to_owned());
    for (name, value) in value.as_object().into_iter().flatten() {
        collect(&format!("{at}/{name}"), value, pointers);
    }
}

fn check(record: &DebeziumRecord<'_>) -> Result<(), TestCaseError> {
    match record.decode() {
        None => {}
        Some(Record::Change(change)) => {
            prop_assert_eq!(change.position.clone(), record.position());
            let has_row = match &change.row {
                RowChange::Document { before, after } => match change.operation {
                    Operation::Delete => before.is_some() && after.is_none(),
                    _ => after.as_ref().is_some_and(|row| row.title != UNAVAILABLE),
                },
                RowChange::Signature { before, after } => match change.operation {
                    Operation::Delete => before.is_some() && after.is_none(),
                    _ => after.is_some(),
                },
            };
            prop_assert!(has_row, "{change:?}");
        }
        Some(Record::Poison(poison)) => {
            prop_assert_eq!(&poison.position, &record.position());
            prop_assert!(!poison.reason.is_empty() && poison.reason.chars().count() <= 300);
            let again = decode_dead_letter(&poison.raw);
            prop_assert_eq!(again, Some(Record::Poison(poison)));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_never_panic_and_stay_whole(
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        topic in "[a-z.]{0,20}", partition in any::<i32>(), offset in any::<i64>(),
    ) {
        let (key, value) = (key.as_deref(), value.as_deref());
        check(&DebeziumRecord { topic: &topic, partition, offset, key, value })?;
    }

    #[test]
    fn damaged_envelopes_never_panic_and_stay_whole(value in mutated()) {
        check(&record("cdc.documents", Some(&value)))?;
    }

    #[test]
    fn values_of_other_types_never_panic_and_stay_whole(value in retyped()) {
        check(&record("cdc.documents", Some(&value)))?;
    }

    #[test]
    fn reading_arbitrary_bytes_as_a_dead_letter_never_panics(
        raw in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert_eq!(decode_dead_letter(&raw), None);
    }
}
