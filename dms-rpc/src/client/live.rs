//! Live updates over a WebSocket (RFC 6455).

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use dms_core::{DocumentId, Frame};
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use reqwest::{Method, StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::idle::Idle;
use super::transport::Repeat;
use super::{ClientError, ClientResult, CloseCode, DmsClient};

/// Largest frame that is read, in bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Frames of one document as they come: a snapshot first, then what changes, in the order of
/// versions.
///
/// Ends after an error. A connection that the server closes ends with [`ClientError::Closed`],
/// unless it was closed normally. Connect again to go on: the new snapshot holds all that was
/// missed. Dropping it closes the connection.
pub struct LiveStream {
    /// None once it has ended.
    socket: Option<WebSocketStream<Upgraded>>,
    idle: Idle,
}

impl DmsClient {
    /// Opens a live connection to a document, over TLS if the base URL is `https://`.
    ///
    /// # Errors
    /// Status 401 for a bad token, 404 if there is no such document.
    pub async fn live(&self, id: DocumentId) -> ClientResult<LiveStream> {
        let id = id.to_string();
        let key = generate_key();
        // The client's own HTTP makes the connection, so that TLS, time-outs and problems are as
        // with any other call.
        let make = || {
            self.request(Method::GET, &["ws", &id])
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_VERSION, "13")
                .header(SEC_WEBSOCKET_KEY, &key)
        };
        let response = self.open(Repeat::Safely, make).await?;
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS
            || accepted != Some(derive_accept_key(key.as_bytes()).as_bytes())
        {
            return Err(ClientError::unreadable("the answer to a WebSocket handshake isn't one"));
        }
        let connection = response.upgrade().await.map_err(ClientError::of_transport)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(64 << 10)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(connection, Role::Client, Some(config)).await;
        Ok(LiveStream { socket: Some(socket), idle: Idle::new(self.inner.idle_timeout) })
    }
}

impl LiveStream {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<ClientResult<Message>>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(None) };
        if let Poll::Ready(message) = socket.poll_next_unpin(cx) {
            self.idle.heard();
            return Poll::Ready(message.map(|message| message.map_err(error_of)));
        }
        ready!(self.idle.poll_silence(cx));
        Poll::Ready(Some(Err(ClientError::timeout("live connection fell silent"))))
    }
}

impl Stream for LiveStream {
    type Item = ClientResult<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = loop {
            match ready!(self.poll_message(cx)) {
                Some(Ok(Message::Text(text))) => {
                    break Some(serde_json::from_str(&text).map_err(ClientError::unreadable));
                }
                // Pings are answered by the socket itself while it is read.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(_))) => {
                    break Some(Err(ClientError::unreadable("binary frame")));
                }
                Some(Ok(Message::Close(frame))) => break closed(frame),
                Some(Err(error)) => break Some(Err(error)),
                None => break None,
            }
        };
        if !matches!(item, Some(Ok(_))) {
            self.socket = None;
        }
        Poll::Ready(item)
    }
}

impl fmt::Debug for LiveStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveStream").field("open", &self.socket.is_some()).finish_non_exhaustive()
    }
}

fn closed(frame: Option<CloseFrame>) -> Option<ClientResult<Frame>> {
    let frame = frame?;
    let code = CloseCode(frame.code.into());
    let normal = matches!(code, CloseCode(1000));
    (!normal).then(|| Err(ClientError::Closed { code, reason: frame.reason.to_string() }))
}

fn error_of(error: Error) -> ClientError {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) | Error::Utf8(_) => {
            ClientError::unreadable(error)
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => ClientError::lost(error),
        _ => ClientError::unreadable(error),
    }
}
