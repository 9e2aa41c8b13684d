//! How long after a write a search finds the document, at a steady rate of writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::DocumentRepository as _;
use dms_core::{DocumentId, NewDocument, Sha256};
use dms_store::postgres::PostgresDatabase;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::elasticsearch::Elasticsearch;
use crate::processor::{Places, Processor};
use crate::system::{PATIENCE, System, Tier};
use crate::{millis, print};

/// Pause between two searches for what isn't found yet.
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(crate) async fn measure(system: &System, tier: Tier, rates: &[f64], lasts: Duration) {
    let elasticsearch = &system.elasticsearch;
    let places = Places {
        events: system.events_url(tier),
        search: elasticsearch.index_url(&system.name),
        group: system.name.clone(),
    };
    let processor = Processor::start(system, &places);
    processor.ready().await;
    let definition = elasticsearch.definition(&system.name).await;
    let refreshed = &definition["settings"]["index"]["refresh_interval"];
    println!(
        "{tier:?}, from the answer to a write until a search finds it, refreshed every {refreshed}:"
    );
    for &rate in rates {
        let own = format!("{}own{}", system.name, rate.to_string().replace('.', "p"));
        elasticsearch.make(&own, &definition).await;
        let write = async || put(elasticsearch, &own).await;
        let refresh = times(elasticsearch, &own, rate, lasts, write).await;
        elasticsearch.delete(&own).await;
        let what = format!("{rate} a second: Elasticsearch itself");
        print(&what, &shown(&refresh));

        let (sum_before, count_before) = processor.commit_to_applied().await;
        let cpu_before = processor.cpu();
        let write = async || create(&system.database).await.to_string();
        let found = times(elasticsearch, &system.name, rate, lasts, write).await;
        let (sum, count) = processor.commit_to_applied().await;
        let cpu = processor.cpu().saturating_sub(cpu_before);
        print(&format!("{rate} a second: committed to PostgreSQL"), &shown(&found));
        let [refresh, found] = [&refresh, &found].map(|times| at(times, 0.5).as_secs_f64() * 1e3);
        let applied = 1e3 * (sum - sum_before) / (count - count_before).max(1.0);
        let share = 100.0 * cpu.as_secs_f64() / lasts.as_secs_f64();
        print(
            &format!("{rate} a second: what that adds"),
            &format!(
                "{:+.1} ms at the median; {applied:.1} ms from commit to the index's answer on \
                average, as the program says; {share:.1} % of a processor",
                found - refresh
            ),
        );
    }
    print("memory at most", &format!("{} MiB", processor.memory_mib()));
    processor.stop();
}

/// Writes at a rate, each answered with the document's id; how long each took until it was found.
async fn times(
    elasticsearch: &Elasticsearch,
    alias: &str,
    rate: f64,
    lasts: Duration,
    write: impl AsyncFn() -> String,
) -> Vec<Duration> {
    // Written and not found yet.
    let waiting: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let (searched, alias, searching) =
        (Arc::clone(&waiting), alias.to_owned(), elasticsearch.clone());
    let (done, is_done) = tokio::sync::watch::channel(false);
    let search = tokio::spawn(async move {
        let mut times = Vec::new();
        let mut ended = None;
        loop {
            let ids: Vec<String> = lock(&searched).keys().cloned().collect();
            if ids.is_empty() {
                if *is_done.borrow() {
                    return times;
                }
            } else {
                for id in searching.found(&alias, &ids).await {
                    times.extend(lock(&searched).remove(&id).map(|since| since.elapsed()));
                }
            }
            if *is_done.borrow() {
                let ended: Instant = *ended.get_or_insert_with(Instant::now);
                assert!(ended.elapsed() < PATIENCE, "{} weren't found", ids.len());
            }
            sleep(LOOK_EVERY).await;
        }
    });
    // Not in step with refreshes, so that every phase between two of them is met as often.
    let mut ticks = interval(Duration::from_secs_f64(0.97 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    while began.elapsed() < lasts {
        ticks.tick().await;
        let id = write().await;
        lock(&waiting).insert(id, Instant::now());
    }
    done.send_replace(true);
    let mut times = search.await.expect("everything is found");
    times.sort_unstable();
    times
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a document to Elasticsearch itself.
async fn put(elasticsearch: &Elasticsearch, alias: &str) -> String {
    let id = DocumentId::generate().to_string();
    let document = json!({ "id": id, "title": "Title", "version": 1, "deleted": false });
    let path = format!("{alias}/_doc/{id}?version=1&version_type=external");
    elasticsearch.call(Method::PUT, &path, Some(document)).await;
    id
}

/// Creates a document with a text of its own.
pub(crate) async fn create(database: &PostgresDatabase) -> DocumentId {
    let id = DocumentId::generate();
    let text = format!("content of {id}");
    let key = TextKey { content_sha256: Sha256::of(text.as_bytes()), format: TextFormat::Plain };
    let document = NewDocument {
        id,
        title: format!("document {id}"),
        content_type: "text/plain".to_owned(),
        content_size: text.len() as u64,
        content_sha256: key.content_sha256,
        s3_key: format!("{id}/content"),
        created_by: "ann@example.org".to_owned(),
    };
    database.documents().create(document, Some((key, text)), None).await.expect("created");
    id
}

fn at(times: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index below the length"
    )]
    let index = (times.len() as f64 * share) as usize;
    times.get(index).copied().unwrap_or_default()
}

fn shown(times: &[Duration]) -> String {
    let [median, slow] = [0.5, 0.99].map(|share| millis(at(times, share)));
    format!("p50 {median}, p99 {slow}, {} writes", times.len())
}
