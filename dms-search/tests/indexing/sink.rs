//! What the sink makes of changes.

use std::sync::atomic::Ordering;

use dms_core::model::change::{Change, DocumentRow, Operation, Position, RowChange, SignatureRow};
use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{ChangeSink as _, Outcome};
use dms_core::{DocumentId, DocumentStatus, Sha256, SignatureId};
use dms_search::IndexingOptions;

use crate::support::{change, next, world, world_with};

#[tokio::test]
async fn documents_are_found_by_the_text_of_their_content() {
    let world = world();
    let plain = world.row("plain", "text/plain; charset=utf-8", "harbour");
    let html = world.row("html", "text/html", "<p title='hidden'>harb&#111;ur</p>");
    let markdown = world.row("markdown", "text/markdown", "**har**bour");
    let image = world.row("image", "image/png", "harbour");
    let outcomes = world.apply(&[&plain, &html, &markdown, &image], "p1").await;
    assert_eq!(outcomes, [const { Outcome::Applied }; 4]);
    let mut titles = world.titles("harbour").await;
    titles.sort();
    assert_eq!(titles, ["html", "markdown", "plain"]);
    assert!(world.titles("hidden").await.is_empty());
    assert_eq!(world.titles("image").await, ["image"]);
    assert_eq!(world.position().await.as_deref(), Some("p1"));
}

#[tokio::test]
async fn texts_are_read_in_one_query_and_content_only_once() {
    let world = world();
    let rows: Vec<_> =
        (0..5).map(|n| world.row("title", "text/plain", &format!("text {n}"))).collect();
    // The same content again needs no read of its own.
    let twin = DocumentRow { id: DocumentId::generate(), ..rows[0].clone() };
    let all: Vec<_> = rows.iter().chain([&twin]).collect();
    world.apply(&all, "p1").await;
    assert_eq!(world.reads(), (1, 5));
    let signed: Vec<_> =
        all.iter().map(|row| next(row, |row| row.status = DocumentStatus::Signed)).collect();
    world.apply(&signed.iter().collect::<Vec<_>>(), "p2").await;
    assert_eq!(world.reads(), (2, 5), "a status change never touches the content");
    assert_eq!(world.titles("\"text 0\"").await.len(), 2);
}

#[tokio::test]
async fn a_text_written_with_the_document_is_taken_as_it_is() {
    let world = world();
    let row = world.row("title", "text/plain", "content");
    let key = TextKey { content_sha256: Sha256::of(b"content"), format: TextFormat::Plain };
    world.texts.kept.lock().unwrap().insert(key, "kept words".to_owned());
    world.apply(&[&row], "p1").await;
    assert_eq!(world.titles("kept").await, ["title"]);
    assert_eq!(world.reads(), (1, 0));
}

#[tokio::test]
async fn what_is_not_for_the_index_is_skipped_and_the_position_moves() {
    let world = world();
    let row = world.row("title", "text/plain", "content");
    let no_key = DocumentRow { s3_key: None, ..row.clone() };
    let no_digest = DocumentRow { content_sha256: None, ..row.clone() };
    let signature = SignatureRow {
        id: SignatureId::generate(),
        document_id: row.id,
        signer_email: "ann@example.org".to_owned(),
        signer_name: "Ann".to_owned(),
        created_at: row.created_at,
    };
    let signature = Change {
        row: RowChange::Signature { before: None, after: Some(signature) },
        ..change(&row)
    };
    let nothing = Change { row: RowChange::Document { before: None, after: None }, ..change(&row) };
    let changes = [change(&no_key), change(&no_digest), signature, nothing];
    let outcomes = world.sink.apply(&changes, &Position::new("p1")).await.unwrap();
    let expected = ["incomplete", "incomplete", "signature", "no row"].map(Outcome::Skipped);
    assert_eq!(outcomes, expected);
    assert_eq!(world.position().await.as_deref(), Some("p1"));
    assert_eq!(world.reads(), (0, 0));
    assert_eq!(world.sink.name(), "search-index");
}

