//! What every live connection shares, how one ends, and when its token does.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dms_core::ports::Clock;
use dms_core::{Claims, DocumentId, Error, ErrorKind, Result};
use metrics::{counter, describe_counter, describe_gauge};
use tokio::time::{Instant, timeout};

use crate::hub::{EndOfFeed, Hub};

/// The clock may be set while a timer runs, so the end of a token is looked at this often.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Times and bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// How often the peer is pinged, or sent a comment.
    pub ping_interval: Duration,
    /// How long a WebSocket peer may be silent.
    pub silence_max: Duration,
    /// How long sending one message may take.
    pub send_timeout: Duration,
    /// How long reading the document may take.
    pub load_timeout: Duration,
    /// How long the peer's answer to a close is waited for.
    pub close_timeout: Duration,
    /// Largest message of a client, in bytes. Such messages are ignored.
    pub client_message_bytes_max: usize,
    /// Most messages of a client in one ping interval, answers to pings too.
    pub client_messages_max: u32,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            silence_max: Duration::from_mins(1),
            send_timeout: Duration::from_secs(10),
            load_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            client_message_bytes_max: 4 << 10,
            client_messages_max: 100,
        }
    }
}

/// What live connections work with. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    /// Where changes come from.
    pub hub: Hub,
    /// By which tokens expire.
    pub clock: Arc<dyn Clock>,
    /// Times and bounds.
    pub options: SessionOptions,
}

impl Live {
    /// With the times and bounds of the contract.
    pub fn new(hub: Hub, clock: Arc<dyn Clock>) -> Self {
        Self { hub, clock, options: SessionOptions::default() }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("hub", &self.hub)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What one connection is to follow, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// The document.
    pub document_id: DocumentId,
    /// When the connection's token ends, in seconds since 1970; none if it needs no token.
    pub token_expires_at: Option<i64>,
}

impl Watch {
    /// Follows a document for as long as the claims hold, or without limit if there are none.
    pub fn new(document_id: DocumentId, claims: Option<&Claims>) -> Self {
        Self { document_id, token_expires_at: claims.map(|claims| claims.exp) }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// The process is going to stop; the client should reconnect, with jitter.
    Restarting,
    /// The client read too slowly.
    TooSlow,
    /// There are as many connections as are allowed, or the document can't be read for the moment.
    Unavailable,
    /// The token's time is over.
    TokenExpired,
    /// The document is deleted, or there is none.
    Deleted,
    /// Nothing was heard of the client for too long.
    Silent,
    /// A message couldn't be sent in time.
    SendTimeout,
    /// The client sent binary data.
    BinaryRefused,
    /// The client sent a message that is too large.
    MessageTooLarge,
    /// The client sent too many messages.
    TooManyMessages,
    /// The client closed the connection.
    ClientClosed,
    /// The transport failed or ended without a close.
    TransportFailed,
    /// A defect.
    Failed,
}

impl End {
    /// Name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restarting => "restarting",
            Self::TooSlow => "too_slow",
            Self::Unavailable => "unavailable",
            Self::TokenExpired => "token_expired",
            Self::Deleted => "deleted",
            Self::Silent => "silent",
            Self::SendTimeout => "send_timeout",
            Self::BinaryRefused => "binary_refused",
            Self::MessageTooLarge => "message_too_large",
            Self::TooManyMessages => "too_many_messages",
            Self::ClientClosed => "client_closed",
            Self::TransportFailed => "transport_failed",
            Self::Failed => "failed",
        }
    }

    /// Code of the close message; none if none can be sent any more.
    pub const fn close_code(self) -> Option<u16> {
        match self {
            Self::Restarting => Some(1012),
            Self::TooSlow | Self::Unavailable => Some(1013),
            Self::TokenExpired => Some(4401),
            Self::Deleted => Some(4404),
            Self::Silent => Some(1001),
            Self::BinaryRefused => Some(1003),
            Self::MessageTooLarge => Some(1009),
            Self::TooManyMessages => Some(1008),
            Self::Failed => Some(1011),
            Self::SendTimeout | Self::ClientClosed | Self::TransportFailed => None,
        }
    }

    /// Reason in the close message.
    pub const fn close_reason(self) -> &'static str {
        match self {
            Self::Restarting => "restarting",
            Self::TooSlow => "too slow",
            Self::Unavailable => "try again later",
            Self::TokenExpired => "token expired",
            Self::Deleted => "document deleted",
            Self::Silent => "silent for too long",
            Self::BinaryRefused => "binary messages are not accepted",
            Self::MessageTooLarge => "message too large",
            Self::TooManyMessages => "too many messages",
            Self::Failed => "internal error",
            Self::SendTimeout | Self::ClientClosed | Self::TransportFailed => "",
        }
    }

    /// Why a connection whose document couldn't be read ends.
    pub(crate) fn of_load_error(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Deleted,
            _ if error.is_retryable() => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

impl From<EndOfFeed> for End {
    fn from(end: EndOfFeed) -> Self {
        match end {
            EndOfFeed::Restarting => Self::Restarting,
            EndOfFeed::TooSlow => Self::TooSlow,
            EndOfFeed::Full => Self::Unavailable,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads the document within the time allowed.
pub(crate) async fn load_in_time<D>(
    options: &SessionOptions,
    load: impl Future<Output = Result<D>>,
) -> Result<D> {
    match timeout(options.load_timeout, load).await {
        Ok(loaded) => loaded,
        Err(elapsed) => {
            Err(Error::new(ErrorKind::Timeout, "document not read in time").with_source(elapsed))
        }
    }
}

/// When a token ends, by a clock that may be set meanwhile.
pub(crate) struct Expiry {
    clock: Arc<dyn Clock>,
    at: Option<i64>,
    check_at: Option<Instant>,
}

impl Expiry {
    pub(crate) fn new(live: &Live, watch: &Watch) -> Self {
        let clock = Arc::clone(&live.clock);
        Self { clock, at: watch.token_expires_at, check_at: None }
    }

    pub(crate) fn has_passed(&mut self, now: Instant) -> bool {
        let Some(at) = self.at else { return false };
        if self.check_at.is_some_and(|check_at| now < check_at) {
            return false;
        }
        let left_nanos = i128::from(at) * 1_000_000_000 - self.clock.now().unix_timestamp_nanos();
        if left_nanos <= 0 {
            return true;
        }
        let left = u64::try_from(left_nanos).map_or(Duration::MAX, Duration::from_nanos);
        self.check_at = Some(now + left.min(EXPIRY_CHECK_INTERVAL));
        false
    }

    /// When [`has_passed`](Self::has_passed) is to be asked again.
    pub(crate) fn check_at(&self) -> Option<Instant> {
        self.check_at
    }
}

/// Counts the end of a connection, also of one whose future is dropped.
pub(crate) struct Tally(pub(crate) &'static str);

impl Tally {
    pub(crate) fn open() -> Self {
        Self("dropped")
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        counter!("dms_live_closed_total", "reason" => self.0).increment(1);
    }
}

pub(crate) fn count_frame() {
    counter!("dms_live_frames_total").increment(1);
}

/// Describes this crate's metrics to the recorder that is installed.
pub fn describe_metrics() {
    describe_gauge!("dms_live_connections", "live connections open now");
    describe_counter!("dms_live_frames_total", "frames sent on live connections");
    describe_counter!("dms_live_conflated_total", "frames dropped for newer ones of a slow reader");
    describe_counter!("dms_live_closed_total", "live connections ended, by reason");
}
