//! `/documents`: create, list, read, change, delete, count.

use axum::extract::{FromRef, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dms_core::use_cases::{CreateDocument, Created, Documents};
use dms_core::validate::{self, Refusals};
use dms_core::{Caller, Document, DocumentId, DocumentPatch, Error, ListQuery};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{Access, Authenticated};
use super::body::{BodyLimit, body_stream, pieces, read_body};
use super::conditions::{IfMatch, none_match_names, version_etag};
use super::form::{Form, create_from_form};
use super::json::{StrictJson, aside, is_json, json, media_type, parse, unsupported_media_type};
use super::open_api::{Conflicts, NoSuchDocument, Refused, TooLarge, VersionMoved};
use super::params::{self, IdempotencyKeyHeader, PathParam, QueryParams};
use super::problem::Problem;
use super::writes::{Writes, uncancelled};
use super::{content, cursor};
use crate::types::schema::{CreateDocumentForm, Document as DocumentSchema, DocumentStatus};
use crate::types::{
    ContentEncoding, CreateDocumentBody, DocumentListBody, PatchDocumentBody, StatsBody,
};

/// What the routes of documents work on. Cheap to clone.
#[derive(Clone)]
pub struct DocumentsState {
    /// The use cases.
    pub documents: Documents,
    /// How callers are told apart.
    pub access: Access,
    /// The writes under way.
    pub writes: Writes,
}

impl FromRef<DocumentsState> for Access {
    fn from_ref(state: &DocumentsState) -> Self {
        state.access.clone()
    }
}

impl FromRef<DocumentsState> for BodyLimit {
    fn from_ref(_: &DocumentsState) -> Self {
        Self::small()
    }
}

/// The routes of documents and their content.
pub fn routes(state: DocumentsState) -> OpenApiRouter {
    operations().with_state(state)
}

/// What these routes are, for a program that another one serves them for.
pub fn open_api() -> OpenApi {
    operations().into_openapi()
}

fn operations() -> OpenApiRouter<DocumentsState> {
    OpenApiRouter::new()
        .routes(routes!(create_document, list_documents))
        .routes(routes!(get_document, update_document, delete_document))
        .routes(routes!(content::get_document_content))
        .routes(routes!(get_document_stats))
}

/// An answer whose validity ends with the document's next version.
fn document_answer(status: StatusCode, document: &Document) -> Result<Response, Problem> {
    let mut response = json(status, document)?;
    let headers = response.headers_mut();
    headers.insert(header::ETAG, version_etag(document.version));
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    Ok(response)
}

/// Only the asker's own cache may keep it, and must ask again.
pub(super) const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Creates a document
///
/// From JSON, or from a form whose file is streamed.
#[utoipa::path(
    post, path = "/documents", tag = "documents",
    params(("Idempotency-Key" = Option<String>, Header, max_length = 255,
        description = "makes repeating the request safe for 24 hours")),
    request_body(
        content(
            (CreateDocumentBody = "application/json"),
            (CreateDocumentForm = "multipart/form-data"),
        ),
    ),
    responses(
        (status = 201, description = "the document", body = DocumentSchema, headers(
            ("Location" = String, description = "where the document is"),
            ("ETag" = String, description = "its version"),
            ("Idempotency-Replayed" = Option<bool>,
                description = "true if an earlier request had created it"),
        )),
        Conflicts, TooLarge, Refused,
    ),
)]
async fn create_document(
    Authenticated(caller): Authenticated,
    State(state): State<DocumentsState>,
    IdempotencyKeyHeader(key): IdempotencyKeyHeader,
    path: MatchedPath,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let content_bytes_max = state.documents.limits().content_bytes_max;
    let created = if is_json(&parts.headers) {
        let limit = BodyLimit::json(content_bytes_max);
        let body: CreateDocumentBody = parse(read_body(&parts.headers, body, limit).await?).await?;
        create_from_json(state, caller, body, key).await?
    } else if media_type(&parts.headers).as_deref() == Some("multipart/form-data") {
        let body = body_stream(&parts.headers, body, BodyLimit::form(content_bytes_max))?;
        let form = Form::new(&parts.headers, body)?;
        let documents = state.documents;
        uncancelled(&state.writes, async move {
            Ok(create_from_form(&documents, &caller, form, key.as_deref()).await?)
        })
        .await?
    } else {
        let accepted = "application/json or multipart/form-data";
        return Err(unsupported_media_type(accepted).into());
    };
    let document = created.resource;
    let mut response = document_answer(StatusCode::CREATED, &document)?;
    insert_location(&mut response, &path, document.id.as_uuid());
    if created.replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Tells that an earlier request with the key had made it.
pub(super) const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";

/// Tells where something new is: under the path it was posted to.
pub(super) fn insert_location(response: &mut Response, path: &MatchedPath, id: uuid::Uuid) {
    if let Ok(value) = HeaderValue::try_from(format!("{}/{id}", path.as_str())) {
        response.headers_mut().insert(header::LOCATION, value);
    }
}

async fn create_from_json(
    state: DocumentsState,
    caller: Caller,
    body: CreateDocumentBody,
    key: Option<String>,
) -> Result<Created<Document>, Problem> {
    let body_bytes = body.content.len();
    let content = match body.content_encoding.unwrap_or_default() {
        ContentEncoding::Utf8 => body.content.into_bytes(),
        ContentEncoding::Base64 => {
            let decode = move || validate::base64("content", &body.content);
            aside(body_bytes, decode).await?.map_err(|e| Error::invalid_fields(vec![e]))?
        }
    };
    let request = CreateDocument {
        title: body.title,
        created_by: body.created_by,
        content_type: body.content_type,
    };
    let documents = state.documents;
    uncancelled(&state.writes, async move {
        Ok(documents.create(&caller, request, pieces(content.into()), key.as_deref()).await?)
    })
    .await
}

/// Filters of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// How many at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only those with this status.
    #[param(value_type = Option<DocumentStatus>)]
    status: Option<String>,
    /// Only those of this creator.
    created_by: Option<String>,
}

