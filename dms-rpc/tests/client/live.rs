//! Live updates over `WebSockets` and server-sent events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use dms_core::DocumentId;
use dms_rpc::client::{ClientError, CloseCode};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::support::{TestServer, patiently, problem};

fn frame(version: i32) -> String {
    json!({"type": "document.updated", "data": {"version": version}, "timestamp": 1}).to_string()
}

/// Serves `WebSockets` that do as `talk` says.
async fn talking<F>(talk: impl Fn(WebSocket) -> F + Clone + Send + Sync + 'static) -> TestServer
where
    F: Future<Output = ()> + Send + 'static,
{
    let handler = move |upgrade: WebSocketUpgrade| {
        let talk = talk.clone();
        async move { upgrade.on_upgrade(talk) }
    };
    TestServer::of(Router::new().route("/ws/{id}", get(handler))).await
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let frame = CloseFrame { code, reason: reason.into() };
    socket.send(Message::Close(Some(frame))).await.unwrap();
}

#[tokio::test]
async fn frames_come_in_order_until_the_connection_is_closed() {
    let server = talking(|mut socket| async move {
        for version in 1..=3 {
            socket.send(Message::text(frame(version))).await.unwrap();
        }
        close(&mut socket, 1000, "").await;
    })
    .await;
    let frames = server.client().live(DocumentId::generate()).await.unwrap();
    let frames: Vec<_> = patiently(frames.try_collect()).await.unwrap();
    let versions: Vec<_> = frames.iter().map(dms_core::Frame::version).collect();
    assert_eq!(versions, [Some(1), Some(2), Some(3)]);
}

#[tokio::test]
async fn the_reason_of_a_close_is_told() {
    for (code, retryable) in [(1012, true), (1013, true), (4401, false), (4404, false)] {
        let server = talking(move |mut socket| async move {
            close(&mut socket, code, "why").await;
        })
        .await;
        let mut frames = server.client().live(DocumentId::generate()).await.unwrap();
        let error = patiently(frames.next()).await.unwrap().unwrap_err();
        let ClientError::Closed { code: told, reason } = &error else { panic!("{error:?}") };
        assert_eq!((*told, reason.as_str()), (CloseCode(code), "why"));
        assert_eq!(error.is_retryable(), retryable);
        assert!(frames.next().await.is_none());
    }
}

#[tokio::test]
async fn pings_are_answered() {
    let (answered, pong) = tokio::sync::oneshot::channel();
    let answered = Arc::new(Mutex::new(Some(answered)));
    let server = talking(move |mut socket| {
        let answered = answered.lock().unwrap().take().unwrap();
        async move {
            socket.send(Message::Ping(Bytes::from("are you there"))).await.unwrap();
            let reply = socket.recv().await.unwrap().unwrap();
            answered.send(reply).unwrap();
            socket.send(Message::text(frame(1))).await.unwrap();
        }
    })
    .await;
    let mut frames = server.client().live(DocumentId::generate()).await.unwrap();
    let first = patiently(frames.next()).await.unwrap().unwrap();
    assert_eq!(first.version(), Some(1));
    assert_eq!(pong.await.unwrap(), Message::Pong(Bytes::from("are you there")));
}

#[tokio::test]
async fn the_token_goes_in_a_header_and_a_refusal_is_a_problem() {
    let seen = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let record = Arc::clone(&seen);
    let handler = move |headers: HeaderMap| {
        record.lock().unwrap().push(headers);
        async { problem(401, "token_expired") }
    };
    let server = TestServer::of(Router::new().route("/ws/{id}", get(handler))).await;
    let client = server.builder().bearer_token("secret").build().unwrap();
    let error = client.live(DocumentId::generate()).await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(401), Some("token_expired")));
    assert_eq!(seen.lock().unwrap()[0]["authorization"], "Bearer secret");
}

#[tokio::test]
async fn an_answer_that_is_no_handshake_is_refused() {
    let server = TestServer::answering(|_| "hello").await;
    let error = server.client().live(DocumentId::generate()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable(_)), "{error:?}");
}

#[tokio::test]
async fn a_handshake_that_was_not_meant_for_this_client_is_refused() {
    let server = TestServer::answering(|_| {
        let headers = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    })
    .await;
    let error = server.client().live(DocumentId::generate()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable(_)), "{error:?}");
}

#[tokio::test]
async fn hostile_messages_end_the_stream() {
    let messages = [
        Message::text("no json"),
        Message::binary(Bytes::from("x")),
        Message::text("x".repeat((1 << 20) + 1)),
    ];
    for message in messages {
        let server = talking(move |mut socket| {
            let message = message.clone();
            async move {
                let _ = socket.send(message).await;
                let _ = socket.recv().await;
            }
        })
        .await;
        let mut frames = server.client().live(DocumentId::generate()).await.unwrap();
        let error = patiently(frames.next()).await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Unreadable(_)), "{error:?}");
        assert!(frames.next().await.is_none());
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_is_told() {
    let server = talking(|socket| async move { drop(socket) }).await;
    let mut frames = server.client().live(DocumentId::generate()).await.unwrap();
    let error = patiently(frames.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { unsent: false, .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up() {
    let server = talking(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let client = server.builder().idle_timeout(Duration::from_millis(30)).build().unwrap();
    let mut frames = client.live(DocumentId::generate()).await.unwrap();
    let error = patiently(frames.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
}

fn events(body: Body) -> Response {
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

#[tokio::test]
async fn events_carry_frames_and_ids() {
    let seen = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let record = Arc::clone(&seen);
    let handler = move |headers: HeaderMap| {
        record.lock().unwrap().push(headers);
        async {
            let text = format!(
                ": hello\n\nid: 1\nevent: x\ndata: {}\n\nid: 2\ndata: {}\n\n",
                frame(1),
                frame(2),
            );
            // Cut anywhere: events don't end where chunks do.
            let chunks: Vec<_> = text.into_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
            events(Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>))))
        }
    };
    let server = TestServer::of(Router::new().route("/documents/{id}/events", get(handler))).await;
    let stream = server.client().events(DocumentId::generate(), Some("0")).await.unwrap();
    let received: Vec<_> = patiently(stream.try_collect()).await.unwrap();
    let ids: Vec<_> = received.iter().map(|event| event.id.as_deref()).collect();
    assert_eq!(ids, [Some("1"), Some("2")]);
    assert_eq!(received[1].frame.version(), Some(2));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0]["last-event-id"], "0");
    assert_eq!(seen[0]["accept"], "text/event-stream");
}

#[tokio::test]
async fn an_event_that_is_no_frame_ends_the_stream() {
    let router =
        Router::new().fallback(|| async { events(Body::from("data: no\n\ndata: {}\n\n")) });
    let server = TestServer::of(router).await;
    let mut stream = server.client().events(DocumentId::generate(), None).await.unwrap();
    let error = patiently(stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unreadable(_)), "{error:?}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn an_answer_that_is_no_event_stream_is_refused() {
    let server = TestServer::answering(|_| "hello").await;
    let error = server.client().events(DocumentId::generate(), None).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable(_)), "{error:?}");
}
