//! An index filled from the rows.
//!
//! Done when there is no position to continue from: the index is new, was damaged, or the stream
//! no longer has what comes after its position. The head of the stream is read first, then all rows
//! are copied, then the head is stored: whatever changed meanwhile comes again in the stream, and
//! versions sort it out.

use dms_core::model::change::Position;
use dms_core::ports::{DocumentRepository, Outcome, SearchIndex};
use dms_core::{Error, Result};

use super::IndexingSink;

/// Bounds of a [`rebuild`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildOptions {
    /// Rows read at once; how much text is held at once is up to the sink.
    pub batch_rows_max: u32,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self { batch_rows_max: 1_000 }
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

/// Empties the index, fills it from all rows, deleted ones too, and stores `head` as its position.
/// `sink` must be the one of this index; `head` must be read from the stream before this is called.
///
/// Nothing else may write to the index meanwhile. If the future is dropped or fails, the index is
/// left without a position, so that it is rebuilt at the next start.
///
/// # Errors
/// Those of the repositories, the content store and the index; `Unavailable` if content couldn't be
/// reached.
pub async fn rebuild(
    index: &dyn SearchIndex,
    documents: &dyn DocumentRepository,
    sink: &IndexingSink,
    head: Position,
    options: RebuildOptions,
    progress: &mut (dyn FnMut(RebuildProgress) + Send),
) -> Result<RebuildReport> {
    index.clear().await?;
    let mut report = RebuildReport::default();
    let mut after = None;
    loop {
        let rows = documents.scan(after, options.batch_rows_max.max(1)).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        let outcomes = sink.index_rows(&rows, None).await?;
        for outcome in outcomes {
            report.rows += 1;
            match outcome {
                Outcome::Applied | Outcome::AlreadyNewer => report.indexed += 1,
                Outcome::Skipped(_) => report.skipped += 1,
                Outcome::Retry(why) => {
                    return Err(Error::unavailable(
                        "storage",
                        format!("rebuild interrupted: {why}"),
                    ));
                }
                Outcome::Rejected(why) => {
                    return Err(Error::internal(format!("row can't be indexed: {why}")));
                }
            }
        }
        progress(report);
    }
    index.write(Vec::new(), Some(head)).await?;
    Ok(report)
}
