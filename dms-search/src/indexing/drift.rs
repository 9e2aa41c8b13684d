//! Whether the index has what the database has, and mending it where it hasn't.
//!
//! Works while writes go on. The index is always a little behind the rows, so a difference counts
//! only once it has lasted: what the index lacks after [`VerifyOptions::confirm_after`] of the
//! version that the row had *before* that, the stream won't bring.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_core::model::change::DocumentRow;
use dms_core::model::search::{IndexEntry, IndexVersion};
use dms_core::ports::{DocumentRepository, Outcome, SearchIndex};
use dms_core::{DocumentId, DocumentStatus, Error, ErrorChain, Result};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until};

use super::IndexingSink;
use super::persist::write_rows;
use super::walk::{DriftKind, Walk, compare, rows_of};

/// Documents looked up at once.
const LOOK_UP_MAX: usize = 500;

/// Bounds of [`verify`] and [`repair`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Rows and index entries read at once.
    pub batch_rows_max: u32,
    /// Rows gone through per second, at most; none goes as fast as it can.
    pub rows_per_second_max: Option<u32>,
    /// How long a difference must last to count. More than the stream is ever behind.
    pub confirm_after: Duration,
    /// Differences kept before they are confirmed; 64 bytes each.
    pub suspects_max: usize,
    /// Differences told one by one.
    pub examples_max: usize,
    /// How long a repair tries what fails before it gives up.
    pub patience: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            batch_rows_max: 1_000,
            rows_per_second_max: None,
            confirm_after: Duration::from_secs(10),
            suspects_max: 100_000,
            examples_max: 20,
            patience: Duration::from_secs(30),
        }
    }
}

/// A document in which index and row differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drift {
    /// The document.
    pub id: DocumentId,
    /// How they differ.
    pub kind: DriftKind,
    /// The version of the row.
    pub row: Option<i32>,
    /// The version in the index.
    pub index: Option<i32>,
}

/// What was found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriftReport {
    /// Rows gone through.
    pub rows: u64,
    /// Documents and marks of the index gone through.
    pub entries: u64,
    /// Confirmed differences, by kind; kinds that weren't found are absent.
    pub found: BTreeMap<DriftKind, u64>,
    /// Of these, documents that were mended.
    pub repaired: u64,
    /// Some of the differences.
    pub examples: Vec<Drift>,
}

impl DriftReport {
    /// Confirmed differences of all kinds.
    pub fn total(&self) -> u64 {
        self.found.values().sum()
    }

    /// Confirmed differences that are still there.
    pub fn remaining(&self) -> u64 {
        self.total().saturating_sub(self.repaired)
    }

    /// Whether only a rebuild helps.
    pub fn needs_rebuild(&self) -> bool {
        self.found.contains_key(&DriftKind::Ahead)
    }
}

/// Compares the index with the rows. `progress` is called after each part.
///
/// # Errors
/// Those of the repository and the index.
pub async fn verify(
    index: &dyn SearchIndex,
    documents: &dyn DocumentRepository,
    options: VerifyOptions,
    progress: &mut (dyn FnMut(&DriftReport) + Send),
) -> Result<DriftReport> {
    run(index, documents, None, options, progress).await
}

/// Compares the index with the rows and mends it: what is missing or stale is written from the
/// rows, what is extra is marked deleted. Versions guard every write, so that nothing that comes
/// through the stream meanwhile is undone. `sink` is the one of this index.
///
/// # Errors
/// Those of [`verify`]; those of the content store and the text repository if they last longer than
/// [`VerifyOptions::patience`].
pub async fn repair(
    index: &dyn SearchIndex,
    documents: &dyn DocumentRepository,
    sink: &IndexingSink,
    options: VerifyOptions,
    progress: &mut (dyn FnMut(&DriftReport) + Send),
) -> Result<DriftReport> {
    run(index, documents, Some(sink), options, progress).await
}

/// A difference that may be only a delay.
struct Suspect {
    id: DocumentId,
    /// What the index is to have by now.
    expected: Option<IndexVersion>,
}

struct Verification<'a> {
    index: &'a dyn SearchIndex,
    documents: &'a dyn DocumentRepository,
    sink: Option<&'a IndexingSink>,
    options: VerifyOptions,
    report: DriftReport,
    suspects: Vec<Suspect>,
}

