//! `/search` and `/aggregations`.

use axum::http::StatusCode;
use dms_core::model::change::{DocumentRow, RowChange};
use dms_core::model::search::IndexEntry;
use dms_core::ports::SearchIndex as _;
use serde_json::json;

use super::bed::Bed;

/// Writes all documents into the index, their title as their text too.
async fn index_all(bed: &Bed) {
    let rows = bed.database.changes().into_iter().filter_map(|change| match change.row {
        RowChange::Document { after, .. } => after,
        RowChange::Signature { .. } => None,
    });
    let entry = |row: DocumentRow| IndexEntry { text: row.title.clone(), row };
    bed.index.write(rows.map(entry).collect(), None).await.unwrap();
}

async fn bed_with(titles: &[&str]) -> Bed {
    let bed = Bed::new();
    for title in titles {
        bed.document(title, "").await;
    }
    index_all(&bed).await;
    bed
}

#[tokio::test]
async fn documents_are_found_by_words() {
    let bed = bed_with(&["lease of a garden", "invoice"]).await;
    let answer = bed.get("/search?q=lease").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let found = answer.json();
    assert_eq!(
        (&found["total"], &found["from"], &found["size"]),
        (&json!(1), &json!(0), &json!(10))
    );
    assert!(found["took_ms"].is_u64());
    let hit = &found["documents"][0];
    assert_eq!(hit["title"], "lease of a garden");
    assert_eq!(hit["version"], 1);
    assert!(hit["score"].as_f64().unwrap() > 0.0);
    assert!(hit["highlights"].is_object());
}

#[tokio::test]
async fn without_words_everything_is_found_newest_first_in_pages() {
    let bed = bed_with(&["a", "b", "c"]).await;
    for query in ["", "q=", "q=%20%20"] {
        let mut titles = Vec::new();
        for from in 0..3 {
            let page = bed.get(&format!("/search?{query}&from={from}&size=1")).await.json();
            assert_eq!(page["total"], 3);
            titles.push(page["documents"][0]["title"].as_str().unwrap().to_owned());
        }
        assert_eq!(titles, ["c", "b", "a"], "{query}");
    }
    let none = bed.get("/search?size=0").await.json();
    assert_eq!((&none["total"], &none["documents"]), (&json!(3), &json!([])));
}

#[tokio::test]
async fn filters_are_exact() {
    let bed = bed_with(&["a", "b"]).await;
    for (query, total) in [
        ("status=created", 2),
        ("status=signed", 0),
        ("created_by=ann", 2),
        ("created_by=an", 0),
        ("content_type=text/plain", 2),
        ("content_type=text/html", 0),
        ("q=a&status=created&created_by=ann", 1),
    ] {
        let found = bed.get(&format!("/search?{query}")).await.json();
        assert_eq!(found["total"], total, "{query}");
    }
}

#[tokio::test]
async fn values_are_counted() {
    let bed = bed_with(&["a", "b"]).await;
    for (field, key) in
        [("status", "created"), ("created_by", "ann"), ("content_type", "text/plain")]
    {
        let counted = bed.get(&format!("/aggregations/{field}")).await.json();
        assert_eq!(counted, json!({"field": field, "values": [{"key": key, "count": 2}]}));
    }
    let filtered = bed.get("/aggregations/status?status=signed&size=1").await.json();
    assert_eq!(filtered["values"], json!([]));
}

#[tokio::test]
async fn values_out_of_bounds_are_refused() {
    let bed = Bed::new();
    let long = format!("q={}", "x".repeat(1_001));
    for (query, field) in [
        ("size=101", "size"),
        ("size=-1", "size"),
        ("from=x", "from"),
        ("from=9991&size=10", "from"),
        ("from=4294967295&size=100", "from"),
        ("status=archived", "status"),
        ("created_by=", "created_by"),
        ("content_type=text", "content_type"),
        (long.as_str(), "q"),
    ] {
        assert_eq!(bed.get(&format!("/search?{query}")).await.refused(), [field], "{query}");
    }
    assert_eq!(bed.get("/search?from=9990&size=10").await.status, StatusCode::OK);
    for (path, field) in [
        ("title", "field"),
        ("status?size=0", "size"),
        ("status?size=101", "size"),
        ("status?status=archived", "status"),
    ] {
        assert_eq!(bed.get(&format!("/aggregations/{path}")).await.refused(), [field], "{path}");
    }
}

#[tokio::test]
async fn an_index_out_of_reach_is_a_clear_503() {
    let bed = Bed::new();
    bed.index.set_available(false);
    for path in ["/search", "/aggregations/status"] {
        let answer = bed.get(path).await;
        answer.problem(503, "unavailable");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
    }
}
