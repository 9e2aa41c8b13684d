//! The sink that carries changes of documents into the index.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use dms_core::model::change::{Change, DocumentRow, Position, RowChange};
use dms_core::model::search::IndexEntry;
use dms_core::ports::{BlobStore, ChangeSink, INDEX_MISSING, Outcome, SearchIndex, TextRepository};
use dms_core::{DocumentId, Result};
use tokio::sync::Notify;

use super::searchable::Sampling;
use super::texts::{self, Text, texts_of};

/// Bounds of an [`IndexingSink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexingOptions {
    /// Longest text of a document that can be searched, in bytes; what is longer is cut.
    pub text_bytes_max: usize,
    /// How much content is read to take the text out of it, in bytes.
    pub content_bytes_max: usize,
    /// Contents read at once.
    pub reads_max: usize,
    /// Text held at once, in bytes; a batch with more is written in parts.
    pub batch_text_bytes_max: usize,
}

impl Default for IndexingOptions {
    fn default() -> Self {
        Self {
            text_bytes_max: 1 << 20,
            content_bytes_max: 4 << 20,
            reads_max: 4,
            batch_text_bytes_max: 8 << 20,
        }
    }
}

/// Carries changes of documents into a [`SearchIndex`], with the text of their content.
///
/// - The text is read from the [`TextRepository`], all texts of a batch in one query; a text that
///   isn't there is taken out of the content once and kept there.
/// - Signatures and rows whose content isn't stored yet are skipped.
/// - A document whose content is missing or can't be parsed is indexed without text, which is
///   warned of and counted in `dms_search_text_missing_total`: better found by its title than not
///   at all. While the content can't be reached, its change is to be tried again, and the index
///   doesn't take over the position.
/// - Of several versions of a document in a batch only the newest reaches the index.
#[derive(Clone)]
pub struct IndexingSink {
    index: Arc<dyn SearchIndex>,
    texts: Arc<dyn TextRepository>,
    blobs: Arc<dyn BlobStore>,
    options: IndexingOptions,
    /// Told when a write finds no index.
    missing: Arc<Notify>,
    /// Told of new documents.
    sampling: Arc<Sampling>,
}

impl IndexingSink {
    /// A sink that fills `index`.
    pub fn new(
        index: Arc<dyn SearchIndex>,
        texts: Arc<dyn TextRepository>,
        blobs: Arc<dyn BlobStore>,
        options: IndexingOptions,
    ) -> Self {
        Self { index, texts, blobs, options, missing: Arc::default(), sampling: Arc::default() }
    }

    /// The same for another index.
    #[must_use]
    pub fn for_index(&self, index: Arc<dyn SearchIndex>) -> Self {
        Self { index, missing: Arc::default(), sampling: Arc::default(), ..self.clone() }
    }

    /// Waits until a change met no index and there is still none: it was deleted, and must be built
    /// from the rows. Until then changes fail in a way that can be retried. For one waiter at a
    /// time; dropping the future loses nothing.
    pub async fn index_lost(&self) {
        loop {
            self.missing.notified().await;
            if self.index.progress().await.is_ok_and(|progress| progress.needs_rebuild()) {
                return;
            }
        }
    }

    /// Where new documents are told.
    pub(super) fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Applies changes apart from the stream, whose position in the index stays as it is; answers for
    /// each, in order.
    ///
    /// # Errors
    /// The whole batch failed and may be applied again if the error is retryable.
    pub async fn replay(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.apply_up_to(changes, None).await
    }

    async fn apply_up_to(
        &self,
        changes: &[Change],
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        let (mut outcomes, chosen) = choose(changes);
        let (places, rows): (Vec<usize>, Vec<DocumentRow>) = chosen.into_iter().unzip();
        let written = self.index_rows(&rows, up_to).await?;
        for (place, outcome) in places.into_iter().zip(written) {
            outcomes[place] = outcome;
        }
        Ok(outcomes)
    }

    async fn write(
        &self,
        entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        let written = self.index.write(entries, up_to).await;
        if written.as_ref().is_err_and(|error| error.code() == INDEX_MISSING) {
            self.missing.notify_one();
        }
        written
    }

