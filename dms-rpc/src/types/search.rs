//! Search.

use dms_core::model::search::{Bucket, SearchHit};
use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
use super::schema;

/// One page of hits, best first: `GET /search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = SearchResults))]
pub struct SearchBody {
    /// How many documents match in all.
    pub total: u64,
    /// The page.
    #[cfg_attr(feature = "server", schema(value_type = Vec<schema::SearchHit>))]
    pub documents: Vec<SearchHit>,
    /// How long the search took, in milliseconds.
    pub took_ms: u64,
    /// How many hits were skipped.
    pub from: u32,
    /// How many hits were asked for.
    pub size: u32,
}

/// Values of a field and how many documents have them: `GET /aggregations/{field}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = Aggregation))]
pub struct AggregationBody {
    /// The field.
    pub field: String,
    /// Its values, most first.
    #[cfg_attr(feature = "server", schema(value_type = Vec<schema::Bucket>))]
    pub values: Vec<Bucket>,
}
