//! An index filled from the rows.
//!
//! Done when the index is new, was damaged, is laid out otherwise, or the stream no longer has what
//! comes after its position. Either nothing else writes to the index ([`rebuild`]): the head of the
//! stream is read first, then all rows are copied; whatever changed meanwhile comes again in the
//! stream, and versions sort it out. Or the live index goes on being written to while another is
//! built beside it ([`rebuild_beside`]).
//!
//! An index that can be built beside itself keeps what was built when a rebuild is stopped. The
//! next one compares versions and writes only what differs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dms_core::model::change::Position;
use dms_core::model::search::IndexVersion;
use dms_core::ports::{ChangeSource, DocumentRepository, SearchIndex, StagedIndex, StartAt};
use dms_core::{Error, ErrorKind, Result};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::IndexingSink;
use super::follow::Follower;
use super::persist::write_rows;
use super::walk::{DriftKind, Walk, compare, rows_of};

/// How often a builder gives a sign of life.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// Bounds of a [`rebuild`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildOptions {
    /// Rows read at once; how much text is held at once is up to the sink.
    pub batch_rows_max: u32,
    /// How long is tried what fails before the rebuild does.
    pub patience: Duration,
    /// How many changes the index that is built beside the live one may be behind the stream when
    /// it is put in its place; it catches up right after.
    pub lag_changes_max: u64,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self { batch_rows_max: 1_000, patience: Duration::from_secs(30), lag_changes_max: 100 }
    }
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RebuildProgress {
    /// Rows read so far.
    pub rows: u64,
    /// Of these, documents that can be found or are marked deleted.
    pub indexed: u64,
    /// Of these, rows without stored content.
    pub skipped: u64,
    /// Of these, rows that the index refuses for good. They are logged one by one.
    pub rejected: u64,
    /// Changes taken from the stream besides.
    pub followed: u64,
}

/// What a rebuild did.
pub type RebuildReport = RebuildProgress;

/// Whether the index must be built from the rows before it follows the stream.
///
/// # Errors
/// Those of [`SearchIndex::progress`].
pub async fn needs_rebuild(index: &dyn SearchIndex) -> Result<bool> {
    Ok(index.progress().await?.needs_rebuild())
}

/// Fills an index from all rows, deleted ones too, and stores `head` as its position. `sink` must
/// be the one of this index; `head` must be read from the stream before this is called.
///
/// Beside the live index, which is searched until the new one takes its place, if the index can do
/// that; else the index is emptied and filled in its place. Nothing else may write to the live index
/// meanwhile. If the future is dropped or fails, an index that was filled in its place is left to
/// be rebuilt at the next start.
///
/// # Errors
/// Those of the repositories, the content store and the index once they last longer than
/// [`RebuildOptions::patience`]; `Conflict` with code `rebuild_running` while another process
/// builds.
pub async fn rebuild(
    index: &dyn SearchIndex,
    documents: &dyn DocumentRepository,
    sink: &IndexingSink,
    head: Position,
    options: RebuildOptions,
    progress: &mut (dyn FnMut(RebuildProgress) + Send),
) -> Result<RebuildReport> {
    if let Some(mut build) = Build::open(index, documents, sink, options).await? {
        loop {
            let staged = Arc::clone(&build.staged);
            let filled = keeping(&*staged, build.fill(&mut *progress)).await?;
            if filled == Filled::Whole {
                staged.promote(head).await?;
                return Ok(build.report);
            }
            build.begin_anew(index, sink).await?;
        }
    }
    index.clear().await?;
    let mut report = RebuildReport::default();
    fill(index, documents, sink, options, &mut report, progress).await?;
    index.write(Vec::new(), Some(head)).await?;
    Ok(report)
}

/// Builds an index beside the live one while others go on writing to that, then puts it in its
/// place. No search and no write waits for it, no update is lost, and none comes back.
///
/// `source` is a source of the same stream for a consumer of its own, which exists for as long as
/// the rebuild does; it is started here, before the first row is read. What it brings is written to
/// the new index, and after the swap to the live one, until everything is there that was committed
/// before the swap. If `source` doesn't keep one order over all documents, as a topic of several
/// partitions doesn't, let [`repair`](super::repair) follow: what the other consumers wrote to the
/// old index in the last moments may be missing until then.
///
/// Stopped at any point, it leaves the live index alone, and the next one goes on where it ended.
///
/// # Errors
/// - `Conflict` with code `rebuild_running` while somebody else builds;
/// - `Conflict` with code `rebuild_in_place_only` if the index can't be built beside itself;
/// - else as [`rebuild`], and those of the source.
pub async fn rebuild_beside(
    index: &dyn SearchIndex,
    documents: &dyn DocumentRepository,
    sink: &IndexingSink,
    source: &dyn ChangeSource,
    options: RebuildOptions,
    progress: &mut (dyn FnMut(RebuildProgress) + Send),
) -> Result<RebuildReport> {
    let Some(mut build) = Build::open(index, documents, sink, options).await? else {
        return Err(Error::new(ErrorKind::Conflict, "this index can only be built in its place")
            .with_code("rebuild_in_place_only"));
    };
    source.start(StartAt::Now).await?;
    let head = loop {
        let staged = Arc::clone(&build.staged);
        let follower = Follower::new(source, options.patience);
        let both = async {
            let beside = build.beside.clone();
            let is_filled = AtomicBool::new(false);
            let filled = Notify::new();
            let fill = async {
                let result = build.fill(&mut *progress).await;
                is_filled.store(true, Ordering::Release);
                filled.notify_one();
                result
            };
            let follow = async {
                while !is_filled.load(Ordering::Acquire) {
                    follower.next(&beside, filled.notified()).await?;
                }
                Ok::<_, Error>(())
            };
            let (filled, ()) = tokio::try_join!(fill, follow)?;
            if filled == Filled::Whole {
                follower.catch_up(&beside, options.lag_changes_max).await?;
            }
            Ok(filled)
        };
        if keeping(&*staged, both).await? == Filled::Whole {
            // Nothing is written to the staged index from here on.
            let head = source.head().await?;
            staged.promote(head.clone()).await?;
            follower.catch_up_to_now(sink).await?;
            build.report.followed += follower.count();
            break head;
        }
        build.report.followed += follower.count();
        build.begin_anew(index, sink).await?;
    };
    tracing::debug!(%head, "search index built beside the live one");
    progress(build.report);
    Ok(build.report)
}

