//! The background tasks, by name.

use std::sync::Arc;

use dms_core::ports::BlobStore;
use dms_core::use_cases::{Signatures, Sweeper};
use dms_runtime::Backoff;

use crate::{Assembly, Indexing, LiveFeed, Repositories, upkeep};

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

    /// Follows the change stream for the index, and compares it with the rows all the time.
    pub fn spawn_indexing(&mut self, indexing: &Arc<Indexing>) {
        let (indexing, watched) = (Arc::clone(indexing), Arc::clone(indexing));
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
    }

    /// Finishes signatures that a crash interrupted.
    pub fn spawn_reconciler(&mut self, signatures: &Signatures) {
        let signatures = signatures.clone();
        self.supervisor().spawn("signature-reconciler", async move |stop| {
            upkeep::reconcile(signatures, stop).await.map_err(Into::into)
        });
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
        self.supervisor().spawn("orphan-sweeper", async move |stop| {
            upkeep::sweep(sweeper, stop).await.map_err(Into::into)
        });
    }

    /// Forgets idempotency keys that nobody will use again.
    pub fn spawn_purge(&mut self, repositories: &Repositories) {
        let keys = Arc::clone(&repositories.idempotency);
        self.supervisor().spawn("idempotency-purge", async move |stop| {
            upkeep::purge(keys, stop).await.map_err(Into::into)
        });
    }
}
