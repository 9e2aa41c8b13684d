//! How soon searches find what is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dms_core::fake::ManualClock;
use dms_core::model::change::{Change, DocumentRow, Operation, Position};
use dms_core::model::search::IndexVersion;
use dms_core::ports::{ChangeSink as _, MockSearchIndex, Outcome};
use dms_core::{DocumentId, Error};
use dms_search::{IndexingOptions, IndexingSink, SearchableWatch, SearchableWatchOptions};
use uuid::Uuid;

use crate::support::{World, change, next, world};

const LOOK: Duration = Duration::from_millis(20);

fn created(row: &DocumentRow) -> Change {
    Change { operation: Operation::Create, ..change(row) }
}

async fn apply(sink: &IndexingSink, changes: &[Change]) {
    let outcomes = sink.apply(changes, &Position::new("somewhere")).await.unwrap();
    assert_eq!(outcomes.len(), changes.len());
}

fn before(id: DocumentId) -> DocumentId {
    DocumentId::from_uuid(Uuid::from_u128(id.as_uuid().as_u128() - 1))
}

/// A sink and a watch of an index that shows what `looks` says at each look, from then on the last.
fn watched(
    world: &World,
    mut looks: Vec<Option<IndexVersion>>,
) -> (Arc<IndexingSink>, SearchableWatch, Arc<AtomicUsize>, Arc<ManualClock>) {
    let looked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looked);
    let expected = looks.iter().flatten().last().map(|version| before(version.id));
    let mut index = MockSearchIndex::new();
    index.expect_write().returning(|entries, _| Ok(vec![Outcome::Applied; entries.len()]));
    index.expect_versions().returning(move |after, limit| {
        assert_eq!(limit, 1);
        assert!(expected.is_none() || after == expected, "looks for {expected:?}, not {after:?}");
        count.fetch_add(1, Ordering::SeqCst);
        let shown = if looks.len() > 1 { looks.remove(0) } else { looks[0] };
        Ok(shown.into_iter().collect())
    });
    let index = Arc::new(index);
    let sink = Arc::new(IndexingSink::new(
        index.clone(),
        world.texts.clone(),
        world.contents.clone(),
        IndexingOptions::default(),
    ));
    let clock = Arc::new(ManualClock::default());
    let options = SearchableWatchOptions { look_every: LOOK, ..SearchableWatchOptions::default() };
    let watch = SearchableWatch::new(index, sink.clone(), clock.clone(), options);
    (sink, watch, looked, clock)
}

#[tokio::test(start_paused = true)]
async fn a_new_document_is_looked_for_until_it_is_found() {
    let world = world();
    let older = world.row("older", "text/plain", "older");
    let row = world.row("new", "text/plain", "new");
    let other = IndexVersion { id: DocumentId::generate(), ..IndexVersion::from(&row) };
    let looks = vec![None, Some(other), None, Some(IndexVersion::from(&row))];
    let (sink, watch, looked, clock) = watched(&world, looks);
    clock.set(row.updated_at + Duration::from_millis(100));
    let updated = next(&older, |row| row.title.push('!'));
    let changes = [created(&older), created(&row), change(&updated)];
    let (time, ()) = tokio::join!(watch.sample(), apply(&sink, &changes));
    assert_eq!(looked.load(Ordering::SeqCst), 4);
    let time = time.unwrap();
    assert!(time >= Duration::from_millis(100) + 3 * LOOK, "{time:?}");
    assert!(time < Duration::from_millis(100) + 4 * LOOK, "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn several_may_look_for_the_same_document() {
    let world = world();
    let row = world.row("new", "text/plain", "new");
    let (sink, watch, _, _) = watched(&world, vec![Some(IndexVersion::from(&row))]);
    let changes = [created(&row)];
    let (one, other, ()) = tokio::join!(watch.sample(), watch.sample(), apply(&sink, &changes));
    one.unwrap();
    other.unwrap();
}

#[tokio::test(start_paused = true)]
async fn changes_and_what_was_there_before_are_not_looked_for() {
    let world = world();
    let row = world.row("title", "text/plain", "text");
    let (sink, watch, looked, _) = watched(&world, vec![None]);
    let updated = next(&row, |row| row.title.push('!'));
    let read = Change { operation: Operation::Snapshot, ..change(&row) };
    let changes = [read, change(&updated)];
    let applied = async {
        apply(&sink, &changes).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
    };
    tokio::select! {
        sample = watch.sample() => panic!("{sample:?}"),
        () = applied => {}
    }
    assert_eq!(looked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_found_is_given_up_and_a_clock_behind_takes_nothing_away() {
    let world = world();
    let row = world.row("title", "text/plain", "text");
    let (sink, watch, _, clock) = watched(&world, vec![None]);
    clock.set(row.updated_at - Duration::from_mins(5));
    let changes = [created(&row)];
    let (time, ()) = tokio::join!(watch.sample(), apply(&sink, &changes));
    let time = time.unwrap();
    let bound = SearchableWatchOptions::default().give_up_after;
    assert!(time >= bound && time <= bound + LOOK, "{time:?}");
}

#[tokio::test]
async fn an_index_that_does_not_answer_is_told() {
    let world = world();
    let row = world.row("title", "text/plain", "text");
    let mut index = MockSearchIndex::new();
    index.expect_versions().returning(|_, _| Err(Error::unavailable("search", "away")));
    let sink = Arc::new(world.sink.clone());
    let clock = Arc::new(ManualClock::default());
    let options = SearchableWatchOptions::default();
    let watch = SearchableWatch::new(Arc::new(index), sink.clone(), clock, options);
    let changes = [created(&row)];
    let (time, ()) = tokio::join!(watch.sample(), apply(&sink, &changes));
    assert!(time.is_err());
}
