//! Which version the index has of which document, on a blocking thread.

use dms_core::model::search::{AggregationField, IndexVersion};
use dms_core::{DocumentId, Result};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::termdict::{TermDictionary, TermStreamer};
use tantivy::{DocId, DocSet as _, InvertedIndexReader, Searcher, SegmentReader, TERMINATED};
use uuid::Uuid;

use super::Shared;
use super::error::failed;
use super::schema::{exact_name, versions};

impl Shared {
    /// Those after `after` in order of id, at most `limit`.
    pub(super) fn versions(
        &self,
        after: Option<DocumentId>,
        limit: u32,
    ) -> Result<Vec<IndexVersion>> {
        let searcher = self.reader.searcher();
        in_order(&searcher, self.fields.id(), after, limit as usize)
            .map_err(failed("versions can't be read"))
    }

    /// Those of some documents.
    pub(super) fn versions_of(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>> {
        let searcher = self.reader.searcher();
        let known = self.look_up(&searcher, ids).map_err(failed("versions can't be read"))?;
        Ok(known.into_iter().flatten().collect())
    }

    /// What is there of each document.
    pub(super) fn look_up(
        &self,
        searcher: &Searcher,
        ids: &[DocumentId],
    ) -> tantivy::Result<Vec<Option<IndexVersion>>> {
        let mut known: Vec<Option<IndexVersion>> = vec![None; ids.len()];
        for segment in searcher.segment_readers() {
            let facts = Facts::open(segment)?;
            for (id, known) in ids.iter().zip(known.iter_mut()) {
                let term = self.fields.id_term(id.as_uuid());
                let inverted = segment.inverted_index(term.field())?;
                let postings = inverted.read_postings(&term, IndexRecordOption::Basic)?;
                let Some(postings) = postings else { continue };
                *known = newest(*known, facts.newest_of(*id, postings));
            }
        }
        Ok(known)
    }
}

fn newest(one: Option<IndexVersion>, other: Option<IndexVersion>) -> Option<IndexVersion> {
    [one, other].into_iter().flatten().max_by_key(|known| known.version)
}

/// Merges the ids of all segments, each of which has them in order.
fn in_order(
    searcher: &Searcher,
    id: Field,
    after: Option<DocumentId>,
    limit: usize,
) -> tantivy::Result<Vec<IndexVersion>> {
    let readers: Vec<_> = searcher
        .segment_readers()
        .iter()
        .map(|segment| Ok((segment.inverted_index(id)?, Facts::open(segment)?)))
        .collect::<tantivy::Result<_>>()?;
    let mut segments = Vec::with_capacity(readers.len());
    for (inverted, facts) in &readers {
        let mut segment = Segment::open(inverted, facts, after)?;
        if segment.advance() {
            segments.push(segment);
        }
    }
    let mut found = Vec::with_capacity(limit.min(10_000));
    while found.len() < limit {
        let Some(next) = segments.iter().map(|segment| segment.at).min() else { break };
        let mut best = None;
        let mut at = 0;
        while at < segments.len() {
            if segments[at].at == next {
                best = newest(best, segments[at].newest()?);
                if !segments[at].advance() {
                    drop(segments.swap_remove(at));
                    continue;
                }
            }
            at += 1;
        }
        found.extend(best);
    }
    Ok(found)
}

/// The ids of one segment, in order.
struct Segment<'a> {
    inverted: &'a InvertedIndexReader,
    facts: &'a Facts<'a>,
    terms: TermStreamer<'a>,
    /// The id it has come to.
    at: DocumentId,
}

impl<'a> Segment<'a> {
    fn open(
        inverted: &'a InvertedIndexReader,
        facts: &'a Facts<'a>,
        after: Option<DocumentId>,
    ) -> tantivy::Result<Self> {
        let terms: &TermDictionary = inverted.terms();
        let range = match after {
            Some(after) => terms.range().gt(after.as_uuid().as_bytes()),
            None => terms.range(),
        };
        let terms = range.into_stream()?;
        Ok(Self { inverted, facts, terms, at: DocumentId::from_uuid(Uuid::nil()) })
    }

    /// Goes to the next id; false if there is none.
    fn advance(&mut self) -> bool {
        while self.terms.advance() {
            if let Ok(id) = Uuid::from_slice(self.terms.key()) {
                self.at = DocumentId::from_uuid(id);
                return true;
            }
        }
        false
    }

    /// What is there of the present id.
    fn newest(&self) -> tantivy::Result<Option<IndexVersion>> {
        let postings = self
            .inverted
            .read_postings_from_terminfo(self.terms.value(), IndexRecordOption::Basic)?;
        Ok(self.facts.newest_of(self.at, postings))
    }
}

/// What is known of a segment's documents, by their numbers.
struct Facts<'a> {
    segment: &'a SegmentReader,
    versions: tantivy::columnar::Column<i64>,
    /// A value that only those have that aren't deleted; absent in a segment of marks alone.
    status: Option<tantivy::columnar::StrColumn>,
}

impl<'a> Facts<'a> {
    fn open(segment: &'a SegmentReader) -> tantivy::Result<Self> {
        let status = segment.fast_fields().str(exact_name(AggregationField::Status))?;
        Ok(Self { segment, versions: versions(segment)?, status })
    }

    fn newest_of(
        &self,
        id: DocumentId,
        mut postings: tantivy::postings::SegmentPostings,
    ) -> Option<IndexVersion> {
        let mut best = None;
        let mut document = postings.doc();
        while document != TERMINATED {
            if !self.segment.is_deleted(document) {
                best = newest(best, Some(self.version_of(id, document)));
            }
            document = postings.advance();
        }
        best
    }

    fn version_of(&self, id: DocumentId, document: DocId) -> IndexVersion {
        let version = self.versions.first(document).unwrap_or_default();
        let status = self.status.as_ref().and_then(|status| status.ords().first(document));
        IndexVersion {
            id,
            version: i32::try_from(version).unwrap_or(i32::MAX),
            deleted: status.is_none(),
        }
    }
}
