//! The best documents with any of some words, without a score for each that has one.
//!
//! Of the documents that have a common word, most are nowhere near the best. Tantivy passes over whole
//! blocks of them by [block-max WAND](https://doi.org/10.1145/2009916.2010048); how many there are is
//! counted apart, which takes no scores.
//!
//! The last bits of the scores by which it picks candidates depend on the order in which it comes upon
//! the words. So each candidate is scored once more, word by word in the order of the query: hits then
//! come in one order, whichever page of them is asked for.

use std::time::Instant;

use tantivy::query::{EnableScoring, Scorer, Weight};
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentOrdinal, SegmentReader};

use super::best::{Best, Found};
use super::collect::Stopped;
use super::query::Plan;
use super::schema::Ids;

/// A plan that matches any of some terms, tied to the segments of one searcher.
pub(super) struct Union {
    counting: Box<dyn Weight>,
    pruning: Box<dyn Weight>,
    terms: Vec<Box<dyn Weight>>,
}

impl Union {
    /// None if the plan isn't such a union.
    pub(super) fn new(searcher: &Searcher, plan: &Plan) -> tantivy::Result<Option<Self>> {
        let (Some(query), Some(terms)) = (&plan.query, &plan.union) else { return Ok(None) };
        let scored = EnableScoring::enabled_from_searcher(searcher);
        Ok(Some(Self {
            counting: query.weight(EnableScoring::disabled_from_searcher(searcher))?,
            pruning: query.weight(scored)?,
            terms: terms.iter().map(|term| term.weight(scored)).collect::<tantivy::Result<_>>()?,
        }))
    }

    /// How many documents match, and the best `limit` of them.
    pub(super) fn top(
        &self,
        searcher: &Searcher,
        limit: usize,
        deadline: Instant,
    ) -> Result<(u64, Vec<Found>), Stopped> {
        let mut total = 0;
        let mut best = Best::new(limit);
        for (ordinal, segment) in (0..).zip(searcher.segment_readers()) {
            if Instant::now() >= deadline {
                return Err(Stopped::Overdue);
            }
            total += u64::from(self.counting.count(segment)?);
            self.offer(ordinal, segment, &mut best)?;
        }
        Ok((total, best.finish()))
    }

    fn offer(
        &self,
        ordinal: SegmentOrdinal,
        segment: &SegmentReader,
        best: &mut Best,
    ) -> tantivy::Result<()> {
        let ids = Ids::open(segment)?;
        let alive = segment.alive_bitset();
        let mut exact = Exact { terms: &self.terms, segment, scorers: Vec::new() };
        let mut failed = None;
        let bound = best.score_to_exceed();
        let mut offer = |document, _| {
            if alive.is_none_or(|alive| alive.is_alive(document)) {
                match exact.score(document) {
                    Ok(score) => best.offer(score, DocAddress::new(ordinal, document), &ids),
                    Err(error) => failed = Some(error),
                }
            }
            // Nothing exceeds it after a failure.
            if failed.is_some() { Score::MAX } else { best.score_to_exceed() }
        };
        self.pruning.for_each_pruning(bound, segment, &mut offer)?;
        failed.map_or(Ok(()), Err)
    }
}

/// Scores documents of one segment, by rising number.
struct Exact<'a> {
    terms: &'a [Box<dyn Weight>],
    segment: &'a SegmentReader,
    /// Made for the first document.
    scorers: Vec<Box<dyn Scorer>>,
}

impl Exact<'_> {
    fn score(&mut self, document: DocId) -> tantivy::Result<Score> {
        if self.scorers.is_empty() {
            let scorers = self.terms.iter().map(|term| term.scorer(self.segment, 1.0));
            self.scorers = scorers.collect::<tantivy::Result<_>>()?;
        }
        let mut score = 0.0;
        for scorer in &mut self.scorers {
            let at = scorer.doc();
            if document == if at < document { scorer.seek(document) } else { at } {
                score += scorer.score();
            }
        }
        Ok(score)
    }
}
