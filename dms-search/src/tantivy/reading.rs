//! Searches and counts, on a blocking thread.

use std::time::Instant;

use dms_core::model::highlight::{FragmentLimits, Highlighter};
use dms_core::model::search::{
    AggregationQuery, Bucket, Highlights, SearchFilter, SearchHit, SearchQuery, SearchResults,
};
use dms_core::model::text_query::TextQuery;
use dms_core::{Error, Result};
use tantivy::{Searcher, TantivyDocument};

use super::Shared;
use super::best::Found;
use super::collect::{self, Stopped};
use super::error::{failed, overdue};
use super::query::plan;

/// How many bytes of text are looked through for the fragments of one page.
const PAGE_SCAN_BYTES_MAX: usize = 8 << 20;

impl Shared {
    pub(super) fn search(&self, query: &SearchQuery, deadline: Instant) -> Result<SearchResults> {
        let text = query.text.as_deref().and_then(TextQuery::parse);
        let plan = plan(&self.fields, text.as_ref(), &query.filter);
        let searcher = self.reader.searcher();
        let (from, size) = (query.from as usize, query.size as usize);
        let limit = if size == 0 { 0 } else { from + size };
        let (total, found) = collect::top(&searcher, &plan, limit, deadline).map_err(stopped)?;
        let page = found.get(from..).unwrap_or_default();
        let highlighter = text.filter(TextQuery::is_scored).map(|text| Highlighter::new(&text));
        let hits = self.hits(&searcher, page, highlighter.as_ref(), deadline)?;
        Ok(SearchResults { total, hits })
    }

    pub(super) fn aggregate(
        &self,
        query: &AggregationQuery,
        deadline: Instant,
    ) -> Result<Vec<Bucket>> {
        let text = query.text.as_deref().and_then(TextQuery::parse);
        let mut plan = plan(&self.fields, text.as_ref(), &query.filter);
        plan.is_scored = false;
        let searcher = self.reader.searcher();
        collect::values(&searcher, &plan, query.field, query.size as usize, deadline)
            .map_err(stopped)
    }

    pub(super) fn count(&self, deadline: Instant) -> Result<u64> {
        let plan = plan(&self.fields, None, &SearchFilter::default());
        collect::count(&self.reader.searcher(), &plan, deadline).map_err(stopped)
    }

    /// Whether the files are still there.
    pub(super) fn check(&self) -> Result<()> {
        self.index.load_metas().map_err(failed("index metadata can't be read")).map(drop)
    }

    fn hits(
        &self,
        searcher: &Searcher,
        page: &[Found],
        highlighter: Option<&Highlighter>,
        deadline: Instant,
    ) -> Result<Vec<SearchHit>> {
        let mut scan_bytes_left = PAGE_SCAN_BYTES_MAX;
        page.iter()
            .map(|found| {
                if Instant::now() >= deadline {
                    return Err(overdue());
                }
                let stored: TantivyDocument =
                    searcher.doc(found.address).map_err(failed("document can't be read"))?;
                let (document, text) = self.fields.hit(&stored)?;
                let highlights = match highlighter {
                    Some(highlighter) => {
                        let limits = FragmentLimits::default();
                        let scan_bytes_max = limits.scan_bytes_max.min(scan_bytes_left);
                        scan_bytes_left = scan_bytes_left.saturating_sub(text.len());
                        let limits = FragmentLimits { scan_bytes_max, ..limits };
                        Highlights {
                            title: highlighter.whole(&document.title).into_iter().collect(),
                            content: highlighter.fragments(text, limits),
                        }
                    }
                    None => Highlights::default(),
                };
                Ok(SearchHit { document, score: found.score, highlights })
            })
            .collect()
    }
}

fn stopped(stopped: Stopped) -> Error {
    match stopped {
        Stopped::Overdue => overdue(),
        Stopped::Failed(error) => failed("index can't be searched")(error),
    }
}
