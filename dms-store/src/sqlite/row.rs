//! Rows as JSON.
//!
//! sqlx moves every column of every row from `SQLite`'s thread one by one, so a row is read as one
//! text: a JSON array of its values in the order of the struct's fields, which `serde` reads as it
//! reads an object. An object would cost half as much again to write and to read.

use dms_core::model::change::DocumentRow;
use dms_core::{Document, Error, Result, Signature};

use crate::sql::unreadable;

/// SQL of a [`DocumentRow`] as JSON.
macro_rules! document_json {
    () => {
        "json_array(id, title, content_type, content_size, content_sha256, s3_key, status, \
         created_by, created_at, updated_at, version, \
         json(iif(deleted_at IS NULL, 'false', 'true')))"
    };
}

/// SQL of a [`Signature`] as JSON.
macro_rules! signature_json {
    () => {
        "json_array(id, document_id, signer_email, signer_name, image_key, image_content_type, \
         created_at, iif(status_applied, 'signed', 'pending'))"
    };
}

pub(super) use {document_json, signature_json};

pub(super) fn document_row(json: &str) -> Result<DocumentRow> {
    serde_json::from_str(json).map_err(|e| unreadable("document", e))
}

/// Documents that follow each other in `lines`.
pub(super) fn live_documents(lines: &str) -> Result<Vec<Document>> {
    serde_json::Deserializer::from_str(lines)
        .into_iter::<DocumentRow>()
        .map(|row| {
            row.map_err(|e| unreadable("document", e))?
                .into_document()
                .ok_or_else(|| Error::internal("deleted document in an index of live ones"))
        })
        .collect()
}

pub(super) fn signature(json: &str) -> Result<Signature> {
    serde_json::from_str(json).map_err(|e| unreadable("signature", e))
}

#[cfg(test)]
mod tests {
    use dms_core::model::timestamp;
    use dms_core::{AppliedStatus, DocumentId, DocumentStatus, Sha256, SignatureId};
    use sqlx::{Connection as _, SqliteConnection, query_scalar};

    use super::*;

    const SELECT_DOCUMENT: &str = concat!(
        "SELECT ",
        document_json!(),
        " FROM (SELECT '2026-01-01T00:00:00.000001Z' AS deleted_at, 7 AS version,
            '2026-01-01T00:00:00.000002Z' AS updated_at,
            '2026-01-01T00:00:00.000003Z' AS created_at, 'jane' AS created_by,
            'signed' AS status, 'key' AS s3_key,
            '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824' AS content_sha256,
            5 AS content_size, 'text/plain' AS content_type, 'title' AS title,
            '0198c0de-0000-7000-8000-000000000001' AS id)"
    );

    const SELECT_SIGNATURE: &str = concat!(
        "SELECT ",
        signature_json!(),
        " FROM (SELECT 1 AS status_applied, '2026-01-01T00:00:00.000001Z' AS created_at,
            'image/png' AS image_content_type, 'key' AS image_key, 'Jane' AS signer_name,
            'jane@example.com' AS signer_email,
            '0198c0de-0000-7000-8000-000000000001' AS document_id,
            '0198c0de-0000-7000-8000-000000000002' AS id)"
    );

    #[tokio::test]
    async fn each_value_is_read_into_its_field() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let id: DocumentId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
        let json: String = query_scalar(SELECT_DOCUMENT).fetch_one(&mut connection).await.unwrap();
        let expected = DocumentRow {
            id,
            title: "title".into(),
            content_type: "text/plain".into(),
            content_size: 5,
            content_sha256: Some(Sha256::of(b"hello")),
            s3_key: Some("key".into()),
            status: DocumentStatus::Signed,
            created_by: "jane".into(),
            created_at: timestamp::parse("2026-01-01T00:00:00.000003Z").unwrap(),
            updated_at: timestamp::parse("2026-01-01T00:00:00.000002Z").unwrap(),
            version: 7,
            deleted: true,
        };
        assert_eq!(document_row(&json).unwrap(), expected);

        let json: String = query_scalar(SELECT_SIGNATURE).fetch_one(&mut connection).await.unwrap();
        let expected = Signature {
            id: "0198c0de-0000-7000-8000-000000000002".parse::<SignatureId>().unwrap(),
            document_id: id,
            signer_email: "jane@example.com".into(),
            signer_name: "Jane".into(),
            image_key: "key".into(),
            image_content_type: "image/png".into(),
            created_at: timestamp::parse("2026-01-01T00:00:00.000001Z").unwrap(),
            document_status: AppliedStatus::Signed,
        };
        assert_eq!(signature(&json).unwrap(), expected);
    }
}
