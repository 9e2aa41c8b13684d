//! Calls that search.

use dms_core::model::search::{AggregationQuery, SearchFilter, SearchQuery};

use super::transport::Repeat;
use super::{ClientResult, DmsClient};
use crate::types::{AggregationBody, SearchBody};

impl DmsClient {
    /// Searches. Best hits first; without text everything, newest first.
    ///
    /// # Errors
    /// Status 422 for values out of bounds.
    pub async fn search(&self, query: &SearchQuery) -> ClientResult<SearchBody> {
        let mut pairs = pairs(query.text.as_deref(), &query.filter);
        pairs.push(("from", query.from.to_string()));
        pairs.push(("size", query.size.to_string()));
        self.json(Repeat::Safely, || self.get(&["search"]).query(&pairs)).await
    }

    /// Counts the values of a field over the documents that a search would find.
    ///
    /// # Errors
    /// Status 422 for values out of bounds.
    pub async fn aggregate(&self, query: &AggregationQuery) -> ClientResult<AggregationBody> {
        let mut pairs = pairs(query.text.as_deref(), &query.filter);
        pairs.push(("size", query.size.to_string()));
        let path = ["aggregations", query.field.as_str()];
        self.json(Repeat::Safely, || self.get(&path).query(&pairs)).await
    }
}

fn pairs(text: Option<&str>, filter: &SearchFilter) -> Vec<(&'static str, String)> {
    let pairs = [
        ("q", text.map(str::to_owned)),
        ("status", filter.status.map(|status| status.to_string())),
        ("created_by", filter.created_by.clone()),
        ("content_type", filter.content_type.clone()),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
