//! Answers that a healthy Elasticsearch doesn't give, from a scripted server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_core::ErrorKind;
use dms_core::model::search::{IndexEntry, SearchQuery};
use dms_core::ports::{Outcome, SearchIndex as _};
use dms_search::{ElasticsearchIndex, ElasticsearchOptions};
use serde_json::json;

use super::scripted::{Reply, Server, item, items};
use super::support::entry;

fn index(server: &Server) -> ElasticsearchIndex {
    let options = ElasticsearchOptions {
        search_time_max: Duration::from_millis(500),
        write_time_max: Duration::from_millis(1_500),
        ..ElasticsearchOptions::new(&server.url)
    };
    ElasticsearchIndex::new(options).unwrap()
}

fn entries(count: usize) -> Vec<IndexEntry> {
    (0..count).map(|n| entry(&format!("title {n}"), "text")).collect()
}

#[tokio::test]
async fn each_item_of_a_mixed_answer_is_taken_by_itself() {
    let server = Server::new(|asked| {
        let fates = [
            (201, ""),
            (429, "es_rejected_execution_exception"),
            (503, "unavailable_shards_exception"),
            (400, "document_parsing_exception"),
            (409, "version_conflict_engine_exception"),
            (200, ""),
        ];
        let of = |(id, (status, error)): (&String, (u16, &str))| item(id, status, error);
        items(&asked.ids().iter().zip(fates).map(of).collect::<Vec<_>>())
    })
    .await;
    let outcomes = index(&server).write(entries(6), None).await.unwrap();
    assert!(
        matches!(
            &outcomes[..],
            [
                Outcome::Applied,
                Outcome::Retry(_),
                Outcome::Retry(_),
                Outcome::Rejected(_),
                Outcome::AlreadyNewer,
                Outcome::Applied,
            ]
        ),
        "{outcomes:?}"
    );
    let bulk = &server.bulks()[0];
    assert_eq!(bulk.method, "POST");
    assert_eq!(bulk.path, "/documents/_bulk?require_alias=true&refresh=false");
}

#[tokio::test]
async fn only_what_is_to_be_tried_again_goes_again() {
    let tries = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tries);
    let server = Server::new(move |asked| {
        let mut tries = seen.lock().unwrap();
        tries.push(asked.ids());
        let is_first = tries.len() == 1;
        let of = |(at, id): (usize, &String)| {
            if is_first && at % 2 == 0 {
                item(id, 429, "es_rejected_execution_exception")
            } else {
                item(id, 201, "")
            }
        };
        items(&asked.ids().iter().enumerate().map(of).collect::<Vec<_>>())
    })
    .await;
    let index = index(&server);
    let all = entries(4);
    let outcomes = index.write(all.clone(), None).await.unwrap();
    let again: Vec<_> = all
        .into_iter()
        .zip(outcomes)
        .filter(|(_, outcome)| matches!(outcome, Outcome::Retry(_)))
        .map(|(entry, _)| entry)
        .collect();
    assert_eq!(index.write(again, None).await.unwrap(), [Outcome::Applied, Outcome::Applied]);
    let tries = tries.lock().unwrap();
    assert_eq!(tries[1], [tries[0][0].clone(), tries[0][2].clone()]);
}

#[tokio::test]
async fn what_is_too_large_is_halved_and_only_the_large_document_rejected() {
    let server = Server::new(|asked| {
        if asked.body.contains("huge") {
            return Reply::Json(413, json!({}));
        }
        items(&asked.ids().iter().map(|id| item(id, 201, "")).collect::<Vec<_>>())
    })
    .await;
    let mut batch = entries(9);
    batch[4].row.title = "huge".to_owned();
    let outcomes = index(&server).write(batch, None).await.unwrap();
    for (at, outcome) in outcomes.iter().enumerate() {
        assert_eq!(matches!(outcome, Outcome::Rejected(_)), at == 4, "{at}: {outcome:?}");
        assert!(at == 4 || *outcome == Outcome::Applied, "{at}: {outcome:?}");
    }
}

