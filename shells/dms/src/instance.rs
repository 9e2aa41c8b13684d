//! A running product.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use dms_cdc::RunnerState;
use dms_core::ports::SearchIndex;
use dms_core::use_cases::{Documents, DocumentsPorts, Signatures, SignaturesPorts, Sweeper};
use dms_realtime::{Hub, Live};
use dms_rpc::grpc::GrpcServer;
use dms_rpc::rest::Writes;
use dms_runtime::{Backoff, DataDirectory, HealthRegistry, StartupError, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::backends::Backends;
use crate::builder::DmsBuilder;
use crate::indexing::{IndexState, Indexing};
use crate::live::LiveFeed;
use crate::upkeep;
use crate::web::Faces;

/// How long background tasks may take to end.
const TASKS_GRACE: Duration = Duration::from_secs(10);

/// How often the change log is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(30);

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
    writes: Writes,
    indexing: Arc<Indexing>,
    supervisor: Supervisor,
    backends: Backends,
    // Held to the end: the folder is free for another process after everything is closed.
    _directory: DataDirectory,
}

impl Dms {
    /// A product that keeps everything below `folder`, which is made if it isn't there.
    pub fn builder(folder: impl Into<PathBuf>) -> DmsBuilder {
        DmsBuilder::new(folder.into())
    }

    pub(crate) fn run(
        builder: &DmsBuilder,
        directory: DataDirectory,
        backends: Backends,
    ) -> Result<Self, StartupError> {
        let documents = Documents::new(
            DocumentsPorts {
                documents: Arc::clone(&backends.database.documents),
                blobs: Arc::clone(&backends.blobs),
                cache: Arc::clone(&backends.cache),
                views: Arc::clone(&backends.views),
                idempotency: Arc::clone(&backends.database.idempotency),
            },
            builder.limits,
        );
        let signatures = Signatures::new(SignaturesPorts {
            signatures: Arc::clone(&backends.database.signatures),
            blobs: Arc::clone(&backends.blobs),
            documents: Arc::new(documents.clone()),
            idempotency: Arc::clone(&backends.database.idempotency),
        });
        let hub = Hub::default();
        let faces = Faces {
            documents: documents.clone(),
            signatures: signatures.clone(),
            live: Live::new(hub.clone(), Arc::clone(&builder.clock)),
            tokens: builder.tokens.clone(),
            trusted_proxies: builder.trusted_proxies,
        };
        let health = HealthRegistry::new();
        let writes = Writes::new();
        let failed = |error| StartupError::from_part("the interface", error);
        let router = faces.http(&backends, &health, &writes).map_err(failed)?;
        let grpc = faces.grpc().map_err(failed)?;

        let clock = Arc::clone(&builder.clock);
        let indexing = Arc::new(Indexing::new(&backends, Arc::clone(&clock), builder.limits));
        let mut supervisor = Supervisor::new(&CancellationToken::new());
        start_tasks(&mut supervisor, &backends, &indexing, &signatures, &hub, builder);
        register_checks(&health, &backends, &indexing);
        supervisor.watch(&health);
        health.set_serving();
        Ok(Self {
            documents,
            signatures,
            hub,
            router,
            grpc,
            health,
            writes,
            indexing,
            supervisor,
            backends,
            _directory: directory,
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
        &*self.backends.index
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
        // The supervisor logs what doesn't end in time.
        let _ = self.supervisor.shutdown(TASKS_GRACE).await;
        self.backends.close().await
    }
}

fn start_tasks(
    supervisor: &mut Supervisor,
    backends: &Backends,
    indexing: &Arc<Indexing>,
    signatures: &Signatures,
    hub: &Hub,
    builder: &DmsBuilder,
) {
    let feed = Arc::new(LiveFeed {
        source: Arc::clone(&backends.database.live_source),
        hub: hub.clone(),
        cache: Arc::clone(&backends.cache),
        clock: Arc::clone(&builder.clock),
    });
    supervisor.spawn_restarting("live-updates", Backoff::default(), move |stop| {
        let feed = Arc::clone(&feed);
        async move { feed.follow(stop).await.map_err(Into::into) }
    });
    let indexing = Arc::clone(indexing);
    supervisor.spawn_restarting("search-index", Backoff::default(), move |stop| {
        let indexing = Arc::clone(&indexing);
        async move { indexing.follow(stop).await.map_err(Into::into) }
    });
    let signatures = signatures.clone();
    supervisor.spawn("signature-reconciler", async move |stop| {
        upkeep::reconcile(signatures, stop).await.map_err(Into::into)
    });
    let sweeper = Arc::new(Sweeper {
        blobs: Arc::clone(&backends.blobs),
        documents: Arc::clone(&backends.database.documents),
        signatures: Arc::clone(&backends.database.signatures),
        clock: Arc::clone(&builder.clock),
        grace: upkeep::ORPHAN_GRACE,
    });
    supervisor.spawn("orphan-sweeper", async move |stop| {
        upkeep::sweep(sweeper, stop).await.map_err(Into::into)
    });
    let keys = Arc::clone(&backends.database.idempotency);
    supervisor.spawn("idempotency-purge", async move |stop| {
        upkeep::purge(keys, stop).await.map_err(Into::into)
    });
    if let Some(sqlite) = &backends.sqlite {
        let trimmer = Arc::clone(&sqlite.trimmer);
        supervisor.spawn("change-log-trimmer", async move |stop| {
            trimmer.run(TRIM_EVERY, stop).await;
            Ok(())
        });
    }
}

fn register_checks(health: &HealthRegistry, backends: &Backends, indexing: &Arc<Indexing>) {
    let documents = Arc::clone(&backends.database.documents);
    health.add("database", true, move || {
        let documents = Arc::clone(&documents);
        async move { documents.check().await.map_err(Into::into) }
    });
    let blobs = Arc::clone(&backends.blobs);
    health.add("storage", true, move || {
        let blobs = Arc::clone(&blobs);
        async move { blobs.check().await.map_err(Into::into) }
    });
    let index = Arc::clone(&backends.index);
    health.add("search", false, move || {
        let index = Arc::clone(&index);
        async move { index.check().await.map_err(Into::into) }
    });
    // Documents can be read and written while the index is behind, so this alone turns nobody away.
    let state = Arc::clone(indexing);
    health.add("search-index", false, move || {
        let state = state.state();
        async move {
            match state {
                IndexState::Starting => Err("starting".into()),
                IndexState::Rebuilding(progress) => {
                    Err(format!("rebuilding, {} documents so far", progress.rows).into())
                }
                IndexState::Following(state) if state.is_running() => Ok(()),
                IndexState::Following(state) => Err(state.to_string().into()),
            }
        }
    });
    // What only somebody's hand can mend must not go unnoticed.
    let state = Arc::clone(indexing);
    health.add("change-stream", true, move || {
        let state = state.state();
        async move {
            match state {
                IndexState::Following(
                    held @ (RunnerState::Holding { .. }
                    | RunnerState::DeadLetterBudgetReached { .. }),
                ) => Err(held.to_string().into()),
                _ => Ok(()),
            }
        }
    });
}
