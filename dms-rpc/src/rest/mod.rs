//! The REST server: routers, and what every route needs.
//!
//! A service takes the routes it serves, adds its own, and puts them behind [`app`]:
//!
//! ```
//! use dms_rpc::rest::{self, Access, DocumentsState, LayerOptions, Writes};
//! # fn documents() -> dms_core::use_cases::Documents { unimplemented!() }
//! # fn service() -> dms_core::Result<axum::Router> {
//! let access = Access::default();
//! let writes = Writes::new();
//! let routes = rest::documents::routes(DocumentsState {
//!     documents: documents(),
//!     access: access.clone(),
//!     writes: writes.clone(),
//! });
//! let app = rest::app(routes, access, &LayerOptions::default())?;
//! // Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, so that callers have an
//! // address. After the last connection: `writes.close(); writes.wait().await`.
//! # Ok(app)
//! # }
//! ```
//!
//! Handlers fail with [`Problem`] and take [`Authenticated`] first. A write runs inside
//! [`uncancelled`], so that a client that goes away doesn't leave it half done.

pub mod access;
pub mod body;
pub mod conditions;
mod content;
pub mod cursor;
mod disposition;
pub mod documents;
mod form;
mod json;
mod layers;
pub mod open_api;
mod params;
mod problem;
mod range;
pub mod search;
pub mod signatures;
mod writes;

use axum::Router;
use dms_core::Result;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use access::{Access, Anonymous, Authenticated};
pub use body::BodyLimit;
pub use documents::DocumentsState;
pub use json::StrictJson;
pub use layers::{LayerOptions, layers};
pub use params::{IdempotencyKeyHeader, PathParam, QueryParams};
pub use problem::{PROBLEM_JSON, Problem, method_not_allowed, route_not_found};
pub use search::SearchState;
pub use signatures::SignaturesState;
pub use writes::{Writes, uncancelled};

/// What all routes work on.
#[derive(Clone)]
pub struct RestState {
    /// Documents.
    pub documents: DocumentsState,
    /// Signatures.
    pub signatures: SignaturesState,
    /// Search.
    pub search: SearchState,
}

/// The routes of documents, signatures and search.
pub fn routes(state: RestState) -> OpenApiRouter {
    documents::routes(state.documents)
        .merge(signatures::routes(state.signatures))
        .merge(search::routes(state.search))
}

/// The same routes under `/` and under `/v1`.
pub fn versioned(router: Router) -> Router {
    router.clone().nest("/v1", router)
}

/// A service: its routes with their `OpenAPI` document and page, under `/` and `/v1`, behind
/// [`layers`].
///
/// # Errors
/// `Internal` if the document can't be written.
pub fn app(routes: OpenApiRouter, access: Access, options: &LayerOptions) -> Result<Router> {
    app_with_others(routes, [], access, options)
}

/// As [`app`], for the service that a gateway leads `/openapi.json` to: the document tells also what
/// other services answer behind the same gateway.
///
/// # Errors
/// `Internal` if the document can't be written.
pub fn app_with_others(
    routes: OpenApiRouter,
    others: impl IntoIterator<Item = OpenApi>,
    access: Access,
    options: &LayerOptions,
) -> Result<Router> {
    let (router, mut document) = routes.split_for_parts();
    for other in others {
        document.merge(other);
    }
    open_api::complete(&mut document, &access);
    let router = router.merge(open_api::router(&document, access)?);
    Ok(layers(versioned(router), options))
}

#[cfg(test)]
mod tests;
