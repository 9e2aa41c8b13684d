//! Elasticsearch, asked past the product.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::system::{eventually, variable};

/// Documents read at once.
const PAGE: usize = 5_000;

/// Version of each document by its id, and whether it is deleted.
pub(crate) type Versions = BTreeMap<String, (i64, bool)>;

#[derive(Clone)]
pub(crate) struct Elasticsearch {
    pub(crate) http: Client,
    pub(crate) url: String,
}

impl Elasticsearch {
    /// With connections of its own.
    pub(crate) fn new() -> Self {
        let http = Client::builder().timeout(Duration::from_mins(1)).no_proxy().build();
        let url = variable("DMS_TEST_ELASTICSEARCH_URL", "http://127.0.0.1:9200");
        Self { http: http.expect("a client"), url }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, address)| address)
    }

    /// How a program is told to use the index behind an alias.
    pub(crate) fn index_url(&self, alias: &str) -> String {
        format!("{}/{alias}", self.url)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, String) {
        let mut request = self.http.request(method, format!("{}/{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("Elasticsearch runs");
        (answer.status(), answer.text().await.expect("a whole answer"))
    }

    /// What must succeed.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, text) = self.ask(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error} in {text}"))
    }

    /// How the product has made the index behind an alias, once it is complete, so that others can be
    /// made like it.
    pub(crate) async fn definition(&self, alias: &str) -> Value {
        let mut definition = Value::Null;
        eventually("the index is made", async || {
            let (status, text) = self.ask(Method::GET, alias, None).await;
            if !status.is_success() {
                return false;
            }
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            let Some(found) = answer.as_object().and_then(|indices| indices.values().next()) else {
                return false;
            };
            definition = json!({ "mappings": found["mappings"], "settings": { "index": {} } });
            for name in ["number_of_shards", "refresh_interval", "auto_expand_replicas"] {
                definition["settings"]["index"][name] = found["settings"]["index"][name].clone();
            }
            found["mappings"]["_meta"]["dms"]["built"] == json!(true)
        })
        .await;
        definition
    }

    /// An empty index behind an alias, which the product takes for its own and complete.
    pub(crate) async fn make(&self, alias: &str, definition: &Value) {
        let mut definition = definition.clone();
        definition["aliases"] = json!({ alias: {} });
        self.call(Method::PUT, &format!("{alias}-v1"), Some(definition)).await;
    }

    pub(crate) async fn delete(&self, alias: &str) {
        self.call(Method::DELETE, &format!("{alias}-v1"), None).await;
    }

    /// How many documents are there, marks too; makes them visible first.
    pub(crate) async fn count(&self, alias: &str) -> u64 {
        self.call(Method::POST, &format!("{alias}/_refresh"), None).await;
        let answer = self.call(Method::GET, &format!("{alias}/_count"), None).await;
        answer["count"].as_u64().expect("a count")
    }

    /// Number of documents and marks, and the sum of their versions; makes them visible first. Every
    /// change makes the sum greater, so it tells when all have come.
    pub(crate) async fn sum(&self, alias: &str) -> [u64; 2] {
        self.call(Method::POST, &format!("{alias}/_refresh"), None).await;
        let question = json!({
            "size": 0, "track_total_hits": true,
            "aggs": { "versions": { "sum": { "field": "version" } } },
        });
        let answer = self.call(Method::POST, &format!("{alias}/_search"), Some(question)).await;
        let count = answer["hits"]["total"]["value"].as_u64().expect("a count");
        let sum = answer["aggregations"]["versions"]["value"].as_f64().expect("a sum");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number"
        )]
        let sum = sum as u64;
        [count, sum]
    }

    /// Everything.
    pub(crate) async fn versions(&self, alias: &str) -> Versions {
        let mut versions = Versions::new();
        let mut after: Option<Value> = None;
        loop {
            let mut question = json!({
                "size": PAGE, "sort": [{ "id": "asc" }], "_source": ["version", "deleted"],
            });
            if let Some(after) = after {
                question["search_after"] = after;
            }
            let answer = self.call(Method::POST, &format!("{alias}/_search"), Some(question)).await;
            let hits = answer["hits"]["hits"].as_array().expect("hits");
            for hit in hits {
                let id = hit["_id"].as_str().expect("an id").to_owned();
                let version = hit["_source"]["version"].as_i64().expect("a version");
                let is_deleted = hit["_source"]["deleted"] == json!(true);
                versions.insert(id, (version, is_deleted));
            }
            match hits.last() {
                Some(last) => after = Some(last["sort"].clone()),
                None => return versions,
            }
        }
    }

    /// Those of some documents that a search finds.
    pub(crate) async fn found(&self, alias: &str, ids: &[String]) -> Vec<String> {
        let question = json!({
            "size": ids.len(), "_source": false, "track_total_hits": false,
            "query": { "bool": { "filter": { "terms": { "id": ids } } } },
        });
        let answer = self.call(Method::POST, &format!("{alias}/_search"), Some(question)).await;
        let hits = answer["hits"]["hits"].as_array().expect("hits");
        hits.iter().filter_map(|hit| Some(hit["_id"].as_str()?.to_owned())).collect()
    }

    /// Removes every index whose name begins so.
    pub(crate) async fn remove(&self, prefix: &str) {
        let (_, names) =
            self.ask(Method::GET, &format!("_cat/indices/{prefix}*?h=index"), None).await;
        for name in names.split_whitespace() {
            let _ = self.ask(Method::DELETE, name, None).await;
        }
    }
}
