//! What an index does that can be built beside itself; nothing is asked of one that can't.

use std::sync::Arc;

use super::keeping::expect_at;
use super::{entry, next, row, start, titles, write};
use crate::model::change::Position;
use crate::ports::{Outcome, REBUILD_RUNNING, SearchIndex, StagedIndex};

pub(super) async fn a_staged_index_takes_the_place_of_the_live_one(index: &dyn SearchIndex) {
    let step = "a staged index takes the place of the live one";
    let (stale, live, gone) = (row("stale", "ann"), row("live", "ann"), row("gone", "ann"));
    let entries = [&stale, &live, &gone].map(|row| entry(row, "text")).to_vec();
    start(index, entries, step).await;
    let Some(staged) = stage(index, step).await else { return };
    let building = staged.index();
    let refused = index.stage().await.err().map(|error| error.code());
    assert_eq!(refused, Some(REBUILD_RUNNING), "{step}: one builds at a time");
    let newer = next(&live, |row| row.title = "newer".into());
    let deleted = next(&gone, |row| row.deleted = true);
    let outcomes = write(&*building, vec![entry(&live, "text"), entry(&deleted, "")], step).await;
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Applied], "{step}: it is empty at first");
    staged.keep().await.unwrap_or_else(|e| panic!("{step}: keep: {e:?}"));
    assert_eq!(titles(index, "text", step).await.len(), 3, "{step}: the live one serves on");
    write(index, vec![entry(&newer, "text")], step).await;
    assert_eq!(titles(index, "newer", step).await, ["newer"], "{step}: and takes changes");
    assert!(titles(&*building, "newer", step).await.is_empty(), "{step}: which are its own");
    write(&*building, vec![entry(&newer, "text")], step).await;
    staged.promote(Position::new("p9")).await.unwrap_or_else(|e| panic!("{step}: promote: {e:?}"));
    assert_eq!(titles(index, "text", step).await, ["newer"], "{step}: promoted");
    expect_at(index, "p9", step).await;
    let outcomes = write(index, vec![entry(&live, "text"), entry(&gone, "text")], step).await;
    let expected = [Outcome::AlreadyNewer, Outcome::AlreadyNewer];
    assert_eq!(outcomes, expected, "{step}: it knows its versions");
    assert_eq!(write(index, vec![entry(&stale, "text")], step).await, [Outcome::Applied], "{step}");
}

pub(super) async fn what_is_staged_is_gone_on_with(index: &dyn SearchIndex) {
    let step = "what is staged is gone on with";
    let (one, two) = (row("one", "ann"), row("two", "ann"));
    start(index, Vec::new(), step).await;
    let Some(staged) = stage(index, step).await else { return };
    write(&*staged.index(), vec![entry(&one, "text")], step).await;
    drop(staged);
    let Some(staged) = stage(index, step).await else { panic!("{step}: it could before") };
    let entries = vec![entry(&one, "text"), entry(&two, "text")];
    let outcomes = write(&*staged.index(), entries, step).await;
    let expected = [Outcome::AlreadyNewer, Outcome::Applied];
    assert_eq!(outcomes, expected, "{step}: what was written is there");
    staged.promote(Position::new("p1")).await.unwrap_or_else(|e| panic!("{step}: promote: {e:?}"));
    drop(staged);
    let mut found = titles(index, "text", step).await;
    found.sort();
    assert_eq!(found, ["one", "two"], "{step}: promoted");
    // The next one begins with nothing.
    let Some(staged) = stage(index, step).await else { panic!("{step}: it could before") };
    assert!(titles(&*staged.index(), "text", step).await.is_empty(), "{step}: begun anew");
    write(&*staged.index(), vec![entry(&one, "text")], step).await;
    staged.discard().await.unwrap_or_else(|e| panic!("{step}: discard: {e:?}"));
    let Some(staged) = stage(index, step).await else { panic!("{step}: it could before") };
    assert!(titles(&*staged.index(), "text", step).await.is_empty(), "{step}: thrown away");
    drop(staged);
    index.clear().await.unwrap_or_else(|e| panic!("{step}: clear: {e:?}"));
}

async fn stage(index: &dyn SearchIndex, step: &str) -> Option<Arc<dyn StagedIndex>> {
    index.stage().await.unwrap_or_else(|e| panic!("{step}: stage: {e:?}"))
}
