//! Calls about signatures.

use dms_core::{DocumentId, Signature, SignatureId};
use reqwest::Method;

use super::transport::{Repeat, idempotency};
use super::{ClientResult, DmsClient, DownloadContent};
use crate::types::{CreateSignatureBody, SignatureListBody};

impl DmsClient {
    /// Signs a document. Keys as with [`create_document`](Self::create_document).
    ///
    /// # Errors
    /// Status 404 if there is no such document, 409 with code `already_signed` if it has a
    /// signature with this address, 422 for fields that aren't acceptable.
    pub async fn sign(
        &self,
        signature: &CreateSignatureBody,
        idempotency_key: Option<&str>,
    ) -> ClientResult<Signature> {
        let (name, key) = idempotency(idempotency_key)?;
        self.json(Repeat::Safely, || {
            self.request(Method::POST, &["signatures"])
                .timeout(self.inner.request_timeout)
                .header(name, &key)
                .json(signature)
        })
        .await
    }

    /// The signatures of a document, oldest first.
    ///
    /// # Errors
    /// Status 404 if there is no such document.
    pub async fn signatures(&self, document_id: DocumentId) -> ClientResult<Vec<Signature>> {
        let id = document_id.to_string();
        let list: SignatureListBody =
            self.json(Repeat::Safely, || self.get(&["documents", &id, "signatures"])).await?;
        Ok(list.signatures)
    }

    /// Reads a signature.
    ///
    /// # Errors
    /// Status 404 if there is none.
    pub async fn signature(&self, id: SignatureId) -> ClientResult<Signature> {
        self.json(Repeat::Safely, || self.get(&["signatures", &id.to_string()])).await
    }

    /// Opens the image of a signature.
    ///
    /// # Errors
    /// Status 404 if there is none.
    pub async fn signature_image(&self, id: SignatureId) -> ClientResult<DownloadContent> {
        let id = id.to_string();
        let make = || self.request(Method::GET, &["signatures", &id, "image"]);
        let response = self.open(Repeat::Safely, make).await?;
        Ok(DownloadContent::of(response, self.inner.idle_timeout))
    }
}
