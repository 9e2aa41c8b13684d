//! The gRPC server: the document service with everything around it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use dms_core::{Error, Result};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic_reflection::server::Builder as Reflection;

use super::connections::{Connections, accepted};
use super::gate::{Gate, pass};
use super::proto::FILE_DESCRIPTOR_SET;
use super::proto::document_service_server::DocumentServiceServer;
use super::{DocumentServer, GrpcAuthentication, GrpcHealth};

/// Bounds of a [`GrpcServer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcLimits {
    /// Largest message in either direction, in bytes.
    pub message_bytes_max: usize,
    /// Most calls under way; one more is refused with `UNAVAILABLE`.
    pub calls_max: usize,
    /// Most calls under way on one connection; more wait at the client.
    pub calls_per_connection_max: u32,
    /// Most connections; more wait to be accepted.
    pub connections_max: usize,
    /// Deadline of calls that bring none, or a later one.
    pub deadline_max: Duration,
    /// A connection without a first call for so long is closed.
    pub first_call_max: Duration,
    /// Pause between keep-alive pings.
    pub keep_alive_interval: Duration,
    /// A peer that doesn't answer a ping for so long is gone.
    pub keep_alive_timeout: Duration,
    /// How long calls under way may take to end after shutdown has begun.
    pub drain_max: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 << 10,
            calls_max: 1_024,
            calls_per_connection_max: 256,
            connections_max: 1_024,
            deadline_max: Duration::from_secs(30),
            first_call_max: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            drain_max: Duration::from_secs(15),
        }
    }
}

/// The document service with health (`grpc.health.v1`), reflection (v1 and v1alpha),
/// authentication, deadlines and bounds around it.
///
/// ```no_run
/// # async fn example(documents: dms_core::use_cases::Documents) -> dms_core::Result<()> {
/// use dms_rpc::grpc::{DocumentServer, GrpcAuthentication, GrpcLimits, GrpcServer};
///
/// let server = GrpcServer::new(
///     DocumentServer::new(documents),
///     GrpcAuthentication::Off,
///     GrpcLimits::default(),
/// )?;
/// # let listener: tokio::net::TcpListener = unimplemented!();
/// server.serve(listener, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GrpcServer {
    documents: DocumentServer,
    limits: GrpcLimits,
    health: GrpcHealth,
    router: Router,
}

impl GrpcServer {
    /// A server that isn't listening yet.
    ///
    /// # Errors
    /// `Internal` if the protocol compiled in can't be read.
    pub fn new(
        documents: DocumentServer,
        authentication: GrpcAuthentication,
        limits: GrpcLimits,
    ) -> Result<Self> {
        let health = GrpcHealth::new()?;
        let service = DocumentServiceServer::new(documents.clone())
            .max_decoding_message_size(limits.message_bytes_max)
            .max_encoding_message_size(limits.message_bytes_max);
        let unreadable = |e| Error::internal("file descriptors can't be read").with_source(e);
        let gate = Gate {
            authentication,
            calls: Arc::new(Semaphore::new(limits.calls_max.min(Semaphore::MAX_PERMITS))),
            deadline_max: limits.deadline_max,
        };
        let router = Routes::new(service)
            .add_service(health.service())
            .add_service(reflection().build_v1().map_err(unreadable)?)
            .add_service(reflection().build_v1alpha().map_err(unreadable)?)
            .prepare()
            .into_axum_router()
            .layer(from_fn_with_state(gate, pass));
        Ok(Self { documents, limits, health, router })
    }

    /// The services as a router, to be served over HTTP/2 by other means than
    /// [`serve`](Self::serve).
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// What the health service says.
    pub fn health(&self) -> GrpcHealth {
        self.health.clone()
    }

    /// Serves over HTTP/2 without TLS until `shutdown` completes, then drains: nothing more is
    /// accepted, calls under way end, and updates whose client is gone end too. What isn't done
    /// after [`GrpcLimits::drain_max`] is cut off.
    ///
    /// Dropping the future closes every connection at once; updates under way still run to their
    /// end on the runtime.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.serve_incoming(accepted(listener), shutdown).await;
    }

    /// As [`serve`](Self::serve), on any connections; each with the address of its peer, if it
    /// has one. Ends, after draining, when `incoming` does.
    pub async fn serve_incoming<I, IO>(self, incoming: I, shutdown: impl Future<Output = ()>)
    where
        I: Stream<Item = io::Result<(IO, Option<SocketAddr>)>>,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connections = Connections::new(self.router, self.limits);
        connections.accept(incoming, shutdown).await;
        self.health.end().await;
        let writes = self.documents.writes();
        let drained = async {
            connections.drain().await;
            writes.close();
            writes.wait().await;
        };
        if tokio::time::timeout(self.limits.drain_max, drained).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                updates = writes.len(),
                "drain cut off"
            );
        }
    }
}

fn reflection() -> Reflection<'static> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
