//! `/signatures`: sign, read; and the signatures of a document.

use axum::extract::{FromRef, MatchedPath, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use dms_core::use_cases::{CreateSignature, Signatures};
use dms_core::{DocumentId, SignatureId};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{Access, Authenticated};
use super::body::BodyLimit;
use super::content::blob_answer;
use super::documents::{IDEMPOTENCY_REPLAYED, insert_location};
use super::json::{StrictJson, json};
use super::open_api::{Conflicts, NoSuchDocument, NoSuchSignature, Refused, TooLarge};
use super::params::{IdempotencyKeyHeader, PathParam};
use super::problem::Problem;
use super::writes::{Writes, uncancelled};
use crate::types::schema::Signature as SignatureSchema;
use crate::types::{CreateSignatureBody, SignatureListBody};

/// What the routes of signatures work on. Cheap to clone.
#[derive(Clone)]
pub struct SignaturesState {
    /// The use cases.
    pub signatures: Signatures,
    /// How callers are told apart.
    pub access: Access,
    /// The writes under way.
    pub writes: Writes,
    /// Largest image, in bytes.
    pub image_bytes_max: u64,
}

impl FromRef<SignaturesState> for Access {
    fn from_ref(state: &SignaturesState) -> Self {
        state.access.clone()
    }
}

impl FromRef<SignaturesState> for BodyLimit {
    fn from_ref(state: &SignaturesState) -> Self {
        Self::json(state.image_bytes_max)
    }
}

/// The routes of signatures.
pub fn routes(state: SignaturesState) -> OpenApiRouter {
    operations().with_state(state)
}

/// What these routes are, for a program that another one serves them for.
pub fn open_api() -> OpenApi {
    operations().into_openapi()
}

fn operations() -> OpenApiRouter<SignaturesState> {
    OpenApiRouter::new()
        .routes(routes!(create_signature))
        .routes(routes!(get_signature))
        .routes(routes!(get_signature_image))
        .routes(routes!(list_document_signatures))
}

/// Signs a document
///
/// Once per document and address.
#[utoipa::path(
    post, path = "/signatures", tag = "signatures",
    params(("Idempotency-Key" = Option<String>, Header, max_length = 255,
        description = "makes repeating the request safe for 24 hours")),
    request_body = CreateSignatureBody,
    responses(
        (status = 201, description = "the signature", body = SignatureSchema, headers(
            ("Location" = String, description = "where the signature is"),
            ("Idempotency-Replayed" = Option<bool>,
                description = "true if an earlier request had created it"),
        )),
        NoSuchDocument, Conflicts, TooLarge, Refused,
    ),
)]
async fn create_signature(
    Authenticated(caller): Authenticated,
    State(state): State<SignaturesState>,
    IdempotencyKeyHeader(key): IdempotencyKeyHeader,
    path: MatchedPath,
    StrictJson(body): StrictJson<CreateSignatureBody>,
) -> Result<Response, Problem> {
    let request = CreateSignature {
        document_id: body.document_id,
        signer_email: body.signer_email,
        signer_name: body.signer_name,
        signature_data: body.signature_data,
    };
    let signatures = state.signatures;
    let created = uncancelled(&state.writes, async move {
        Ok(signatures.create(&caller, request, key.as_deref()).await?)
    })
    .await?;
    let mut response = json(StatusCode::CREATED, &created.resource)?;
    insert_location(&mut response, &path, created.resource.id.as_uuid());
    if created.replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Reads a signature
#[utoipa::path(
    get, path = "/signatures/{id}", tag = "signatures",
    params(("id" = uuid::Uuid, Path, description = "the signature")),
    responses(
        (status = 200, description = "the signature", body = SignatureSchema),
        NoSuchSignature, Refused,
    ),
)]
async fn get_signature(
    Authenticated(caller): Authenticated,
    State(state): State<SignaturesState>,
    PathParam(id): PathParam<SignatureId>,
) -> Result<Response, Problem> {
    json(StatusCode::OK, &state.signatures.get(&caller, id).await?)
}

/// Downloads the image of a signature
#[utoipa::path(
    get, path = "/signatures/{id}/image", tag = "signatures",
    params(("id" = uuid::Uuid, Path, description = "the signature")),
    responses(
        (status = 200, description = "the image", body = Vec<u8>, content_type = "*/*"),
        NoSuchSignature, Refused,
    ),
)]
async fn get_signature_image(
    Authenticated(caller): Authenticated,
    State(state): State<SignaturesState>,
    PathParam(id): PathParam<SignatureId>,
) -> Result<Response, Problem> {
    let (signature, content) = state.signatures.image(&caller, id).await?;
    let mut response = blob_answer(content, &signature.image_content_type, None);
    let disposition = HeaderValue::from_static("inline; filename=\"signature\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// Lists the signatures of a document, oldest first
#[utoipa::path(
    get, path = "/documents/{id}/signatures", tag = "signatures",
    params(("id" = uuid::Uuid, Path, description = "the document")),
    responses(
        (status = 200, description = "the signatures", body = SignatureListBody),
        NoSuchDocument, Refused,
    ),
)]
async fn list_document_signatures(
    Authenticated(caller): Authenticated,
    State(state): State<SignaturesState>,
    PathParam(id): PathParam<DocumentId>,
) -> Result<Response, Problem> {
    let signatures = state.signatures.list(&caller, id).await?;
    json(StatusCode::OK, &SignatureListBody { signatures })
}
