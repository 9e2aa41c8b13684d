//! Live routes: WebSocket, server-sent events, and tokens for development.
//!
//! They join the hub of `dms-realtime` with the HTTP machinery of `dms-rpc`, which know nothing of
//! each other.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message as AxumMessage, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRef, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use dms_core::ports::{DocumentClient, TokenVerifier};
use dms_core::{Caller, DocumentId, Error, ErrorKind};
use dms_realtime::token::{DevelopmentTokens, present};
use dms_realtime::{Close, Live, Message, Text, Watch, events, session};
use dms_rpc::rest::{
    Access, Anonymous, Authenticated, PathParam, Problem, QueryParams, route_not_found,
};
use dms_rpc::types::TokenBody;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _, future};
use serde::Deserialize;
use tokio_tungstenite::tungstenite;
use utoipa::IntoParams;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest message a client may send, in bytes. What exceeds it ends the connection.
const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Memory of one socket: what is read at once, and what may wait to be written.
const READ_BUFFER_BYTES: usize = 4 << 10;
const WRITE_BUFFER_BYTES_MAX: usize = 256 << 10;

/// What live routes work on. Cheap to clone.
#[derive(Clone)]
pub struct LiveState {
    /// Hub, clock and times.
    pub live: Live,
    /// Reads documents as of the last committed write.
    pub documents: Arc<dyn DocumentClient>,
    /// Checks the token that a WebSocket always needs.
    pub verifier: Arc<dyn TokenVerifier>,
    /// How callers of the other routes are told apart.
    pub access: Access,
    /// Issues tokens; none unless they may be given to whoever asks.
    pub development_tokens: Option<Arc<DevelopmentTokens>>,
}

impl FromRef<LiveState> for Access {
    fn from_ref(state: &LiveState) -> Self {
        state.access.clone()
    }
}

/// The live routes.
pub fn routes(state: LiveState) -> OpenApiRouter {
    public_routes().routes(routes!(development_token)).with_state(state)
}

/// What the live routes are, for a program that another one serves them for; without the development
/// token, which no gateway leads to.
pub fn open_api() -> OpenApi {
    public_routes().into_openapi()
}

fn public_routes() -> OpenApiRouter<LiveState> {
    OpenApiRouter::new().routes(routes!(connect)).routes(routes!(document_events))
}

/// Follows a document on a WebSocket.
///
/// The token comes as `Authorization: Bearer`, as the subprotocols `bearer, TOKEN`, or as `?token=`.
/// The first frame is `document.snapshot`, then every later change.
#[utoipa::path(
    get,
    path = "/ws/{document_id}",
    tag = "live",
    params(
        ("document_id" = String, Path, description = "The document"),
        ("token" = Option<String>, Query, description = "The token, if no header holds it"),
    ),
    responses(
        (status = 101, description = "Frames follow as JSON text: `{\"type\",\"data\",\"timestamp\"}`"),
        (status = 401, description = "No valid token"),
        (status = 404, description = "No such document"),
    )
)]
async fn connect(
    State(state): State<LiveState>,
    Anonymous(mut caller): Anonymous,
    PathParam(id): PathParam<DocumentId>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let protocols = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>()
        .join(",");
    let presented = present(text(header::AUTHORIZATION), Some(&protocols), query.as_deref())
        .ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "a token is required"))?;
    let claims = Arc::new(state.verifier.verify(presented.token).await?);
    caller.claims = Some(Arc::clone(&claims));
    state.documents.get(&caller, id).await?;
    let upgrade = upgrade.map_err(|rejection| {
        Error::malformed("this path is for WebSocket connections").with_source(rejection)
    })?;
    state.live.hub.check_room()?;
    let watch = Watch::new(id, Some(&claims));
    let upgrade = upgrade
        .protocols(["bearer"])
        .max_message_size(CLIENT_MESSAGE_BYTES_MAX)
        .max_frame_size(CLIENT_MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| serve(state, caller, watch, socket)))
}

async fn serve(state: LiveState, caller: Caller, watch: Watch, socket: WebSocket) {
    let documents = Arc::clone(&state.documents);
    let load = || async move { documents.get(&caller, watch.document_id).await };
    session::run(&state.live, watch, transport(socket), load).await;
}

