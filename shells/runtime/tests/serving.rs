//! What a server bounds, passes on and survives.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{Request, Version};
use axum::routing::{any, get, post};
use dms_runtime::settings::names::HTTP_ADDR;
use dms_runtime::{ExitStatus, Server, ServerLimits};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Running, patiently};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;

const GRACE: Duration = Duration::from_secs(30);

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/version", get(async |version: Version| format!("{version:?}")))
        .route("/refuse", post(async || axum::http::StatusCode::PAYLOAD_TOO_LARGE))
        .route("/huge", get(async || vec![b'x'; 64 << 20]))
        .route(
            "/echo",
            any(async |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async |mut socket| {
                    while let Some(Ok(message)) = socket.recv().await {
                        if matches!(message, Message::Close(_))
                            || socket.send(message).await.is_err()
                        {
                            break;
                        }
                    }
                })
            }),
        )
}

/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(50);
/// A limit that a test never reaches.
const LONG: Duration = Duration::from_hours(1);

fn patient() -> ServerLimits {
    let mut limits = ServerLimits::default();
    limits.header_read_timeout = LONG;
    limits.idle_timeout = LONG;
    limits.write_stall_timeout = LONG;
    limits
}

#[tokio::test]
async fn a_taken_address_is_told_before_anything_is_served() {
    let first = Server::bind(&HTTP_ADDR, ([127, 0, 0, 1], 0).into()).await.expect("bound");
    let error = Server::bind(&HTTP_ADDR, first.local_addr()).await.expect_err("taken");
    assert_eq!(error.exit(), ExitStatus::Temporary);
    let report = error.report();
    assert!(report.contains("DMS_HTTP_ADDR: cannot listen on 127.0.0.1:"), "{report}");
    assert!(report.contains("choose another port"), "{report}");
}

#[tokio::test]
async fn an_address_of_another_machine_is_a_usage_error() {
    // TEST-NET-1 (RFC 5737) is nobody's
    let error = Server::bind(&HTTP_ADDR, ([192, 0, 2, 1], 0).into()).await.expect_err("not here");
    assert_eq!(error.exit(), ExitStatus::Usage);
}

