//! The best of what is found, in a total order.

use tantivy::{DocAddress, Score};

use super::schema::Ids;

/// A document that matched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) score: Score,
    pub(super) address: DocAddress,
}

/// Order of hits; the greater comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Bits of a score that isn't negative order like the score.
    score: u32,
    id_high: u64,
    id_low: u64,
}

/// Keeps the best of what it is offered, in time that hardly depends on how many it keeps: up to
/// twice as many are gathered before the worse half is dropped.
pub(super) struct Best {
    limit: usize,
    gathered: Vec<(Rank, DocAddress)>,
    /// What a hit must outrank to be among the best so far.
    threshold: Option<Rank>,
}

impl Best {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, gathered: Vec::with_capacity(limit.min(1_024) * 2), threshold: None }
    }

    pub(super) fn offer(&mut self, score: Score, address: DocAddress, ids: &Ids) {
        let score = score.max(0.0).to_bits();
        let Some(threshold) = self.threshold else {
            let (id_high, id_low) = (ids.high(address.doc_id), ids.low(address.doc_id));
            return self.gather(Rank { score, id_high, id_low }, address);
        };
        // Most are ruled out before their id is read.
        if score < threshold.score {
            return;
        }
        let id_high = ids.high(address.doc_id);
        if (score, id_high) < (threshold.score, threshold.id_high) {
            return;
        }
        let rank = Rank { score, id_high, id_low: ids.low(address.doc_id) };
        if rank > threshold {
            self.gather(rank, address);
        }
    }

    /// A score that a hit must exceed to be among the best so far, as far as scores tell: a little less
    /// than that of the worst of them, since a hit with the same score and a higher id is better,
    /// and since sums of the same numbers differ in the last bits by their order.
    pub(super) fn score_to_exceed(&self) -> Score {
        self.threshold.map_or(Score::MIN, |worst| {
            Score::from_bits(worst.score) * (1.0 - 1e-5) - Score::MIN_POSITIVE
        })
    }

    fn gather(&mut self, rank: Rank, address: DocAddress) {
        self.gathered.push((rank, address));
        if self.gathered.len() >= self.limit.saturating_mul(2).max(self.limit + 1) {
            self.drop_worse();
        }
    }

    fn drop_worse(&mut self) {
        if let Some(last) = self.limit.checked_sub(1).filter(|last| *last < self.gathered.len()) {
            let (_, worst, _) =
                self.gathered.select_nth_unstable_by(last, |(a, _), (b, _)| b.cmp(a));
            self.threshold = Some(worst.0);
        }
        self.gathered.truncate(self.limit);
    }

    pub(super) fn finish(mut self) -> Vec<Found> {
        self.drop_worse();
        self.gathered.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let found = |(rank, address): (Rank, DocAddress)| Found {
            score: Score::from_bits(rank.score),
            address,
        };
        self.gathered.into_iter().map(found).collect()
    }
}
