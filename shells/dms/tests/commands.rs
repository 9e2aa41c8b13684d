//! Commands that work on a folder or on a running server.

mod support;

use support::live::Live;
use support::{Server, dms, run, signal};

#[tokio::test]
async fn reindex_builds_the_index_anew() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let server = Server::start(&data);
    for n in 0..5 {
        server.create(&format!("report {n}"), "the quick brown fox").await;
    }
    server.search_until("q=fox", 5).await;
    assert!(server.terminate().success());
    let output = run(dms().arg("reindex").arg("--data-dir").arg(&data));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("indexed 5 documents"), "{printed}");
    let server = Server::start(&data);
    server.search_until("q=fox", 5).await;
    server.create("one more", "fox").await;
    server.search_until("q=fox", 6).await;
}

#[tokio::test]
async fn token_asks_the_running_server_on_loopback() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&folder.path().join("data"));
    let id = server.create("t", "c").await;
    let address = server.http.to_string();
    let output = run(dms().args(["token", "u123", "--http-addr", &address]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let Ok(mut live) = Live::try_connect(&server, &id, &token).await else {
        panic!("{token} isn't accepted");
    };
    assert_eq!(live.frame().await["type"], "document.snapshot");
}

#[tokio::test]
async fn a_stop_signal_drains_and_tells_live_clients_to_come_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&folder.path().join("data"));
    let id = server.create("t", "c").await;
    let mut live = Live::connect(&server, &id).await;
    assert_eq!(live.frame().await["type"], "document.snapshot");
    signal(server.pid(), "TERM");
    assert_eq!(live.close_code().await, 1012);
    assert!(server.wait().success());
}
