//! Columns of either table, and the rows that are read from them.

use dms_core::model::change::{DocumentRow, SignatureRow};
use serde::Deserialize;

use super::field::Field;

/// The columns of both tables, of which a row has some.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Columns<'a> {
    #[serde(borrow)]
    pub(super) id: Field<'a>,
    #[serde(borrow)]
    title: Field<'a>,
    #[serde(borrow)]
    content_type: Field<'a>,
    #[serde(borrow)]
    content_size: Field<'a>,
    #[serde(borrow)]
    content_sha256: Field<'a>,
    #[serde(borrow)]
    s3_key: Field<'a>,
    #[serde(borrow)]
    status: Field<'a>,
    #[serde(borrow)]
    created_by: Field<'a>,
    #[serde(borrow)]
    created_at: Field<'a>,
    #[serde(borrow)]
    updated_at: Field<'a>,
    #[serde(borrow)]
    version: Field<'a>,
    #[serde(borrow)]
    deleted_at: Field<'a>,
    #[serde(borrow)]
    document_id: Field<'a>,
    #[serde(borrow)]
    signer_email: Field<'a>,
    #[serde(borrow)]
    signer_name: Field<'a>,
}

impl<'a> Columns<'a> {
    /// Puts in from the row before what wasn't sent because it didn't change.
    pub(super) fn complete_from(&mut self, before: &Self) {
        let complete = |field: &mut Field<'a>, old: &Field<'a>| {
            let is_known = !matches!(old, Field::Missing);
            if field.is_unavailable() && is_known {
                *field = old.clone();
            }
        };
        complete(&mut self.title, &before.title);
        complete(&mut self.content_type, &before.content_type);
        complete(&mut self.content_sha256, &before.content_sha256);
        complete(&mut self.s3_key, &before.s3_key);
        complete(&mut self.status, &before.status);
        complete(&mut self.created_by, &before.created_by);
        complete(&mut self.signer_email, &before.signer_email);
        complete(&mut self.signer_name, &before.signer_name);
    }

    /// Whether Debezium made up all but the key: a row has no empty texts.
    pub(super) fn is_made_up(&self) -> bool {
        let is_empty = |field: &Field<'_>| matches!(field, Field::Text(text) if text.is_empty());
        is_empty(&self.status) || is_empty(&self.created_by) || is_empty(&self.signer_email)
    }

    pub(super) fn document(&self) -> Result<DocumentRow, String> {
        let sha256 = match self.content_sha256.optional_text("content_sha256")? {
            Some(_) => Some(self.content_sha256.parsed("content_sha256")?),
            None => None,
        };
        Ok(DocumentRow {
            id: self.id.parsed("id")?,
            title: self.title.text("title")?,
            content_type: self.content_type.text("content_type")?,
            content_size: self.content_size.integer("content_size")?,
            content_sha256: sha256,
            s3_key: self.s3_key.optional_text("s3_key")?,
            status: self.status.parsed("status")?,
            created_by: self.created_by.text("created_by")?,
            created_at: self.created_at.moment("created_at")?,
            updated_at: self.updated_at.moment("updated_at")?,
            version: self.version.integer("version")?,
            deleted: self.deleted_at.is_set("deleted_at")?,
        })
    }

    pub(super) fn signature(&self) -> Result<SignatureRow, String> {
        Ok(SignatureRow {
            id: self.id.parsed("id")?,
            document_id: self.document_id.parsed("document_id")?,
            signer_email: self.signer_email.text("signer_email")?,
            signer_name: self.signer_name.text("signer_name")?,
            created_at: self.created_at.moment("created_at")?,
        })
    }
}
