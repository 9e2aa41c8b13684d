//! The search index follows the change stream, and is built from the rows when it can't.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_cdc::{Runner, RunnerOptions, RunnerState, RunnerStatus};
use dms_core::model::change::{Change, Position};
use dms_core::ports::{
    BlobStore, ChangeSink, ChangeSource, Clock, DeadLetterRepository, IndexProgress, Outcome,
    REBUILD_RUNNING, SearchIndex, StartAt,
};
use dms_core::use_cases::DocumentLimits;
use dms_core::{ErrorChain, Result};
use dms_search::{
    DriftReport, DriftWatch, DriftWatchOptions, IndexingOptions, IndexingSink, RebuildOptions,
    RebuildProgress, SearchableWatch, SearchableWatchOptions, VerifyOptions, needs_rebuild,
    rebuild, rebuild_beside, repair, verify,
};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::backends::Repositories;

/// Consumer of the change stream that fills the index.
pub const INDEX_CONSUMER: &str = "search-index";

/// Least time between the beginnings of two batches for an index that keeps its position, and so
/// commits with each: two syncs of the disk, which writers need too. A lone change is committed at
/// once, and a full batch doesn't wait. While commits take long, there are fewer.
const LINGER_COMMITTING: Duration = Duration::from_millis(50);
const LINGER_COMMITTING_MAX: Duration = Duration::from_millis(250);

/// The same for an index elsewhere: a request should be worth its while.
const LINGER: Duration = Duration::from_millis(5);

