//! Whatever a log holds, decoding it gives a change or poison, and loses nothing.

use dms_cdc::RawChange;
use dms_core::model::change::{
    Change, DocumentRow, Operation, Position, Record, RowChange, SignatureRow,
};
use dms_core::{DocumentId, DocumentStatus, Sha256, SignatureId};
use proptest::prelude::*;
use proptest::{option, prop_oneof};
use time::OffsetDateTime;

fn document_id() -> impl Strategy<Value = DocumentId> {
    any::<u128>().prop_map(|id| uuid_text(id).parse().expect("a UUID"))
}

fn signature_id() -> impl Strategy<Value = SignatureId> {
    any::<u128>().prop_map(|id| uuid_text(id).parse().expect("a UUID"))
}

fn uuid_text(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Microseconds of the years 1653 to 2286.
fn moment() -> impl Strategy<Value = OffsetDateTime> {
    (-9_999_999_999_i64..9_999_999_999, 0_i64..1_000_000).prop_map(|(seconds, micros)| {
        OffsetDateTime::from_unix_timestamp(seconds).expect("in range")
            + time::Duration::microseconds(micros)
    })
}

fn status() -> impl Strategy<Value = DocumentStatus> {
    prop::sample::select(DocumentStatus::ALL.to_vec())
}

prop_compose! {
    fn document_row(id: DocumentId)(
        title in any::<String>(), content_type in any::<String>(), content_size in any::<u64>(),
        content_sha256 in option::of(any::<[u8; 32]>().prop_map(Sha256::from_bytes)),
        s3_key in option::of(any::<String>()), status in status(), created_by in any::<String>(),
        created_at in moment(), updated_at in moment(), version in any::<i32>(),
        deleted in any::<bool>(),
    ) -> DocumentRow {
        DocumentRow {
            id, title, content_type, content_size, content_sha256, s3_key, status, created_by,
            created_at, updated_at, version, deleted,
        }
    }
}

prop_compose! {
    fn signature_row(id: SignatureId)(
        document_id in document_id(), signer_email in any::<String>(),
        signer_name in any::<String>(), created_at in moment(),
    ) -> SignatureRow {
        SignatureRow { id, document_id, signer_email, signer_name, created_at }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let operation = prop::sample::select(vec![
        Operation::Create,
        Operation::Update,
        Operation::Delete,
        Operation::Snapshot,
    ]);
    (operation, any::<u64>(), moment()).prop_flat_map(|(operation, seq, committed_at)| {
        let documents = document_id().prop_flat_map(move |id| {
            let rows = prop::collection::vec(document_row(id), 2);
            (rows, any::<bool>()).prop_map(move |(mut rows, has_before)| {
                let (one, other) = (rows.pop(), rows.pop());
                let (before, after) = if operation == Operation::Delete {
                    (one, None)
                } else {
                    (one.filter(|_| has_before), other)
                };
                RowChange::Document { before, after }
            })
        });
        let signatures = signature_id().prop_flat_map(move |id| {
            let rows = prop::collection::vec(signature_row(id), 2);
            (rows, any::<bool>()).prop_map(move |(mut rows, has_before)| {
                let (one, other) = (rows.pop(), rows.pop());
                let (before, after) = if operation == Operation::Delete {
                    (one, None)
                } else {
                    (one.filter(|_| has_before), other)
                };
                RowChange::Signature { before, after }
            })
        });
        let position = Position::new(seq.to_string());
        prop_oneof![documents, signatures].prop_map(move |row| Change {
            operation,
            row,
            position: position.clone(),
            committed_at,
        })
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
        prop::sample::select(vec![
            "document",
            "signature",
            "create",
            "update",
            "delete",
            "snapshot",
            "null",
            "[]",
            "{}",
            "2026-01-01T00:00:00.000000Z",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

prop_compose! {
    fn columns()(
        seq in any::<String>(), entity in bytes(), operation in bytes(),
        before in option::of(bytes()), after in option::of(bytes()), committed_at in bytes(),
    ) -> RawChange {
        let position = Position::new(seq);
        RawChange { position, entity, operation, before, after, committed_at }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_change_survives_its_columns_and_their_json(change in change()) {
        let columns = RawChange::encode(&change);
        let again = RawChange::from_json(&columns.to_json());
        prop_assert_eq!(again.as_ref(), Some(&columns));
        prop_assert_eq!(columns.decode(), Record::Change(Box::new(change)));
    }

    #[test]
    fn any_columns_are_a_change_or_poison_that_holds_them(columns in columns()) {
        match columns.clone().decode() {
            Record::Poison(poison) => {
                prop_assert_eq!(&poison.position, &columns.position);
                prop_assert!(!poison.reason.is_empty() && poison.reason.chars().count() <= 400);
                prop_assert_eq!(RawChange::from_json(&poison.raw), Some(columns));
            }
            Record::Change(change) => prop_assert_eq!(change.position, columns.position),
        }
    }

    #[test]
    fn a_damaged_row_never_panics_and_stays_whole_in_the_poison(
        change in change(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut columns = RawChange::encode(&change);
        let damage = columns.after.as_mut().or(columns.before.as_mut()).expect("a row");
        let at = at.index(damage.len());
        if cut { damage.truncate(at) } else { damage[at] = byte }
        if let Record::Poison(poison) = columns.clone().decode() {
            prop_assert_eq!(RawChange::from_json(&poison.raw), Some(columns));
        }
    }

    #[test]
    fn reading_arbitrary_bytes_as_a_dead_letter_never_panics(raw in bytes()) {
        prop_assert!(RawChange::from_json(&raw).is_none());
    }
}

fn columns_of(
    entity: &str,
    operation: &str,
    before: Option<&str>,
    after: Option<&str>,
) -> RawChange {
    RawChange {
        position: Position::new("7"),
        entity: entity.into(),
        operation: operation.into(),
        before: before.map(Into::into),
        after: after.map(Into::into),
        committed_at: "2026-01-01T00:00:00.000000Z".into(),
    }
}

fn reason(columns: RawChange) -> String {
    match columns.decode() {
        Record::Poison(poison) => poison.reason,
        Record::Change(change) => panic!("decoded: {change:?}"),
    }
}

#[test]
fn poison_says_what_is_wrong() {
    let id = uuid_text(1);
    let row = |id: &str| {
        format!(
            r#"{{"id":"{id}","document_id":"{id}","signer_email":"a@b.c","signer_name":"A",
            "created_at":"2026-01-01T00:00:00Z"}}"#
        )
    };
    let (one, other) = (row(&id), row(&uuid_text(2)));
    let signature = |operation, before, after| columns_of("signature", operation, before, after);
    assert_eq!(reason(signature("create", None, None)), "no row after");
    assert_eq!(reason(signature("truncate", None, None)), "unknown operation \"truncate\"");
    assert_eq!(reason(columns_of("t", "create", None, None)), "unknown entity \"t\"");
    assert_eq!(reason(signature("delete", None, None)), "a removed row without the row before");
    assert_eq!(
        reason(signature("delete", Some(&one), Some(&one))),
        "a removed row with a row after"
    );
    let moved = reason(signature("update", Some(&one), Some(&other)));
    assert_eq!(moved, "the rows before and after have different ids");
    let mut undated = signature("create", None, Some(&one));
    undated.committed_at = b"now".to_vec();
    assert_eq!(reason(undated), "unreadable committed_at \"now\"");
    let wrong = reason(signature("create", None, Some(r#"{"id":17}"#)));
    assert!(wrong.starts_with("unreadable row after: "), "{wrong}");
    let deep = "[".repeat(100_000);
    assert!(reason(signature("create", None, Some(&deep))).starts_with("unreadable row after: "));
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(100_000));
    assert!(reason(signature("create", None, Some(&long))).len() < 1_000);
}

#[test]
fn unknown_columns_are_passed_over() {
    let id = uuid_text(1);
    let row = format!(
        r#"{{"id":"{id}","document_id":"{id}","signer_email":"a@b.c","signer_name":"A",
        "created_at":"2026-01-01T00:00:00Z","added_later":{{"x":[1]}}}}"#
    );
    let record = columns_of("signature", "create", None, Some(&row)).decode();
    assert!(matches!(record, Record::Change(_)), "{record:?}");
}
