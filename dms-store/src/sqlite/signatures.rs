//! Signatures.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::model::timestamp;
use dms_core::ports::{IdempotencyRecord, SignatureRepository};
use dms_core::{AppliedStatus, DocumentId, Error, NewSignature, Result, Signature, SignatureId};
use sqlx::{SqliteConnection, query, query_scalar};

use super::database::Shared;
use super::error::{from_sqlx, refusal};
use super::idempotency::is_completed_key;
use super::row::{signature, signature_json};
use super::writer::Failure;
use crate::sql::{
    SIGNATURES_LIST_MAX, already_exists, already_signed, completed_meanwhile, unreadable,
};

/// Signatures in `SQLite`. Cheap to clone.
#[derive(Clone)]
pub struct SqliteSignatureRepository {
    shared: Arc<Shared>,
}

impl SqliteSignatureRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs a statement that changes the row with this id, or none.
    async fn change(&self, sql: &'static str, id: SignatureId) -> Result<()> {
        self.shared
            .writer
            .write(0, move |connection| {
                Box::pin(async move {
                    query(sql).bind(id.to_string()).execute(connection).await?;
                    Ok::<_, Failure>(())
                })
            })
            .await
    }
}

#[async_trait]
impl SignatureRepository for SqliteSignatureRepository {
    async fn create(
        &self,
        new: NewSignature,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Signature> {
        let signature = Signature {
            id: new.id,
            document_id: new.document_id,
            signer_email: new.signer_email,
            signer_name: new.signer_name,
            image_key: new.image_key,
            image_content_type: new.image_content_type,
            created_at: self.shared.now(),
            document_status: AppliedStatus::Pending,
        };
        let key = idempotency.as_ref().map(|record| record.key.clone());
        let signature = self
            .shared
            .writer
            .write(0, move |connection| Box::pin(insert(connection, signature, idempotency)))
            .await?;
        if let Some(key) = key {
            self.shared.reservations.forget(&key);
        }
        Ok(signature)
    }

    async fn get(&self, id: SignatureId) -> Result<Signature> {
        const GET: &str = concat!("SELECT ", signature_json!(), " FROM signatures WHERE id = $1");
        let row: Option<String> = query_scalar(GET)
            .bind(id.to_string())
            .fetch_optional(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        row.as_deref().map(signature).transpose()?.ok_or_else(|| Error::not_found("signature", id))
    }

    async fn list(&self, document_id: DocumentId) -> Result<Vec<Signature>> {
        const LIST: &str = concat!(
            "SELECT ",
            signature_json!(),
            " FROM signatures WHERE document_id = $1 ORDER BY created_at, id LIMIT $2 + 0"
        );
        let rows: Vec<String> = query_scalar(LIST)
            .bind(document_id.to_string())
            .bind(SIGNATURES_LIST_MAX)
            .fetch_all(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        rows.iter().map(|row| signature(row)).collect()
    }

    async fn mark_applied(&self, id: SignatureId) -> Result<()> {
        const APPLY: &str =
            "UPDATE signatures SET status_applied = 1 WHERE id = $1 AND status_applied = 0";
        self.change(APPLY, id).await
    }

    async fn discard(&self, id: SignatureId) -> Result<()> {
        self.change("DELETE FROM signatures WHERE id = $1 AND status_applied = 0", id).await
    }

    async fn pending(&self, age: Duration, limit: u32) -> Result<Vec<Signature>> {
        const PENDING: &str = concat!(
            "SELECT ",
            signature_json!(),
            " FROM signatures WHERE status_applied = 0 AND created_at <= $1
            ORDER BY created_at, id LIMIT $2 + 0"
        );
        let Some(made_by) = self.shared.ago(age) else { return Ok(Vec::new()) };
        let rows: Vec<String> = query_scalar(PENDING)
            .bind(made_by)
            .bind(limit)
            .fetch_all(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        rows.iter().map(|row| signature(row)).collect()
    }

    async fn referenced(&self, ids: &[SignatureId]) -> Result<HashSet<SignatureId>> {
        let ids = serde_json::to_string(ids).map_err(|e| unreadable("ids", e))?;
        let found: Vec<String> =
            query_scalar("SELECT id FROM signatures WHERE id IN (SELECT value FROM json_each($1))")
                .bind(ids)
                .fetch_all(&self.shared.reads)
                .await
                .map_err(from_sqlx)?;
        found.iter().map(|id| id.parse().map_err(|e| unreadable("signature id", e))).collect()
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    signature: Signature,
    idempotency: Option<IdempotencyRecord>,
) -> Result<Signature, Failure> {
    let inserted = query(
        "INSERT INTO signature_intake
            (id, document_id, signer_email, signer_name, image_key, image_content_type,
             created_at, key_scope, key, request_sha256)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(signature.id.to_string())
    .bind(signature.document_id.to_string())
    .bind(signature.signer_email.clone())
    .bind(signature.signer_name.clone())
    .bind(signature.image_key.clone())
    .bind(signature.image_content_type.clone())
    .bind(timestamp::format(signature.created_at))
    .bind(idempotency.as_ref().map(|record| record.key.scope().to_owned()))
    .bind(idempotency.as_ref().map(|record| record.key.key().to_owned()))
    .bind(idempotency.as_ref().map(|record| record.request_sha256.to_string()))
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(signature),
        Err(error) => Err(match refusal(&error) {
            Some("FOREIGN KEY constraint failed") => {
                Error::not_found("document", signature.document_id).into()
            }
            Some("signatures.already_signed") => already_signed().into(),
            Some("signatures.already_exists") => already_exists("signature").into(),
            Some(message) if is_completed_key(message) => completed_meanwhile().into(),
            _ => error.into(),
        }),
    }
}
