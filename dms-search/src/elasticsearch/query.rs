//! What is asked, as Elasticsearch's queries: built from a taken-apart text, never parsed by it.
//!
//! Only `term`, `match_phrase` and `bool`: nothing in a text can reach a query language, a script, a
//! regular expression or a wildcard.

use std::time::Duration;

use dms_core::DocumentId;
use dms_core::model::search::{AggregationField, AggregationQuery, SearchFilter, SearchQuery};
use dms_core::model::text_query::{Phrase, TextQuery};
use serde_json::{Value, json};

/// Fields in which words are looked for, and how much a match in each counts.
const WORD_FIELDS: [(&str, f32); 3] =
    [("words.title", 3.0), ("words.created_by", 1.0), ("words.content", 1.0)];

/// How many values of a field each shard counts: so many are counted exactly.
const VALUES_PER_SHARD: u32 = 1_000;

/// Name of the aggregation in an answer.
pub(super) const VALUES: &str = "values";

/// A search; `text` is that of the query, and not empty.
pub(super) fn search(query: &SearchQuery, text: Option<&TextQuery>, time_max: Duration) -> Value {
    let is_scored = text.is_some_and(TextQuery::is_scored);
    let newest = json!({ "id": "desc" });
    let sort = if is_scored { json!([{ "_score": "desc" }, newest]) } else { json!([newest]) };
    json!({
        "query": documents(text, &query.filter),
        "from": query.from,
        "size": query.size,
        "sort": sort,
        "track_total_hits": true,
        "timeout": format!("{}ms", time_max.as_millis()),
        // Content is large and seldom needed.
        "_source": { "excludes": ["content"] },
    })
}

/// A count of values; `text` is that of the query, and not empty.
pub(super) fn aggregation(
    query: &AggregationQuery,
    text: Option<&TextQuery>,
    time_max: Duration,
) -> Value {
    json!({
        "query": documents(text, &query.filter),
        "size": 0,
        "track_total_hits": false,
        "timeout": format!("{}ms", time_max.as_millis()),
        "aggs": { VALUES: { "terms": {
            "field": exact_name(query.field),
            "size": query.size,
            "shard_size": VALUES_PER_SHARD.max(query.size),
            "order": [{ "_count": "desc" }, { "_key": "asc" }],
        } } },
    })
}

/// Every document that isn't deleted.
pub(super) fn everything() -> Value {
    documents(None, &SearchFilter::default())
}

/// A page of what the index has of each document, deleted ones too, in order of id.
pub(super) fn versions(after: Option<DocumentId>, limit: u32) -> Value {
    let mut query = json!({
        "query": { "match_all": {} },
        "size": limit,
        "sort": [{ "id": "asc" }],
        "track_total_hits": false,
        "_source": false,
        "docvalue_fields": ["version", "deleted"],
    });
    if let Some(after) = after {
        query["search_after"] = json!([after]);
    }
    query
}

/// Name of the field that holds the values of `field` as they are.
const fn exact_name(field: AggregationField) -> &'static str {
    match field {
        AggregationField::Status => "status",
        AggregationField::CreatedBy => "created_by.keyword",
        AggregationField::ContentType => "content_type",
    }
}

fn documents(text: Option<&TextQuery>, filter: &SearchFilter) -> Value {
    let mut query = serde_json::Map::new();
    query.insert("filter".to_owned(), filters(filter).into());
    if let Some(text) = text {
        let any = any_of(&text.any);
        let mut must: Vec<Value> =
            text.all.iter().map(|phrase| any_of(std::slice::from_ref(phrase))).collect();
        if !text.any.is_empty() {
            if text.all.is_empty() {
                must.push(any);
            } else {
                // With something that must be there, the rest only decides about the order.
                query.insert("should".to_owned(), any);
                query.insert("minimum_should_match".to_owned(), 0.into());
            }
        }
        if !must.is_empty() {
            query.insert("must".to_owned(), must.into());
        }
        if !text.none.is_empty() {
            query.insert("must_not".to_owned(), any_of(&text.none));
        }
    }
    json!({ "bool": query })
}

fn filters(filter: &SearchFilter) -> Vec<Value> {
    let exact = [
        (AggregationField::Status, filter.status.map(dms_core::DocumentStatus::as_str)),
        (AggregationField::CreatedBy, filter.created_by.as_deref()),
        (AggregationField::ContentType, filter.content_type.as_deref()),
    ];
    let wanted = exact.into_iter().filter_map(|(field, value)| Some((field, value?)));
    let mut filters = vec![json!({ "term": { "deleted": false } })];
    filters.extend(wanted.map(|(field, value)| json!({ "term": { exact_name(field): value } })));
    filters
}