    /// Indexes rows of different documents, in parts of bounded size; answers for each, in order.
    /// With `up_to`, the position moves with the last part, unless a row must be tried again.
    pub(super) async fn index_rows(
        &self,
        rows: &[DocumentRow],
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(rows.len());
        let mut retry = false;
        let mut rest = rows;
        loop {
            let (part, after) = rest.split_at(self.part_len(rest));
            rest = after;
            let (entries, waiting) = self.entries(part).await?;
            retry |= !waiting.is_empty();
            let position = up_to.clone().filter(|_| rest.is_empty() && !retry);
            let written = if entries.is_empty() && position.is_none() {
                Vec::new()
            } else {
                self.write(entries, position).await?
            };
            let mut written = written.into_iter();
            outcomes.extend((0..part.len()).map(|at| {
                match waiting.get(&at) {
                    Some(why) => Outcome::Retry(why.clone()),
                    None => written
                        .next()
                        .unwrap_or_else(|| Outcome::Retry("the index gave no answer".to_owned())),
                }
            }));
            if rest.is_empty() {
                return Ok(outcomes);
            }
        }
    }

    /// How many of the rows make a part whose texts are within bounds; at least one if there is any.
    fn part_len(&self, rows: &[DocumentRow]) -> usize {
        let mut bytes = 0_usize;
        let fits = |row: &&DocumentRow| {
            let text = texts::key(row).map_or(0, |_| {
                // Text may grow while it is read, but not beyond its bound.
                usize::try_from(row.content_size)
                    .unwrap_or(usize::MAX)
                    .min(self.options.text_bytes_max)
            });
            bytes = bytes.saturating_add(text);
            bytes <= self.options.batch_text_bytes_max
        };
        rows.iter().take_while(fits).count().max(1).min(rows.len())
    }

    /// The rows with their texts, but for those that must wait, and why they must.
    async fn entries(
        &self,
        rows: &[DocumentRow],
    ) -> Result<(Vec<IndexEntry>, HashMap<usize, String>)> {
        let texts = texts_of(rows, &*self.texts, &*self.blobs, &self.options).await?;
        let mut entries = Vec::with_capacity(rows.len());
        let mut waiting = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            match texts.of(row) {
                Text::Known(text) => entries.push(IndexEntry { row: row.clone(), text }),
                Text::Unavailable(why) => drop(waiting.insert(at, why)),
            }
        }
        Ok((entries, waiting))
    }
}

#[async_trait]
impl ChangeSink for IndexingSink {
    fn name(&self) -> &'static str {
        "search-index"
    }

    async fn apply(&self, changes: &[Change], up_to: &Position) -> Result<Vec<Outcome>> {
        let outcomes = self.apply_up_to(changes, Some(up_to.clone())).await?;
        self.sampling.offer(changes, &outcomes);
        Ok(outcomes)
    }
}

/// What to do about each change before anything is read: an answer for each, and which rows are to
/// be indexed, whose answers will take those places.
pub(super) fn choose(changes: &[Change]) -> (Vec<Outcome>, Vec<(usize, DocumentRow)>) {
    let mut newest: HashMap<DocumentId, (usize, DocumentRow)> = HashMap::new();
    let outcomes = changes
        .iter()
        .enumerate()
        .map(|(at, change)| {
            let row = match row_of(change) {
                Ok(row) if row.is_incomplete() => return Outcome::Skipped("incomplete"),
                Ok(row) => row,
                Err(skipped) => return skipped,
            };
            match newest.get(&row.id) {
                Some((_, known)) if known.version > row.version => {}
                _ => drop(newest.insert(row.id, (at, row))),
            }
            Outcome::AlreadyNewer
        })
        .collect();
    let mut chosen: Vec<_> = newest.into_values().collect();
    chosen.sort_unstable_by_key(|(at, _)| *at);
    (outcomes, chosen)
}

/// The row as it is after a change.
fn row_of(change: &Change) -> Result<DocumentRow, Outcome> {
    match &change.row {
        RowChange::Signature { .. } => Err(Outcome::Skipped("signature")),
        RowChange::Document { after: Some(row), .. } => Ok(row.clone()),
        // Rows are marked deleted, not removed. Should somebody remove one by hand, the document
        // is as good as deleted in the version after.
        RowChange::Document { before: Some(row), after: None } => {
            Ok(DocumentRow { deleted: true, version: row.version.saturating_add(1), ..row.clone() })
        }
        RowChange::Document { before: None, after: None } => Err(Outcome::Skipped("no row")),
    }
}
