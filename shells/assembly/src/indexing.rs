//! The search index follows the change stream, and is built from the rows when it can't.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_cdc::{Runner, RunnerOptions, RunnerState, RunnerStatus};
use dms_core::ports::{BlobStore, ChangeSink, ChangeSource, Clock, SearchIndex};
use dms_core::use_cases::DocumentLimits;
use dms_core::{ErrorChain, Result};
use dms_search::{
    IndexingOptions, IndexingSink, RebuildOptions, RebuildProgress, needs_rebuild, rebuild,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backends::Repositories;

/// Consumer of the change stream that fills the index.
pub const INDEX_CONSUMER: &str = "search-index";

/// Least time between two commits of the index. A commit costs two syncs of the disk, which writers
/// need too; a lone change is committed at once.
const LINGER: Duration = Duration::from_millis(50);

/// What the index is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IndexState {
    /// It is looking for its place in the stream.
    #[default]
    Starting,
    /// It is built from the rows; searches find what is there so far.
    Rebuilding(RebuildProgress),
    /// It follows the stream, as its runner says.
    Following(RunnerState),
}

/// What an [`Indexing`] works on.
#[derive(Clone)]
pub struct IndexingPorts {
    /// The index.
    pub index: Arc<dyn SearchIndex>,
    /// Rows, texts and dead letters.
    pub repositories: Repositories,
    /// Content, to take text out of it.
    pub blobs: Arc<dyn BlobStore>,
    /// The change stream.
    pub source: Arc<dyn ChangeSource>,
}

/// Keeps the index equal to the database.
pub struct Indexing {
    ports: IndexingPorts,
    sink: Arc<IndexingSink>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

enum State {
    Starting,
    Rebuilding(RebuildProgress),
    Following(watch::Receiver<RunnerStatus>),
}

impl Indexing {
    /// Nothing happens until it [`follow`](Self::follow)s.
    pub fn new(ports: IndexingPorts, clock: Arc<dyn Clock>, limits: DocumentLimits) -> Self {
        let options =
            IndexingOptions { text_bytes_max: limits.text_bytes_max, ..IndexingOptions::default() };
        let sink = IndexingSink::new(
            Arc::clone(&ports.index),
            Arc::clone(&ports.repositories.texts),
            Arc::clone(&ports.blobs),
            options,
        );
        Self { ports, sink: Arc::new(sink), clock, state: Mutex::new(State::Starting) }
    }

    /// What the index is doing.
    pub fn state(&self) -> IndexState {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Starting => IndexState::Starting,
            State::Rebuilding(progress) => IndexState::Rebuilding(*progress),
            State::Following(status) => IndexState::Following(status.borrow().state.clone()),
        }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Follows the stream until it is told to stop; rebuilds first if the index has no position, and
    /// again whenever the stream has lost it.
    pub async fn follow(&self, stop: CancellationToken) -> Result<()> {
        loop {
            if needs_rebuild(&*self.ports.index).await? {
                tracing::info!("building the search index from the database");
                let built = stop.run_until_cancelled(self.rebuild(&mut |_| {})).await;
                let Some(report) = built.transpose()? else { return Ok(()) };
                tracing::info!(rows = report.rows, "search index built");
            }
            let start = self.ports.index.progress().await?.start();
            let runner = Runner::new(
                Arc::clone(&self.ports.source),
                vec![Arc::clone(&self.sink) as Arc<dyn ChangeSink>],
                Arc::clone(&self.ports.repositories.dead_letters),
                Arc::clone(&self.clock),
                RunnerOptions { linger: LINGER, start, ..RunnerOptions::new(INDEX_CONSUMER) },
            );
            self.set(State::Following(runner.status()));
            match runner.run(stop.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.code() == "position_lost" => {
                    tracing::error!(error = %ErrorChain(&error),
                        "the change stream no longer has the index's position");
                    self.ports.index.clear().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Builds the index from the rows, whatever is in it.
    pub async fn rebuild(
        &self,
        progress: &mut (dyn FnMut(RebuildProgress) + Send),
    ) -> Result<RebuildProgress> {
        self.set(State::Rebuilding(RebuildProgress::default()));
        let head = self.ports.source.head().await?;
        let mut both = |now| {
            self.set(State::Rebuilding(now));
            progress(now);
        };
        rebuild(
            &*self.ports.index,
            &*self.ports.repositories.documents,
            &self.sink,
            head,
            RebuildOptions::default(),
            &mut both,
        )
        .await
    }
}
