//! A search index in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::model::DocumentId;
use crate::model::change::{DocumentRow, Position};
use crate::model::highlight::{FragmentLimits, Highlighter};
use crate::model::search::{
    AggregationField, AggregationQuery, Bucket, Highlights, IndexEntry, IndexVersion, SearchFilter,
    SearchHit, SearchQuery, SearchResults,
};
use crate::model::text_query::{Phrase, TextQuery};
use crate::model::words::normalized;
use crate::ports::{IndexProgress, Outcome, SearchIndex, StagedIndex, rebuild_running};
use crate::{Error, Result, validate};

/// A search index in memory, by the same rules as the real ones. A search looks at every document.
///
/// It can be built beside itself: what is staged is kept when its [`StagedIndex`] is dropped, and
/// gone on with.
#[derive(Debug, Default)]
pub struct InMemorySearchIndex {
    state: Arc<Mutex<State>>,
    unavailable: Arc<AtomicBool>,
    /// What is built beside it, and whether somebody builds.
    staged: Mutex<Option<Arc<Staged>>>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<DocumentId, Indexed>,
    position: Option<Position>,
}

/// What is built beside an index. Somebody is building while there is another handle to it.
#[derive(Debug)]
struct Staged {
    live: Arc<Mutex<State>>,
    index: Arc<InMemorySearchIndex>,
    /// It is promoted or discarded.
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Indexed {
    entry: IndexEntry,
    /// Words of title, creator and content with the weight of each field; none of a deleted row.
    fields: [(f32, Vec<String>); 3],
}

impl Indexed {
    fn new(entry: IndexEntry) -> Self {
        let words = |text: &str| {
            if entry.row.deleted { Vec::new() } else { normalized(text).collect() }
        };
        let fields = [
            (3.0, words(&entry.row.title)),
            (1.0, words(&entry.row.created_by)),
            (1.0, words(&entry.text)),
        ];
        Self { entry, fields }
    }

    fn meets(&self, filter: &SearchFilter) -> bool {
        let row = &self.entry.row;
        !row.deleted
            && filter.status.is_none_or(|status| status == row.status)
            && filter.created_by.as_ref().is_none_or(|creator| *creator == row.created_by)
            && filter
                .content_type
                .as_ref()
                .is_none_or(|content_type| *content_type == row.content_type)
    }

    /// How well the document matches; none if it doesn't.
    fn score(&self, query: &TextQuery) -> Option<f32> {
        if query.is_empty() || query.none.iter().any(|phrase| self.weigh(phrase) > 0.0) {
            return None;
        }
        // Not a sum, which is -0 of nothing.
        let any = query.any.iter().fold(0.0, |score, phrase| score + self.weigh(phrase));
        if query.all.is_empty() && !query.any.is_empty() && any <= 0.0 {
            return None;
        }
        query.all.iter().try_fold(any, |score, phrase| {
            let weight = self.weigh(phrase);
            (weight > 0.0).then_some(score + weight)
        })
    }

    /// More for each occurrence, but less and less; 0 if there is none.
    fn weigh(&self, phrase: &Phrase) -> f32 {
        self.fields
            .iter()
            .map(|(weight, words)| {
                let count = words.windows(phrase.len()).filter(|window| window == phrase).count();
                let count = f32::from(u16::try_from(count).unwrap_or(u16::MAX));
                weight * count / (count + 1.2)
            })
            .sum()
    }
}

impl InMemorySearchIndex {
    /// An empty index without a position.
    pub fn new() -> Self {
        Self::default()
    }

    /// While false, every call fails with `Unavailable` and has no effect; those to what is staged
    /// too.
    pub fn set_available(&self, available: bool) {
        self.unavailable.store(!available, Ordering::Relaxed);
    }

    /// The row and text it has of a document, deleted or not.
    pub fn entry(&self, id: DocumentId) -> Option<IndexEntry> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entries.get(&id).map(|indexed| indexed.entry.clone())
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        if self.unavailable.load(Ordering::Relaxed) {
            return Err(Error::unavailable("search", "the index is made unavailable"));
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// What a search finds and how well it matches, newest first.
    fn find<'a>(
        &'a self,
        text: Option<&'a TextQuery>,
        filter: &'a SearchFilter,
    ) -> impl Iterator<Item = (&'a Indexed, f32)> {
        self.entries.values().rev().filter(|indexed| indexed.meets(filter)).filter_map(
            move |indexed| match text {
                Some(query) => indexed.score(query).map(|score| (indexed, score)),
                None => Some((indexed, 0.0)),
            },
        )
    }
}

#[async_trait]
impl SearchIndex for InMemorySearchIndex {
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults> {
        validate::search(query)?;
        let state = self.state()?;
        let text = query.text.as_deref().and_then(TextQuery::parse);
        let mut found: Vec<_> = state.find(text.as_ref(), &query.filter).collect();
        // A stable sort: ties stay newest first.
        found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let highlighter = text.as_ref().map(Highlighter::new);
        let hits = found
            .iter()
            .skip(query.from as usize)
            .take(query.size as usize)
            .filter_map(|(indexed, score)| hit(&indexed.entry, *score, highlighter.as_ref()))
            .collect();
        Ok(SearchResults { total: found.len() as u64, hits })
    }

