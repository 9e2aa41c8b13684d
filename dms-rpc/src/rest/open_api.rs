//! The `OpenAPI` document: what all operations share, and the page to try it from.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use dms_core::Error;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, License, OpenApi, Ref, RefOr, ResponseBuilder,
    SecurityRequirement, Server,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};
use utoipa_swagger_ui::Config;

use super::access::{Access, Authenticated};
use super::problem::{PROBLEM_JSON, Problem, route_not_found};
use crate::types::{FieldProblem, ProblemBody};

type Responses = BTreeMap<String, RefOr<utoipa::openapi::Response>>;

/// A response with a problem.
fn problem(description: &str) -> RefOr<utoipa::openapi::Response> {
    let schema = Ref::from_schema_name(ProblemBody::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build().into()
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $description:literal,)+ })+) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> Responses {
                [$(($status.to_owned(), problem($description))),+].into()
            }
        }
    )+};
}

problems! {
    /// Of routes that name a document.
    NoSuchDocument { "404": "there is no such document", }
    /// Of routes that name a signature.
    NoSuchSignature { "404": "there is no such signature", }
    /// Of conditional writes.
    VersionMoved {
        "400": "not JSON, or `If-Match` can't be read",
        "412": "the document isn't at the version that was named; `ETag` says where it is",
    }
    /// Of creations.
    Conflicts {
        "400": "the body can't be read or breaks off",
        "409": "it's there already, or a request with the key is still running",
    }
    /// Of routes that take a body.
    TooLarge {
        "413": "the body is too large",
        "415": "the body's media type isn't understood",
    }
    /// Of downloads.
    NoSuchRange { "416": "the range lies behind the end", }
    /// Of routes that take values.
    Refused { "422": "a value isn't acceptable; `errors` says which", }
}

/// Completes a document that was merged from routes: title, servers, security, and the problems that
/// any operation can end with.
pub fn complete(document: &mut OpenApi, access: &Access) {
    document.info = InfoBuilder::new()
        .title("Documents")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Documents that are stored, signed, searchable and live."))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))))
        .build();
    document.servers = Some(vec![Server::new("/"), Server::new("/v1")]);
    let components = document.components.get_or_insert_with(Components::new);
    for (name, schema) in [
        (ProblemBody::name(), ProblemBody::schema()),
        (FieldProblem::name(), FieldProblem::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let token = SecurityRequirement::new("bearer", Vec::<String>::new());
    let mut security = vec![token];
    if !access.authentication.is_required() {
        security.push(SecurityRequirement::default());
    }
    document.security = Some(security);
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
            &mut item.head,
        ];
        operations.into_iter().flatten().for_each(add_common_problems);
    }
}

fn add_common_problems(operation: &mut Operation) {
    for (status, description) in [
        ("401", "a token is required, or this one isn't valid"),
        ("500", "it failed for a reason inside"),
        ("503", "try again later"),
        ("504", "the deadline passed; it may have taken effect"),
    ] {
        let responses = &mut operation.responses.responses;
        responses.entry(status.into()).or_insert_with(|| problem(description));
    }
}

/// Serves a complete document as `/openapi.json`, and a page to try it from as `/docs`.
///
/// The page comes from the program itself and loads nothing from elsewhere. With authentication
/// required both ask for a token.
pub fn router(document: &OpenApi, access: Access) -> Result<Router, Error> {
    let json = serde_json::to_vec(document)
        .map_err(|e| Error::internal("the OpenAPI document can't be written").with_source(e))?;
    // Relative, so that it's right under any prefix; the validator would be somebody else's.
    let config = Config::new(["../openapi.json"]).validator_url("none").try_it_out_enabled(true);
    let state = PageState { access, json: json.into(), config: Arc::new(config) };
    Ok(Router::new()
        .route("/openapi.json", get(open_api_json))
        .route("/docs", get(docs_redirect))
        .route("/docs/", get(docs_index))
        .route("/docs/{file}", get(docs_file))
        .with_state(state))
}

#[derive(Clone)]
struct PageState {
    access: Access,
    json: Bytes,
    config: Arc<Config<'static>>,
}

impl FromRef<PageState> for Access {
    fn from_ref(state: &PageState) -> Self {
        state.access.clone()
    }
}

/// The page's own scripts and nothing else; its styles are set by scripts.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

async fn open_api_json(_: Authenticated, State(state): State<PageState>) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, NO_CACHE)];
    (headers, state.json).into_response()
}

async fn docs_redirect(_: Authenticated) -> Response {
    let location = [(header::LOCATION, HeaderValue::from_static("docs/"))];
    (StatusCode::TEMPORARY_REDIRECT, location).into_response()
}

async fn docs_index(_: Authenticated, state: State<PageState>) -> Result<Response, Problem> {
    page_file("index.html", state).await
}

async fn docs_file(
    _: Authenticated,
    Path(file): Path<String>,
    state: State<PageState>,
) -> Result<Response, Problem> {
    page_file(&file, state).await
}

async fn page_file(name: &str, State(state): State<PageState>) -> Result<Response, Problem> {
    let file = utoipa_swagger_ui::serve(name, state.config)
        .map_err(|e| Error::internal("the page can't be written").with_source(e.to_string()))?;
    let Some(file) = file else { return Err(route_not_found().await) };
    let mut response = Response::new(Body::from(file.bytes.into_owned()));
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::try_from(file.content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if file.gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    Ok(response)
}
