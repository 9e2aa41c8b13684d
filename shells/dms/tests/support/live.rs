//! A live connection as a browser would have it.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{PATIENCE, Server};

pub struct Live {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Live {
    /// Connects to a document with a development token.
    pub async fn connect(server: &Server, id: &str) -> Self {
        let token = token(server).await;
        Self::try_connect(server, id, &token).await.expect("an upgrade")
    }

    /// Connects with a token; the HTTP status if it's refused.
    pub async fn try_connect(server: &Server, id: &str, token: &str) -> Result<Self, u16> {
        let mut request =
            format!("ws://{}/ws/{id}", server.http).into_client_request().expect("a request");
        let value = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert("authorization", value);
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no connection: {error}"),
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).expect("a frame in JSON"),
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// The code it is closed with.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            match self.message().await {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Close(None) => panic!("closed without a code"),
                _ => {}
            }
        }
    }

    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.expect("an open socket");
    }

    async fn message(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match next.expect("a message in time").expect("an open connection") {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return message,
                Err(error) => panic!("connection broken: {error}"),
            }
        }
    }
}

/// A development token.
pub async fn token(server: &Server) -> String {
    let (status, body) = server.get("/auth/token?user_id=u123&email=user@test.com").await;
    assert_eq!(status, 200, "{body}");
    body["access_token"].as_str().expect("a token").to_owned()
}
