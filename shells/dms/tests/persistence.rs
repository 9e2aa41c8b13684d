//! What was acknowledged is there after every kind of end, and nothing is there twice.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::live::Live;
use support::{Server, Tier, tier};

/// Everything a reader can see, in one value.
async fn everything(server: &Server, ids: &[String]) -> Value {
    let mut seen = Vec::new();
    for id in ids {
        let (_, stats) = server.get(&format!("/documents/{id}/stats")).await;
        let (_, signatures) = server.get(&format!("/documents/{id}/signatures")).await;
        let content = server.client.get(server.url(&format!("/documents/{id}/content")));
        let content = content.send().await.expect("an answer").text().await.expect("text");
        seen.push(json!({"stats": stats, "signatures": signatures, "content": content}));
    }
    let (_, list) = server.get("/documents?limit=100").await;
    json!({"documents": list, "of each": seen})
}

/// Writes and reads of every kind; gives the ids of live documents.
async fn fill(server: &Server) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(server.create(&format!("report {n}"), &format!("the quick brown fox {n}")).await);
    }
    for (n, id) in ids.iter().enumerate() {
        for _ in 0..n % 4 {
            server.get(&format!("/documents/{id}")).await;
        }
        if n % 3 == 0 {
            assert_eq!(server.sign(id, "client@company.com").await.0, 201);
        }
        if n % 5 == 0 {
            let title = json!({"title": format!("renamed {n}")});
            assert_eq!(server.patch(&format!("/documents/{id}"), &title).await.0, 200);
        }
    }
    let deleted = ids.remove(7);
    let request = server.client.delete(server.url(&format!("/documents/{deleted}")));
    assert_eq!(request.send().await.expect("an answer").status(), 204);
    ids
}

async fn survives(stop: impl Fn(Server), delete_index: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut server = Server::start(&data);
    let ids = fill(&server).await;
    let before = everything(&server, &ids).await;
    // Twice, so that a position stored by the first restart is used by the second.
    for _ in 0..2 {
        stop(server);
        if delete_index {
            support::remove_index(&data);
        }
        server = Server::start(&data);
        assert_eq!(everything(&server, &ids).await, before);
        server.search_until("q=fox&size=100", 19).await;
        server.search_until("q=renamed", 4).await;
        server.search_until("status=signed", signed(&before)).await;
    }
    goes_on(&server, &ids[0]).await;
}

fn signed(seen: &Value) -> u64 {
    let documents = seen["documents"]["documents"].as_array().expect("a list");
    documents.iter().filter(|document| document["status"] == "signed").count() as u64
}

/// The stream goes on where it was: a later change arrives once, live and in the index.
async fn goes_on(server: &Server, id: &str) {
    let mut live = Live::connect(server, id).await;
    let version = live.frame().await["data"]["version"].as_i64().expect("a version");
    let (path, title) = (format!("/documents/{id}"), json!({"title": "after restart"}));
    assert_eq!(server.patch(&path, &title).await.0, 200);
    let frame = live.frame().await;
    assert_eq!(
        (&frame["type"], &frame["data"]["version"]),
        (&json!("document.updated"), &json!(version + 1))
    );
    server.search_until("q=restart", 1).await;
}

#[tokio::test]
async fn everything_survives_a_stop() {
    survives(|server| assert!(server.terminate().success()), false).await;
}

#[tokio::test]
async fn everything_survives_a_kill() {
    survives(Server::kill, false).await;
}

#[tokio::test]
async fn a_lost_index_is_rebuilt() {
    survives(Server::kill, true).await;
}

#[tokio::test]
async fn a_kill_under_load_loses_nothing_acknowledged_and_indexes_nothing_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let (client, url) = (server.client.clone(), server.url("/documents"));
    let mut writers = Vec::new();
    for writer in 0..8 {
        let (client, url) = (client.clone(), url.clone());
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0_u32.. {
                let body = json!({"title": format!("w{writer} n{n}"), "content": "steady rain", "created_by": "w"});
                match client.post(&url).json(&body).send().await {
                    Ok(response) if response.status() == 201 => {
                        let Ok(document) = response.json::<Value>().await else { break };
                        acknowledged.push(document["id"].as_str().expect("an id").to_owned());
                    }
                    // A gateway is there longer than what is behind it.
                    Ok(response) if tier() == Tier::Full && response.status().is_server_error() => {
                        break;
                    }
                    Ok(response) => panic!("answered {}", response.status()),
                    Err(_) => break,
                }
            }
            acknowledged
        }));
    }
    support::eventually("some documents", async || {
        let (_, found) = server.get("/search?size=0").await;
        found["total"].as_u64().is_some_and(|total| total > 50).then_some(())
    })
    .await;
    server.kill();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a writer"));
    }
    let server = Server::start(&data);
    for id in &acknowledged {
        let content = server.client.get(server.url(&format!("/documents/{id}/content")));
        let content = content.send().await.expect("an answer").text().await.expect("text");
        assert_eq!(content, "steady rain", "{id} is lost");
    }
    let stored = count(&server).await;
    assert!(stored >= acknowledged.len() as u64);
    server.search_until("q=steady&size=0", stored).await;
    if tier() != Tier::Full {
        no_staging_files(&data.join("blobs"), stored);
    }
}

async fn count(server: &Server) -> u64 {
    let mut total = 0;
    let mut cursor = String::new();
    loop {
        let (_, page) = server.get(&format!("/documents?limit=100{cursor}")).await;
        total += page["documents"].as_array().expect("a list").len() as u64;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return total,
        }
    }
}

/// A kill may leave content without a row, for the sweeper; never a row without content.
fn no_staging_files(blobs: &Path, rows: u64) {
    let contents = std::fs::read_dir(blobs)
        .expect("the content folder")
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(",content"))
        .count();
    assert!(contents as u64 >= rows, "{rows} rows, {contents} contents");
}
