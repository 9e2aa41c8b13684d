//! Signatures in memory.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;

use super::{InMemoryDatabase, signature_row};
use crate::model::change::{Operation, RowChange};
use crate::ports::{IdempotencyRecord, SignatureRepository};
use crate::{
    AppliedStatus, DocumentId, Error, ErrorKind, NewSignature, Result, Signature, SignatureId,
};

/// Signatures of one document in one list.
const LIST_MAX: usize = 1_000;

/// Signatures in an [`InMemoryDatabase`].
#[derive(Debug, Clone)]
pub struct InMemorySignatureRepository {
    database: InMemoryDatabase,
}

impl InMemorySignatureRepository {
    pub(super) fn new(database: InMemoryDatabase) -> Self {
        Self { database }
    }

    /// The signatures that `keep` accepts, oldest first.
    fn select(&self, limit: usize, keep: impl Fn(&Signature) -> bool) -> Vec<Signature> {
        let state = self.database.lock();
        let mut signatures: Vec<_> =
            state.signatures.values().filter(|signature| keep(signature)).cloned().collect();
        signatures.sort_by_key(|signature| (signature.created_at, signature.id));
        signatures.truncate(limit);
        signatures
    }
}

#[async_trait]
impl SignatureRepository for InMemorySignatureRepository {
    async fn create(
        &self,
        new: NewSignature,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Signature> {
        let conflict =
            |code, message: &str| Err(Error::new(ErrorKind::Conflict, message).with_code(code));
        let now = self.database.now();
        let mut state = self.database.lock();
        state.refuse_completed(idempotency.as_ref())?;
        if state.signatures.contains_key(&new.id) {
            return conflict("already_exists", "there is a signature with this id");
        }
        let signed_before = state.signatures.values().any(|signature| {
            signature.document_id == new.document_id
                && signature.signer_email.eq_ignore_ascii_case(&new.signer_email)
        });
        if signed_before {
            return conflict("already_signed", "this address signed the document before");
        }
        if !state.documents.contains_key(&new.document_id) {
            return Err(Error::not_found("document", new.document_id));
        }
        let signature = Signature {
            id: new.id,
            document_id: new.document_id,
            signer_email: new.signer_email,
            signer_name: new.signer_name,
            image_key: new.image_key,
            image_content_type: new.image_content_type,
            created_at: now,
            document_status: AppliedStatus::Pending,
        };
        if let Some(record) = idempotency {
            state.complete(record, signature.id.as_uuid(), serde_json::Value::Null, now);
        }
        state.signatures.insert(signature.id, signature.clone());
        let after = Some(signature_row(&signature));
        state.log(Operation::Create, RowChange::Signature { before: None, after }, now);
        Ok(signature)
    }

    async fn get(&self, id: SignatureId) -> Result<Signature> {
        let state = self.database.lock();
        state.signatures.get(&id).cloned().ok_or_else(|| Error::not_found("signature", id))
    }

    async fn list(&self, document_id: DocumentId) -> Result<Vec<Signature>> {
        Ok(self.select(LIST_MAX, |signature| signature.document_id == document_id))
    }

    async fn mark_applied(&self, id: SignatureId) -> Result<()> {
        if let Some(signature) = self.database.lock().signatures.get_mut(&id) {
            signature.document_status = AppliedStatus::Signed;
        }
        Ok(())
    }

    async fn discard(&self, id: SignatureId) -> Result<()> {
        let now = self.database.now();
        let mut state = self.database.lock();
        let pending = state
            .signatures
            .get(&id)
            .is_some_and(|signature| signature.document_status == AppliedStatus::Pending);
        if pending && let Some(signature) = state.signatures.remove(&id) {
            let before = Some(signature_row(&signature));
            state.log(Operation::Delete, RowChange::Signature { before, after: None }, now);
        }
        Ok(())
    }

    async fn pending(&self, age: Duration, limit: u32) -> Result<Vec<Signature>> {
        let Some(made_by) = self.database.ago(age) else { return Ok(Vec::new()) };
        Ok(self.select(limit as usize, |signature| {
            signature.document_status == AppliedStatus::Pending && signature.created_at <= made_by
        }))
    }

    async fn referenced(&self, ids: &[SignatureId]) -> Result<HashSet<SignatureId>> {
        let state = self.database.lock();
        Ok(ids.iter().copied().filter(|id| state.signatures.contains_key(id)).collect())
    }
}
