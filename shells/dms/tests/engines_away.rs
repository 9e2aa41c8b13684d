//! Engines that come late, go away and come back, under five services that nobody restarts.
//!
//! It stops engines, so it wants a stack of its own: see docs/engines.md. `DMS_TEST_AWAY` names those to
//! stop (`redis,minio`; all), `DMS_TEST_AWAY_S` for how long (20 s).

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::services::Services;
use support::{Server, Tier, eventually, tier};

/// What goes on while an engine is away; what doesn't is answered with 503.
struct Expected {
    engine: &'static str,
    creates: bool,
    reads: bool,
    searches: bool,
    /// The service whose readiness tells, and the name that it tells.
    named: (&'static str, &'static str),
}

const ENGINES: [Expected; 7] = [
    away("redis", [true, true, true], ("document-service", "cache")),
    away("elasticsearch", [true, true, false], ("search-service", "search")),
    away("minio", [false, true, true], ("document-service", "storage")),
    away("pgbouncer", [false, false, true], ("document-service", "database")),
    away("postgres", [false, false, true], ("document-service", "database")),
    away("kafka", [true, true, true], ("event-processor", "search-index")),
    away("connect", [true, true, true], ("", "")),
];

const fn away(
    engine: &'static str,
    [creates, reads, searches]: [bool; 3],
    named: (&'static str, &'static str),
) -> Expected {
    Expected { engine, creates, reads, searches, named }
}

/// Each stops what the other needs.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Starts or stops engines of the stack that the variables name.
fn stack(arguments: &[&str]) {
    assert!(
        std::env::var_os("DMS_STACK_RUN").is_some() && tier() == Tier::Full,
        "set DMS_TEST_TIER=full and DMS_STACK_RUN, a stack that may be stopped"
    );
    let mut command = Command::new(support::root().join("deploy/native/stack"));
    let output = command.args(arguments).output().expect("the stack's program");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What requests of one kind were answered.
#[derive(Default, Debug)]
struct Answers {
    by_status: BTreeMap<u16, usize>,
    slowest: Duration,
    without_retry_after: usize,
}

impl Answers {
    async fn take(&mut self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let asked = Instant::now();
        let response = request.send().await.expect("the gateway answers");
        let status = response.status().as_u16();
        if status == 503 && !response.headers().contains_key("retry-after") {
            self.without_retry_after += 1;
        }
        let body = response.json().await.unwrap_or(Value::Null);
        *self.by_status.entry(status).or_default() += 1;
        self.slowest = self.slowest.max(asked.elapsed());
        (status, body)
    }

    fn only(&self, what: &str, good: u16, expected: bool) {
        assert_eq!(self.without_retry_after, 0, "{what}: {self:?}");
        let others = self.by_status.keys().any(|status| ![good, 503].contains(status));
        assert!(!others, "{what}: {self:?}");
        if expected {
            assert!(!self.by_status.contains_key(&503), "{what} doesn't go on: {self:?}");
        } else {
            assert!(self.by_status.contains_key(&503), "{what} goes on: {self:?}");
        }
        // A second is what it should take; the rest is for a busy machine.
        assert!(self.slowest < Duration::from_secs(5), "{what}: {self:?}");
    }
}

/// Creates until it is told to stop; the ids of what was acknowledged.
async fn write_until(server: &Server, stop: &AtomicBool) -> (Vec<String>, Answers) {
    let (mut acknowledged, mut answers) = (Vec::new(), Answers::default());
    while !stop.load(Ordering::Relaxed) {
        let body = json!({"title": "steady", "content": "rain", "created_by": "ann"});
        let request = server.client.post(server.url("/documents")).json(&body);
        let (status, document) = answers.take(request).await;
        if status == 201 {
            acknowledged.push(document["id"].as_str().expect("an id").to_owned());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (acknowledged, answers)
}

async fn get_until(server: &Server, path: &str, stop: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        answers.take(server.client.get(server.url(path))).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    answers
}

fn services(server: &Server) -> &Services {
    server.services().expect("five services")
}

async fn readiness(server: &Server, service: &str) -> (u16, String) {
    let url = format!("http://{}/readyz", services(server).process(service).http);
    let response = server.client.get(url).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a stack of its own, whose engines it stops"]
async fn each_engine_goes_and_comes_back() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let seconds = std::env::var("DMS_TEST_AWAY_S").map_or(20, |s| s.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Arc::new(Server::start(&folder.path().join("data")));
    let mut all = vec![server.create("steady", "rain").await];
    let read = format!("/documents/{}/content", all[0]);
    let chosen = std::env::var("DMS_TEST_AWAY").unwrap_or_default();
    let is_chosen = |e: &&Expected| chosen.is_empty() || chosen.split(',').any(|c| c == e.engine);
    for expected in ENGINES.iter().filter(is_chosen) {
        stack(&["down", expected.engine]);
        let stop = AtomicBool::new(false);
        let wait = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let (service, name) = expected.named;
            if !service.is_empty() {
                eventually(&format!("{service} to name {name}"), async || {
                    readiness(&server, service).await.1.contains(name).then_some(())
                })
                .await;
            }
            stop.store(true, Ordering::Relaxed);
        };
        let ((acknowledged, creates), reads, searches, ()) = tokio::join!(
            write_until(&server, &stop),
            // A list is never cached.
            get_until(&server, "/documents?limit=1", &stop),
            get_until(&server, "/search?q=steady&size=0", &stop),
            wait,
        );
        println!(
            "without {}: creates {creates:?}, reads {reads:?}, searches {searches:?}",
            expected.engine
        );
        creates.only("creating", 201, expected.creates);
        reads.only("reading", 200, expected.reads);
        searches.only("searching", 200, expected.searches);
        all.extend(acknowledged);
        let up = Instant::now();
        stack(&["up", expected.engine]);
        for service in &services(&server).processes[1..] {
            eventually(&format!("{} to heal", service.name), async || {
                (readiness(&server, service.name).await.0 == 200).then_some(())
            })
            .await;
        }
        let last = server.create("steady", "rain").await;
        all.push(last);
        // A write that was answered with 503 may have been made.
        eventually("everything acknowledged in the index", async || {
            let (status, found) = server.get("/search?q=steady&size=0").await;
            (status == 200 && found["total"].as_u64() >= Some(all.len() as u64)).then_some(())
        })
        .await;
        for id in &all {
            assert_eq!(server.get(&format!("/documents/{id}")).await.0, 200, "{id} is lost");
        }
        println!("{}: healed {:.1?} after its start", expected.engine, up.elapsed());
    }
    assert_eq!(server.get(&read).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a stack of its own, whose engines it stops"]
async fn services_that_are_there_before_their_engines_become_ready() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engines = ["connect", "kafka", "elasticsearch", "minio", "redis", "pgbouncer", "postgres"];
    let server = Server::start_before_engines(
        &folder.path().join("data"),
        || engines.iter().for_each(|engine| stack(&["down", engine])),
        // The other way round than anybody would; the pooler isn't up before it has its database.
        || {
            let late = ["elasticsearch", "minio", "redis", "kafka", "connect"];
            for engine in late.into_iter().chain(["postgres", "pgbouncer"]) {
                stack(&["up", engine]);
            }
        },
    );
    let id = server.create("late", "but there").await;
    server.search_until("q=late", 1).await;
    assert_eq!(server.get(&format!("/documents/{id}")).await.0, 200);
}
