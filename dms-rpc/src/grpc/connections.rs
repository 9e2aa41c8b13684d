//! HTTP/2 connections: accepted, bounded, kept alive and drained.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use futures_util::{Stream, StreamExt as _};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::GrpcLimits;

/// How long accepting rests after a failure, such as no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection that never sent a request is left once it was told to close.
const SILENT_GRACE: Duration = Duration::from_secs(1);
/// Largest header list of a request, in bytes.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// The connections that come in at a listener. Without end.
pub(super) fn accepted(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<(TcpStream, Option<SocketAddr>)>> + Send {
    futures_util::stream::unfold((listener, false), |(listener, failed)| async move {
        if failed {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        let accepted = listener.accept().await.and_then(|(stream, peer)| {
            stream.set_nodelay(true)?;
            Ok((stream, Some(peer)))
        });
        let failed = accepted.is_err();
        Some((accepted, (listener, failed)))
    })
}

/// Connections being served. Dropping them closes them.
pub(super) struct Connections {
    router: Router,
    limits: GrpcLimits,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Connections {
    pub(super) fn new(router: Router, limits: GrpcLimits) -> Self {
        Self { router, limits, tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Serves what comes in until `shutdown` or the end of `incoming`. At the bound nothing more is
    /// accepted until a connection closes.
    pub(super) async fn accept<I, IO>(&mut self, incoming: I, shutdown: impl Future<Output = ()>)
    where
        I: Stream<Item = io::Result<(IO, Option<SocketAddr>)>>,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut incoming = pin!(incoming);
        let mut shutdown = pin!(shutdown);
        loop {
            let room = self.tasks.len() < self.limits.connections_max;
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                Some(_) = self.tasks.join_next() => {}
                next = incoming.next(), if room => match next {
                    Some(Ok((io, peer))) => self.serve(io, peer),
                    Some(Err(error)) => tracing::warn!(%error, "connection not accepted"),
                    None => return,
                },
            }
        }
    }

    /// Lets the calls under way end, accepts no more, and waits until every connection is closed.
    pub(super) async fn drain(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    fn serve<IO>(&mut self, io: IO, peer: Option<SocketAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, limits, stop) = (self.router.clone(), self.limits, self.stop.clone());
        self.tasks.spawn(serve(io, peer, router, limits, stop));
    }
}

async fn serve<IO>(
    io: IO,
    peer: Option<SocketAddr>,
    router: Router,
    limits: GrpcLimits,
    stop: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let used = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let used = Arc::clone(&used);
        move |request: Request<Incoming>| {
            used.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            if let Some(peer) = peer {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            let answer = router.clone().oneshot(request);
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        .max_concurrent_streams(limits.calls_per_connection_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut closing = false;
    // Whoever connects and asks for nothing would hold its place for ever.
    let mut silent_until = Instant::now() + limits.first_call_max;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(?peer, %error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !closing => {}
            () = tokio::time::sleep_until(silent_until), if !used.load(Ordering::Relaxed) => {
                if closing {
                    return;
                }
            }
        }
        if !closing {
            closing = true;
            silent_until = Instant::now() + SILENT_GRACE;
            connection.as_mut().graceful_shutdown();
        }
    }
}
