//! How documents are laid out in Elasticsearch, and what is sent of each.
//!
//! The fields are those of the contract, in the names and types that anybody who reads the index
//! relies on. Words are found in three fields of their own below `words`: they hold the words of
//! title, creator and content, normalised by [`dms_core::model::words`] and separated by spaces, so
//! that the same text finds the same documents as in every other index, whatever analyzers
//! Elasticsearch has. They are indexed, not stored.

use std::collections::HashSet;
use std::time::Duration;

use dms_core::model::change::DocumentRow;
use dms_core::model::search::IndexEntry;
use dms_core::model::words::{normalize_into, words};
use dms_core::{DocumentId, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::options::ElasticsearchOptions;

/// Raised whenever documents have to be laid out or analysed anew.
pub(super) const MAPPING: u32 = 1;

/// What an index says of itself, in the mapping's `_meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// By which [`MAPPING`] it was made.
    pub(super) mapping: u32,
    /// Whether it was filled to the end.
    pub(super) built: bool,
    /// Who is filling it.
    #[serde(default)]
    pub(super) builder: Option<String>,
    /// Raised by who fills it, as a sign of life.
    #[serde(default)]
    pub(super) beat: u64,
}

impl Meta {
    /// Of an empty index.
    pub(super) const fn new(builder: Option<String>) -> Self {
        Self { mapping: MAPPING, built: false, builder, beat: 0 }
    }

    /// As it stands in the mapping.
    pub(super) fn to_json(&self) -> Value {
        json!({ "dms": self })
    }
}

/// The mapping of an index, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Mapping {
    #[serde(rename = "_meta", default)]
    meta: Option<MappingMeta>,
    #[serde(default)]
    properties: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct MappingMeta {
    #[serde(default)]
    dms: Option<Meta>,
}

impl Mapping {
    /// What the index says of itself; none if it isn't one of ours.
    pub(super) fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()?.dms.as_ref()
    }

    /// The fields it has.
    pub(super) fn fields(&self) -> HashSet<String> {
        self.properties.keys().cloned().collect()
    }
}

/// What an index is made of.
pub(super) fn index(
    options: &ElasticsearchOptions,
    meta: &Meta,
    refresh: Option<Duration>,
) -> Value {
    let mut settings = json!({
        "number_of_shards": options.shards,
        "refresh_interval": interval(refresh),
    });
    match options.replicas {
        Some(replicas) => settings["number_of_replicas"] = replicas.into(),
        None => settings["auto_expand_replicas"] = "0-1".into(),
    }
    json!({
        "settings": { "index": settings },
        "mappings": {
            "dynamic": "strict",
            "_meta": meta.to_json(),
            "_source": { "excludes": ["words"] },
            "properties": properties(),
        },
    })
}

/// A refresh interval as Elasticsearch writes it; none never refreshes by itself.
pub(super) fn interval(refresh: Option<Duration>) -> String {
    match refresh {
        Some(every) => format!("{}ms", every.as_millis().max(1)),
        None => "-1".to_owned(),
    }
}

fn properties() -> Value {
    let keyword = json!({ "type": "keyword" });
    let text = json!({ "type": "text", "fields": { "keyword": { "type": "keyword" } } });
    let date = json!({ "type": "date", "format": "strict_date_optional_time||epoch_millis" });
    let words = json!({ "type": "text", "analyzer": "whitespace" });
    json!({
        "id": keyword,
        "title": text,
        "content": { "type": "text", "index_options": "docs", "norms": false },
        "content_type": keyword,
        "content_size": { "type": "long" },
        "content_sha256": keyword,
        "s3_key": keyword,
        "status": keyword,
        "created_by": text,
        "created_at": date,
        "updated_at": date,
        "version": { "type": "integer" },
        "deleted": { "type": "boolean" },
        "words": { "properties": { "title": words, "created_by": words, "content": words } },
    })
}

/// What is sent of a document.
#[derive(Serialize)]
struct Live<'a> {
    #[serde(flatten)]
    row: &'a DocumentRow,
    content: &'a str,
    words: Words,
}