impl ListParams {
    fn query(&self) -> dms_core::Result<ListQuery> {
        let mut refusals = Refusals::default();
        let limit = params::number("limit", self.limit.as_deref(), 20);
        let limit = limit.and_then(|limit| validate::page_size("limit", limit));
        let limit = refusals.take(limit).unwrap_or_default();
        let before = refusals.take(self.cursor.as_deref().map(cursor::decode).transpose());
        let status = refusals.take(params::status(self.status.as_deref()));
        let created_by = self.created_by.as_deref().map(validate::created_by).transpose();
        let created_by = refusals.take(created_by);
        refusals.finish()?;
        Ok(ListQuery {
            limit,
            before: before.flatten(),
            status: status.flatten(),
            created_by: created_by.flatten(),
        })
    }
}

/// Lists documents, newest first
#[utoipa::path(
    get, path = "/documents", tag = "documents", params(ListParams),
    responses((status = 200, description = "a page", body = DocumentListBody), Refused),
)]
async fn list_documents(
    Authenticated(caller): Authenticated,
    State(state): State<DocumentsState>,
    QueryParams(params): QueryParams<ListParams>,
) -> Result<Response, Problem> {
    let page = state.documents.list(&caller, &params.query()?).await?;
    let next_cursor = page.next.map(cursor::encode);
    json(StatusCode::OK, &DocumentListBody { documents: page.documents, next_cursor })
}

