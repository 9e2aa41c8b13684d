//! The messages of a WebSocket (RFC 6455), so that any implementation's socket can be mapped.

use std::borrow::Cow;

use bytes::Bytes;

use crate::Text;

/// A message, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text; the only kind of data that is sent.
    Text(Text),
    /// Binary data; only ever received, and refused.
    Binary(Bytes),
    /// Asks for a pong. The transport answers those of the peer itself.
    Ping(Bytes),
    /// Answers a ping.
    Pong(Bytes),
    /// A message that exceeds the transport's own bound; only ever received, and refused. Nothing is
    /// read from the transport after it.
    TooLarge,
    /// The last message in its direction.
    Close(Option<Close>),
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Code (RFC 6455, section 7.4, and those of [`End::close_code`](crate::End::close_code)).
    pub code: u16,
    /// For people; at most 123 bytes.
    pub reason: Cow<'static, str>,
}
