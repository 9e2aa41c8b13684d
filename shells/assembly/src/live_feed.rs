//! Live updates and cache invalidation follow the change stream from the moment of the start.

use std::sync::{Arc, Mutex, PoisonError};

use dms_cdc::{Runner, RunnerOptions, RunnerState, RunnerStatus};
use dms_core::model::change::Position;
use dms_core::ports::{
    ChangeSink, ChangeSource, Clock, DeadLetter, DeadLetterRepository, DocumentCache, StartAt,
};
use dms_core::use_cases::CacheInvalidation;
use dms_core::{ErrorChain, Result};
use dms_realtime::{Hub, HubSink};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Feeds the hub and the cache of a program, as far as it has them.
pub struct LiveFeed {
    source: Arc<dyn ChangeSource>,
    hub: Option<Hub>,
    cache: Option<Arc<dyn DocumentCache>>,
    clock: Arc<dyn Clock>,
    status: Mutex<Option<watch::Receiver<RunnerStatus>>>,
}

impl LiveFeed {
    /// Feeds whoever listens (`hub`) and what becomes stale when another process writes (`cache`)
    /// from the change stream from now on.
    pub fn new(
        source: Arc<dyn ChangeSource>,
        hub: Option<Hub>,
        cache: Option<Arc<dyn DocumentCache>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { source, hub, cache, clock, status: Mutex::new(None) }
    }

    /// What it is doing.
    pub fn state(&self) -> RunnerState {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.as_ref().map_or_else(RunnerState::default, |status| status.borrow().state.clone())
    }

    /// Follows the stream until it is told to stop.
    ///
    /// # Errors
    /// What a retry may mend.
    pub async fn follow(&self, stop: CancellationToken) -> Result<()> {
        let hub = self.hub.clone().map(|hub| Arc::new(HubSink::new(hub)) as Arc<dyn ChangeSink>);
        let cache = self.cache.clone().map(CacheInvalidation::new);
        let cache = cache.map(|cache| Arc::new(cache) as Arc<dyn ChangeSink>);
        let sinks: Vec<_> = hub.into_iter().chain(cache).collect();
        loop {
            let runner = Runner::new(
                Arc::clone(&self.source),
                sinks.clone(),
                Arc::new(ToldOnly),
                Arc::clone(&self.clock),
                RunnerOptions { start: StartAt::Now, ..RunnerOptions::new("live") },
            );
            *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(runner.status());
            match runner.run(stop.clone()).await {
                Ok(()) => return Ok(()),
                // Changes were missed: whoever listens must read the document anew.
                Err(error) if error.code() == "position_lost" => {
                    tracing::error!(error = %ErrorChain(&error), "live updates start anew");
                    if let Some(hub) = &self.hub {
                        hub.disconnect();
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What can't be shown live isn't kept: the index keeps the same record as a dead letter.
struct ToldOnly;

#[async_trait::async_trait]
impl DeadLetterRepository for ToldOnly {
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()> {
        for letter in letters {
            tracing::warn!(position = %letter.position, reason = letter.reason,
                "change can't be shown live");
        }
        Ok(())
    }

    async fn list(&self, _consumer: &str, _limit: u32) -> Result<Vec<DeadLetter>> {
        Ok(Vec::new())
    }

    async fn count(&self, _consumer: &str) -> Result<u64> {
        Ok(0)
    }

    async fn remove(&self, _consumer: &str, _position: &Position) -> Result<bool> {
        Ok(false)
    }
}
