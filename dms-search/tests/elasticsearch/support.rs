//! An index of its own for each test.

use std::time::Duration;

use dms_core::model::change::DocumentRow;
use dms_core::model::search::IndexEntry;
use dms_core::{DocumentId, DocumentStatus, Sha256};
use dms_search::{ElasticsearchIndex, ElasticsearchOptions};
use serde_json::Value;
use time::macros::datetime;

/// Where Elasticsearch is.
pub(crate) fn url() -> String {
    std::env::var("DMS_TEST_ELASTICSEARCH_URL").unwrap_or_else(|_| "http://127.0.0.1:9200".into())
}

/// Options for an index that nobody else uses.
pub(crate) fn options() -> ElasticsearchOptions {
    ElasticsearchOptions {
        alias: format!("test-{}", uuid::Uuid::now_v7().simple()),
        write_time_max: Duration::from_mins(1),
        search_time_max: Duration::from_secs(20),
        build_lease: Duration::from_millis(1_200),
        ..ElasticsearchOptions::new(url())
    }
}

/// Removes what a test made when it ends.
pub(crate) struct Cleanup(pub(crate) String);

impl Cleanup {
    /// Removes all indexes of the test's alias.
    pub(crate) async fn remove(self) {
        for (name, _) in indexes(&self.0).await {
            raw("DELETE", &name, None).await;
        }
    }
}

/// An index with options of its own.
pub(crate) fn open(options: &ElasticsearchOptions) -> (ElasticsearchIndex, Cleanup) {
    let index = ElasticsearchIndex::new(options.clone()).unwrap();
    (index, Cleanup(options.alias.clone()))
}

/// Asks Elasticsearch itself; the status and the answer.
pub(crate) async fn raw(method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client.request(method, format!("{}/{path}", url()));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.expect("Elasticsearch answers");
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// The indexes of an alias, by name, with their aliases.
pub(crate) async fn indexes(alias: &str) -> Vec<(String, Vec<String>)> {
    let (_, all) = raw("GET", &format!("{alias}-v*/_alias"), None).await;
    let mut all: Vec<_> = all
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, of)| {
            let aliases = of["aliases"].as_object().into_iter().flatten();
            (name.clone(), aliases.map(|(alias, _)| alias.clone()).collect())
        })
        .collect();
    all.sort();
    all
}

pub(crate) fn entry(title: &str, text: &str) -> IndexEntry {
    let id = DocumentId::generate();
    let at = datetime!(2026-01-02 03:04:05.678901 UTC);
    let row = DocumentRow {
        id,
        title: title.to_owned(),
        content_type: "text/plain".to_owned(),
        content_size: text.len() as u64,
        content_sha256: Some(Sha256::of(text.as_bytes())),
        s3_key: Some(format!("{id}/content")),
        status: DocumentStatus::Created,
        created_by: "ann@example.org".to_owned(),
        created_at: at,
        updated_at: at,
        version: 1,
        deleted: false,
    };
    IndexEntry { row, text: text.to_owned() }
}

pub(crate) fn changed(entry: &IndexEntry, change: impl FnOnce(&mut DocumentRow)) -> IndexEntry {
    let mut entry = entry.clone();
    entry.row.version += 1;
    change(&mut entry.row);
    entry
}
