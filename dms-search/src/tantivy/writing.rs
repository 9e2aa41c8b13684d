//! Writes, one at a time, on a blocking thread.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use dms_core::Result;
use dms_core::model::change::Position;
use dms_core::model::search::IndexEntry;
use dms_core::ports::Outcome;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{IndexWriter, Searcher};

use super::error::failed;
use super::schema::fingerprint;
use super::{MergesDue, Shared, folder};

/// The least tantivy accepts; a larger batch becomes several segments of one commit.
const WRITER_BYTES: usize = 15_000_000;
/// Segments of about the same size that are merged into one. Fewer would write everything more
/// often, more would make each search look in more places.
const MERGE_SEGMENTS: usize = 6;
/// Segments with fewer documents count as equally small.
const SMALL_SEGMENT_DOCUMENTS: u32 = 500;
/// Share of replaced documents from which a segment is written anew.
const REPLACED_MAX: f32 = 0.3;
/// How often finished merges are looked for, and for how long after the last write.
const MERGE_LOOK: Duration = Duration::from_millis(500);
const MERGE_TIME_MAX: Duration = Duration::from_mins(1);

/// What only the holder of the write lock may touch.
#[derive(Default)]
pub(super) struct Writing {
    /// Made when it is first needed. Taken out during a write, so that one that fails or panics
    /// leaves none behind: what isn't committed is then forgotten.
    writer: Option<IndexWriter>,
    /// A write didn't come to its end: what is committed must be looked up.
    is_uncertain: bool,
}

impl Shared {
    pub(super) fn write(
        &self,
        writing: &mut Writing,
        entries: &[IndexEntry],
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        self.settle(writing)?;
        let searcher = self.reader.searcher();
        let known = self.known_versions(&searcher, entries)?;
        let newest = IndexEntry::newest_of_each(entries);
        let outcomes: Vec<_> = entries
            .iter()
            .zip(&known)
            .zip(newest)
            .map(|((entry, known), newest)| {
                if entry.row.is_incomplete() {
                    Outcome::Skipped("incomplete")
                } else if newest && known.is_none_or(|known| known < entry.row.version) {
                    Outcome::Applied
                } else {
                    Outcome::AlreadyNewer
                }
            })
            .collect();
        let present = self.position();
        let position = up_to.or_else(|| present.clone());
        let is_applied = |outcome: &Outcome| *outcome == Outcome::Applied;
        if !outcomes.iter().any(is_applied) && position == present {
            return Ok(outcomes);
        }
        self.commit(writing, position, |writer| {
            for ((entry, known), _) in
                entries.iter().zip(&known).zip(&outcomes).filter(|(_, outcome)| is_applied(outcome))
            {
                if known.is_some() {
                    writer.delete_term(self.fields.id_term(entry.row.id.as_uuid()));
                }
                let document = self.fields.document(entry)?;
                writer.add_document(document).map_err(failed("document can't be indexed"))?;
            }
            Ok(())
        })?;
        Ok(outcomes)
    }

    pub(super) fn clear(&self, writing: &mut Writing) -> Result<()> {
        self.settle(writing)?;
        self.commit(writing, None, |writer| {
            writer.delete_all_documents().map_err(failed("index can't be emptied")).map(drop)
        })
    }

    /// Makes the changes and the position durable together, then visible.
    fn commit(
        &self,
        writing: &mut Writing,
        position: Option<Position>,
        change: impl FnOnce(&IndexWriter) -> Result<()>,
    ) -> Result<()> {
        let mut writer = match writing.writer.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        writing.is_uncertain = true;
        change(&writer)?;
        let payload = folder::payload(&fingerprint(&self.index.schema())?, position.as_ref())?;
        let begun = Instant::now();
        let mut prepared = writer.prepare_commit().map_err(failed("index can't be written"))?;
        prepared.set_payload(&payload);
        prepared.commit().map_err(failed("index can't be committed"))?;
        metrics::histogram!("dms_search_commit_seconds").record(begun.elapsed());
        self.show(&writer)?;
        self.set_position(position);
        let now = Instant::now();
        *self.merges_due.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(MergesDue { look: now + MERGE_LOOK, give_up: now + MERGE_TIME_MAX });
        writing.writer = Some(writer);
        writing.is_uncertain = false;
        Ok(())
    }

    fn new_writer(&self) -> Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .memory_budget_per_thread(WRITER_BYTES)
            .num_merge_threads(1)
            .build();
        let writer = self
            .index
            .writer_with_options(options)
            .map_err(failed("index can't be opened for writing"))?;
        let mut merges = LogMergePolicy::default();
        merges.set_min_num_segments(MERGE_SEGMENTS);
        merges.set_min_layer_size(SMALL_SEGMENT_DOCUMENTS);
        merges.set_del_docs_ratio_before_merge(REPLACED_MAX);
        writer.set_merge_policy(Box::new(merges));
        Ok(writer)
    }

    /// After a write that failed, finds out what is committed.
    fn settle(&self, writing: &mut Writing) -> Result<()> {
        if writing.is_uncertain {
            self.reader.reload().map_err(failed("index can't be read"))?;
            let fingerprint = fingerprint(&self.index.schema())?;
            self.set_position(folder::stored_position(&self.index, &fingerprint)?);
            writing.is_uncertain = false;
        }
        Ok(())
    }

    /// Lets searches see what is committed, and removes files that only the searches before needed.
    fn show(&self, writer: &IndexWriter) -> Result<()> {
        let segments_before = self.reader.searcher().segment_readers().len();
        self.reader.reload().map_err(failed("index can't be read"))?;
        if self.reader.searcher().segment_readers().len() <= segments_before {
            // Happens in the background; files that are still read stay until next time.
            drop(writer.garbage_collect_files());
        }
        Ok(())
    }

    /// Shows the outcome of merges that ended after the last write: fewer segments, fewer files.
    /// Does nothing when it isn't time or a write is going on, which does the same.
    pub(super) fn absorb_merges(&self) {
        let now = Instant::now();
        {
            let mut due = self.merges_due.lock().unwrap_or_else(PoisonError::into_inner);
            match *due {
                Some(merges) if now >= merges.look => {
                    let next = MergesDue { look: now + MERGE_LOOK, ..merges };
                    *due = (now < merges.give_up).then_some(next);
                }
                _ => return,
            }
        }
        let Ok(writing) = self.writing.try_lock() else { return };
        let Some(writer) = &writing.writer else { return };
        let shown = self.reader.searcher().segment_readers().len();
        if self.index.searchable_segment_ids().is_ok_and(|segments| segments.len() != shown)
            && let Err(error) = self.show(writer)
        {
            tracing::warn!(error = %dms_core::ErrorChain(&error), "merged index can't be shown");
        }
    }

    /// The version the index has of each entry's document.
    fn known_versions(
        &self,
        searcher: &Searcher,
        entries: &[IndexEntry],
    ) -> Result<Vec<Option<i32>>> {
        let ids: Vec<_> = entries.iter().map(|entry| entry.row.id).collect();
        let known = self.look_up(searcher, &ids).map_err(failed("versions can't be read"))?;
        Ok(known.into_iter().map(|known| known.map(|known| known.version)).collect())
    }
}