/// Any of the phrases in any of the fields; the more the better.
fn any_of(phrases: &[Phrase]) -> Value {
    let queries: Vec<_> = phrases.iter().flat_map(in_fields).collect();
    json!({ "bool": { "should": queries, "minimum_should_match": 1 } })
}

fn in_fields(phrase: &Phrase) -> impl Iterator<Item = Value> {
    WORD_FIELDS.iter().map(move |&(field, boost)| match &phrase[..] {
        [word] => json!({ "term": { field: { "value": word, "boost": boost } } }),
        words => json!({ "match_phrase": { field: { "query": words.join(" "), "boost": boost } } }),
    })
}

#[cfg(test)]
mod tests {
    use dms_core::DocumentStatus;
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> TextQuery {
        TextQuery::parse(text).unwrap()
    }

    fn bool_of(text: &str) -> Value {
        documents(Some(&parsed(text)), &SearchFilter::default())["bool"].clone()
    }

    #[test]
    fn without_text_everything_that_is_not_deleted_is_asked_for() {
        let expected = json!({ "bool": { "filter": [{ "term": { "deleted": false } }] } });
        assert_eq!(everything(), expected);
        let body = search(&SearchQuery::default(), None, Duration::from_secs(2));
        assert_eq!(body["query"], expected);
        assert_eq!(body["sort"], json!([{ "id": "desc" }]));
        assert_eq!(body["timeout"], "2000ms");
        assert_eq!(body["track_total_hits"], true);
    }

    #[test]
    fn filters_are_exact() {
        let filter = SearchFilter {
            status: Some(DocumentStatus::Signed),
            created_by: Some("Ann <ann@example.org>".to_owned()),
            content_type: Some("text/html".to_owned()),
        };
        let query = documents(None, &filter);
        let expected = json!([
            { "term": { "deleted": false } },
            { "term": { "status": "signed" } },
            { "term": { "created_by.keyword": "Ann <ann@example.org>" } },
            { "term": { "content_type": "text/html" } },
        ]);
        assert_eq!(query["bool"]["filter"], expected);
    }

    #[test]
    fn one_of_the_words_is_enough() {
        let query = bool_of("Annual x_y");
        let should = &query["must"][0]["bool"]["should"];
        assert_eq!(
            should[0],
            json!({ "term": { "words.title": { "value": "annual", "boost": 3.0 } } })
        );
        let phrase =
            json!({ "match_phrase": { "words.content": { "query": "x y", "boost": 1.0 } } });
        assert_eq!(should[5], phrase);
        assert_eq!(query["must"][0]["bool"]["minimum_should_match"], 1);
        assert!(query.get("should").is_none() && query.get("must_not").is_none());
    }

    #[test]
    fn next_to_a_phrase_words_only_decide_about_the_order() {
        let query = bool_of("\"annual report\" meeting -draft -\"first draft\"");
        assert_eq!(query["must"].as_array().map(Vec::len), Some(1));
        assert_eq!(query["minimum_should_match"], 0);
        let should = &query["should"]["bool"]["should"][0];
        assert_eq!(should["term"]["words.title"]["value"], "meeting");
        let none = &query["must_not"]["bool"]["should"];
        assert_eq!(none.as_array().map(Vec::len), Some(6));
    }

    #[test]
    fn exclusions_alone_are_not_scored() {
        let text = parsed("-draft");
        let body = search(&SearchQuery::default(), Some(&text), Duration::from_secs(1));
        assert_eq!(body["sort"], json!([{ "id": "desc" }]));
        assert!(body["query"]["bool"].get("must").is_none());
    }

    #[test]
    fn pages_of_versions_go_on_after_an_id() {
        assert!(versions(None, 10).get("search_after").is_none());
        let id = DocumentId::generate();
        assert_eq!(versions(Some(id), 10)["search_after"], json!([id.to_string()]));
    }

    proptest! {
        #[test]
        fn any_text_gives_only_harmless_queries(text in "(\\PC|[-\" a\n]){0,300}") {
            let Some(text) = TextQuery::parse(&text) else { return Ok(()) };
            let names = names(&documents(Some(&text), &SearchFilter::default()));
            let known = [
                "bool", "filter", "must", "must_not", "should", "minimum_should_match", "term",
                "match_phrase", "value", "query", "boost", "deleted", "words.title",
                "words.created_by", "words.content",
            ];
            for name in names {
                prop_assert!(known.contains(&name.as_str()), "{}", name);
            }
        }
    }

    fn names(value: &Value) -> Vec<String> {
        match value {
            Value::Object(object) => object
                .iter()
                .flat_map(|(name, value)| std::iter::once(name.clone()).chain(names(value)))
                .collect(),
            Value::Array(items) => items.iter().flat_map(names).collect(),
            _ => Vec::new(),
        }
    }
}