/// How long to wait while another process builds the index.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether the drift check found something that only a rebuild helps.
const AHEAD_PAUSE: Duration = Duration::from_secs(5);

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
    /// Told when the index has what the database no longer has.
    is_ahead: Notify,
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
        Self {
            ports,
            sink: Arc::new(sink),
            clock,
            state: Mutex::new(State::Starting),
            is_ahead: Notify::new(),
        }
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

    /// Follows the stream until it is told to stop; builds the index from the rows first if it isn't
    /// there or laid out as an older program did it, and again whenever it is lost, or the stream no
    /// longer has its position.
    ///
    /// # Errors
    /// What a retry may mend.
    pub async fn follow(&self, stop: CancellationToken) -> Result<()> {
        let mut is_lost = false;
        loop {
            let start = if is_lost || needs_rebuild(&*self.ports.index).await? {
                tracing::info!("building the search index from the database");
                match stop.run_until_cancelled(self.rebuild(&mut |_| {})).await {
                    None => return Ok(()),
                    Some(Ok((report, head))) => {
                        tracing::info!(rows = report.rows, "search index built");
                        is_lost = false;
                        StartAt::After(head)
                    }
                    Some(Err(error)) if error.code() == REBUILD_RUNNING => {
                        tracing::info!("somebody else builds the search index, waiting");
                        if stop.run_until_cancelled(sleep(REBUILD_PAUSE)).await.is_none() {
                            return Ok(());
                        }
                        continue;
                    }
                    Some(Err(error)) => return Err(error),
                }
            } else {
                self.ports.index.progress().await?.start()
            };
            let (linger, linger_max) = match self.ports.index.progress().await? {
                IndexProgress::At(_) => (LINGER_COMMITTING, LINGER_COMMITTING_MAX),
                IndexProgress::New | IndexProgress::Outdated | IndexProgress::Built => {
                    (LINGER, LINGER)
                }
            };
            let runner = Runner::new(
                Arc::clone(&self.ports.source),
                vec![Arc::clone(&self.sink) as Arc<dyn ChangeSink>],
                Arc::clone(&self.ports.repositories.dead_letters),
                Arc::clone(&self.clock),
                RunnerOptions { linger, linger_max, start, ..RunnerOptions::new(INDEX_CONSUMER) },
            );
            self.set(State::Following(runner.status()));
            let ran = tokio::select! {
                ran = runner.run(stop.clone()) => ran,
                // What was under way comes again: nothing of it was acknowledged.
                () = self.sink.index_lost() => {
                    tracing::error!("the search index is gone");
                    continue;
                }
                () = self.is_ahead.notified() => {
                    is_lost = true;
                    continue;
                }
            };
            match ran {
                Ok(()) => return Ok(()),
                Err(error) if error.code() == "position_lost" => {
                    tracing::error!(error = %ErrorChain(&error),
                        "the change stream no longer has the index's position");
                    is_lost = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Compares the index with the rows again and again at a low rate, and mends what differs, until
    /// it is told to stop.
    pub async fn watch_drift(&self, stop: CancellationToken) {
        let watched = async {
            loop {
                let watch = DriftWatch::new(
                    Arc::clone(&self.ports.index),
                    Arc::clone(&self.ports.repositories.documents),
                    Arc::clone(&self.sink),
                    DriftWatchOptions::default(),
                );
                let ahead = async {
                    while !watch.last().is_some_and(|report| report.needs_rebuild()) {
                        sleep(AHEAD_PAUSE).await;
                    }
                };
                tokio::select! {
                    never = watch.run() => match never {},
                    () = ahead => {
                        tracing::error!("the search index is ahead of the database, which must \
                            have been restored from a backup");
                        self.is_ahead.notify_one();
                    }
                }
            }
        };
        stop.run_until_cancelled(watched).await;
    }

    /// Measures how soon searches find new documents, until it is told to stop.
    pub async fn watch_searchable(&self, stop: CancellationToken) {
        let watch = SearchableWatch::new(
            Arc::clone(&self.ports.index),
            Arc::clone(&self.sink),
            Arc::clone(&self.clock),
            SearchableWatchOptions::default(),
        );
        stop.run_until_cancelled(watch.run()).await;
    }

    /// Builds the index from the rows, whatever is in it; also gives where in the stream it continues.
    async fn rebuild(
        &self,
        progress: &mut (dyn FnMut(RebuildProgress) + Send),
    ) -> Result<(RebuildProgress, Position)> {
        self.set(State::Rebuilding(RebuildProgress::default()));
        let head = self.ports.source.head().await?;
        let mut both = |now| {
            self.set(State::Rebuilding(now));
            progress(now);
        };
        let report = rebuild(
            &*self.ports.index,
            &*self.ports.repositories.documents,
            &self.sink,
            head.clone(),
            RebuildOptions::default(),
            &mut both,
        )
        .await?;
        Ok((report, head))
    }

    /// Builds the index from the rows while others may go on writing to it, if it can be built beside
    /// itself; `beside` is another source of the stream. Else it is built in its place, which nobody
    /// else may use meanwhile.
    ///
    /// # Errors
    /// Those of [`rebuild_beside`] and [`rebuild`].
    pub async fn rebuild_anew(
        &self,
        beside: &dyn ChangeSource,
        progress: &mut (dyn FnMut(RebuildProgress) + Send),
    ) -> Result<RebuildProgress> {
        let built = rebuild_beside(
            &*self.ports.index,
            &*self.ports.repositories.documents,
            &self.sink,
            beside,
            RebuildOptions::default(),
            progress,
        )
        .await;
        match built {
            Err(error) if error.code() == "rebuild_in_place_only" => {
                self.rebuild(progress).await.map(|(report, _)| report)
            }
            Ok(report) => {
                // A stream in several parts has no one order, so the last moments before the swap
                // are looked at again.
                self.verify(true, &mut |_| {}).await?;
                Ok(report)
            }
            Err(error) => Err(error),
        }
    }

    /// Compares the index with the rows, and mends it if asked to.
    ///
    /// # Errors
    /// Those of [`verify`] and [`repair`].
    pub async fn verify(
        &self,
        is_repair: bool,
        progress: &mut (dyn FnMut(&DriftReport) + Send),
    ) -> Result<DriftReport> {
        let (index, documents) = (&*self.ports.index, &*self.ports.repositories.documents);
        let options = VerifyOptions::default();
        if is_repair {
            repair(index, documents, &self.sink, options, progress).await
        } else {
            verify(index, documents, options, progress).await
        }
    }

    /// Applies changes apart from the stream; answers for each.
    ///
    /// # Errors
    /// Those of the index, the text repository and the content store.
    pub async fn replay(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.sink.replay(changes).await
    }

    /// The changes that the index couldn't take, of the consumer [`INDEX_CONSUMER`].
    pub fn dead_letters(&self) -> &dyn DeadLetterRepository {
        &*self.ports.repositories.dead_letters
    }
}
