//! The one-process product under load: `cargo bench -p dms`.
//!
//! It prints what it measures and judges nothing. Client and server share the machine, so rates say
//! something on a quiet machine only; the server's processor time per request always does. The number
//! of documents of the large run is `DMS_BENCH_DOCUMENTS` (100,000); `DMS_BENCH_SERVER` is the path of
//! another build of `dms` to measure instead.

mod corpus;
mod http;
mod process;

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{Connection, Load};
use process::{Memory, Server};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const CONNECTIONS: usize = 64;
const SAMPLES: u64 = 50;

fn main() -> Outcome {
    // One thread for the load: the server has the rest of the machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Outcome {
    let documents = std::env::var("DMS_BENCH_DOCUMENTS")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(100_000);
    let folder = tempfile::tempdir()?;
    let mut starts = Vec::new();
    for n in 0..5 {
        let server = Server::start(&folder.path().join(format!("empty{n}")))?;
        starts.push(server.start_to_ready);
        if n == 4 {
            // What start-up allocated has settled after a moment.
            tokio::time::sleep(Duration::from_secs(2)).await;
            print("memory idle, empty", &memory(&server));
        }
        server.stop()?;
    }
    starts.sort_unstable();
    print("start to ready, empty folder (median of 5)", &millis(starts[2]));

    let data = folder.path().join("full");
    let server = Server::start(&data)?;
    let address = server.address;
    let create = |n| http::json("POST", "/documents", &corpus::document(n));
    let began = server.cpu();
    let what = format!("create, 1 KiB, {documents} documents");
    measure(&server, &what, CONNECTIONS, documents, 201, create).await?;
    print("memory after the creates", &memory(&server));
    let waited = wait_until_indexed(address, documents).await?;
    print("last create to everything searchable", &millis(waited));
    let per_create = per_request(server.cpu().saturating_sub(began), documents);
    print("processor time per create, until it is searchable", &per_create);

    let ids = ids(address, 1_000).await?;
    let get = move |n: u64| http::get(&format!("/documents/{}", pick(&ids, n)));
    measure(&server, "read, cached", CONNECTIONS, 150_000, 200, get).await?;
    let list = |_| http::get("/documents?limit=20");
    measure(&server, "list, 20 a page", CONNECTIONS, 40_000, 200, list).await?;
    let search = |n| {
        let words = (corpus::rank(n), corpus::rank(n ^ 0xffff));
        http::get(&format!("/search?q={}%20{}", corpus::word(words.0), corpus::word(words.1)))
    };
    measure(&server, "search, two words", 16, 10_000, 200, search).await?;
    print("memory loaded", &memory(&server));
    print("commit to searchable (p50, p99)", &pair(commit_to_searchable(address).await?));
    print(
        "patch sent to frame on an event stream (p50, p99)",
        &pair(commit_to_frame(address).await?),
    );
    print("stop", &millis(server.stop()?));

    let server = Server::start(&data)?;
    print(&format!("start to ready, {documents} documents"), &millis(server.start_to_ready));
    tokio::time::sleep(Duration::from_secs(2)).await;
    print(&format!("memory idle, {documents} documents"), &memory(&server));
    server.stop()?;
    Ok(())
}

/// Puts the server under a load and prints what that gave.
async fn measure(
    server: &Server,
    what: &str,
    connections: usize,
    total: u64,
    expected: u16,
    request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
) -> Outcome {
    let began = server.cpu();
    let load = http::load(server.address, connections, total, expected, request).await?;
    print_load(what, &load, &per_request(server.cpu().saturating_sub(began), total));
    Ok(())
}

