//! What of all that is written stays.

use super::{count, counts, entry, next, progress, row, search, start, titles, write};
use crate::model::change::{DocumentRow, Position};
use crate::model::search::{
    AggregationField, AggregationQuery, IndexVersion, SearchFilter, SearchQuery, SearchResults,
};
use crate::ports::{IndexProgress, Outcome, SearchIndex};
use crate::{DocumentId, DocumentStatus, Sha256};

pub(super) async fn newer_versions_stay(index: &dyn SearchIndex) {
    let step = "newer versions stay";
    let first = row("first", "ann");
    let second = next(&first, |row| row.title = "second".into());
    let third = next(&second, |row| row.title = "third".into());
    start(index, vec![entry(&second, "second")], step).await;
    let again = DocumentRow { title: "other".to_owned(), ..second.clone() };
    let outcomes = write(
        index,
        vec![entry(&first, "first"), entry(&again, "other"), entry(&row("new", "bob"), "")],
        step,
    )
    .await;
    let expected = [Outcome::AlreadyNewer, Outcome::AlreadyNewer, Outcome::Applied];
    assert_eq!(outcomes, expected, "{step}: outcomes");
    assert_eq!(titles(index, "first second other", step).await, ["second"], "{step}");
    assert_eq!(
        write(index, vec![entry(&third, "third")], step).await,
        [Outcome::Applied],
        "{step}"
    );
    assert_eq!(titles(index, "first second third", step).await, ["third"], "{step}: replaced");
    assert_eq!(count(index, step).await, 2, "{step}: count");
}

pub(super) async fn the_newest_of_a_batch_wins(index: &dyn SearchIndex) {
    let step = "the newest of a batch wins";
    let first = row("word one", "ann");
    let second = next(&first, |row| row.title = "word two".into());
    let third = next(&second, |row| row.title = "word three".into());
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
    let batch = [&second, &third, &first].map(|row| entry(row, "")).to_vec();
    let outcomes = write(index, batch, step).await;
    let expected = [Outcome::AlreadyNewer, Outcome::Applied, Outcome::AlreadyNewer];
    assert_eq!(outcomes, expected, "{step}: outcomes");
    assert_eq!(titles(index, "word", step).await, ["word three"], "{step}");
}

pub(super) async fn deleted_documents_stay_hidden(index: &dyn SearchIndex) {
    let step = "deleted documents stay hidden";
    let live = row("secret plan", "ann");
    let deleted = next(&live, |row| row.deleted = true);
    let other = row("open plan", "ann");
    start(index, vec![entry(&live, "secret"), entry(&other, "open")], step).await;
    let never_seen = next(&row("never seen plan", "zoe"), |row| row.deleted = true);
    let outcomes =
        write(index, vec![entry(&deleted, "secret"), entry(&never_seen, "")], step).await;
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Applied], "{step}: marks are kept");
    // Older versions come late: they must not bring the documents back.
    let late = DocumentRow { version: 1, deleted: false, ..never_seen.clone() };
    let outcomes = write(index, vec![entry(&live, "secret"), entry(&late, "late")], step).await;
    let expected = [Outcome::AlreadyNewer, Outcome::AlreadyNewer];
    assert_eq!(outcomes, expected, "{step}: older versions");
    assert_eq!(titles(index, "secret plan ann zoe late", step).await, ["open plan"], "{step}");
    assert_eq!(titles(index, "-nothing", step).await, ["open plan"], "{step}: exclusion");
    assert_eq!(titles(index, "", step).await, ["open plan"], "{step}: without text");
    assert_eq!(count(index, step).await, 1, "{step}: count");
    for filter in [
        SearchFilter { created_by: Some("zoe".to_owned()), ..SearchFilter::default() },
        SearchFilter { status: Some(DocumentStatus::Created), ..SearchFilter::default() },
    ] {
        let query = SearchQuery { filter, ..SearchQuery::default() };
        let found = search(index, &query, step).await;
        assert!(found.hits.iter().all(|hit| hit.document.id == other.id), "{step}: {query:?}");
    }
}