#[tokio::test]
async fn only_the_newest_version_of_a_batch_is_indexed() {
    let world = world();
    let first = world.row("first", "text/plain", "content");
    let second = next(&first, |row| row.title = "second".to_owned());
    let third = next(&second, |row| row.title = "third".to_owned());
    let outcomes = world.apply(&[&first, &third, &second], "p1").await;
    let expected = [Outcome::AlreadyNewer, Outcome::Applied, Outcome::AlreadyNewer];
    assert_eq!(outcomes, expected);
    assert_eq!(world.titles("content").await, ["third"]);
    let replay = world.apply(&[&first, &second, &third], "p2").await;
    assert_eq!(replay, [const { Outcome::AlreadyNewer }; 3]);
}

#[tokio::test]
async fn deleted_and_removed_rows_disappear_without_reading_their_text() {
    let world = world();
    let one = world.row("one", "text/plain", "content");
    let two = world.row("two", "text/plain", "content");
    world.apply(&[&one, &two], "p1").await;
    let before = world.reads();
    let deleted = next(&one, |row| {
        row.deleted = true;
        row.s3_key = None;
    });
    let removed = Change {
        operation: Operation::Delete,
        row: RowChange::Document { before: Some(two.clone()), after: None },
        ..change(&two)
    };
    let changes = [change(&deleted), removed];
    let outcomes = world.sink.apply(&changes, &Position::new("p2")).await.unwrap();
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Applied]);
    assert!(world.titles("content").await.is_empty());
    assert_eq!(world.reads(), before);
}

#[tokio::test]
async fn content_out_of_reach_is_tried_again_and_holds_the_position() {
    let world = world();
    let near = world.row("near", "text/plain", "near content");
    let far = world.row("far", "text/plain", "far content");
    let key = far.s3_key.clone().unwrap();
    world.contents.unreachable.lock().unwrap().insert(key);
    let outcomes = world.apply(&[&near, &far], "p1").await;
    assert!(matches!(&outcomes[..], [Outcome::Applied, Outcome::Retry(_)]), "{outcomes:?}");
    assert_eq!(world.titles("content").await, ["near"]);
    assert_eq!(world.position().await, None, "the position covers only what is applied");
    world.contents.unreachable.lock().unwrap().clear();
    assert_eq!(world.apply(&[&far], "p1").await, [Outcome::Applied]);
    assert_eq!(world.titles("far").await, ["far"]);
    assert_eq!(world.position().await.as_deref(), Some("p1"));
}

#[tokio::test]
async fn without_the_texts_or_the_index_the_whole_batch_fails() {
    let world = world();
    let row = world.row("title", "text/plain", "content");
    world.texts.is_down.store(true, Ordering::SeqCst);
    let error = world.sink.apply(&[change(&row)], &Position::new("p1")).await.unwrap_err();
    assert!(error.is_retryable());
    world.texts.is_down.store(false, Ordering::SeqCst);
    world.index.set_available(false);
    let error = world.sink.apply(&[change(&row)], &Position::new("p1")).await.unwrap_err();
    assert!(error.is_retryable());
    world.index.set_available(true);
    assert_eq!(world.position().await, None);
}

#[tokio::test]
async fn texts_that_can_not_be_kept_are_indexed_nevertheless() {
    let world = world();
    world.texts.is_read_only.store(true, Ordering::SeqCst);
    let row = world.row("title", "text/plain", "content");
    assert_eq!(world.apply(&[&row], "p1").await, [Outcome::Applied]);
    assert_eq!(world.titles("content").await, ["title"]);
}

#[tokio::test]
async fn bounds_hold_for_content_text_reads_and_batches() {
    let world = world_with(IndexingOptions {
        text_bytes_max: 10,
        content_bytes_max: 20,
        reads_max: 2,
        batch_text_bytes_max: 25,
    });
    let rows: Vec<_> = (10..19)
        .map(|n| {
            world.row(&format!("title {n}"), "text/plain", &format!("first{n} second{n} third{n}"))
        })
        .collect();
    let outcomes = world.apply(&rows.iter().collect::<Vec<_>>(), "p1").await;
    assert_eq!(outcomes, vec![Outcome::Applied; 9]);
    assert_eq!(world.titles("first12").await, ["title 12"]);
    assert!(world.titles("second12").await.is_empty(), "text is cut");
    assert_eq!(world.contents.reading_max.load(Ordering::SeqCst), 2);
    assert_eq!(world.reads().0, 5, "two texts of ten bytes fit into a part");
    assert_eq!(world.position().await.as_deref(), Some("p1"));
}
