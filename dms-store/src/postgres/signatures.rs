//! Signatures.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::{IdempotencyRecord, SignatureRepository};
use dms_core::{DocumentId, Error, NewSignature, Result, Signature, SignatureId};
use sqlx::query_as;
use uuid::Uuid;

use super::database::Shared;
use super::error::Failure;
use super::idempotency::seconds;
use super::row::{StoredSignature, signature_columns};
use crate::sql::{SIGNATURES_LIST_MAX, already_exists, already_signed, completed_meanwhile};

/// Signatures in `PostgreSQL`. Cheap to clone.
#[derive(Clone)]
pub struct PostgresSignatureRepository {
    shared: Arc<Shared>,
}

impl PostgresSignatureRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs a statement that changes the row with this id, or none.
    async fn change(&self, sql: &'static str, id: SignatureId) -> Result<()> {
        let statement = query_as::<_, (bool,)>(sql).bind(id.as_uuid());
        self.shared.connections.write(statement).await?;
        Ok(())
    }
}

fn signatures(rows: Vec<StoredSignature>) -> Vec<Signature> {
    rows.into_iter().map(|StoredSignature(signature)| signature).collect()
}

#[async_trait]
impl SignatureRepository for PostgresSignatureRepository {
    async fn create(
        &self,
        new: NewSignature,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Signature> {
        const INSERT: &str = concat!(
            "WITH completed AS (
                INSERT INTO idempotency_keys AS held
                    (scope, key, request_sha256, resource_id, completed_at)
                SELECT $7, $8, $9, $1, now() WHERE $7 IS NOT NULL
                ON CONFLICT (scope, key) DO UPDATE SET
                    holder = NULL, held_until = NULL, request_sha256 = excluded.request_sha256,
                    resource_id = excluded.resource_id, completed_at = excluded.completed_at
                    WHERE held.completed_at IS NULL
                RETURNING TRUE
            )
            INSERT INTO signatures
                (id, document_id, signer_email, signer_name, image_key, image_content_type)
            SELECT $1, $2, $3, $4, $5, $6 WHERE $7 IS NULL OR EXISTS (SELECT FROM completed)
            RETURNING ",
            signature_columns!()
        );
        let (key, digest) =
            idempotency.map(|record| (record.key, record.request_sha256.to_string())).unzip();
        let statement = query_as::<_, StoredSignature>(INSERT)
            .bind(new.id.as_uuid())
            .bind(new.document_id.as_uuid())
            .bind(new.signer_email)
            .bind(new.signer_name)
            .bind(new.image_key)
            .bind(new.image_content_type)
            .bind(key.as_ref().map(|key| key.scope().to_owned()))
            .bind(key.as_ref().map(|key| key.key().to_owned()))
            .bind(digest);
        let rows =
            self.shared.connections.write(statement).await.map_err(
                |failure: Failure| match failure.constraint() {
                    Some("signatures_document_exists") => {
                        Error::not_found("document", new.document_id)
                    }
                    Some("signatures_once_per_address") => already_signed(),
                    Some("signatures_pkey") => already_exists("signature"),
                    _ => failure.into(),
                },
            )?;
        signatures(rows).into_iter().next().ok_or_else(completed_meanwhile)
    }

    async fn get(&self, id: SignatureId) -> Result<Signature> {
        const GET: &str =
            concat!("SELECT ", signature_columns!(), " FROM signatures WHERE id = $1");
        let statement = query_as(GET).bind(id.as_uuid());
        let rows = self.shared.connections.read(statement).await?;
        signatures(rows).into_iter().next().ok_or_else(|| Error::not_found("signature", id))
    }

    async fn list(&self, document_id: DocumentId) -> Result<Vec<Signature>> {
        const LIST: &str = concat!(
            "SELECT ",
            signature_columns!(),
            " FROM signatures WHERE document_id = $1 ORDER BY created_at, id LIMIT $2"
        );
        let statement =
            query_as(LIST).bind(document_id.as_uuid()).bind(i64::from(SIGNATURES_LIST_MAX));
        Ok(signatures(self.shared.connections.read(statement).await?))
    }

    async fn mark_applied(&self, id: SignatureId) -> Result<()> {
        const APPLY: &str = "UPDATE signatures SET status_applied = TRUE
            WHERE id = $1 AND NOT status_applied RETURNING TRUE";
        self.change(APPLY, id).await
    }

    async fn discard(&self, id: SignatureId) -> Result<()> {
        const DISCARD: &str =
            "DELETE FROM signatures WHERE id = $1 AND NOT status_applied RETURNING TRUE";
        self.change(DISCARD, id).await
    }

    async fn pending(&self, age: Duration, limit: u32) -> Result<Vec<Signature>> {
        const PENDING: &str = concat!(
            "SELECT ",
            signature_columns!(),
            " FROM signatures
            WHERE NOT status_applied AND created_at <= now() - make_interval(secs => $1)
            ORDER BY created_at, id LIMIT $2"
        );
        let statement = query_as(PENDING).bind(seconds(age)).bind(i64::from(limit));
        Ok(signatures(self.shared.connections.read(statement).await?))
    }

    async fn referenced(&self, ids: &[SignatureId]) -> Result<HashSet<SignatureId>> {
        let ids: Vec<_> = ids.iter().map(SignatureId::as_uuid).collect();
        let statement =
            query_as::<_, (Uuid,)>("SELECT id FROM signatures WHERE id = ANY($1)").bind(ids);
        let found = self.shared.connections.read(statement).await?;
        Ok(found.into_iter().map(|(id,)| SignatureId::from_uuid(id)).collect())
    }
}
