//! Live updates of documents, and the tokens that open them.
//!
//! A [`Hub`] is fed from the change stream by its [`HubSink`]; each WebSocket connection is served
//! by [`session::run`], each stream of server-sent events by [`events::open`]. Neither knows a web
//! framework: a socket is anything that is a `Stream` and a `Sink` of [`Message`].
//!
//! Features: `jwt` verifies and issues tokens in [`token`], `jwks` verifies them with keys that are
//! fetched. Both are off by default.
//!
//! ```
//! use std::sync::Arc;
//!
//! use dms_core::DocumentId;
//! use dms_core::ports::SystemClock;
//! use dms_realtime::{Hub, HubSink, Live, Watch};
//!
//! let hub = Hub::default();
//! let live = Live::new(hub.clone(), Arc::new(SystemClock));
//! // The runner of the change stream drives this sink.
//! let sink = HubSink::new(hub.clone());
//! let watch = Watch::new(DocumentId::generate(), None);
//! // `session::run(&live, watch, socket, || repository.get(id))` serves one connection.
//! assert_eq!(hub.connections(), 0);
//! # drop((live, sink, watch));
//! ```

pub mod events;
mod frame;
mod hub;
mod live;
mod message;
mod queue;
pub mod session;
mod sink;
mod text;
pub mod token;

pub use events::{Events, SseEvent};
pub use frame::LiveFrame;
pub use hub::{EndOfFeed, Hub, HubOptions, LiveEvent, Published, Subscription};
pub use live::{End, Live, SessionOptions, Watch, describe_metrics};
pub use message::{Close, Message};
pub use sink::HubSink;
pub use text::Text;
