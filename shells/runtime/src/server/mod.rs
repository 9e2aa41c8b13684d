//! Listens, serves HTTP/1 and HTTP/2, and drains.
//!
//! A server is bound first, so that a taken address ends the program before anything else starts and
//! port 0 is known, and serves later. gRPC is served the same way: a tonic router is an axum router.
//!
//! Draining, from the moment the stop token is cancelled:
//!
//! 1. Connections that wait in the operating system's queue are taken, then the listener closes: who
//!    comes later is refused.
//! 2. HTTP/2 peers are told which requests are still taken. HTTP/1 answers say `Connection: close`;
//!    idle HTTP/1 connections stay open for [`ServerLimits::drain_idle`], so that a request that was on
//!    its way is answered rather than reset.
//! 3. Requests in flight, and upgraded connections, have the grace period to end.
//! 4. What is left is cut off.

mod connection;
mod head_timer;
mod limits;
mod peer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use metrics::{counter, gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use limits::ServerLimits;

use connection::Shared;
use peer::{Held, Peer};

use crate::StartupError;
use crate::settings::Setting;

/// How long accepting rests after the operating system is out of files or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long connections that are cut off may take to notice.
const CUT_TIME_MAX: Duration = Duration::from_secs(1);

/// A bound address that isn't served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: ServerLimits,
}

/// How draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Connections and HTTP/2 requests that didn't end within the grace period and were cut off.
    pub cut_off: usize,
}

impl Server {
    /// Listens on `address`, which `setting` decided on.
    ///
    /// # Errors
    /// [`ExitStatus::Temporary`](crate::ExitStatus::Temporary) if another program listens there, others
    /// as [`StartupError::from_bind`] has them.
    pub async fn bind(setting: &Setting, address: SocketAddr) -> Result<Self, StartupError> {
        let refused = |error| StartupError::from_bind(setting.name, address, error);
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, limits: ServerLimits::default() })
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with_limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The address that is listened on, with the port that was taken if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stop` is cancelled, drains for at most `grace` and returns when every
    /// connection is closed.
    ///
    /// Handlers find the peer as `ConnectInfo<SocketAddr>`. Those that run without end (live
    /// updates) have to watch `stop` themselves or are cut off. If this future is dropped, every
    /// connection is closed.
    pub async fn serve(self, router: Router, stop: CancellationToken, grace: Duration) -> Drained {
        let cut = CancellationToken::new();
        let cut_when_dropped = cut.clone().drop_guard();
        let stopping = Arc::new(AtomicBool::new(false));
        let tracker = TaskTracker::new();
        let listening = Listening {
            slots: Arc::new(Semaphore::new(self.limits.connections_max)),
            port: self.address.port().to_string(),
            shared: Shared {
                router,
                limits: Arc::new(self.limits),
                stop: stop.clone(),
                stopping: Arc::clone(&stopping),
                cut: cut.clone(),
                tracker: tracker.clone(),
            },
        };
        stop.run_until_cancelled(listening.accept(&self.listener)).await;
        stopping.store(true, Ordering::Relaxed);
        listening.accept_queued(self.listener);
        drop(listening);
        tracker.close();
        let cut_off = match tokio::time::timeout(grace, tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => tracker.len(),
        };
        drop(cut_when_dropped);
        if cut_off > 0 {
            tracing::warn!(address = %self.address, cut_off, "grace period is over, cutting off");
            // what is busy without waiting can't be stopped, and isn't waited for
            let _ = tokio::time::timeout(CUT_TIME_MAX, tracker.wait()).await;
        }
        Drained { cut_off }
    }
}

struct Listening {
    slots: Arc<Semaphore>,
    port: String,
    shared: Shared,
}

impl Listening {
    async fn accept(&self, listener: &TcpListener) {
        loop {
            let Some(slot) = self.slot().await else { return };
            match listener.accept().await {
                Ok((stream, address)) => self.start(stream, address, slot),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        let connections_max = self.shared.limits.connections_max;
        tracing::warn!(connections_max, "all connections are taken, new ones wait");
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Takes the connections whose peers believe they are connected already, then closes the listener.
    fn accept_queued(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            match listener.accept() {
                Ok((stream, address)) => {
                    let stream =
                        stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    if let Ok(stream) = stream {
                        self.start(stream, address, slot);
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn start(&self, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
        let limits = &self.shared.limits;
        // only costs delay where it can't be set
        let _ = stream.set_nodelay(true);
        let held = Held {
            permit,
            tracked: self.shared.tracker.token(),
            open: OpenConnection::new(&self.port),
            cut: Box::pin(self.shared.cut.clone().cancelled_owned()),
        };
        let peer = Peer::new(stream, held, limits.write_stall_timeout, limits.linger);
        // tracked by what the peer holds, which outlives this task if the connection is upgraded
        tokio::spawn(self.shared.clone().serve(peer, address));
    }
}

/// Whether accepting failed because of the one connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
    )
}

/// Counts a connection while it is open.
struct OpenConnection(metrics::Gauge);

impl OpenConnection {
    fn new(port: &str) -> Self {
        counter!("dms_connections_total", "port" => port.to_owned()).increment(1);
        let open = gauge!("dms_connections_open", "port" => port.to_owned());
        open.increment(1.0);
        Self(open)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
