//! What every [`SearchIndex`] does.

mod finding;
mod keeping;
mod staging;

use time::Duration;
use time::macros::datetime;

use crate::model::change::DocumentRow;
use crate::model::search::{AggregationQuery, IndexEntry, SearchQuery, SearchResults};
use crate::ports::{IndexProgress, Outcome, SearchIndex};
use crate::{DocumentId, DocumentStatus, Sha256};

/// Runs every step. The index is emptied, more than once.
///
/// # Panics
/// With the name of the step that fails.
pub async fn suite(index: &dyn SearchIndex) {
    finding::a_new_index_has_nothing(index).await;
    finding::what_is_written_is_found(index).await;
    finding::words_are_found_whatever_their_spelling(index).await;
    finding::phrases_and_exclusions_are_exact(index).await;
    finding::filters_are_exact(index).await;
    finding::better_matches_come_first(index).await;
    finding::ties_come_newest_first_and_pages_do_not_overlap(index).await;
    finding::without_text_everything_comes_newest_first(index).await;
    finding::highlights_mark_and_escape(index).await;
    finding::matches_far_inside_a_text_are_shown(index).await;
    finding::hostile_texts_are_only_texts(index).await;
    finding::bounds_are_checked(index).await;
    finding::values_are_counted_exactly(index).await;
    keeping::newer_versions_stay(index).await;
    keeping::the_newest_of_a_batch_wins(index).await;
    keeping::deleted_documents_stay_hidden(index).await;
    keeping::incomplete_rows_are_skipped(index).await;
    keeping::replay_and_reordering_give_the_same_index(index).await;
    keeping::the_position_moves_with_the_entries(index).await;
    keeping::versions_come_in_order_of_id(index).await;
    keeping::clearing_removes_everything(index).await;
    staging::a_staged_index_takes_the_place_of_the_live_one(index).await;
    staging::what_is_staged_is_gone_on_with(index).await;
}

/// A row of version 1 with a new id.
fn row(title: &str, created_by: &str) -> DocumentRow {
    let id = DocumentId::generate();
    let at = datetime!(2026-01-02 03:04:05.678901 UTC);
    DocumentRow {
        id,
        title: title.to_owned(),
        content_type: "text/plain".to_owned(),
        content_size: 5,
        content_sha256: Some(Sha256::of(id.as_uuid().as_bytes())),
        s3_key: Some(format!("{id}/content")),
        status: DocumentStatus::Created,
        created_by: created_by.to_owned(),
        created_at: at,
        updated_at: at,
        version: 1,
        deleted: false,
    }
}

fn entry(row: &DocumentRow, text: &str) -> IndexEntry {
    IndexEntry { row: row.clone(), text: text.to_owned() }
}

/// The next version of a row.
fn next(row: &DocumentRow, change: impl FnOnce(&mut DocumentRow)) -> DocumentRow {
    let mut row = row.clone();
    row.version += 1;
    row.updated_at += Duration::seconds(1);
    change(&mut row);
    row
}

async fn start(index: &dyn SearchIndex, entries: Vec<IndexEntry>, step: &str) {
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
    let expected = vec![Outcome::Applied; entries.len()];
    assert_eq!(write(index, entries, step).await, expected, "{step}: write");
}

async fn write(index: &dyn SearchIndex, entries: Vec<IndexEntry>, step: &str) -> Vec<Outcome> {
    let outcomes =
        index.write(entries, None).await.unwrap_or_else(|e| panic!("{step}: write: {e:?}"));
    index.refresh().await.unwrap_or_else(|e| panic!("{step}: refresh: {e:?}"));
    outcomes
}

fn query(text: &str) -> SearchQuery {
    SearchQuery { text: Some(text.to_owned()), size: 100, ..SearchQuery::default() }
}

async fn search(index: &dyn SearchIndex, query: &SearchQuery, step: &str) -> SearchResults {
    index.search(query).await.unwrap_or_else(|e| panic!("{step}: search for {query:?}: {e:?}"))
}

/// Titles of what is found, best first.
async fn titles(index: &dyn SearchIndex, text: &str, step: &str) -> Vec<String> {
    let found = search(index, &query(text), step).await;
    assert_eq!(found.total, found.hits.len() as u64, "{step}: total of {text:?}");
    found.hits.into_iter().map(|hit| hit.document.title).collect()
}

/// Titles of what is found, in alphabetical order.
async fn sorted_titles(index: &dyn SearchIndex, text: &str, step: &str) -> Vec<String> {
    let mut titles = titles(index, text, step).await;
    titles.sort();
    titles
}

async fn counts(
    index: &dyn SearchIndex,
    query: &AggregationQuery,
    step: &str,
) -> Vec<(String, u64)> {
    let buckets =
        index.aggregate(query).await.unwrap_or_else(|e| panic!("{step}: aggregate: {e:?}"));
    buckets.into_iter().map(|bucket| (bucket.key, bucket.count)).collect()
}

async fn count(index: &dyn SearchIndex, step: &str) -> u64 {
    index.count().await.unwrap_or_else(|e| panic!("{step}: count: {e:?}"))
}

async fn progress(index: &dyn SearchIndex, step: &str) -> IndexProgress {
    index.progress().await.unwrap_or_else(|e| panic!("{step}: progress: {e:?}"))
}