async fn run(
    index: &dyn SearchIndex,
    documents: &dyn DocumentRepository,
    sink: Option<&IndexingSink>,
    options: VerifyOptions,
    progress: &mut (dyn FnMut(&DriftReport) + Send),
) -> Result<DriftReport> {
    // Saves looking twice at what was written but isn't shown yet.
    index.refresh().await?;
    let (report, suspects) = (DriftReport::default(), Vec::new());
    let mut verification = Verification { index, documents, sink, options, report, suspects };
    let mut walk = Walk::new(index, documents, options.batch_rows_max);
    while let Some(part) = walk.next().await? {
        let begun = Instant::now();
        verification.report.rows += part.rows.len() as u64;
        verification.report.entries += part.known.len() as u64;
        verification.suspects.extend(part.differences().into_iter().map(|difference| Suspect {
            id: difference.id,
            expected: difference.row.map(IndexVersion::from),
        }));
        if verification.suspects.len() >= options.suspects_max.max(1) {
            verification.confirm().await?;
        }
        progress(&verification.report);
        if let Some(rate) = options.rows_per_second_max {
            let went_through = part.rows.len().max(part.known.len());
            let share = Duration::from_secs(1) / rate.max(1);
            let pause = share.saturating_mul(u32::try_from(went_through).unwrap_or(u32::MAX));
            sleep_until(begun + pause).await;
        }
    }
    verification.confirm().await?;
    progress(&verification.report);
    Ok(verification.report)
}

impl Verification<'_> {
    /// Waits until delays are over, then looks at every suspect again.
    async fn confirm(&mut self) -> Result<()> {
        let mut suspects = std::mem::take(&mut self.suspects);
        if suspects.is_empty() {
            return Ok(());
        }
        sleep(self.options.confirm_after).await;
        suspects.sort_unstable_by_key(|suspect| suspect.id);
        for suspects in suspects.chunks(LOOK_UP_MAX) {
            self.look_again(suspects).await?;
        }
        Ok(())
    }

    async fn look_again(&mut self, suspects: &[Suspect]) -> Result<()> {
        let ids: Vec<_> = suspects.iter().map(|suspect| suspect.id).collect();
        let known = self.index.versions_of(&ids).await?;
        let known: BTreeMap<_, _> = known.into_iter().map(|known| (known.id, known)).collect();
        // After the index: what it has of a row can't be newer than the row is now.
        let rows = rows_of(self.documents, &ids).await?;
        let mut to_write = Vec::new();
        let mut to_mark = Vec::new();
        for suspect in suspects {
            let (known, row) = (known.get(&suspect.id).copied(), rows.get(&suspect.id));
            let Some(kind) = confirmed(suspect.expected, known, row) else { continue };
            *self.report.found.entry(kind).or_default() += 1;
            if self.report.examples.len() < self.options.examples_max {
                let (row, index) = (row.map(|row| row.version), known.map(|known| known.version));
                self.report.examples.push(Drift { id: suspect.id, kind, row, index });
            }
            match (kind, row, known) {
                (DriftKind::Missing | DriftKind::Stale, Some(row), _) => to_write.push(row.clone()),
                (DriftKind::Extra, _, Some(known)) => to_mark.push(mark(known)),
                _ => {}
            }
        }
        if let Some(sink) = self.sink {
            let written = write_rows(sink, to_write, self.options.patience).await?;
            self.report.repaired += written.indexed;
            self.report.repaired += self.mark(to_mark).await?;
        }
        Ok(())
    }

    async fn mark(&self, marks: Vec<IndexEntry>) -> Result<u64> {
        if marks.is_empty() {
            return Ok(0);
        }
        let outcomes = self.index.write(marks, None).await?;
        if let Some(Outcome::Retry(why)) =
            outcomes.iter().find(|outcome| matches!(outcome, Outcome::Retry(_)))
        {
            return Err(Error::unavailable("search", format!("documents can't be marked: {why}")));
        }
        let is_done =
            |outcome: &&Outcome| matches!(outcome, Outcome::Applied | Outcome::AlreadyNewer);
        Ok(outcomes.iter().filter(is_done).count() as u64)
    }
}

