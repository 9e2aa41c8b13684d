//! An index that is built beside the live one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::Result;
use dms_core::model::change::Position;
use dms_core::ports::{SearchIndex, StagedIndex, rebuild_running};
use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::client::Payload;
use super::lifecycle::Lifecycle;
use super::mapping::Meta;
use super::{ElasticsearchIndex, Shared};

/// How often somebody else's unfinished build is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Staged {
    shared: Arc<Shared>,
    index: Arc<ElasticsearchIndex>,
    /// Name of the index.
    name: String,
    /// It is promoted or discarded.
    pub(super) is_over: AtomicBool,
}

impl Staged {
    /// Begins, or goes on; waits to see whether somebody else is building.
    pub(super) async fn open(shared: Arc<Shared>) -> Result<Self> {
        let lifecycle = shared.lifecycle();
        let builder = shared.builder.as_str();
        let (name, meta) = lifecycle.staged(builder).await?;
        if meta.builder.as_deref() != Some(builder) {
            watch(lifecycle, &meta).await?;
            tracing::info!(index = name, "going on with a search index that somebody began");
            let ours = Meta { builder: Some(builder.to_owned()), beat: meta.beat + 1, ..meta };
            lifecycle.set_meta(&name, &ours).await?;
        }
        let alias = lifecycle.staged_alias();
        let index = ElasticsearchIndex::of(Arc::clone(&shared), alias);
        // What was written to it before is not visible yet; versions are read from what is.
        index.refresh().await?;
        Ok(Self { shared, index: Arc::new(index), name, is_over: AtomicBool::new(false) })
    }

    /// What the index says of itself, if this process is still the one to build it.
    async fn meta(&self) -> Result<Meta> {
        let lifecycle = self.shared.lifecycle();
        let staged = lifecycle.mapping(&lifecycle.staged_alias()).await?;
        let meta = staged.filter(|(name, _)| *name == self.name);
        let meta = meta.and_then(|(_, mapping)| mapping.meta().cloned());
        meta.filter(|meta| meta.builder.as_deref() == Some(&self.shared.builder))
            .ok_or_else(rebuild_running)
    }
}

/// Waits for a sign of life of whoever is building.
///
/// # Errors
/// `Conflict` if there was one. Clocks aren't compared: only whether anything moves.
async fn watch(lifecycle: Lifecycle<'_>, known: &Meta) -> Result<()> {
    let end = Instant::now() + lifecycle.options.build_lease;
    let alias = lifecycle.staged_alias();
    while Instant::now() < end {
        sleep(LOOK_EVERY.min(lifecycle.options.build_lease)).await;
        let staged = lifecycle.mapping(&alias).await?;
        let now = staged.and_then(|(_, mapping)| mapping.meta().cloned());
        if now.as_ref() != Some(known) {
            return Err(rebuild_running());
        }
    }
    Ok(())
}

#[async_trait]
impl StagedIndex for Staged {
    fn index(&self) -> Arc<dyn SearchIndex> {
        Arc::clone(&self.index) as Arc<dyn SearchIndex>
    }

    async fn keep(&self) -> Result<()> {
        let meta = self.meta().await?;
        let next = Meta { beat: meta.beat + 1, ..meta };
        self.shared.lifecycle().set_meta(&self.name, &next).await
    }

    async fn promote(&self, _: Position) -> Result<()> {
        if !self.is_over.load(Ordering::Acquire) {
            let meta = self.meta().await?;
            self.shared.lifecycle().promote(&self.name, &meta).await?;
            self.is_over.store(true, Ordering::Release);
            tracing::info!(index = self.name, "search index put in its place");
        }
        Ok(())
    }

    async fn discard(&self) -> Result<()> {
        if !self.is_over.load(Ordering::Acquire) {
            self.meta().await?;
            self.shared.lifecycle().change(Method::DELETE, &self.name, Payload::Nothing).await?;
            self.is_over.store(true, Ordering::Release);
        }
        Ok(())
    }
}