pub(super) async fn incomplete_rows_are_skipped(index: &dyn SearchIndex) {
    let step = "incomplete rows are skipped";
    let incomplete = DocumentRow { content_sha256: None, s3_key: None, ..row("half", "ann") };
    let complete = DocumentRow {
        content_sha256: Some(Sha256::of(b"whole")),
        s3_key: Some("key".to_owned()),
        ..next(&incomplete, |_| ())
    };
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
    let outcomes = write(index, vec![entry(&incomplete, "")], step).await;
    assert!(matches!(outcomes[..], [Outcome::Skipped(_)]), "{step}: {outcomes:?}");
    assert_eq!(count(index, step).await, 0, "{step}: count");
    assert_eq!(write(index, vec![entry(&complete, "")], step).await, [Outcome::Applied], "{step}");
}

pub(super) async fn replay_and_reordering_give_the_same_index(index: &dyn SearchIndex) {
    let step = "replay and reordering give the same index";
    let mut history = Vec::new();
    for n in 0..8 {
        let mut row = row(&format!("document {n}"), &format!("creator-{}", n % 3));
        for change in 0..4 {
            history.push(entry(&row, &format!("text {n} {change}")));
            row = next(&row, |row| {
                row.status = DocumentStatus::ALL[(n + change) % 3];
                row.deleted = change == 2 && n % 4 == 0;
            });
        }
    }
    start(index, Vec::new(), step).await;
    for part in history.chunks(5) {
        write(index, part.to_vec(), step).await;
    }
    let expected = state(index, step).await;
    assert_eq!(expected.0.total, 6, "{step}: two of eight are deleted");
    for part in history.chunks(7) {
        let outcomes = write(index, part.to_vec(), step).await;
        let is_known = |outcome: &Outcome| *outcome == Outcome::AlreadyNewer;
        assert!(outcomes.iter().all(is_known), "{step}: nothing of a replay is applied");
    }
    assert_eq!(state(index, step).await, expected, "{step}: replay");
    start(index, Vec::new(), step).await;
    for part in history.rchunks(3) {
        write(index, part.to_vec(), step).await;
    }
    for part in history.iter().skip(1).step_by(2) {
        write(index, vec![part.clone()], step).await;
    }
    assert_eq!(state(index, step).await, expected, "{step}: reordering");
}

/// Everything that can be seen of a small index, but for scores, which may vary with its history.
async fn state(index: &dyn SearchIndex, step: &str) -> (SearchResults, Vec<(String, u64)>, u64) {
    let everything = SearchQuery { size: 100, ..SearchQuery::default() };
    let aggregation = AggregationQuery {
        field: AggregationField::CreatedBy,
        text: Some("document".to_owned()),
        filter: SearchFilter::default(),
        size: 100,
    };
    (
        search(index, &everything, step).await,
        counts(index, &aggregation, step).await,
        count(index, step).await,
    )
}

pub(super) async fn the_position_moves_with_the_entries(index: &dyn SearchIndex) {
    let step = "the position moves with the entries";
    start(index, Vec::new(), step).await;
    let first = row("first", "ann");
    let entries = vec![entry(&first, "")];
    write(index, vec![entry(&row("part", "ann"), "")], step).await;
    assert_eq!(progress(index, step).await, IndexProgress::New, "{step}: none given, none there");
    let at = |text: &str| Some(Position::new(text));
    index.write(entries.clone(), at("p1")).await.unwrap_or_else(|e| panic!("{step}: {e:?}"));
    expect_at(index, "p1", &format!("{step}: with an entry")).await;
    index.write(Vec::new(), at("p2")).await.unwrap_or_else(|e| panic!("{step}: {e:?}"));
    expect_at(index, "p2", &format!("{step}: without entries")).await;
    index.write(entries, at("p3")).await.unwrap_or_else(|e| panic!("{step}: {e:?}"));
    expect_at(index, "p3", &format!("{step}: with nothing new")).await;
    write(index, vec![entry(&row("second", "ann"), "")], step).await;
    expect_at(index, "p3", &format!("{step}: none given leaves it")).await;
    let odd = "lsn \"0/16B3748\" {\\} \u{1F980}";
    index.write(Vec::new(), at(odd)).await.unwrap_or_else(|e| panic!("{step}: {e:?}"));
    expect_at(index, odd, &format!("{step}: any text")).await;
}

