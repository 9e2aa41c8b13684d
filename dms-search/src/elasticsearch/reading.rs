//! Answers of searches, and the highlights that are made here: by the same rules as in every other
//! index, whatever highlighter Elasticsearch has.

use std::collections::HashMap;
use std::time::Duration;

use dms_core::model::change::DocumentRow;
use dms_core::model::highlight::{FragmentLimits, Highlighter};
use dms_core::model::search::{
    AggregationQuery, Bucket, Highlights, IndexVersion, SearchHit, SearchQuery, SearchResults,
};
use dms_core::model::text::TextFormat;
use dms_core::model::text_query::TextQuery;
use dms_core::{Document, DocumentId, Error, Result};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Class, Payload};
use super::error::{Refusal, of_refusal, unreadable};
use super::query::{self, VALUES};
use super::{DEPENDENCY, ElasticsearchIndex};

/// How many bytes of text are fetched for the fragments of one page.
const PAGE_TEXT_BYTES_MAX: u64 = 8 << 20;

#[derive(Deserialize)]
struct Found<H> {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits<H>,
    #[serde(default)]
    aggregations: HashMap<String, Values>,
}

#[derive(Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
struct Hits<H> {
    #[serde(default)]
    total: Option<Total>,
    hits: Vec<H>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_score")]
    score: Option<f32>,
    #[serde(rename = "_source")]
    row: DocumentRow,
}

#[derive(Deserialize)]
struct Values {
    buckets: Vec<FieldValue>,
}

#[derive(Deserialize)]
struct FieldValue {
    key: String,
    doc_count: u64,
}

#[derive(Deserialize)]
struct VersionHit {
    #[serde(rename = "_id")]
    id: DocumentId,
    fields: VersionFields,
}

#[derive(Deserialize)]
struct VersionFields {
    version: [i32; 1],
    deleted: [bool; 1],
}

#[derive(Deserialize)]
struct Fetched<S> {
    docs: Vec<FetchedDocument<S>>,
}

#[derive(Deserialize)]
struct FetchedDocument<S> {
    #[serde(rename = "_id")]
    id: DocumentId,
    #[serde(rename = "_version", default)]
    version: Option<i32>,
    #[serde(default)]
    found: bool,
    #[serde(rename = "_source", default = "Option::default")]
    source: Option<S>,
    #[serde(default)]
    error: Option<Refusal>,
}

impl<S> Fetched<S> {
    /// The documents, unless one of them couldn't be looked up.
    fn all(self) -> Result<Vec<FetchedDocument<S>>> {
        let document = |mut document: FetchedDocument<S>| match document.error.take() {
            Some(refusal) => Err(of_refusal(StatusCode::SERVICE_UNAVAILABLE, refusal)),
            None => Ok(document),
        };
        self.docs.into_iter().map(document).collect()
    }
}

#[derive(Deserialize)]
struct Deleted {
    deleted: bool,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    content: String,
}

#[derive(Deserialize)]
struct Counted {
    count: u64,
}

impl<H> Found<H> {
    /// This answer, if it is about everything there is.
    fn whole(self) -> Result<Self> {
        if self.timed_out || self.shards.failed > 0 {
            return Err(Error::unavailable(DEPENDENCY, "the search index is overloaded"));
        }
        Ok(self)
    }

    fn total(&self) -> u64 {
        self.hits.total.as_ref().map_or(0, |total| total.value)
    }
}

impl ElasticsearchIndex {
    /// The request that a search is, as JSON; none if nothing is asked because nothing can be found.
    #[doc(hidden)]
    pub fn search_request(query: &SearchQuery, time_max: Duration) -> Option<String> {
        let text = query.text.as_deref().and_then(TextQuery::parse);
        if text.as_ref().is_some_and(TextQuery::is_empty) {
            return None;
        }
        Some(query::search(query, text.as_ref(), time_max).to_string())
    }

    pub(super) async fn find(&self, query: &SearchQuery) -> Result<SearchResults> {
        let text = query.text.as_deref().and_then(TextQuery::parse);
        if text.as_ref().is_some_and(TextQuery::is_empty) {
            return Ok(SearchResults::default());
        }
        let body = query::search(query, text.as_ref(), self.shared.options.search_time_max);
        let found: Found<Hit> = self.ask(body).await?;
        let total = found.total();
        let mut hits = Vec::with_capacity(found.hits.hits.len());
        for Hit { score, row } in found.hits.hits {
            let document = row.into_document().ok_or_else(|| unreadable("lacks content"))?;
            let score = score.unwrap_or_default();
            hits.push(SearchHit { document, score, highlights: Highlights::default() });
        }
        if let Some(text) = text.filter(TextQuery::is_scored) {
            self.highlight(&Highlighter::new(&text), &mut hits).await?;
        }
        Ok(SearchResults { total, hits })
    }

