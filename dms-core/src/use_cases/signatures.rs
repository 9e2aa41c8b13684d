//! Signatures: sign, read, and finish what a crash interrupted.

use std::sync::Arc;
use std::time::Duration;

use super::Created;
use super::content::{bytes_stream, request_digest};
use super::intake::{in_progress, key_reused};
use crate::ports::{
    BlobContent, BlobStore, DocumentClient, IdempotencyKey, IdempotencyRecord,
    IdempotencyRepository, Reservation, SignatureRepository,
};
use crate::validate::{self, Refusals};
use crate::{
    AppliedStatus, Caller, DocumentId, Error, ErrorChain, ErrorKind, NewSignature, Result, Sha256,
    Signature, SignatureId,
};

const RESERVATION_LEASE: Duration = Duration::from_mins(1);

/// What [`Signatures`] works on.
#[derive(Clone)]
pub struct SignaturesPorts {
    /// Where the rows are.
    pub signatures: Arc<dyn SignatureRepository>,
    /// Where the images are.
    pub blobs: Arc<dyn BlobStore>,
    /// The documents.
    pub documents: Arc<dyn DocumentClient>,
    /// What makes retries safe.
    pub idempotency: Arc<dyn IdempotencyRepository>,
}

/// The fields of a new signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSignature {
    /// The document.
    pub document_id: DocumentId,
    /// Address of the signer.
    pub signer_email: String,
    /// Name of the signer.
    pub signer_name: String,
    /// The image in base64, with or without a `data:` prefix.
    pub signature_data: String,
}

/// What a round of the reconciler did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// Signatures whose document now knows.
    pub applied: u64,
    /// Signatures whose document is gone.
    pub discarded: u64,
    /// Signatures left for the next round.
    pub pending: u64,
}

/// The use cases of signatures. Cheap to clone.
#[derive(Clone)]
pub struct Signatures {
    ports: SignaturesPorts,
}

impl Signatures {
    /// Use cases on these ports.
    pub fn new(ports: SignaturesPorts) -> Self {
        Self { ports }
    }

    /// Signs a document: stores the image, inserts the row, tells the document. If the document
    /// service can't be reached, the signature is `pending` and [`reconcile`](Self::reconcile)
    /// finishes the work.
    ///
    /// A repetition with the same key gives the same signature, as it stands by then.
    ///
    /// # Errors
    /// - `Invalid` for fields out of bounds, or with code `idempotency_key_reused`;
    /// - `NotFound` if there is no such document;
    /// - `Conflict` with code `already_signed` or `request_in_progress`;
    /// - `StorageFull`, `Unavailable`.
    pub async fn create(
        &self,
        caller: &Caller,
        request: CreateSignature,
        idempotency_key: Option<&str>,
    ) -> Result<Created<Signature>> {
        let valid = Valid::of(&request)?;
        let Some(key) = idempotency_key else {
            return self.sign(caller, valid, None).await.map(fresh);
        };
        let key = IdempotencyKey::new("signatures", caller.subject(), key)?;
        match self.ports.idempotency.reserve(&key, RESERVATION_LEASE).await? {
            Reservation::Running => Err(in_progress()),
            Reservation::Completed { request_sha256, resource_id, .. } => {
                self.replay(resource_id, request_sha256 == valid.digest).await
            }
            Reservation::Acquired => {
                let record = IdempotencyRecord { key: key.clone(), request_sha256: valid.digest };
                let digest = valid.digest;
                match self.sign(caller, valid, Some(record)).await {
                    Ok(signature) => Ok(fresh(signature)),
                    // Our reservation had lapsed and another request with the key was faster.
                    Err(error) if error.code() == "idempotency_key_completed" => {
                        match self.ports.idempotency.reserve(&key, RESERVATION_LEASE).await? {
                            Reservation::Completed { request_sha256, resource_id, .. } => {
                                self.replay(resource_id, request_sha256 == digest).await
                            }
                            _ => Err(in_progress()),
                        }
                    }
                    Err(error) => {
                        if error.kind() != ErrorKind::Timeout
                            && let Err(error) = self.ports.idempotency.release(&key).await
                        {
                            tracing::warn!(error = %ErrorChain(&error),
                                "idempotency key left to lapse");
                        }
                        Err(error)
                    }
                }
            }
        }
    }