/// Reads a document
///
/// Counts a view; `HEAD` doesn't.
#[utoipa::path(
    get, path = "/documents/{id}", tag = "documents",
    params(
        ("id" = uuid::Uuid, Path, description = "the document"),
        ("If-None-Match" = Option<String>, Header, description = "versions the caller has"),
    ),
    responses(
        (status = 200, description = "the document", body = DocumentSchema,
            headers(("ETag" = String, description = "its version"))),
        (status = 304, description = "the caller has it"),
        NoSuchDocument, Refused,
    ),
)]
async fn get_document(
    Authenticated(caller): Authenticated,
    State(state): State<DocumentsState>,
    PathParam(id): PathParam<DocumentId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let document = match method {
        Method::HEAD => state.documents.peek(id).await?,
        _ => state.documents.get(&caller, id).await?,
    };
    let etag = version_etag(document.version);
    if none_match_names(&headers, &etag) {
        return Ok(not_modified(etag));
    }
    document_answer(StatusCode::OK, &document)
}

/// What the client has is still right.
pub(super) fn not_modified(etag: HeaderValue) -> Response {
    let headers = [(header::ETAG, etag), (header::CACHE_CONTROL, REVALIDATE)];
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

/// Changes a document
///
/// Setting what already is changes nothing.
#[utoipa::path(
    patch, path = "/documents/{id}", tag = "documents",
    params(
        ("id" = uuid::Uuid, Path, description = "the document"),
        ("If-Match" = Option<String>, Header, description = "versions that may be changed"),
    ),
    request_body = PatchDocumentBody,
    responses(
        (status = 200, description = "the document", body = DocumentSchema,
            headers(("ETag" = String, description = "its version"))),
        NoSuchDocument, VersionMoved, TooLarge, Refused,
    ),
)]
async fn update_document(
    Authenticated(caller): Authenticated,
    State(state): State<DocumentsState>,
    PathParam(id): PathParam<DocumentId>,
    headers: HeaderMap,
    StrictJson(body): StrictJson<PatchDocumentBody>,
) -> Result<Response, Problem> {
    let mut attempts = IfMatch::from_headers(&headers)?.attempts();
    let patch = DocumentPatch { status: body.status, title: body.title };
    let documents = state.documents;
    let document = uncancelled(&state.writes, async move {
        loop {
            let expected = attempts.expected();
            match documents.update(&caller, id, patch.clone(), expected).await {
                Err(error) if attempts.continue_after(&error) => {}
                outcome => break Ok(outcome?),
            }
        }
    })
    .await?;
    document_answer(StatusCode::OK, &document)
}

/// Deletes a document
#[utoipa::path(
    delete, path = "/documents/{id}", tag = "documents",
    params(
        ("id" = uuid::Uuid, Path, description = "the document"),
        ("If-Match" = Option<String>, Header, description = "versions that may be deleted"),
    ),
    responses((status = 204, description = "it's gone"), NoSuchDocument, VersionMoved, Refused),
)]
async fn delete_document(
    Authenticated(caller): Authenticated,
    State(state): State<DocumentsState>,
    PathParam(id): PathParam<DocumentId>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let mut attempts = IfMatch::from_headers(&headers)?.attempts();
    let documents = state.documents;
    uncancelled(&state.writes, async move {
        loop {
            match documents.delete(&caller, id, attempts.expected()).await {
                Err(error) if attempts.continue_after(&error) => {}
                outcome => break Ok(outcome?),
            }
        }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Counts the views of a document
///
/// Exact at once after the views.
#[utoipa::path(
    get, path = "/documents/{id}/stats", tag = "documents",
    params(("id" = uuid::Uuid, Path, description = "the document")),
    responses((status = 200, description = "the counts", body = StatsBody), NoSuchDocument, Refused),
)]
async fn get_document_stats(
    Authenticated(caller): Authenticated,
    State(state): State<DocumentsState>,
    PathParam(id): PathParam<DocumentId>,
) -> Result<Response, Problem> {
    let stats = state.documents.stats(&caller, id).await?;
    json(
        StatusCode::OK,
        &StatsBody {
            document_id: id,
            total_views: stats.total_views,
            unique_views: stats.unique_views,
        },
    )
}
