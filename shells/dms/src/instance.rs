//! A running product.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use dms_assembly::{Assembly, IndexState, Indexing, IndexingPorts, LiveFeed};
use dms_core::ports::SearchIndex;
use dms_core::use_cases::{Documents, DocumentsPorts, Signatures, SignaturesPorts};
use dms_realtime::{Hub, Live};
use dms_rpc::grpc::GrpcServer;
use dms_rpc::rest::Writes;
use dms_runtime::{HealthRegistry, StartupError};
use tokio_util::sync::CancellationToken;

use crate::builder::{DmsBuilder, Ports};
use crate::web::Faces;

/// How long background tasks may take to end.
const TASKS_GRACE: Duration = Duration::from_secs(10);

/// The whole product, running in this process. It listens nowhere by itself.
///
/// Dropping it stops everything at once, as a crash would: nothing acknowledged is lost.
pub struct Dms {
    documents: Documents,
    signatures: Signatures,
    hub: Hub,
    router: Router,
    grpc: GrpcServer,
    health: HealthRegistry,
    draining: CancellationToken,
    writes: Writes,
    indexing: Arc<Indexing>,
    index: Arc<dyn SearchIndex>,
    assembly: Assembly,
}

impl Dms {
    /// A product that keeps everything below `folder`, which is made if it isn't there.
    pub fn builder(folder: impl AsRef<Path>) -> DmsBuilder {
        DmsBuilder::new(folder.as_ref())
    }

    pub(crate) fn run(
        builder: &DmsBuilder,
        mut assembly: Assembly,
        ports: Ports,
    ) -> Result<Self, StartupError> {
        let documents = Documents::new(
            DocumentsPorts {
                documents: Arc::clone(&ports.repositories.documents),
                blobs: Arc::clone(&ports.blobs),
                cache: Arc::clone(&ports.reads.cache),
                views: Arc::clone(&ports.reads.views),
                idempotency: Arc::clone(&ports.repositories.idempotency),
            },
            builder.limits,
        );
        let signatures = Signatures::new(SignaturesPorts {
            signatures: Arc::clone(&ports.repositories.signatures),
            blobs: Arc::clone(&ports.blobs),
            documents: Arc::new(documents.clone()),
            idempotency: Arc::clone(&ports.repositories.idempotency),
        });
        let hub = Hub::default();
        let faces = Faces {
            documents: documents.clone(),
            signatures: signatures.clone(),
            live: Live::new(hub.clone(), Arc::clone(&builder.clock)),
            tokens: builder.tokens.clone(),
            trusted_proxies: builder.trusted_proxies,
        };
        let health = assembly.health().clone();
        let writes = Writes::new();
        let failed = |error| StartupError::from_part("the interface", error);
        let router = faces.http(&ports.index, &health, &writes).map_err(failed)?;
        let grpc = faces.grpc().map_err(failed)?;

        let indexing = IndexingPorts {
            index: Arc::clone(&ports.index),
            repositories: ports.repositories.clone(),
            blobs: Arc::clone(&ports.blobs),
            source: Arc::clone(&ports.sources.index),
        };
        let indexing =
            Arc::new(Indexing::new(indexing, Arc::clone(&builder.clock), builder.limits));
        assembly.spawn_live_feed(LiveFeed::new(
            Arc::clone(&ports.sources.live),
            Some(hub.clone()),
            Some(Arc::clone(&ports.reads.cache)),
            Arc::clone(&builder.clock),
        ));
        assembly.spawn_indexing(&indexing);
        assembly.spawn_reconciler(&signatures);
        assembly.spawn_sweeper(&ports.repositories, &ports.blobs);
        assembly.spawn_purge(&ports.repositories);
        // Documents can be read and written while the index is away or behind.
        assembly.watch_index(&ports.index, false);
        assembly.watch_indexing(&indexing, false);
        health.set_serving();
        let draining = CancellationToken::new();
        assembly.spawn_readiness_mirror(&grpc, draining.clone());
        Ok(Self {
            documents,
            signatures,
            hub,
            router,
            grpc,
            health,
            draining,
            writes,
            indexing,
            index: ports.index,
            assembly,
        })
    }

    /// Every HTTP route, to be served or mounted. Callers have an address if it is served with
    /// `ConnectInfo<SocketAddr>`.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The gRPC services.
    pub fn grpc(&self) -> &GrpcServer {
        &self.grpc
    }

    /// Documents, without HTTP.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Signatures, without HTTP.
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// The search index.
    pub fn search(&self) -> &dyn SearchIndex {
        &*self.index
    }

    /// Live updates, without HTTP.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What is up and what isn't.
    pub fn health(&self) -> &HealthRegistry {
        &self.health
    }

    /// What the search index is doing.
    pub fn index_state(&self) -> IndexState {
        self.indexing.state()
    }

    /// Says that no more requests are wanted and closes live connections, whose clients come back
    /// later. The first step of a stop; requests are still served.
    pub fn drain(&self) {
        self.health.set_draining();
        self.draining.cancel();
        self.hub.shutdown();
    }

    /// Ends every task, finishes writes whose clients have left, and closes everything. Requests that
    /// still run afterwards fail.
    ///
    /// # Errors
    /// What couldn't be closed cleanly; nothing acknowledged is lost.
    pub async fn shutdown(self) -> dms_core::Result<()> {
        self.drain();
        self.writes.close();
        // A write has deadlines of its own, shorter than this.
        let _ = tokio::time::timeout(TASKS_GRACE, self.writes.wait()).await;
        self.assembly.close(TASKS_GRACE).await
    }
}