    /// One signature.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, _caller: &Caller, id: SignatureId) -> Result<Signature> {
        self.ports.signatures.get(id).await
    }

    /// The signatures of a document, oldest first.
    ///
    /// # Errors
    /// `NotFound` if there is no such document; `Unavailable`.
    pub async fn list(&self, caller: &Caller, document_id: DocumentId) -> Result<Vec<Signature>> {
        let signatures = self.ports.signatures.list(document_id).await?;
        match self.ports.documents.get(caller, document_id).await {
            Err(error) if !error.is_retryable() => Err(error),
            // What is known of the signatures doesn't depend on the document service.
            Err(_) | Ok(_) => Ok(signatures),
        }
    }

    /// Opens the image of a signature.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn image(
        &self,
        caller: &Caller,
        id: SignatureId,
    ) -> Result<(Signature, BlobContent)> {
        let signature = self.get(caller, id).await?;
        let content = self.ports.blobs.get(&signature.image_key, None).await?;
        Ok((signature, content))
    }

    /// Finishes signatures that have been `pending` for at least `age`; at most `limit` a round.
    ///
    /// # Errors
    /// `Unavailable` if the signatures can't be read. A document that can't be told yet is no error.
    pub async fn reconcile(&self, age: Duration, limit: u32) -> Result<ReconcileReport> {
        let caller = Caller::system("reconciler");
        let mut report = ReconcileReport::default();
        for signature in self.ports.signatures.pending(age, limit).await? {
            match self.apply(&caller, &signature).await {
                Ok(()) => report.applied += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(signature_id = %signature.id,
                        document_id = %signature.document_id,
                        "signature discarded: its document is gone");
                    self.discard(signature.id, &signature.image_key).await?;
                    report.discarded += 1;
                }
                Err(error) => {
                    tracing::warn!(signature_id = %signature.id, error = %ErrorChain(&error),
                        "signature still pending");
                    report.pending += 1;
                }
            }
        }
        Ok(report)
    }

    async fn sign(
        &self,
        caller: &Caller,
        valid: Valid,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Signature> {
        match self.ports.documents.get(caller, valid.document_id).await {
            Ok(_) => {}
            // The row's reference to the document still guards against an unknown one.
            Err(error) if error.is_retryable() => {
                tracing::warn!(document_id = %valid.document_id, error = %ErrorChain(&error),
                    "document not checked before signing");
            }
            Err(error) => return Err(error),
        }
        let id = SignatureId::generate();
        let image_key = Signature::image_key(id);
        self.ports.blobs.put(&image_key, bytes_stream(valid.image)).await?;
        let inserted = self
            .ports
            .signatures
            .create(
                NewSignature {
                    id,
                    document_id: valid.document_id,
                    signer_email: valid.signer_email,
                    signer_name: valid.signer_name,
                    image_key: image_key.clone(),
                    image_content_type: valid.image_content_type.into(),
                },
                idempotency,
            )
            .await;
        let mut signature = match inserted {
            Ok(signature) => signature,
            Err(error) => {
                // After a timeout the row may be there: the sweeper decides.
                if error.kind() != ErrorKind::Timeout {
                    self.remove_image(&image_key).await;
                }
                return Err(error);
            }
        };
        match self.apply(caller, &signature).await {
            Ok(()) => signature.document_status = AppliedStatus::Signed,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.discard(id, &image_key).await?;
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(signature_id = %id, error = %ErrorChain(&error),
                    "signature pending");
            }
        }
        Ok(signature)
    }

    async fn apply(&self, caller: &Caller, signature: &Signature) -> Result<()> {
        self.ports.documents.mark_signed(caller, signature.document_id, signature.id).await?;
        self.ports.signatures.mark_applied(signature.id).await
    }

    async fn discard(&self, id: SignatureId, image_key: &str) -> Result<()> {
        self.ports.signatures.discard(id).await?;
        self.remove_image(image_key).await;
        Ok(())
    }

    async fn remove_image(&self, image_key: &str) {
        if let Err(error) = self.ports.blobs.delete(image_key).await {
            tracing::warn!(key = image_key, error = %ErrorChain(&error),
                "image left to the sweeper");
        }
    }

    async fn replay(&self, id: uuid::Uuid, same_request: bool) -> Result<Created<Signature>> {
        if !same_request {
            return Err(key_reused());
        }
        let signature = self.ports.signatures.get(SignatureId::from_uuid(id)).await?;
        Ok(Created { resource: signature, replayed: true })
    }
}

fn fresh(signature: Signature) -> Created<Signature> {
    Created { resource: signature, replayed: false }
}

/// A request whose fields are within bounds.
struct Valid {
    document_id: DocumentId,
    signer_email: String,
    signer_name: String,
    image: Vec<u8>,
    image_content_type: &'static str,
    digest: Sha256,
}

impl Valid {
    fn of(request: &CreateSignature) -> Result<Self> {
        let mut refusals = Refusals::default();
        let signer_email = refusals.take(validate::signer_email(&request.signer_email));
        let signer_name = refusals.take(validate::signer_name(&request.signer_name));
        let image = refusals.take(validate::signature_data(&request.signature_data));
        refusals.finish()?;
        let (Some(signer_email), Some(signer_name), Some(image)) =
            (signer_email, signer_name, image)
        else {
            return Err(Error::internal("a refused field went unnoticed"));
        };
        let digest = request_digest(&[
            request.document_id.as_uuid().as_bytes(),
            signer_email.as_bytes(),
            signer_name.as_bytes(),
            &image,
        ]);
        let image_content_type = infer::get(&image)
            .map(|kind| kind.mime_type())
            .filter(|kind| kind.starts_with("image/"))
            .unwrap_or("application/octet-stream");
        Ok(Self {
            document_id: request.document_id,
            signer_email,
            signer_name,
            image,
            image_content_type,
            digest,
        })
    }
}