#[tokio::test]
async fn connections_are_kept_and_handlers_know_the_peer() {
    let server = Running::start(router(), patient(), GRACE).await;
    let mut client = server.connect().await;
    let own = client.stream.local_addr().expect("an address").to_string();
    for _ in 0..3 {
        let answer = client.get("/peer").await.expect("answered");
        assert_eq!((answer.status, answer.closes, answer.body), (200, false, own.clone().into()));
    }
    drop(client);
    assert_eq!(server.stopped().await.cut_off, 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(router(), patient(), GRACE).await;
    let mut client = server.connect().await;
    let one = |path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send(&[one("/"), one("/version"), one("/missing")].concat()).await.expect("sent");
    assert_eq!(client.answer().await.expect("answered").body, b"hello");
    assert_eq!(client.answer().await.expect("answered").body, b"HTTP/1.1");
    assert_eq!(client.answer().await.expect("answered").status, 404);
}

#[tokio::test]
async fn http2_is_spoken_without_tls() {
    let server = Running::start(router(), patient(), GRACE).await;
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("shaken hands");
    tokio::spawn(connection);
    let request =
        Request::get("http://test/version").body(Empty::<&[u8]>::new()).expect("a request");
    let answer = patiently(sender.send_request(request)).await.expect("answered");
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(body, "HTTP/2.0");
    drop(sender);
    assert_eq!(server.stopped().await.cut_off, 0);
}

#[tokio::test]
async fn requests_that_arrive_byte_by_byte_are_understood() {
    let server = Running::start(router(), patient(), GRACE).await;
    let mut client = server.connect().await;
    // begins like the HTTP/2 preface does
    for byte in "PROPFIND / HTTP/1.1\r\nHost: test\r\n\r\n".bytes() {
        client.stream.write_all(&[byte]).await.expect("sent");
        tokio::task::yield_now().await;
    }
    assert_eq!(patiently(client.answer()).await.expect("answered").status, 405);
}

#[tokio::test]
async fn websockets_are_upgraded() {
    let server = Running::start(router(), patient(), GRACE).await;
    let url = format!("ws://{}/echo", server.address);
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("upgraded");
    socket.send(tungstenite::Message::text("hello")).await.expect("sent");
    let echo = patiently(socket.next()).await.expect("open").expect("a message");
    assert_eq!(echo, tungstenite::Message::text("hello"));
    socket.close(None).await.expect("closed");
    while socket.next().await.is_some() {}
    drop(socket);
    assert_eq!(server.stopped().await.cut_off, 0);
}

#[tokio::test]
async fn who_sends_nothing_is_let_go() {
    let mut limits = patient();
    limits.header_read_timeout = SHORT;
    let server = Running::start(router(), limits, GRACE).await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\n"] {
        let mut client = server.connect().await;
        client.send(beginning).await.expect("sent");
        assert!(patiently(client.closed()).await, "{beginning:?}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let mut limits = patient();
    limits.header_read_timeout = SHORT;
    let server = Running::start(router(), limits, GRACE).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: te").await.expect("sent");
    let given_up = patiently(client.answer()).await;
    assert!(given_up.is_err() || given_up.is_ok_and(|answer| answer.status == 408));
}

#[tokio::test]
async fn a_later_head_that_does_not_end_is_given_up_long_before_an_idle_connection() {
    let mut limits = patient();
    limits.header_read_timeout = SHORT;
    let server = Running::start(router(), limits, GRACE).await;
    let mut idle = server.connect().await;
    let mut stuck = server.connect().await;
    assert_eq!(idle.get("/").await.expect("answered").status, 200);
    assert_eq!(stuck.get("/").await.expect("answered").status, 200);
    stuck.send("GET / HT").await.expect("sent");
    let given_up = patiently(stuck.answer()).await;
    assert!(given_up.is_err() || given_up.is_ok_and(|answer| answer.status == 408));
    assert_eq!(idle.get("/").await.expect("still open").status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let mut limits = patient();
    limits.idle_timeout = SHORT;
    let server = Running::start(router(), limits, GRACE).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/").await.expect("answered").status, 200);
    assert!(patiently(client.closed()).await);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let mut limits = patient();
    limits.header_bytes_max = 8 * 1024;
    let server = Running::start(router(), limits, GRACE).await;
    let head = |bytes| format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(bytes));
    let mut client = server.connect().await;
    client.send(&head(4 * 1024)).await.expect("sent");
    assert_eq!(patiently(client.answer()).await.expect("answered").status, 200);
    let mut client = server.connect().await;
    client.send(&head(100 * 1024)).await.expect("sent");
    assert_eq!(patiently(client.answer()).await.expect("answered").status, 431);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_reads_only_after_sending_everything() {
    let mut limits = patient();
    limits.linger = LONG;
    let server = Running::start(router(), limits, GRACE).await;
    let mut client = server.connect().await;
    let head = "POST /refuse HTTP/1.1\r\nHost: test\r\nContent-Length: 16000000\r\n\r\n";
    client.send(head).await.expect("sent");
    for _ in 0..1600 {
        patiently(client.stream.write_all(&[b'x'; 10_000])).await.expect("taken");
    }
    assert_eq!(patiently(client.answer()).await.expect("answered").status, 413);
    assert!(patiently(client.closed()).await);
}

#[tokio::test]
async fn a_refused_client_that_never_stops_sending_is_let_go() {
    let mut limits = patient();
    limits.linger = SHORT;
    let server = Running::start(router(), limits, GRACE).await;
    let mut client = server.connect().await;
    let head = "POST /refuse HTTP/1.1\r\nHost: test\r\nContent-Length: 999999999999\r\n\r\n";
    client.send(head).await.expect("sent");
    patiently(async { while client.stream.write_all(&[b'x'; 10_000]).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let mut limits = patient();
    limits.write_stall_timeout = SHORT;
    let server = Running::start(router(), limits, GRACE).await;
    let mut client = server.connect().await;
    client.send("GET /huge HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("sent");
    // while it is held, a server without connections drains at once
    let drained = server.stopped().await;
    assert_eq!(drained.cut_off, 0, "ended by itself");
    drop(client);
}

#[tokio::test]
async fn connections_over_the_bound_wait_for_one_that_ends() {
    let mut limits = patient();
    limits.connections_max = 1;
    let server = Running::start(router(), limits, GRACE).await;
    let mut first = server.connect().await;
    assert_eq!(first.get("/").await.expect("answered").status, 200);
    let mut second = server.connect().await;
    second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("sent");
    assert_eq!(first.get("/").await.expect("answered").status, 200);
    assert!(futures_util::FutureExt::now_or_never(second.answer()).is_none());
    drop(first);
    assert_eq!(patiently(second.answer()).await.expect("answered").status, 200);
}

#[tokio::test]
async fn dropping_the_server_closes_its_connections() {
    let server = Running::start(router(), patient(), GRACE).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/").await.expect("answered").status, 200);
    server.serving.abort();
    assert!(patiently(client.get("/")).await.is_err());
}

#[tokio::test]
async fn what_is_not_http_is_answered_and_closed() {
    let server = Running::start(router(), patient(), GRACE).await;
    let mut client = server.connect().await;
    client.send("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n").await.expect("sent");
    assert_eq!(patiently(client.answer()).await.expect("answered").status, 400);
    assert!(patiently(client.closed()).await);
}
