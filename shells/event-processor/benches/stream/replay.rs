//! A topic that is full already, into Elasticsearch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::documents::Documents;
use crate::elasticsearch::Elasticsearch;
use crate::processor::{Places, Processor};
use crate::recorder::Recorder;
use crate::system::{PATIENCE, System, Tier};
use crate::{float, print, topic};

/// How often a program is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) async fn measure(system: &System, documents: u64, text_bytes: usize, rounds: u32) {
    let elasticsearch = &system.elasticsearch;
    let name = system.name.as_str();
    println!("replay of {documents} documents, each with {text_bytes} bytes of text:");
    // An empty database: the product makes its index, and has nothing to fill it with.
    let places = |search: String, group: String| Places {
        events: system.events_url(Tier::Kafka),
        search,
        group,
    };
    let processor = Processor::start(system, &places(elasticsearch.index_url(name), name.into()));
    processor.ready().await;
    let definition = elasticsearch.definition(name).await;
    processor.stop();
    fill(system, Documents { count: documents, text_bytes }).await;

    let alias = format!("{name}recorded");
    elasticsearch.make(&alias, &definition).await;
    let recorder = Recorder::start(documents).await;
    let search = format!("http://{}/{alias}", recorder.address);
    let processor = Processor::start(system, &places(search, alias.clone()));
    let began = Instant::now();
    while !recorder.is_complete() {
        assert!(began.elapsed() < PATIENCE, "not everything came");
        sleep(LOOK_EVERY).await;
    }
    let (cpu, memory) = (processor.cpu(), processor.memory_mib());
    processor.stop();
    let (requests, counted, took) = recorder.finish();
    let before_nothing = rate(counted, took);
    let bytes: u64 = requests.iter().map(|request| request.len() as u64).sum();
    print(
        "the program before an index that answers at once",
        &format!("{before_nothing:.0}/s, {}, {memory} MiB at most", per_document(cpu, documents)),
    );
    print(
        "its bulk requests",
        &format!("{} of {} bytes a document", requests.len(), bytes / documents.max(1)),
    );

    let requests = Arc::new(requests);
    // Java compiles what is used often.
    plain(elasticsearch, &definition, &format!("{name}warm"), &requests, 1, documents).await;
    for round in 1..=rounds {
        let one = format!("{name}one{round}");
        let one = plain(elasticsearch, &definition, &one, &requests, 1, documents).await;
        print("plain bulk replay, one connection", &format!("{one:.0}/s"));
        let two = format!("{name}two{round}");
        let two = plain(elasticsearch, &definition, &two, &requests, 2, documents).await;
        print("plain bulk replay, two connections", &format!("{two:.0}/s"));

        let alias = format!("{name}round{round}");
        elasticsearch.make(&alias, &definition).await;
        let places = places(elasticsearch.index_url(&alias), alias.clone());
        let measured = program(system, &places, documents).await;
        assert_eq!(elasticsearch.count(&alias).await, documents, "documents in the index");
        elasticsearch.delete(&alias).await;
        print(
            "the program into Elasticsearch",
            &format!(
                "{:.0}/s, {:.0} % of one connection, {:.0} % of two, {}, {} MiB at most",
                measured.per_second,
                100.0 * measured.per_second / one,
                100.0 * measured.per_second / two,
                per_document(measured.cpu, documents),
                measured.memory_mib,
            ),
        );
    }
}

/// Makes rows and records.
pub(crate) async fn fill(system: &System, documents: Documents) {
    documents.insert(system).await;
    let prefix = system.name.clone();
    let filled = tokio::task::spawn_blocking(move || topic::fill(&prefix, documents));
    filled.await.expect("the topic is filled");
}

struct Measured {
    per_second: f64,
    cpu: Duration,
    memory_mib: u64,
}

/// From the first documents that the index has answered for to the last.
async fn program(system: &System, places: &Places, documents: u64) -> Measured {
    let processor = Processor::start(system, places);
    let started = Instant::now();
    let mut first = None;
    let per_second = loop {
        let applied = processor.applied().await;
        let now = Instant::now();
        match first {
            None if applied > 0 => first = Some((now, applied)),
            Some((first, of_first)) if applied >= documents => {
                break rate(documents.saturating_sub(of_first), now - first);
            }
            _ => {}
        }
        assert!(started.elapsed() < PATIENCE, "{applied} of {documents} came");
        sleep(LOOK_EVERY).await;
    };
    let measured =
        Measured { per_second, cpu: processor.cpu(), memory_mib: processor.memory_mib() };
    processor.stop();
    measured
}

/// The same requests by themselves, into an index of the same kind.
async fn plain(
    elasticsearch: &Elasticsearch,
    definition: &Value,
    alias: &str,
    requests: &Arc<Vec<Bytes>>,
    connections: usize,
    documents: u64,
) -> f64 {
    elasticsearch.make(alias, definition).await;
    let next = Arc::new(AtomicUsize::new(0));
    let url = format!("{}/_bulk?require_alias=true&refresh=false", elasticsearch.index_url(alias));
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        let (requests, next, url) = (Arc::clone(requests), Arc::clone(&next), url.clone());
        senders.spawn(async move {
            // One request at a time, so that there is one connection.
            let http = Elasticsearch::new().http;
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let request = http.post(&url).body(request.clone());
                let request = request.header(CONTENT_TYPE, "application/x-ndjson");
                let answer = request.send().await.expect("Elasticsearch runs");
                assert!(answer.status().is_success(), "{}", answer.status());
                answer.bytes().await.expect("a whole answer");
            }
        });
    }
    senders.join_all().await;
    let took = began.elapsed();
    assert_eq!(elasticsearch.count(alias).await, documents, "documents in the index");
    elasticsearch.delete(alias).await;
    rate(documents, took)
}

pub(crate) fn rate(documents: u64, took: Duration) -> f64 {
    float(documents) / took.as_secs_f64().max(1e-9)
}

fn per_document(cpu: Duration, documents: u64) -> String {
    format!("{:.1} us of processor time a document", cpu.as_secs_f64() * 1e6 / float(documents))
}
