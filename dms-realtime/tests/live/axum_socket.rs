//! The same over a real socket: axum's on this side, tungstenite's on the client's.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{self, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use dms_core::fake::ManualClock;
use dms_realtime::{Close, Hub, HubOptions, Live, Message, SessionOptions, Text, Watch, session};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _, TryStreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::{self, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::history::{History, summary};

fn mapped(
    socket: WebSocket,
    pongs: UnboundedSender<()>,
) -> impl Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> {
    let incoming = move |message| match message {
        ws::Message::Text(text) => {
            Message::Text(Text::try_from(bytes::Bytes::from(text)).unwrap_or_default())
        }
        ws::Message::Binary(data) => Message::Binary(data),
        ws::Message::Ping(data) => Message::Ping(data),
        ws::Message::Pong(data) => {
            // Most tests don't look at them.
            let _ = pongs.send(());
            Message::Pong(data)
        }
        ws::Message::Close(frame) => Message::Close(frame.map(|frame| Close {
            code: frame.code,
            reason: frame.reason.as_str().to_owned().into(),
        })),
    };
    let outgoing = |message| {
        ready(Ok(match message {
            Message::Text(text) => match ws::Utf8Bytes::try_from(text.into_bytes()) {
                Ok(text) => ws::Message::Text(text),
                Err(error) => return ready(Err(axum::Error::new(error))),
            },
            Message::Binary(data) => ws::Message::Binary(data),
            Message::Ping(data) => ws::Message::Ping(data),
            Message::Pong(data) => ws::Message::Pong(data),
            Message::TooLarge => ws::Message::Close(None),
            Message::Close(close) => ws::Message::Close(close.map(|close| ws::CloseFrame {
                code: close.code,
                reason: close.reason.as_ref().into(),
            })),
        }))
    };
    let too_large = |error: axum::Error| match error.into_inner().downcast() {
        Ok(cause) if matches!(*cause, tungstenite::Error::Capacity(_)) => Ok(Message::TooLarge),
        Ok(cause) => Err(axum::Error::new(cause)),
        Err(cause) => Err(axum::Error::new(cause)),
    };
    socket.map_ok(incoming).map(move |message| message.or_else(too_large)).with(outgoing)
}

const MESSAGE_BYTES_MAX: usize = 64 << 10;

type Connection = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Served {
    live: Live,
    history: Arc<Mutex<History>>,
    url: String,
    ends: UnboundedReceiver<&'static str>,
    pongs: UnboundedReceiver<()>,
}

async fn serve(options: SessionOptions, hub: HubOptions) -> Served {
    let clock = Arc::new(ManualClock::at_unix(1_000));
    let live = Live { options, ..Live::new(Hub::new(hub), clock) };
    let history = Arc::new(Mutex::new(History::new()));
    let (ended, ends) = unbounded_channel();
    let (ponged, pongs) = unbounded_channel();
    let (served, document) = (live.clone(), Arc::clone(&history));
    let upgrade = move |upgrade: WebSocketUpgrade| async move {
        upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX).on_upgrade(
            async move |socket| {
                let watch = Watch::new(document.lock().expect("not poisoned").id(), None);
                let load = || ready(Ok(document.lock().expect("not poisoned").document()));
                let end = session::run(&served, watch, mapped(socket, ponged), load).await;
                // The test may have seen enough.
                let _ = ended.send(end.as_str());
            },
        )
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/ws", listener.local_addr().expect("an address"));
    let router = Router::new().route("/ws", get(upgrade));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("serving goes on") });
    Served { live, history, url, ends, pongs }
}

impl Served {
    async fn connect(&self) -> Connection {
        connect_async(&self.url).await.expect("connected").0
    }

    fn retitle(&self) {
        let change = self.history.lock().expect("not poisoned").retitle();
        self.live.hub.publish(&change);
    }

    async fn end(&mut self) -> &'static str {
        let end = tokio::time::timeout(Duration::from_secs(30), self.ends.recv());
        end.await.expect("ends in time").expect("the session tells")
    }
}

async fn next(connection: &mut Connection) -> tungstenite::Message {
    let next = tokio::time::timeout(Duration::from_secs(30), connection.next());
    next.await.expect("comes in time").expect("not the end").expect("no error")
}

async fn version(connection: &mut Connection) -> Option<i64> {
    let tungstenite::Message::Text(text) = next(connection).await else { panic!("no text") };
    summary(text.as_str()).1
}

#[tokio::test]
async fn a_browser_sees_the_snapshot_the_changes_and_why_it_ends() {
    let mut served = serve(SessionOptions::default(), HubOptions::default()).await;
    let mut connection = served.connect().await;
    assert_eq!(version(&mut connection).await, Some(1));
    served.retitle();
    assert_eq!(version(&mut connection).await, Some(2));
    served.live.hub.shutdown();
    let tungstenite::Message::Close(Some(frame)) = next(&mut connection).await else {
        panic!("no close")
    };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1012, "restarting"));
    assert_eq!(connection.next().await.map(|message| message.is_ok()), None);
    assert_eq!(served.end().await, "restarting");
}

#[tokio::test]
async fn a_close_of_the_client_is_answered_with_its_code() {
    let mut served = serve(SessionOptions::default(), HubOptions::default()).await;
    let mut connection = served.connect().await;
    assert_eq!(version(&mut connection).await, Some(1));
    let close = CloseFrame { code: 1000.into(), reason: "done".into() };
    connection.close(Some(close)).await.expect("sent");
    let answer = next(&mut connection).await;
    assert!(matches!(&answer, tungstenite::Message::Close(Some(f)) if u16::from(f.code) == 1000));
    assert_eq!(served.end().await, "client_closed");
}

#[tokio::test]
async fn a_message_over_the_bound_of_the_socket_is_told_from_a_broken_line() {
    let mut served = serve(SessionOptions::default(), HubOptions::default()).await;
    let mut connection = served.connect().await;
    assert_eq!(version(&mut connection).await, Some(1));
    let large = "x".repeat(2 * MESSAGE_BYTES_MAX);
    connection.send(tungstenite::Message::text(large)).await.expect("sent");
    let tungstenite::Message::Close(Some(frame)) = next(&mut connection).await else {
        panic!("no close")
    };
    assert_eq!(u16::from(frame.code), 1009);
    assert_eq!(served.end().await, "message_too_large");
}

#[tokio::test]
async fn answers_to_pings_reach_the_session() {
    let ping_interval = Duration::from_millis(10);
    let options = SessionOptions { ping_interval, ..SessionOptions::default() };
    let mut served = serve(options, HubOptions::default()).await;
    let mut connection = served.connect().await;
    assert_eq!(version(&mut connection).await, Some(1));
    for _ in 0..3 {
        // Reading is what makes tungstenite answer.
        let answered = async {
            loop {
                tokio::select! {
                    pong = served.pongs.recv() => return pong,
                    ping = connection.next() => assert!(ping.is_some_and(|ping| ping.is_ok())),
                }
            }
        };
        let pong = tokio::time::timeout(Duration::from_secs(30), answered).await;
        assert_eq!(pong.expect("answered in time"), Some(()));
    }
    drop(connection);
    assert_eq!(served.end().await, "transport_failed");
}
