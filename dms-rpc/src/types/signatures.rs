//! Signatures.

use dms_core::{DocumentId, Signature};
use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
use super::schema;

/// Signs a document: `POST /signatures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = CreateSignature))]
pub struct CreateSignatureBody {
    /// The document.
    #[cfg_attr(feature = "server", schema(value_type = uuid::Uuid))]
    pub document_id: DocumentId,
    /// Address of the signer, at most 320 characters.
    #[cfg_attr(feature = "server", schema(max_length = 320, example = "ann@example.org"))]
    pub signer_email: String,
    /// Name of the signer, 1–200 characters.
    #[cfg_attr(feature = "server", schema(min_length = 1, max_length = 200))]
    pub signer_name: String,
    /// The image in base64, with or without a `data:…;base64,` prefix.
    #[cfg_attr(feature = "server", schema(min_length = 1))]
    pub signature_data: String,
}

/// The signatures of a document, oldest first: `GET /documents/{id}/signatures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = SignatureList))]
pub struct SignatureListBody {
    /// The signatures.
    #[cfg_attr(feature = "server", schema(value_type = Vec<schema::Signature>))]
    pub signatures: Vec<Signature>,
}
