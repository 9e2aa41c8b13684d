//! Stopping under load loses no request, and ends in bounded time.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::Request;
use axum::routing::{any, get};
use dms_runtime::{Drained, ServerLimits};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Client, Running, patiently};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_secs(30);

/// Answers of more than one write, so that a cut would show.
const BODY_BYTES: usize = 100_000;

/// Requests by their number: those a handler began, and those a client got a whole answer to.
#[derive(Clone)]
struct Ledger {
    /// First part of each path: the operating system may give the port to another test's server while
    /// clients still try it.
    name: Arc<str>,
    next: Arc<AtomicU64>,
    begun: Arc<Mutex<BTreeSet<u64>>>,
    answered: Arc<Mutex<BTreeSet<u64>>>,
    refused: Arc<Mutex<BTreeMap<u64, String>>>,
}

impl Ledger {
    fn new() -> Self {
        Self {
            name: Arc::from(dms_runtime::Secret::random().expose()),
            next: Arc::default(),
            begun: Arc::default(),
            answered: Arc::default(),
            refused: Arc::default(),
        }
    }

    fn path(&self, number: u64) -> String {
        format!("/{}/{number}", self.name)
    }

    fn router(&self) -> Router {
        let begun = Arc::clone(&self.begun);
        Router::new().route(
            &format!("/{}/{{number}}", self.name),
            get(async move |Path(number): Path<u64>| {
                begun.lock().expect("not poisoned").insert(number);
                // some are in flight for a while, most are quick
                if number % 7 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                vec![b'x'; BODY_BYTES]
            }),
        )
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn note_answer(&self, number: u64, status: u16, body_bytes: usize) {
        assert_eq!((status, body_bytes), (200, BODY_BYTES));
        self.answered.lock().expect("not poisoned").insert(number);
    }

    fn note_refusal(&self, number: u64, protocol: &str, error: &impl std::fmt::Debug) {
        let refused = format!("{protocol}: {error:?}");
        self.refused.lock().expect("not poisoned").insert(number, refused);
    }

    fn answers(&self) -> usize {
        self.answered.lock().expect("not poisoned").len()
    }

    fn assert_nothing_lost(&self) {
        let begun = self.begun.lock().expect("not poisoned").clone();
        let answered = self.answered.lock().expect("not poisoned").clone();
        let refused = self.refused.lock().expect("not poisoned");
        let lost: Vec<_> =
            begun.difference(&answered).map(|number| (number, refused.get(number))).collect();
        assert!(lost.is_empty(), "begun and not answered: {lost:?}");
    }
}

/// Sends requests on one connection until it is told that the connection closes. Once the connection has
/// answered, nothing sent on it may go unanswered.
async fn hammer_kept(ledger: Ledger, mut client: Client) {
    let mut first = true;
    loop {
        let number = ledger.number();
        match client.get(&ledger.path(number)).await {
            Ok(answer) => {
                ledger.note_answer(number, answer.status, answer.body.len());
                if answer.closes {
                    assert!(client.closed().await, "closes after saying so");
                    return;
                }
            }
            Err(error) => {
                assert!(first, "request {number} went unanswered: {error}");
                return;
            }
        }
        first = false;
    }
}

/// Sends each request on a new connection until connections are refused.
async fn hammer_fresh(ledger: Ledger, address: std::net::SocketAddr) {
    while let Ok(mut client) = Client::connect(address).await {
        let number = ledger.number();
        // the operating system may refuse after it connected; then no handler has begun
        match client.get(&ledger.path(number)).await {
            Ok(answer) if answer.status == 404 => return,
            Ok(answer) => ledger.note_answer(number, answer.status, answer.body.len()),
            Err(error) => ledger.note_refusal(number, "fresh", &error),
        }
    }
}

/// Runs an HTTP/2 client on a thread of its own: when the tasks that hyper splits one into run at the same
/// time, it can fail a request whose answer has arrived together with a GOAWAY.
fn on_one_thread(client: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(client);
}

async fn hammer_http2(ledger: Ledger, address: std::net::SocketAddr) {
    // one that comes too late is refused like any other
    let Ok(stream) = TcpStream::connect(address).await else { return };
    let Ok((mut sender, connection)) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await
    else {
        return;
    };
    let connection = tokio::spawn(connection);
    loop {
        let number = ledger.number();
        let request =
            Request::get(format!("http://test{}", ledger.path(number))).body(Empty::<&[u8]>::new());
        let answer = match sender.send_request(request.expect("a request")).await {
            Ok(answer) => answer,
            Err(error) => {
                ledger.note_refusal(number, "http2", &error);
                break;
            }
        };
        let status = answer.status().as_u16();
        if status == 404 {
            break;
        }
        let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
        ledger.note_answer(number, status, body.len());
    }
    drop(sender);
    connection.await.expect("no panic").expect("a clean end");
}

async fn stop_under_load(kept: usize, fresh: usize, http2: usize) {
    let ledger = Ledger::new();
    let server = Running::start(ledger.router(), ServerLimits::default(), GRACE).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..kept {
        clients.spawn(hammer_kept(ledger.clone(), server.connect().await));
    }
    for _ in 0..fresh {
        clients.spawn(hammer_fresh(ledger.clone(), server.address));
    }
    for _ in 0..http2 {
        let (ledger, address) = (ledger.clone(), server.address);
        clients.spawn_blocking(move || on_one_thread(hammer_http2(ledger, address)));
    }
    patiently(async {
        while ledger.answers() < 300 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let drained = server.stopped().await;
    patiently(async {
        while let Some(client) = clients.join_next().await {
            client.expect("no request is lost");
        }
    })
    .await;
    assert_eq!(drained, Drained { cut_off: 0 });
    ledger.assert_nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_loses_no_request_on_kept_connections() {
    for _ in 0..5 {
        stop_under_load(16, 0, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_loses_no_request_that_a_handler_began() {
    for _ in 0..5 {
        stop_under_load(4, 8, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_loses_no_http2_request() {
    for _ in 0..5 {
        stop_under_load(0, 0, 6).await;
    }
}

#[tokio::test]
async fn a_connection_that_waits_to_be_accepted_is_still_served() {
    let ledger = Ledger::new();
    let mut limits = ServerLimits::default();
    limits.connections_max = 2;
    let server = Running::start(ledger.router(), limits, GRACE).await;
    let mut first = server.connect().await;
    assert_eq!(first.get(&ledger.path(1)).await.expect("answered").status, 200);
    // on one thread the server can't accept this one before it sees the stop
    let mut waiting = std::net::TcpStream::connect(server.address).expect("connected");
    let request = format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", ledger.path(2));
    std::io::Write::write_all(&mut waiting, request.as_bytes()).expect("sent");
    server.stop.cancel();
    let answer = patiently(tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut waiting, &mut answer).map(|_| answer)
    }))
    .await
    .expect("no panic")
    .expect("answered");
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > BODY_BYTES);
    assert_eq!(server.stopped().await.cut_off, 0);
}

struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    fn new() -> (Self, Router) {
        let gate = Self { entered: Arc::default(), open: Arc::default() };
        let (entered, open) = (Arc::clone(&gate.entered), Arc::clone(&gate.open));
        let handler = async move || {
            entered.notify_one();
            open.notified().await;
            "done"
        };
        (gate, Router::new().route("/", get(handler)))
    }
}

#[tokio::test]
async fn a_request_in_flight_finishes_while_new_connections_are_refused() {
    let (gate, router) = Gate::new();
    let server = Running::start(router, ServerLimits::default(), GRACE).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("sent");
    patiently(gate.entered.notified()).await;
    server.stop.cancel();
    patiently(async {
        while Client::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!server.serving.is_finished());
    gate.open.notify_one();
    let answer = patiently(client.answer()).await.expect("answered");
    assert_eq!((answer.status, answer.closes, answer.body), (200, true, b"done".to_vec()));
    assert!(patiently(client.closed()).await);
    assert_eq!(server.stopped().await.cut_off, 0);
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_end() {
    let (_gate, router) = Gate::new();
    let server = Running::start(router, ServerLimits::default(), GRACE).await;
    let mut idle = server.connect().await;
    assert_eq!(idle.get("/missing").await.expect("answered").status, 404);
    let silent = server.connect().await;
    let watching = tokio::spawn(async move { idle.closed().await });
    let started = tokio::time::Instant::now();
    assert_eq!(server.stopped().await.cut_off, 0);
    assert!(started.elapsed() < GRACE / 2);
    assert!(patiently(watching).await.expect("no panic"));
    drop(silent);
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_cut_off_and_its_handler_dropped() {
    struct Dropped(CancellationToken);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let (entered, dropped) = (Arc::new(Notify::new()), CancellationToken::new());
    let (entering, dropping) = (Arc::clone(&entered), dropped.clone());
    let router = Router::new().route(
        "/",
        get(async move || {
            let _dropped = Dropped(dropping.clone());
            entering.notify_one();
            std::future::pending::<&str>().await
        }),
    );
    let server = Running::start(router, ServerLimits::default(), Duration::from_millis(10)).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("sent");
    patiently(entered.notified()).await;
    assert_eq!(server.stopped().await, Drained { cut_off: 1 });
    patiently(dropped.cancelled()).await;
    assert!(patiently(client.answer()).await.is_err());
}

#[tokio::test]
async fn a_websocket_is_waited_for_and_cut_off_after_the_grace_period() {
    for ends_itself in [true, false] {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let ended = Arc::new(Notify::new());
        let ending = Arc::clone(&ended);
        let router = Router::new().route(
            "/",
            any(async move |upgrade: WebSocketUpgrade| {
                let (stopping, ending) = (stopping.clone(), Arc::clone(&ending));
                upgrade.on_upgrade(async move |mut socket| {
                    tokio::select! {
                        () = stopping.cancelled(), if ends_itself => {}
                        _ = socket.recv() => {}
                    }
                    drop(socket);
                    ending.notify_one();
                })
            }),
        );
        let grace = if ends_itself { GRACE } else { Duration::from_millis(10) };
        let server = Running::start(router, ServerLimits::default(), grace).await;
        let stream = TcpStream::connect(server.address).await.expect("connected");
        let url = format!("ws://{}/", server.address);
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("upgraded");
        stop.cancel();
        let drained = server.stopped().await;
        assert_eq!(drained.cut_off, usize::from(!ends_itself));
        patiently(ended.notified()).await;
        assert!(patiently(socket.next()).await.is_none_or(|end| end.is_err()));
    }
}

#[tokio::test]
async fn an_http2_request_that_outlasts_the_grace_period_is_cut_off() {
    let (gate, router) = Gate::new();
    let server = Running::start(router, ServerLimits::default(), Duration::from_millis(10)).await;
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("shaken hands");
    tokio::spawn(connection);
    let request = Request::get("http://test/").body(Empty::<&[u8]>::new()).expect("a request");
    let answer = tokio::spawn(sender.send_request(request));
    patiently(gate.entered.notified()).await;
    assert!(server.stopped().await.cut_off > 0);
    assert!(patiently(answer).await.expect("no panic").is_err());
}