#[tokio::test]
async fn what_concerns_the_whole_index_fails_the_batch_and_heals() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let server = Server::new(move |asked| {
        let ids = asked.ids();
        let refused = |status, name| {
            Reply::Json(
                status,
                json!({ "error": { "type": name, "reason": "x" }, "status": status }),
            )
        };
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => items(&[item(&ids[0], 201, ""), item(&ids[1], 403, "cluster_block_exception")]),
            1 => items(&[item(&ids[0], 201, ""), item(&ids[1], 429, "cluster_block_exception")]),
            2 => refused(429, "circuit_breaking_exception"),
            3 => refused(503, "no_master_exception"),
            4 => refused(401, "security_exception"),
            5 => Reply::Raw("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno"),
            _ => items(&ids.iter().map(|id| item(id, 200, "")).collect::<Vec<_>>()),
        }
    })
    .await;
    let index = index(&server);
    let batch = entries(2);
    for code in [
        "index_blocked",
        "index_blocked",
        "unavailable",
        "unavailable",
        "unavailable",
        "unavailable",
    ] {
        let error = index.write(batch.clone(), None).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(error.code(), code, "{error:?}");
        assert_eq!(error.dependency(), Some("search"));
    }
    let outcomes = index.write(batch, None).await.unwrap();
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Applied]);
}

#[tokio::test]
async fn a_missing_index_is_told_apart() {
    let server = Server::new(|asked| {
        let missing = |id: &String| item(id, 404, "index_not_found_exception");
        items(&asked.ids().iter().map(missing).collect::<Vec<_>>())
    })
    .await;
    let error = index(&server).write(entries(2), None).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.code(), dms_core::ports::INDEX_MISSING);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_never_taken_for_success() {
    for garbage in [
        "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-length: 5\r\n\r\n<html",
        "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-length: 12\r\n\r\n{\"items\":[]}",
        // Nobody says that it is Elasticsearch.
        "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"items\":[]}",
        // Cut off.
        "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-length: 99\r\n\r\n{\"items\":[",
        "HTTP/1.1 200 OK\r\nX-elastic",
        "\r\n\r\n\0\0\0",
        "",
    ] {
        let server = Server::new(move |_| Reply::Raw(garbage)).await;
        let error = index(&server).write(entries(1), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{garbage:?}: {error:?}");
        let error = index(&server).search(&SearchQuery::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{garbage:?}: {error:?}");
    }
}

#[tokio::test]
async fn whoever_does_not_answer_is_not_waited_for() {
    let server = Server::new(|_| Reply::Silence).await;
    let index = index(&server);
    let error = index.search(&SearchQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.retry_after().is_some());
    let error = index.write(entries(1), None).await.unwrap_err();
    assert!(error.is_retryable());
}

#[tokio::test]
async fn searches_wait_for_their_turn_only_so_long() {
    let server = Server::new(|_| Reply::Silence).await;
    let options = ElasticsearchOptions {
        searches_max: 1,
        search_time_max: Duration::from_millis(300),
        ..ElasticsearchOptions::new(&server.url)
    };
    let index = ElasticsearchIndex::new(options).unwrap();
    let query = SearchQuery::default();
    let (one, other) = tokio::join!(index.search(&query), index.search(&query));
    assert!(one.is_err() && other.is_err());
    let searches = server.asked.lock().unwrap().len();
    assert_eq!(searches, 1, "the other one never went out");
}

#[tokio::test]
async fn results_that_are_not_whole_are_none() {
    let answer = |timed_out: bool, failed: u64| {
        json!({
            "took": 1, "timed_out": timed_out, "_shards": { "failed": failed },
            "hits": { "total": { "value": 0, "relation": "eq" }, "hits": [] },
        })
    };
    for (answer, is_whole) in
        [(answer(false, 0), true), (answer(true, 0), false), (answer(false, 1), false)]
    {
        let server = Server::new(move |_| Reply::Json(200, answer.clone())).await;
        let found = index(&server).search(&SearchQuery::default()).await;
        assert_eq!(found.is_ok(), is_whole);
        assert!(found.err().is_none_or(|error| error.kind() == ErrorKind::Unavailable));
    }
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let server = Server::new(|_| Reply::Json(401, json!({}))).await;
    for (user, header) in [
        ("elastic:p%40ss@", "authorization: Basic ZWxhc3RpYzpwQHNz"),
        (":a2V5OnNlY3JldA@", "authorization: ApiKey a2V5OnNlY3JldA"),
    ] {
        let url = server.url.replace("http://", &format!("http://{user}"));
        let index = ElasticsearchIndex::new(ElasticsearchOptions::new(url)).unwrap();
        let error = index.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let asked = server.asked.lock().unwrap().last().cloned().unwrap();
        assert!(asked.head.contains(header), "{}", asked.head);
        let shown = format!("{error:?} {error} {index:?}");
        for secret in ["p@ss", "p%40ss", "a2V5", "ZWxhc"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let index = ElasticsearchIndex::new(ElasticsearchOptions::new(url)).unwrap();
    for error in [
        index.check().await.unwrap_err(),
        index.progress().await.unwrap_err(),
        index.write(entries(1), None).await.unwrap_err(),
        index.search(&SearchQuery::default()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.dependency(), Some("search"));
    }
}