    async fn highlight(&self, highlighter: &Highlighter, hits: &mut [SearchHit]) -> Result<()> {
        let mut bytes_left = PAGE_TEXT_BYTES_MAX;
        let ids: Vec<_> = hits
            .iter()
            .map(|hit| &hit.document)
            .filter(|document| has_text(document))
            .take_while(|document| {
                let bytes =
                    document.content_size.min(FragmentLimits::default().scan_bytes_max as u64);
                let fits = bytes <= bytes_left;
                bytes_left = bytes_left.saturating_sub(bytes);
                fits
            })
            .map(|document| document.id)
            .collect();
        let texts = if ids.is_empty() { HashMap::new() } else { self.texts(&ids).await? };
        for hit in hits {
            let text = texts.get(&hit.document.id).map_or("", String::as_str);
            hit.highlights = Highlights {
                title: highlighter.whole(&hit.document.title).into_iter().collect(),
                content: highlighter.fragments(text, FragmentLimits::default()),
            };
        }
        Ok(())
    }

    async fn texts(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, String>> {
        let path = format!("{}/_mget?realtime=false&_source_includes=content", self.alias);
        let payload = Payload::Json(json!({ "ids": ids }));
        let client = &self.shared.client;
        let fetched: Fetched<Content> =
            client.json(Class::Search, Method::POST, &path, payload).await?;
        let texts = fetched
            .all()?
            .into_iter()
            .filter_map(|document| document.source.map(|source| (document.id, source.content)));
        Ok(texts.collect())
    }

    pub(super) async fn values(&self, query: &AggregationQuery) -> Result<Vec<Bucket>> {
        let text = query.text.as_deref().and_then(TextQuery::parse);
        if text.as_ref().is_some_and(TextQuery::is_empty) {
            return Ok(Vec::new());
        }
        let body = query::aggregation(query, text.as_ref(), self.shared.options.search_time_max);
        let mut found: Found<Value> = self.ask(body).await?;
        let values = found.aggregations.remove(VALUES).ok_or_else(|| unreadable("lacks values"))?;
        let bucket = |value: FieldValue| Bucket { key: value.key, count: value.doc_count };
        Ok(values.buckets.into_iter().map(bucket).collect())
    }

    pub(super) async fn number(&self) -> Result<u64> {
        let path = format!("{}/_count", self.alias);
        let payload = Payload::Json(json!({ "query": query::everything() }));
        let client = &self.shared.client;
        let counted: Counted = client.json(Class::Search, Method::POST, &path, payload).await?;
        Ok(counted.count)
    }

    pub(super) async fn versions_after(
        &self,
        after: Option<DocumentId>,
        limit: u32,
    ) -> Result<Vec<IndexVersion>> {
        let found: Found<VersionHit> =
            self.ask_as(Class::Admin, query::versions(after, limit)).await?;
        let version = |hit: VersionHit| IndexVersion {
            id: hit.id,
            version: hit.fields.version[0],
            deleted: hit.fields.deleted[0],
        };
        Ok(found.hits.hits.into_iter().map(version).collect())
    }

    /// Reads past what searches see: what was written is there at once.
    pub(super) async fn versions_now(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let path = format!("{}/_mget?realtime=true&_source_includes=deleted", self.alias);
        let payload = Payload::Json(json!({ "ids": ids }));
        let client = &self.shared.client;
        let fetched: Fetched<Deleted> =
            client.json(Class::Admin, Method::POST, &path, payload).await?;
        let version = |document: FetchedDocument<Deleted>| {
            let deleted = document.source.is_some_and(|source| source.deleted);
            let version = document.version.filter(|_| document.found)?;
            Some(IndexVersion { id: document.id, version, deleted })
        };
        Ok(fetched.all()?.into_iter().filter_map(version).collect())
    }

    async fn ask<H: serde::de::DeserializeOwned>(&self, body: Value) -> Result<Found<H>> {
        self.ask_as(Class::Search, body).await
    }

    async fn ask_as<H: serde::de::DeserializeOwned>(
        &self,
        class: Class,
        body: Value,
    ) -> Result<Found<H>> {
        let path = format!("{}/_search?allow_partial_search_results=false", self.alias);
        let payload = Payload::Json(body);
        let found: Found<H> = self.shared.client.json(class, Method::POST, &path, payload).await?;
        found.whole()
    }
}

/// Whether a document may have text to look through.
fn has_text(document: &Document) -> bool {
    document.content_size > 0 && TextFormat::of(&document.content_type).is_some()
}
