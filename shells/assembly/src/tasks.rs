//! The background tasks, by name.

use std::sync::Arc;
use std::time::Duration;

use dms_core::Result;
use dms_core::ports::BlobStore;
use dms_core::use_cases::{Signatures, Sweeper};
use dms_rpc::grpc::GrpcServer;
use dms_runtime::Backoff;
use tokio_util::sync::CancellationToken;

use crate::{Assembly, Indexing, LiveFeed, Repositories, upkeep};

/// How often gRPC's health follows readiness.
const MIRROR_EVERY: Duration = Duration::from_secs(1);

impl Assembly {
    /// Follows the change stream for whoever listens. Requests are taken while it is away, which the
    /// check `live-updates` tells.
    pub fn spawn_live_feed(&mut self, feed: LiveFeed) {
        let feed = Arc::new(feed);
        let checked = Arc::clone(&feed);
        self.health().add("live-updates", false, move || {
            let state = checked.state();
            async move { if state.is_running() { Ok(()) } else { Err(state.to_string().into()) } }
        });
        self.supervisor().spawn_restarting("live-updates", Backoff::default(), move |stop| {
            let feed = Arc::clone(&feed);
            async move { feed.follow(stop).await.map_err(Into::into) }
        });
    }

    /// Follows the change stream for the index, compares it with the rows all the time, and measures how
    /// soon searches find what is new.
    pub fn spawn_indexing(&mut self, indexing: &Arc<Indexing>) {
        let (indexing, watched, measured) =
            (Arc::clone(indexing), Arc::clone(indexing), Arc::clone(indexing));
        self.supervisor().spawn_restarting("search-index", Backoff::default(), move |stop| {
            let indexing = Arc::clone(&indexing);
            async move { indexing.follow(stop).await.map_err(Into::into) }
        });
        self.supervisor().spawn_restarting("index-drift", Backoff::default(), move |stop| {
            let indexing = Arc::clone(&watched);
            async move {
                indexing.watch_drift(stop).await;
                Ok(())
            }
        });
        self.supervisor().spawn("index-searchable", async move |stop| {
            measured.watch_searchable(stop).await;
            Ok(())
        });
    }

    /// Tells callers over gRPC what `/readyz` tells others, so that a service that needs this one can
    /// say that it isn't ready. From `draining` on it isn't.
    pub fn spawn_readiness_mirror(&mut self, grpc: &GrpcServer, draining: CancellationToken) {
        let (health, grpc) = (self.health().clone(), grpc.health());
        self.supervisor().spawn("grpc-health", async move |stop| {
            loop {
                grpc.set_serving(health.report().await.status.takes_requests()).await;
                let pause = tokio::time::sleep(MIRROR_EVERY);
                if draining.run_until_cancelled(pause).await.is_none() || stop.is_cancelled() {
                    break;
                }
            }
            grpc.set_serving(false).await;
            stop.cancelled().await;
            Ok(())
        });
    }

    /// Finishes signatures that a crash interrupted.
    pub fn spawn_reconciler(&mut self, signatures: &Signatures) {
        let signatures = signatures.clone();
        self.spawn_upkeep("signature-reconciler", |stop| upkeep::reconcile(signatures, stop));
    }

    /// Removes content that no row points at.
    pub fn spawn_sweeper(&mut self, repositories: &Repositories, blobs: &Arc<dyn BlobStore>) {
        let sweeper = Arc::new(Sweeper {
            blobs: Arc::clone(blobs),
            documents: Arc::clone(&repositories.documents),
            signatures: Arc::clone(&repositories.signatures),
            clock: self.clock(),
            grace: upkeep::ORPHAN_GRACE,
        });
        self.spawn_upkeep("orphan-sweeper", |stop| upkeep::sweep(sweeper, stop));
    }

    /// Forgets idempotency keys that nobody will use again.
    pub fn spawn_purge(&mut self, repositories: &Repositories) {
        let keys = Arc::clone(&repositories.idempotency);
        self.spawn_upkeep("idempotency-purge", |stop| upkeep::purge(keys, stop));
    }

    /// Begins once every engine is prepared: rounds before that would fail, and each would say so.
    fn spawn_upkeep<T>(
        &mut self,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> T + Send + 'static,
    ) where
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let prepared = self.prepared();
        self.supervisor().spawn(name, async move |stop| {
            match stop.run_until_cancelled(prepared).await {
                Some(()) => task(stop).await.map_err(Into::into),
                None => Ok(()),
            }
        });
    }
}