/// Time from the answer to a create until a search finds it.
async fn commit_to_searchable(address: SocketAddr) -> Outcome<Vec<Duration>> {
    let mut connection = Connection::open(address).await?;
    let mut samples = Vec::new();
    for n in 0..SAMPLES {
        let word = format!("unique{}", corpus::random(n) >> 16);
        let body = format!(r#"{{"title":"t","content":"{word}","created_by":"bench"}}"#);
        connection.call(&http::json("POST", "/documents", &body)).await?;
        let committed = Instant::now();
        let search = http::get(&format!("/search?q={word}&size=0"));
        loop {
            let answer = connection.call(&search).await?;
            if !String::from_utf8_lossy(answer.body).contains("\"total\":0") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        samples.push(committed.elapsed());
    }
    Ok(samples)
}

/// Time from sending a patch until its frame arrives; the durable commit is part of it.
async fn commit_to_frame(address: SocketAddr) -> Outcome<Vec<Duration>> {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    let mut connection = Connection::open(address).await?;
    let id = ids(address, 1).await?.remove(0);
    let stream = tokio::net::TcpStream::connect(address).await?;
    let mut events = BufReader::new(stream);
    let request = http::get(&format!("/documents/{id}/events"));
    events.get_mut().write_all(&request).await?;
    let mut lines = events.lines();
    let mut samples = Vec::new();
    loop {
        match lines.next_line().await? {
            Some(line) if line.contains("document.snapshot") => break,
            Some(_) => {}
            None => return Err("the event stream ended".into()),
        }
    }
    for n in 0..SAMPLES {
        let title = format!("title {n}");
        let patch =
            http::json("PATCH", &format!("/documents/{id}"), &format!(r#"{{"title":"{title}"}}"#));
        let sent = Instant::now();
        connection.call(&patch).await?;
        while let Some(line) = lines.next_line().await? {
            if line.contains(&title) {
                break;
            }
        }
        samples.push(sent.elapsed());
    }
    Ok(samples)
}

async fn wait_until_indexed(address: SocketAddr, documents: u64) -> Outcome<Duration> {
    let started = Instant::now();
    let mut connection = Connection::open(address).await?;
    let total = format!("\"total\":{documents},");
    loop {
        let answer = connection.call(&http::get("/search?size=0")).await?;
        if String::from_utf8_lossy(answer.body).contains(&total) {
            return Ok(started.elapsed());
        }
        if started.elapsed() > Duration::from_mins(5) {
            return Err("not everything became searchable within five minutes".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ids(address: SocketAddr, count: usize) -> Outcome<Vec<String>> {
    let mut connection = Connection::open(address).await?;
    let mut ids = Vec::new();
    let mut cursor = String::new();
    while ids.len() < count {
        let path = format!("/documents?limit=100{cursor}");
        let answer = connection.call(&http::get(&path)).await?;
        let page: serde_json::Value = serde_json::from_slice(answer.body)?;
        let documents = page["documents"].as_array().ok_or("no documents")?;
        ids.extend(documents.iter().filter_map(|d| d["id"].as_str()).map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ids.truncate(count);
    Ok(ids)
}

fn pick(ids: &[String], n: u64) -> &str {
    let index = corpus::random(n) % ids.len() as u64;
    &ids[usize::try_from(index).unwrap_or_default()]
}

fn print(what: &str, value: &str) {
    println!("{what:<52} {value}");
}

fn print_load(what: &str, load: &Load, per_request: &str) {
    let value = format!(
        "{:>8.0}/s   p50 {}   p99 {}   server {per_request}   failures {}",
        load.per_second,
        millis(load.p50),
        millis(load.p99),
        load.failures
    );
    print(what, &value);
}

fn per_request(time: Duration, requests: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "an average to print")]
    let micros = time.as_secs_f64() * 1e6 / requests as f64;
    format!("{micros:.0} us")
}

fn memory(server: &Server) -> String {
    let Memory { resident, highest, anonymous } = server.memory();
    format!("{resident} MiB, {anonymous} MiB without pages of files, {highest} MiB at most")
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn pair(mut samples: Vec<Duration>) -> String {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    format!("{}, {}", millis(samples[last / 2]), millis(samples[last * 99 / 100]))
}
