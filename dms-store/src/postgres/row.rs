//! Rows as the ports give them, by the order of their columns.

use dms_core::model::change::DocumentRow;
use dms_core::{AppliedStatus, DocumentId, Error, Result, Signature, SignatureId};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

/// Columns of a [`StoredDocument`], of the table or what stands before them.
macro_rules! document_columns {
    () => {
        document_columns!("")
    };
    ($of:literal) => {
        concat!(
            $of,
            "id, ",
            $of,
            "title, ",
            $of,
            "content_type, ",
            $of,
            "content_size, ",
            $of,
            "content_sha256, ",
            $of,
            "s3_key, ",
            $of,
            "status, ",
            $of,
            "created_by, ",
            $of,
            "created_at, ",
            $of,
            "updated_at, ",
            $of,
            "version, ",
            $of,
            "deleted_at IS NOT NULL"
        )
    };
}

/// Columns of a [`StoredSignature`].
macro_rules! signature_columns {
    () => {
        "id, document_id, signer_email, signer_name, image_key, image_content_type, created_at, \
         status_applied"
    };
}

pub(super) use {document_columns, signature_columns};

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// A document, deleted or not.
pub(super) struct StoredDocument(pub(super) DocumentRow);

impl FromRow<'_, PgRow> for StoredDocument {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let digest: String = row.try_get(4)?;
        let status: String = row.try_get(6)?;
        Ok(Self(DocumentRow {
            id: DocumentId::from_uuid(row.try_get(0)?),
            title: row.try_get(1)?,
            content_type: row.try_get(2)?,
            content_size: u64::try_from(row.try_get::<i64, _>(3)?).map_err(unreadable)?,
            content_sha256: Some(digest.parse().map_err(unreadable)?),
            s3_key: Some(row.try_get(5)?),
            status: status.parse().map_err(unreadable)?,
            created_by: row.try_get(7)?,
            created_at: row.try_get(8)?,
            updated_at: row.try_get(9)?,
            version: row.try_get(10)?,
            deleted: row.try_get(11)?,
        }))
    }
}

/// A document, and whether the statement that gave it changed it.
pub(super) struct ChangedDocument {
    pub(super) row: DocumentRow,
    pub(super) changed: bool,
}

impl FromRow<'_, PgRow> for ChangedDocument {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let StoredDocument(document) = StoredDocument::from_row(row)?;
        Ok(Self { row: document, changed: row.try_get(12)? })
    }
}

/// A signature.
pub(super) struct StoredSignature(pub(super) Signature);

impl FromRow<'_, PgRow> for StoredSignature {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let applied = row.try_get(7)?;
        Ok(Self(Signature {
            id: SignatureId::from_uuid(row.try_get(0)?),
            document_id: DocumentId::from_uuid(row.try_get(1)?),
            signer_email: row.try_get(2)?,
            signer_name: row.try_get(3)?,
            image_key: row.try_get(4)?,
            image_content_type: row.try_get(5)?,
            created_at: row.try_get(6)?,
            document_status: if applied { AppliedStatus::Signed } else { AppliedStatus::Pending },
        }))
    }
}

/// The only row of a statement that gives one.
pub(super) fn only<O>(rows: Vec<O>) -> Result<O> {
    rows.into_iter().next().ok_or_else(|| Error::internal("statement gave no row"))
}
