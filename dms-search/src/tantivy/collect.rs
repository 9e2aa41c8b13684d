//! Goes through what matches: the best ones in a total order, or the counts of a field's values.

use std::collections::HashMap;
use std::time::Instant;

use dms_core::model::search::{AggregationField, Bucket};
use tantivy::query::{EnableScoring, Weight};
use tantivy::{DocAddress, DocId, DocSet as _, Score, Searcher, SegmentReader, TERMINATED};

use super::best::{Best, Found};
use super::query::Plan;
use super::schema::{Ids, exact_name};
use super::union::Union;

/// How many documents are gone through between two looks at the clock.
const DOCUMENTS_PER_LOOK: u32 = 8_192;

/// Why nothing was collected.
pub(super) enum Stopped {
    /// The deadline passed.
    Overdue,
    /// The index can't be read.
    Failed(tantivy::TantivyError),
}

impl<E: Into<tantivy::TantivyError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// How many documents match, and the best `limit` of them: highest scores first, then highest ids.
pub(super) fn top(
    searcher: &Searcher,
    plan: &Plan,
    limit: usize,
    deadline: Instant,
) -> Result<(u64, Vec<Found>), Stopped> {
    if limit > 0
        && let Some(union) = Union::new(searcher, plan)?
    {
        return union.top(searcher, limit, deadline);
    }
    let Some(weights) = Weights::new(searcher, plan)? else { return Ok((0, Vec::new())) };
    let mut total = 0;
    let mut best = Best::new(limit);
    for (ordinal, segment) in (0..).zip(searcher.segment_readers()) {
        if limit == 0 {
            total += weights.count(segment, deadline)?;
            continue;
        }
        let ids = Ids::open(segment)?;
        weights.visit(segment, deadline, |document, score| {
            total += 1;
            best.offer(score, DocAddress::new(ordinal, document), &ids);
        })?;
    }
    Ok((total, best.finish()))
}

/// How many documents match.
pub(super) fn count(searcher: &Searcher, plan: &Plan, deadline: Instant) -> Result<u64, Stopped> {
    top(searcher, plan, 0, deadline).map(|(total, _)| total)
}

/// The values of `field` among what matches: most first, ties by value, at most `limit`.
pub(super) fn values(
    searcher: &Searcher,
    plan: &Plan,
    field: AggregationField,
    limit: usize,
    deadline: Instant,
) -> Result<Vec<Bucket>, Stopped> {
    let Some(weights) = Weights::new(searcher, plan)? else { return Ok(Vec::new()) };
    let mut counts: HashMap<String, u64> = HashMap::new();
    for segment in searcher.segment_readers() {
        // Absent in a segment of marks alone.
        let Some(column) = segment.fast_fields().str(exact_name(field))? else { continue };
        // Counted by the segment's own numbers for the values, then merged by value.
        let mut by_ordinal = vec![0_u64; column.num_terms()];
        weights.visit(segment, deadline, |document, _| {
            let ordinal = column.ords().first(document).and_then(|ord| usize::try_from(ord).ok());
            if let Some(count) = ordinal.and_then(|ordinal| by_ordinal.get_mut(ordinal)) {
                *count += 1;
            }
        })?;
        let (ordinals, found): (Vec<u64>, Vec<u64>) =
            (0..).zip(by_ordinal).filter(|(_, count)| *count > 0).unzip();
        let mut found = found.into_iter();
        column.dictionary().sorted_ords_to_term_cb(&ordinals, |value| {
            let value = String::from_utf8_lossy(value);
            let count = found.next().unwrap_or_default();
            match counts.get_mut(&*value) {
                Some(sum) => *sum += count,
                None => drop(counts.insert(value.into_owned(), count)),
            }
        })?;
    }
    let mut buckets: Vec<_> =
        counts.into_iter().map(|(key, count)| Bucket { key, count }).collect();
    buckets.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
    buckets.truncate(limit);
    Ok(buckets)
}

/// A plan, tied to the segments of one searcher.
struct Weights {
    matching: Box<dyn Weight>,
    excluded: Option<Box<dyn Weight>>,
    is_scored: bool,
}

impl Weights {
    fn new(searcher: &Searcher, plan: &Plan) -> tantivy::Result<Option<Self>> {
        let Some(query) = &plan.query else { return Ok(None) };
        let unscored = EnableScoring::disabled_from_searcher(searcher);
        let scoring =
            if plan.is_scored { EnableScoring::enabled_from_searcher(searcher) } else { unscored };
        let matching = query.weight(scoring)?;
        let excluded = plan.excluded.as_ref().map(|query| query.weight(unscored)).transpose()?;
        Ok(Some(Self { matching, excluded, is_scored: plan.is_scored }))
    }

    fn count(&self, segment: &SegmentReader, deadline: Instant) -> Result<u64, Stopped> {
        if self.excluded.is_none() {
            return Ok(u64::from(self.matching.count(segment)?));
        }
        let mut count = 0;
        self.visit(segment, deadline, |_, _| count += 1)?;
        Ok(count)
    }

    /// Calls `found` with each document of the segment that matches and its score, or 0.
    fn visit(
        &self,
        segment: &SegmentReader,
        deadline: Instant,
        mut found: impl FnMut(DocId, Score),
    ) -> Result<(), Stopped> {
        let mut scorer = self.matching.scorer(segment, 1.0)?;
        let mut excluded =
            self.excluded.as_ref().map(|weight| weight.scorer(segment, 1.0)).transpose()?;
        let alive = segment.alive_bitset();
        let mut document = scorer.doc();
        let mut until_look = DOCUMENTS_PER_LOOK;
        while document != TERMINATED {
            let is_excluded = excluded.as_mut().is_some_and(|excluded| {
                let at = excluded.doc();
                document == if at < document { excluded.seek(document) } else { at }
            });
            if !is_excluded && alive.is_none_or(|alive| alive.is_alive(document)) {
                found(document, if self.is_scored { scorer.score() } else { 0.0 });
            }
            until_look -= 1;
            if until_look == 0 {
                if Instant::now() >= deadline {
                    return Err(Stopped::Overdue);
                }
                until_look = DOCUMENTS_PER_LOOK;
            }
            document = scorer.advance();
        }
        Ok(())
    }
}