/// A socket of axum in the words of `dms-realtime`.
fn transport(
    socket: WebSocket,
) -> impl Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> {
    socket
        .map(|received| received.map_or_else(too_large_or_broken, |message| Ok(incoming(message))))
        .with(|message| future::ready(Ok(outgoing(message))))
}

/// A message over the bound is the client's doing and is answered; anything else is a broken line.
fn too_large_or_broken(error: axum::Error) -> Result<Message, axum::Error> {
    match error.into_inner().downcast::<tungstenite::Error>() {
        Ok(cause) if matches!(*cause, tungstenite::Error::Capacity(_)) => Ok(Message::TooLarge),
        Ok(cause) => Err(axum::Error::new(cause)),
        Err(other) => Err(axum::Error::new(other)),
    }
}

fn incoming(message: AxumMessage) -> Message {
    match message {
        AxumMessage::Text(text) => Message::Text(Text::from(text.as_str().to_owned())),
        AxumMessage::Binary(bytes) => Message::Binary(bytes),
        AxumMessage::Ping(bytes) => Message::Ping(bytes),
        AxumMessage::Pong(bytes) => Message::Pong(bytes),
        AxumMessage::Close(frame) => Message::Close(frame.map(|frame| Close {
            code: frame.code,
            reason: Cow::Owned(frame.reason.as_str().to_owned()),
        })),
    }
}

fn outgoing(message: Message) -> AxumMessage {
    match message {
        // The bytes of a `Text` are UTF-8, so nothing is ever replaced.
        Message::Text(text) => match text.into_bytes().try_into() {
            Ok(text) => AxumMessage::Text(text),
            Err(_) => AxumMessage::Text("".into()),
        },
        Message::Binary(bytes) => AxumMessage::Binary(bytes),
        Message::Ping(bytes) => AxumMessage::Ping(bytes),
        Message::Pong(bytes) => AxumMessage::Pong(bytes),
        Message::TooLarge => AxumMessage::Close(None),
        Message::Close(close) => AxumMessage::Close(close.map(|close| CloseFrame {
            code: close.code,
            reason: close.reason.into_owned().into(),
        })),
    }
}

/// Follows a document as server-sent events.
///
/// The same frames as on the WebSocket; an event's id is the document's version. A client that comes
/// back with `Last-Event-ID` of the present version gets no snapshot.
#[utoipa::path(
    get,
    path = "/documents/{document_id}/events",
    tag = "live",
    params(
        ("document_id" = String, Path, description = "The document"),
        ("Last-Event-ID" = Option<i32>, Header, description = "The version the client has"),
    ),
    responses(
        (status = 200, description = "Events until the client leaves or the document is deleted",
            content_type = "text/event-stream", body = String),
        (status = 401, description = "No valid token"),
        (status = 404, description = "No such document"),
    ),
    security(("bearer" = []))
)]
async fn document_events(
    State(state): State<LiveState>,
    Authenticated(caller): Authenticated,
    PathParam(id): PathParam<DocumentId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let watch = Watch::new(id, caller.claims.as_deref());
    let last_event_id = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let documents = Arc::clone(&state.documents);
    let load = || async move { documents.get(&caller, id).await };
    let events = events::open(&state.live, watch, last_event_id, load).await?;
    let body = events.map(|event| Ok::<_, std::convert::Infallible>(event.encode()));
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Some proxies hold back what they could gather.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

#[derive(Deserialize, IntoParams)]
struct TokenParams {
    /// Whom the token is for.
    user_id: String,
    /// Address of whom it is for.
    email: String,
}

/// Gives a token for trying things out.
///
/// Served only while no key is configured and the server listens on loopback.
#[utoipa::path(
    get,
    path = "/auth/token",
    tag = "live",
    params(TokenParams),
    responses(
        (status = 200, description = "A token that holds for an hour", body = TokenBody),
        (status = 404, description = "A key is configured, or the server can be reached from outside"),
    )
)]
async fn development_token(
    State(state): State<LiveState>,
    params: Result<QueryParams<TokenParams>, Problem>,
) -> Result<Response, Problem> {
    let Some(tokens) = &state.development_tokens else { return Err(route_not_found().await) };
    let QueryParams(TokenParams { user_id, email }) = params?;
    let access_token = tokens.issue(&user_id, Some(&email))?;
    let mut response =
        Json(TokenBody { access_token, token_type: "bearer".into(), user_id, email })
            .into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
