//! The index is built anew while everything goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::scene::{STEADY, Scene};

impl Scene {
    /// `reindex`, killed half-way and run again: no search fails or finds less, and another index
    /// serves in the end.
    pub(crate) async fn reindex(&mut self) {
        let before = self.index_name().await.expect("an index");
        let (ended, searches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let searching = {
            let (ended, searches) = (Arc::clone(&ended), Arc::clone(&searches));
            let (http, address) = (self.http.clone(), self.stack.address(9200));
            tokio::spawn(async move {
                let search = json!({
                    "size": 0, "track_total_hits": true,
                    "query": { "term": { "created_by.keyword": "steady" } },
                });
                while !ended.load(Ordering::Relaxed) {
                    let url = format!("http://{address}/documents/_search");
                    let answer = http.post(url).json(&search).send().await.expect("an answer");
                    let status = answer.status();
                    let answer: serde_json::Value = answer.json().await.expect("JSON");
                    assert!(status.is_success(), "search failed: {status}: {answer}");
                    assert_eq!(answer["hits"]["total"]["value"], STEADY, "{answer}");
                    searches.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(20)).await;
                }
            })
        };
        for _ in 0..3 {
            let mut child = self.processor.begin(&["reindex"]);
            sleep(Duration::from_millis(100 + self.random.below(900))).await;
            child.kill().expect("it can be killed");
            let status = child.wait().expect("it ends");
            self.say(&format!("  reindex killed: {status}"));
        }
        // Somebody may be taken for building still, for some seconds.
        let mut attempts = 0;
        loop {
            let output = self.processor.run(&["reindex"]).await;
            attempts += 1;
            if output.status.success() {
                let text = String::from_utf8_lossy(&output.stdout);
                self.say(&format!("  {} (attempt {attempts})", text.lines().last().unwrap_or("")));
                break;
            }
            assert!(attempts < 60, "reindex: {output:?}");
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(1)).await;
        ended.store(true, Ordering::Relaxed);
        searching.await.expect("no search failed or found less");
        let after = self.index_name().await.expect("an index");
        assert_ne!(before, after, "another index serves");
        let searches = searches.load(Ordering::Relaxed);
        self.say(&format!("  {before} gave way to {after}; {searches} searches, none failed"));
    }
}
