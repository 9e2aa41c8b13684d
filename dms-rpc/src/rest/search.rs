//! `/search` and `/aggregations`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::Response;
use dms_core::model::search::{AggregationField, AggregationQuery, SearchQuery};
use dms_core::ports::SearchIndex;
use dms_core::validate::{self, Refusals};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{Access, Authenticated};
use super::json::json;
use super::open_api::Refused;
use super::params::{self, PathParam, QueryParams};
use super::problem::Problem;
use crate::types::schema::{AggregationFieldSchema, DocumentStatus};
use crate::types::{AggregationBody, SearchBody};

/// What the routes of search work on. Cheap to clone.
#[derive(Clone)]
pub struct SearchState {
    /// The index.
    pub index: Arc<dyn SearchIndex>,
    /// How callers are told apart.
    pub access: Access,
}

impl FromRef<SearchState> for Access {
    fn from_ref(state: &SearchState) -> Self {
        state.access.clone()
    }
}

/// The routes of search.
pub fn routes(state: SearchState) -> OpenApiRouter {
    operations().with_state(state)
}

/// What these routes are, for a program that another one serves them for.
pub fn open_api() -> OpenApi {
    operations().into_openapi()
}

fn operations() -> OpenApiRouter<SearchState> {
    OpenApiRouter::new().routes(routes!(search_documents)).routes(routes!(aggregate_documents))
}

/// A search.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SearchParams {
    /// Words; without any, all documents match.
    #[param(max_length = 1000)]
    q: Option<String>,
    /// Only those with this status.
    #[param(value_type = Option<DocumentStatus>)]
    status: Option<String>,
    /// Only those of this creator.
    created_by: Option<String>,
    /// Only those of this media type.
    content_type: Option<String>,
    /// How many hits to skip; `from + size` is at most 10 000.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 10_000, default = 0)]
    from: Option<String>,
    /// How many hits to give.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 100, default = 10)]
    size: Option<String>,
}

impl SearchParams {
    fn query(self) -> dms_core::Result<SearchQuery> {
        let mut refusals = Refusals::default();
        let filter = params::filter(
            &mut refusals,
            self.status.as_deref(),
            self.created_by.as_deref(),
            self.content_type.as_deref(),
        );
        let from = refusals.take(params::number("from", self.from.as_deref(), 0));
        let size = refusals.take(params::number("size", self.size.as_deref(), 10));
        refusals.finish()?;
        let query = SearchQuery {
            text: params::search_text(self.q),
            filter,
            from: from.unwrap_or_default(),
            size: size.unwrap_or_default(),
        };
        validate::search(&query)?;
        Ok(query)
    }
}

/// Searches documents, best first
///
/// Ties are newest first, so pages don't overlap. Without words everything, newest first.
#[utoipa::path(
    get, path = "/search", tag = "search", params(SearchParams),
    responses((status = 200, description = "a page of hits", body = SearchBody), Refused),
)]
async fn search_documents(
    Authenticated(_caller): Authenticated,
    State(state): State<SearchState>,
    QueryParams(params): QueryParams<SearchParams>,
) -> Result<Response, Problem> {
    let query = params.query()?;
    let began = Instant::now();
    let results = state.index.search(&query).await?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    json(
        StatusCode::OK,
        &SearchBody {
            total: results.total,
            documents: results.hits,
            took_ms,
            from: query.from,
            size: query.size,
        },
    )
}

/// What is counted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AggregationParams {
    /// Words; without any, all documents match.
    #[param(max_length = 1000)]
    q: Option<String>,
    /// Only those with this status.
    #[param(value_type = Option<DocumentStatus>)]
    status: Option<String>,
    /// Only those of this creator.
    created_by: Option<String>,
    /// Only those of this media type.
    content_type: Option<String>,
    /// How many values at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 10)]
    size: Option<String>,
}

impl AggregationParams {
    fn query(self, field: AggregationField) -> dms_core::Result<AggregationQuery> {
        let mut refusals = Refusals::default();
        let filter = params::filter(
            &mut refusals,
            self.status.as_deref(),
            self.created_by.as_deref(),
            self.content_type.as_deref(),
        );
        let size = refusals.take(params::number("size", self.size.as_deref(), 10));
        refusals.finish()?;
        let text = params::search_text(self.q);
        let query = AggregationQuery { field, text, filter, size: size.unwrap_or_default() };
        validate::aggregation(&query)?;
        Ok(query)
    }
}

/// Counts the values of a field, most first
///
/// Over the documents that a search with the same parameters finds.
#[utoipa::path(
    get, path = "/aggregations/{field}", tag = "search",
    params(("field" = inline(AggregationFieldSchema), Path, description = "the field"), AggregationParams),
    responses((status = 200, description = "the values", body = AggregationBody), Refused),
)]
async fn aggregate_documents(
    Authenticated(_caller): Authenticated,
    State(state): State<SearchState>,
    PathParam(field): PathParam<AggregationField>,
    QueryParams(params): QueryParams<AggregationParams>,
) -> Result<Response, Problem> {
    let query = params.query(field)?;
    let values = state.index.aggregate(&query).await?;
    json(StatusCode::OK, &AggregationBody { field: field.as_str().into(), values })
}