/// What is sent of a deleted document: nothing that it could be found by.
#[derive(Serialize)]
struct Mark {
    id: DocumentId,
    version: i32,
    deleted: bool,
    #[serde(with = "dms_core::model::timestamp")]
    updated_at: OffsetDateTime,
}

#[derive(Serialize)]
struct Words {
    title: String,
    created_by: String,
    content: String,
}

/// Appends a document as Elasticsearch is to keep it. With `fields` only those are sent: an index
/// of an older mapping refuses what it doesn't know.
pub(super) fn write_document(
    entry: &IndexEntry,
    fields: Option<&HashSet<String>>,
    into: &mut Vec<u8>,
) -> Result<()> {
    let row = &entry.row;
    let document = if row.deleted {
        Document::Mark(Mark {
            id: row.id,
            version: row.version,
            deleted: true,
            updated_at: row.updated_at,
        })
    } else {
        let words = Words {
            title: normal(&row.title),
            created_by: normal(&row.created_by),
            content: normal(&entry.text),
        };
        Document::Live(Live { row, content: &entry.text, words })
    };
    let written = match fields {
        None => serde_json::to_writer(into, &document),
        Some(fields) => serde_json::to_value(&document).and_then(|mut document| {
            if let Value::Object(document) = &mut document {
                document.retain(|field, _| fields.contains(field));
            }
            serde_json::to_writer(into, &document)
        }),
    };
    written.map_err(|error| Error::internal("row can't be written as json").with_source(error))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Document<'a> {
    Live(Live<'a>),
    Mark(Mark),
}

/// The words of a text in their normal spelling, separated by spaces.
fn normal(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in words(text) {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normalize_into(word.text, &mut normal);
    }
    normal
}

#[cfg(test)]
mod tests {
    use dms_core::model::words::normalized;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn entry(deleted: bool) -> IndexEntry {
        let at = datetime!(2026-01-02 03:04:05.678901 UTC);
        let row = DocumentRow {
            id: "0198c0de-0000-7000-8000-000000000000".parse().unwrap(),
            title: "Die Straße".to_owned(),
            content_type: "text/plain".to_owned(),
            content_size: 5,
            content_sha256: None,
            s3_key: None,
            status: dms_core::DocumentStatus::Signed,
            created_by: "ann@example.org".to_owned(),
            created_at: at,
            updated_at: at,
            version: 7,
            deleted,
        };
        IndexEntry { row, text: "state-of-the-art".to_owned() }
    }

    fn document(entry: &IndexEntry, fields: Option<&HashSet<String>>) -> Value {
        let mut json = Vec::new();
        write_document(entry, fields, &mut json).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn every_field_that_is_sent_is_mapped() {
        let properties = properties();
        for deleted in [false, true] {
            let document = document(&entry(deleted), None);
            for field in document.as_object().unwrap().keys() {
                assert!(properties.get(field).is_some(), "{field}");
            }
        }
    }

    #[test]
    fn a_document_is_sent_as_the_contract_says() {
        let document = document(&entry(false), None);
        assert_eq!(document["title"], "Die Straße");
        assert_eq!(document["created_at"], "2026-01-02T03:04:05.678901Z");
        assert_eq!(document["status"], "signed");
        assert_eq!(document["deleted"], false);
        assert_eq!(document["words"]["title"], "die strasse");
        assert_eq!(document["words"]["created_by"], "ann example org");
        assert_eq!(document["words"]["content"], "state of the art");
    }

    #[test]
    fn a_mark_says_nothing_of_the_document() {
        let mark = document(&entry(true), None);
        let fields: HashSet<_> = mark.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, HashSet::from(["id", "version", "deleted", "updated_at"]));
    }

    #[test]
    fn an_older_mapping_gets_the_fields_it_has() {
        let fields = HashSet::from(["id".to_owned(), "title".to_owned()]);
        let document = document(&entry(false), Some(&fields));
        assert_eq!(
            document,
            json!({ "id": "0198c0de-0000-7000-8000-000000000000", "title": "Die Straße" })
        );
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_vocabulary(text in any::<String>()) {
            let expected: Vec<String> = normalized(&text).collect();
            let normal = normal(&text);
            let split: Vec<_> = normal.split(' ').filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(split, expected);
        }
    }
}