    async fn aggregate(&self, query: &AggregationQuery) -> Result<Vec<Bucket>> {
        validate::aggregation(query)?;
        let state = self.state()?;
        let text = query.text.as_deref().and_then(TextQuery::parse);
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for (indexed, _) in state.find(text.as_ref(), &query.filter) {
            *counts.entry(value(&indexed.entry.row, query.field)).or_default() += 1;
        }
        let mut buckets: Vec<_> =
            counts.into_iter().map(|(key, count)| Bucket { key: key.to_owned(), count }).collect();
        buckets.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        buckets.truncate(query.size as usize);
        Ok(buckets)
    }

    async fn write(
        &self,
        entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        let mut state = self.state()?;
        let newest = IndexEntry::newest_of_each(&entries);
        let outcomes = entries
            .into_iter()
            .zip(newest)
            .map(|(mut entry, newest)| {
                if entry.row.is_incomplete() {
                    return Outcome::Skipped("incomplete");
                }
                let id = entry.row.id;
                let present = state.entries.get(&id).map(|present| present.entry.row.version);
                if !newest || present.is_some_and(|present| present >= entry.row.version) {
                    return Outcome::AlreadyNewer;
                }
                if entry.row.deleted {
                    entry.text = String::new();
                }
                state.entries.insert(id, Indexed::new(entry));
                Outcome::Applied
            })
            .collect();
        if up_to.is_some() {
            state.position = up_to;
        }
        Ok(outcomes)
    }

    async fn refresh(&self) -> Result<()> {
        self.state().map(drop)
    }

    async fn progress(&self) -> Result<IndexProgress> {
        Ok(self.state()?.position.clone().map_or(IndexProgress::New, IndexProgress::At))
    }

    async fn versions(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<IndexVersion>> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state()?;
        let entries = state.entries.range((after, Bound::Unbounded)).take(limit as usize);
        Ok(entries.map(|(_, indexed)| (&indexed.entry.row).into()).collect())
    }

    async fn versions_of(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>> {
        let state = self.state()?;
        let known = ids.iter().filter_map(|id| state.entries.get(id));
        Ok(known.map(|indexed| (&indexed.entry.row).into()).collect())
    }

    async fn stage(&self) -> Result<Option<Arc<dyn StagedIndex>>> {
        drop(self.state()?);
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = staged.take().filter(|begun| !begun.is_over.load(Ordering::Relaxed));
        let begun = begun.unwrap_or_else(|| {
            let index = Self { unavailable: Arc::clone(&self.unavailable), ..Self::default() };
            let live = Arc::clone(&self.state);
            Arc::new(Staged { live, index: Arc::new(index), is_over: AtomicBool::new(false) })
        });
        let is_free = Arc::strong_count(&begun) == 1;
        *staged = Some(Arc::clone(&begun));
        if is_free { Ok(Some(begun)) } else { Err(rebuild_running()) }
    }

    async fn clear(&self) -> Result<()> {
        *self.state()? = State::default();
        Ok(())
    }

    async fn count(&self) -> Result<u64> {
        let state = self.state()?;
        Ok(state.find(None, &SearchFilter::default()).count() as u64)
    }

    async fn check(&self) -> Result<()> {
        self.state().map(drop)
    }
}

#[async_trait]
impl StagedIndex for Staged {
    fn index(&self) -> Arc<dyn SearchIndex> {
        Arc::clone(&self.index) as Arc<dyn SearchIndex>
    }

    async fn keep(&self) -> Result<()> {
        self.index.state().map(drop)
    }

    async fn promote(&self, up_to: Position) -> Result<()> {
        let mut built = std::mem::take(&mut *self.index.state()?);
        built.position = Some(up_to);
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = built;
        self.is_over.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn discard(&self) -> Result<()> {
        *self.index.state()? = State::default();
        self.is_over.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn hit(entry: &IndexEntry, score: f32, highlighter: Option<&Highlighter>) -> Option<SearchHit> {
    let document = entry.row.clone().into_document()?;
    let highlights = highlighter.map_or_else(Highlights::default, |highlighter| Highlights {
        title: highlighter.whole(&document.title).into_iter().collect(),
        content: highlighter.fragments(&entry.text, FragmentLimits::default()),
    });
    Some(SearchHit { document, score, highlights })
}

fn value(row: &DocumentRow, field: AggregationField) -> &str {
    match field {
        AggregationField::Status => row.status.as_str(),
        AggregationField::CreatedBy => &row.created_by,
        AggregationField::ContentType => &row.content_type,
    }
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{ErrorKind, conformance};

    #[test]
    fn passes_the_suite() {
        let index = InMemorySearchIndex::new();
        let done = conformance::index::suite(&index).now_or_never();
        assert!(done.is_some(), "nothing in memory has to be waited for");
    }

    #[test]
    fn an_unavailable_index_says_so_and_comes_back() {
        let index = InMemorySearchIndex::new();
        index.set_available(false);
        let error = index.check().now_or_never().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        index.set_available(true);
        assert!(index.check().now_or_never().unwrap().is_ok());
    }
}
