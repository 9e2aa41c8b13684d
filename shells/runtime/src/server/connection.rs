//! One connection: from its first byte to its close.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::head_timer::HeadTimer;
use super::limits::ServerLimits;
use super::peer::{Peer, Protocol};

/// Read and write buffers of an HTTP/1 connection, in bytes.
const HTTP1_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How often a quiet HTTP/2 peer is asked whether it is still there, and how long it may think.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What all connections of a server share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) limits: Arc<ServerLimits>,
    /// No new requests are wanted.
    pub(super) stop: CancellationToken,
    /// The same, cheap enough to look at on each answer.
    pub(super) stopping: Arc<AtomicBool>,
    /// The grace period is over.
    pub(super) cut: CancellationToken,
    pub(super) tracker: TaskTracker,
}

impl Shared {
    /// Serves `peer` until either side closes, or the grace period is over.
    pub(super) async fn serve(self, mut peer: Peer, address: SocketAddr) {
        let protocol = tokio::select! {
            biased;
            protocol = peer.protocol() => protocol,
            () = tokio::time::sleep(self.limits.header_read_timeout) => return,
            () = self.quiet_end() => return,
        };
        let result = match protocol {
            Ok(Some(Protocol::Http1)) => self.serve_http1(peer, address).await,
            Ok(Some(Protocol::Http2)) => self.serve_http2(peer, address).await,
            Ok(None) | Err(_) => return,
        };
        if let Err(error) = result {
            // peers that leave, stall or send nonsense are everyday life
            tracing::debug!(peer = %address, error = %dms_core::ErrorChain(&error), "connection failed");
        }
    }

    /// Ends when draining has begun and a request that was on its way has had time to arrive.
    async fn quiet_end(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(self.limits.drain_idle).await;
    }

    async fn serve_http1(&self, peer: Peer, address: SocketAddr) -> hyper::Result<()> {
        let timer = HeadTimer {
            head: self.limits.header_read_timeout,
            idle: self.limits.idle_timeout,
            received: peer.received(),
        };
        let connection = http1::Builder::new()
            .header_read_timeout(timer.idle)
            .timer(timer)
            .max_header_size(self.limits.header_bytes_max as usize)
            .max_buf_size(HTTP1_BUFFER_BYTES_MAX.max(2 * self.limits.header_bytes_max as usize))
            .serve_connection(
                TokioIo::new(peer),
                service_fn(|request| self.answer(request, address)),
            )
            .with_upgrades();
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            result = connection.as_mut() => return result,
            () = self.quiet_end() => {}
        }
        connection.as_mut().graceful_shutdown();
        self.cut.run_until_cancelled(connection).await.unwrap_or(Ok(()))
    }

    async fn serve_http2(&self, peer: Peer, address: SocketAddr) -> hyper::Result<()> {
        let executor = StreamExecutor { tracker: self.tracker.clone(), cut: self.cut.clone() };
        let shared = self.clone();
        let connection = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_max)
            .max_header_list_size(self.limits.header_bytes_max)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .serve_connection(
                TokioIo::new(peer),
                service_fn(move |request| shared.answer(request, address)),
            );
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            result = connection.as_mut() => return result,
            () = self.stop.cancelled() => {}
        }
        // HTTP/2 says which requests it still takes, so there is nothing to wait for
        connection.as_mut().graceful_shutdown();
        self.cut.run_until_cancelled(connection).await.unwrap_or(Ok(()))
    }

    fn answer(
        &self,
        request: Request<Incoming>,
        address: SocketAddr,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let http1 = request.version() < Version::HTTP_2;
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(address));
        let answer = self.router.clone().call(request);
        let stopping = Arc::clone(&self.stopping);
        async move {
            let mut response = answer.await?;
            if http1
                && stopping.load(Ordering::Relaxed)
                && response.status() != StatusCode::SWITCHING_PROTOCOLS
            {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(response)
        }
    }
}

/// Runs the requests of an HTTP/2 connection as tasks that draining waits for and a cut ends.
#[derive(Clone)]
struct StreamExecutor {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            cut.run_until_cancelled(future).await;
        });
    }
}