/// The index is at `position`, or built and none that keeps its position.
pub(super) async fn expect_at(index: &dyn SearchIndex, position: &str, step: &str) {
    let progress = progress(index, step).await;
    let at = IndexProgress::At(Position::new(position));
    assert!(progress == at || progress == IndexProgress::Built, "{step}: {progress:?}");
}

pub(super) async fn versions_come_in_order_of_id(index: &dyn SearchIndex) {
    let step = "versions come in order of id";
    let mut rows: Vec<_> = (0..25).map(|n| row(&format!("title {n}"), "ann")).collect();
    // Written in several parts and not in order; some replaced, some deleted.
    start(index, rows[10..].iter().map(|row| entry(row, "text")).collect(), step).await;
    write(index, rows[..10].iter().rev().map(|row| entry(row, "text")).collect(), step).await;
    for (at, row) in rows.iter_mut().enumerate().filter(|(at, _)| at % 3 == 0) {
        *row = next(row, |row| row.deleted = at % 2 == 0);
        row.version += 40;
    }
    let changed = rows.iter().step_by(3).map(|row| entry(row, "text")).collect();
    write(index, changed, step).await;
    rows.sort_by_key(|row| row.id);
    let expected: Vec<IndexVersion> = rows.iter().map(IndexVersion::from).collect();
    for limit in [1, 7, 25, 100] {
        let mut seen: Vec<IndexVersion> = Vec::new();
        loop {
            let after = seen.last().map(|last| last.id);
            let page = index.versions(after, limit).await;
            let page = page.unwrap_or_else(|e| panic!("{step}: versions: {e:?}"));
            assert!(page.len() <= limit as usize, "{step}: a page of {limit}");
            let is_last = page.len() < limit as usize;
            seen.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(seen, expected, "{step}: pages of {limit}");
    }
    let unknown = DocumentId::generate();
    let ids = [rows[3].id, unknown, rows[4].id, rows[6].id];
    let known = index.versions_of(&ids).await;
    let mut known = known.unwrap_or_else(|e| panic!("{step}: versions of: {e:?}"));
    known.sort();
    assert_eq!(known, [expected[3], expected[4], expected[6]], "{step}: of some");
    // What is written is seen before anything is refreshed.
    let newer = next(&rows[4], |_| ());
    let written = index.write(vec![entry(&newer, "text")], None).await;
    assert_eq!(written.ok(), Some(vec![Outcome::Applied]), "{step}: written");
    let known = index.versions_of(&[newer.id]).await;
    assert_eq!(known.ok(), Some(vec![IndexVersion::from(&newer)]), "{step}: at once");
    assert_eq!(index.versions_of(&[]).await.ok(), Some(Vec::new()), "{step}: of none");
}

pub(super) async fn clearing_removes_everything(index: &dyn SearchIndex) {
    let step = "clearing removes everything";
    let live = row("live", "ann");
    let deleted = next(&row("gone", "ann"), |row| row.deleted = true);
    let entries = vec![entry(&live, "text"), entry(&deleted, "")];
    index
        .write(entries.clone(), Some(Position::new("p1")))
        .await
        .unwrap_or_else(|e| panic!("{step}: {e:?}"));
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
    assert_eq!(progress(index, step).await, IndexProgress::New, "{step}: progress");
    assert_eq!(count(index, step).await, 0, "{step}: count");
    assert!(titles(index, "live text", step).await.is_empty(), "{step}: search");
    let outcomes = write(index, entries, step).await;
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Applied], "{step}: marks are gone too");
    assert_eq!(titles(index, "live", step).await, ["live"], "{step}: it can be filled again");
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
}
