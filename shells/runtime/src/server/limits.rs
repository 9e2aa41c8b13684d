//! Bounds of a server.

use std::time::Duration;

/// Bounds of a server. The defaults suit a service on the internet; tests make them small.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections open at once, upgraded ones included. More wait in the operating system's queue.
    pub connections_max: usize,
    /// How long a new connection may take to send its first bytes, and a request its head.
    pub header_read_timeout: Duration,
    /// How long an HTTP/1 connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what is sent to it.
    pub write_stall_timeout: Duration,
    /// Size of a request's head.
    pub header_bytes_max: u32,
    /// Requests in flight on one HTTP/2 connection.
    pub streams_max: u32,
    /// How long what a peer still sends is read and dropped after the last answer, so that the answer
    /// isn't lost to a reset.
    pub linger: Duration,
    /// How long idle connections stay open while draining: a request that is on its way is answered.
    pub drain_idle: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_stall_timeout: Duration::from_mins(1),
            header_bytes_max: 32 * 1024,
            streams_max: 256,
            linger: Duration::from_secs(1),
            drain_idle: Duration::from_millis(250),
        }
    }
}