/// Whether an index was filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Whole,
    /// It has versions that the rows haven't: it can't become right.
    Ahead,
}

/// An index that is being built beside the live one.
struct Build<'a> {
    staged: Arc<dyn StagedIndex>,
    documents: &'a dyn DocumentRepository,
    /// Writes to the staged index.
    beside: IndexingSink,
    options: RebuildOptions,
    report: RebuildReport,
}

impl<'a> Build<'a> {
    async fn open(
        index: &dyn SearchIndex,
        documents: &'a dyn DocumentRepository,
        sink: &IndexingSink,
        options: RebuildOptions,
    ) -> Result<Option<Self>> {
        let Some(staged) = index.stage().await? else { return Ok(None) };
        let beside = sink.for_index(staged.index());
        Ok(Some(Self { staged, documents, beside, options, report: RebuildReport::default() }))
    }

    async fn fill(&mut self, progress: &mut (dyn FnMut(RebuildProgress) + Send)) -> Result<Filled> {
        let index = self.staged.index();
        index.refresh().await?;
        fill(&*index, self.documents, &self.beside, self.options, &mut self.report, progress).await
    }

    /// Throws away what was built, and begins with nothing.
    async fn begin_anew(&mut self, index: &dyn SearchIndex, sink: &IndexingSink) -> Result<()> {
        tracing::warn!("the index that was being built is ahead of the rows, beginning anew");
        self.staged.discard().await?;
        let lost =
            || Error::unavailable("search", "the index can no longer be built beside itself");
        self.staged = index.stage().await?.ok_or_else(lost)?;
        self.beside = sink.for_index(self.staged.index());
        self.report = RebuildReport { followed: self.report.followed, ..RebuildReport::default() };
        Ok(())
    }
}

/// Works while giving signs of life.
async fn keeping<T>(staged: &dyn StagedIndex, work: impl Future<Output = Result<T>>) -> Result<T> {
    let keep = async {
        loop {
            sleep(KEEP_EVERY).await;
            match staged.keep().await {
                // Missed once, it is given the next time.
                Err(error) if !error.is_retryable() => return error,
                _ => {}
            }
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        error = keep => Err(error),
    }
}

/// Writes every row that the index doesn't have yet.
async fn fill(
    index: &dyn SearchIndex,
    documents: &dyn DocumentRepository,
    sink: &IndexingSink,
    options: RebuildOptions,
    report: &mut RebuildReport,
    progress: &mut (dyn FnMut(RebuildProgress) + Send),
) -> Result<Filled> {
    let mut walk = Walk::new(index, documents, options.batch_rows_max);
    while let Some(part) = walk.next().await? {
        let mut rows = Vec::with_capacity(part.rows.len());
        let mut ahead = Vec::new();
        for difference in part.differences() {
            match difference.kind {
                DriftKind::Missing | DriftKind::Stale => rows.extend(difference.row.cloned()),
                DriftKind::Extra | DriftKind::Ahead => ahead.extend(difference.known),
            }
        }
        if is_ahead(documents, ahead).await? {
            return Ok(Filled::Ahead);
        }
        let incomplete = part.rows.iter().filter(|row| row.is_incomplete()).count() as u64;
        let to_write = rows.len() as u64;
        let written = write_rows(sink, rows, options.patience).await?;
        report.rows += part.rows.len() as u64;
        report.skipped += incomplete + written.skipped;
        report.rejected += written.rejected;
        report.indexed += written.indexed + (part.rows.len() as u64 - incomplete - to_write);
        if !part.rows.is_empty() {
            progress(*report);
        }
    }
    Ok(Filled::Whole)
}

/// Whether one of these versions is really ahead of its row: the stream may only have been faster
/// than the rows were read.
async fn is_ahead(
    documents: &dyn DocumentRepository,
    mut known: Vec<IndexVersion>,
) -> Result<bool> {
    known.sort_unstable();
    let ids: Vec<_> = known.iter().map(|known| known.id).collect();
    let rows = rows_of(documents, &ids).await?;
    let differs = |known: &IndexVersion| {
        let kind = compare(rows.get(&known.id), Some(*known));
        matches!(kind, Some(DriftKind::Extra | DriftKind::Ahead))
    };
    Ok(known.iter().any(differs))
}
