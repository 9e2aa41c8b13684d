//! The product in one sitting, on the real binary.

mod support;

use serde_json::json;
use support::Server;
use support::live::Live;

#[tokio::test]
async fn create_search_watch_sign_view_count() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&folder.path().join("data"));

    let (status, document) = server
        .post(
            "/documents",
            &json!({
                "title": "Sales Agreement Q4 2025",
                "content": "This agreement outlines the terms of sale.",
                "created_by": "john.doe@company.com",
            }),
        )
        .await;
    assert_eq!(status, 201, "{document}");
    let id = document["id"].as_str().expect("an id").to_owned();
    assert_eq!(document["status"], "created");
    assert_eq!(document["version"], 1);
    assert_eq!(document["content_type"], "text/plain");
    assert_eq!(document["content_size"], 42);
    assert_eq!(document["s3_key"], format!("{id}/content"));

    let found = server.search_until("q=agreement", 1).await;
    let hit = &found["documents"][0];
    assert_eq!(hit["id"], id.as_str());
    assert_eq!(hit["highlights"]["title"], json!(["Sales <em>Agreement</em> Q4 2025"]));
    let fragment = hit["highlights"]["content"][0].as_str().expect("a fragment");
    assert!(fragment.contains("This <em>agreement</em> outlines"), "{fragment}");

    let mut live = Live::connect(&server, &id).await;
    let snapshot = live.frame().await;
    assert_eq!(snapshot["type"], "document.snapshot");
    assert_eq!(snapshot["data"]["version"], 1);
    assert_eq!(snapshot["data"]["title"], "Sales Agreement Q4 2025");

    let (status, signature) = server.sign(&id, "client@company.com").await;
    assert_eq!(status, 201, "{signature}");
    assert_eq!(signature["document_status"], "signed");
    let (mut created, mut signed) = (live.frame().await, live.frame().await);
    // Two topics of Kafka have no order between them.
    if support::tier() == support::Tier::Full && created["type"] == "document.signed" {
        std::mem::swap(&mut created, &mut signed);
    }
    assert_eq!(created["type"], "signature.created");
    assert_eq!(created["data"]["id"], signature["id"]);
    assert_eq!(created["data"]["signer_email"], "client@company.com");
    assert_eq!(signed["type"], "document.signed");
    assert_eq!(signed["data"]["old_status"], "created");
    assert_eq!(signed["data"]["version"], 2);

    let (status, viewed) =
        server.patch(&format!("/documents/{id}"), &json!({"status": "viewed"})).await;
    assert_eq!((status, &viewed["version"]), (200, &json!(3)), "{viewed}");
    let frame = live.frame().await;
    assert_eq!(frame["type"], "document.viewed");
    assert_eq!(
        frame["data"],
        json!({
            "id": id, "title": "Sales Agreement Q4 2025", "old_status": "signed",
            "new_status": "viewed", "version": 3,
        })
    );
    assert!(frame["timestamp"].as_i64().is_some_and(|at| at > 1_700_000_000_000), "{frame}");

    for _ in 0..5 {
        let (status, read) = server.get(&format!("/documents/{id}")).await;
        assert_eq!((status, &read["status"]), (200, &json!("viewed")));
    }
    let (_, stats) = server.get(&format!("/documents/{id}/stats")).await;
    assert_eq!(stats, json!({"document_id": id, "total_views": 5, "unique_views": 1}));

    support::eventually("the index to follow", async || {
        let (_, counted) = server.get("/aggregations/status").await;
        (counted == json!({"field": "status", "values": [{"key": "viewed", "count": 1}]}))
            .then_some(())
    })
    .await;
    assert!(server.terminate().success(), "a clean stop");
}

#[tokio::test]
async fn everything_is_there_under_v1_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&folder.path().join("data"));
    let body = json!({"title": "t", "content": "c", "created_by": "ann"});
    let (status, document) = server.post("/v1/documents", &body).await;
    assert_eq!(status, 201, "{document}");
    let id = document["id"].as_str().expect("an id");
    for path in [
        format!("/v1/documents/{id}"),
        format!("/v1/documents/{id}/stats"),
        format!("/v1/documents/{id}/signatures"),
        "/v1/documents".into(),
        "/v1/search".into(),
        "/v1/aggregations/status".into(),
        "/v1/auth/token?user_id=u&email=u@example.org".into(),
        "/healthz".into(),
        "/readyz".into(),
        "/openapi.json".into(),
    ] {
        let (status, body) = server.get(&path).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    // Whoever serves them, they are one product.
    let (_, api) = server.get("/openapi.json").await;
    for path in [
        "/documents/{id}",
        "/signatures/{id}",
        "/search",
        "/aggregations/{field}",
        "/ws/{document_id}",
    ] {
        assert!(api["paths"][path].is_object(), "{path} isn't described: {}", api["paths"]);
    }
    let metrics = server.client.get(server.url("/metrics")).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("http_requests_total"), "{metrics}");
    let docs = server.client.get(server.url("/docs/")).send().await.expect("an answer");
    assert_eq!(docs.status(), 200);
}

#[tokio::test]
async fn the_greeting_says_where_it_listens_where_data_is_and_what_to_try() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let greeting = server.greeting.join("\n");
    assert!(greeting.contains(&server.http.to_string()), "{greeting}");
    assert!(greeting.contains(data.to_str().expect("a readable path")), "{greeting}");
    let curl = server.greeting.iter().find(|line| line.contains("curl")).expect("a line to try");
    let command = &curl[curl.find("curl").expect("curl")..];
    let output = support::run(std::process::Command::new("sh").args(["-c", command]));
    let document = String::from_utf8_lossy(&output.stdout);
    assert!(document.contains("\"version\":1"), "{command} gave {document}");
}