/// How index and row differ after the delay: `expected` is what the row was before it, `row` what
/// it is now. What changed meanwhile is left to the stream.
fn confirmed(
    expected: Option<IndexVersion>,
    known: Option<IndexVersion>,
    row: Option<&DocumentRow>,
) -> Option<DriftKind> {
    let kind = compare(row, known)?;
    match (kind, expected) {
        (DriftKind::Stale, Some(expected)) => {
            known.is_none_or(|known| known.version < expected.version).then_some(kind)
        }
        // There was no row before, so one that is new may be on its way; and the other way round.
        (DriftKind::Missing | DriftKind::Stale, None) | (DriftKind::Extra, Some(_)) => None,
        (DriftKind::Missing, Some(_)) | (DriftKind::Extra, None) | (DriftKind::Ahead, _) => {
            Some(kind)
        }
    }
}

/// Hides a document that has no row, under the next version.
fn mark(known: IndexVersion) -> IndexEntry {
    let row = DocumentRow {
        id: known.id,
        title: String::new(),
        content_type: String::new(),
        content_size: 0,
        content_sha256: None,
        s3_key: None,
        status: DocumentStatus::Created,
        created_by: String::new(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version: known.version.saturating_add(1),
        deleted: true,
    };
    IndexEntry { row, text: String::new() }
}

/// How a [`DriftWatch`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftWatchOptions {
    /// How each round is done. At a low rate, unless it is set.
    pub verify: VerifyOptions,
    /// Pause between two rounds.
    pub every: Duration,
    /// Whether what is found is mended.
    pub repair: bool,
}

impl Default for DriftWatchOptions {
    fn default() -> Self {
        let verify = VerifyOptions {
            rows_per_second_max: Some(500),
            confirm_after: Duration::from_secs(30),
            ..VerifyOptions::default()
        };
        Self { verify, every: Duration::from_mins(1), repair: true }
    }
}

/// Compares index and rows again and again, at a low rate.
///
/// Metrics, after each round: `dms_index_drift_documents{kind}`, confirmed differences that were
/// found in it, which must be zero; `dms_index_drift_remaining_documents`, those that were not
/// mended; `dms_index_drift_repaired_total`; `dms_index_verify_rounds_total{result}`.
pub struct DriftWatch {
    index: Arc<dyn SearchIndex>,
    documents: Arc<dyn DocumentRepository>,
    sink: Arc<IndexingSink>,
    options: DriftWatchOptions,
    last: Mutex<Option<DriftReport>>,
}

impl DriftWatch {
    /// A watch over an index; `sink` is the one of this index.
    pub fn new(
        index: Arc<dyn SearchIndex>,
        documents: Arc<dyn DocumentRepository>,
        sink: Arc<IndexingSink>,
        options: DriftWatchOptions,
    ) -> Self {
        Self { index, documents, sink, options, last: Mutex::new(None) }
    }

    /// What the last whole round found.
    pub fn last(&self) -> Option<DriftReport> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on until the future is dropped, which is safe at any point. An index that must be built
    /// first is left alone; failures are logged, and the next round begins after the pause.
    pub async fn run(&self) -> std::convert::Infallible {
        loop {
            match self.round().await {
                Ok(Some(report)) => self.tell(report),
                Ok(None) => {}
                Err(error) => {
                    metrics::counter!("dms_index_verify_rounds_total", "result" => "failed")
                        .increment(1);
                    tracing::warn!(error = %ErrorChain(&error), "index can't be compared with the rows");
                }
            }
            sleep(self.options.every).await;
        }
    }

    /// One round; none if the index isn't built.
    async fn round(&self) -> Result<Option<DriftReport>> {
        if self.index.progress().await?.needs_rebuild() {
            return Ok(None);
        }
        let sink = self.options.repair.then_some(&*self.sink);
        let (index, documents) = (&*self.index, &*self.documents);
        run(index, documents, sink, self.options.verify, &mut |_| ()).await.map(Some)
    }

    #[expect(clippy::cast_precision_loss, reason = "metrics are floating-point")]
    fn tell(&self, report: DriftReport) {
        for kind in DriftKind::ALL {
            let count = report.found.get(&kind).copied().unwrap_or_default();
            metrics::gauge!("dms_index_drift_documents", "kind" => kind.as_str()).set(count as f64);
        }
        metrics::gauge!("dms_index_drift_remaining_documents").set(report.remaining() as f64);
        metrics::counter!("dms_index_drift_repaired_total").increment(report.repaired);
        metrics::counter!("dms_index_verify_rounds_total", "result" => "done").increment(1);
        if report.total() > 0 {
            tracing::error!(
                found = ?report.found, repaired = report.repaired, examples = ?report.examples,
                needs_rebuild = report.needs_rebuild(), "index differed from the rows"
            );
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }
}
