//! The tantivy index: the suite of its port, and what is its own.

use std::fs;
use std::path::{Path, PathBuf};

use dms_core::model::change::{DocumentRow, Position};
use dms_core::model::search::{AggregationField, AggregationQuery, Bucket};
use dms_core::model::search::{IndexEntry, SearchFilter, SearchQuery, SearchResults};
use dms_core::ports::{IndexProgress, Outcome, SearchIndex};
use dms_core::{DocumentId, DocumentStatus, ErrorKind, Sha256, conformance};
use dms_search::{TantivyIndex, TantivyOptions};
use proptest::prelude::*;
use tempfile::TempDir;
use time::macros::datetime;

fn open(dir: &Path) -> TantivyIndex {
    TantivyIndex::open(dir, TantivyOptions::default()).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn entry(title: &str, text: &str) -> IndexEntry {
    let id = DocumentId::generate();
    let at = datetime!(2026-01-02 03:04:05.678901 UTC);
    let row = DocumentRow {
        id,
        title: title.to_owned(),
        content_type: "text/plain".to_owned(),
        content_size: text.len() as u64,
        content_sha256: Some(Sha256::of(text.as_bytes())),
        s3_key: Some(format!("{id}/content")),
        status: DocumentStatus::Created,
        created_by: "ann@example.org".to_owned(),
        created_at: at,
        updated_at: at,
        version: 1,
        deleted: false,
    };
    IndexEntry { row, text: text.to_owned() }
}

fn changed(entry: &IndexEntry, change: impl FnOnce(&mut DocumentRow)) -> IndexEntry {
    let mut entry = entry.clone();
    entry.row.version += 1;
    change(&mut entry.row);
    entry
}

#[expect(clippy::unnecessary_wraps, reason = "as the port takes it")]
fn at(text: &str) -> Option<Position> {
    Some(Position::new(text))
}

/// Where the index is in the stream; none if it must be built.
async fn position(index: &TantivyIndex) -> Option<Position> {
    match index.progress().await.unwrap() {
        IndexProgress::At(position) => Some(position),
        other => {
            assert_eq!(other, IndexProgress::New);
            None
        }
    }
}

async fn find(index: &TantivyIndex, text: &str) -> SearchResults {
    let query = SearchQuery { text: Some(text.to_owned()), size: 100, ..SearchQuery::default() };
    search(index, &query).await
}

async fn everything(index: &TantivyIndex) -> SearchResults {
    search(index, &SearchQuery { size: 100, ..SearchQuery::default() }).await
}

/// A search; on a machine that is busy with something else it may need more than one attempt.
async fn search(index: &TantivyIndex, query: &SearchQuery) -> SearchResults {
    for _ in 0..20 {
        match index.search(query).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            answer => return answer.unwrap(),
        }
    }
    panic!("every search was refused as too many");
}

/// The only folder of tantivy's files.
fn documents_folder(dir: &Path) -> PathBuf {
    let mut folders =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let folder = folders.next().unwrap();
    assert_eq!(folders.next(), None);
    folder
}

#[tokio::test]
async fn passes_the_suite() {
    let dir = folder();
    conformance::index::suite(&open(dir.path())).await;
}

#[tokio::test]
async fn passes_the_suite_again_when_opened_again() {
    let dir = folder();
    conformance::index::suite(&open(dir.path())).await;
    conformance::index::suite(&open(dir.path())).await;
}

#[tokio::test]
async fn opened_again_it_gives_the_same_answers_and_position() {
    let dir = folder();
    let index = open(dir.path());
    let live = entry("annual report", "the harbour is quiet");
    let deleted = entry("annual secret", "the harbour is loud");
    index.write(vec![live.clone(), deleted.clone()], at("p1")).await.unwrap();
    let mark = changed(&deleted, |row| row.deleted = true);
    index.write(vec![mark], at("p2")).await.unwrap();
    let before = (find(&index, "harbour").await, everything(&index).await);
    assert_eq!(before.0.total, 1);
    drop(index);

    let index = open(dir.path());
    assert_eq!(position(&index).await, at("p2"));
    assert_eq!((find(&index, "harbour").await, everything(&index).await), before);
    let replay = index.write(vec![live, deleted], at("p3")).await.unwrap();
    assert_eq!(replay, [Outcome::AlreadyNewer, Outcome::AlreadyNewer]);
}

#[tokio::test]
async fn what_was_not_committed_is_gone_with_its_position() {
    let dir = folder();
    let copy = folder();
    let index = open(dir.path());
    index.write(vec![entry("first", "")], at("p1")).await.unwrap();
    // The files as a process leaves them that is killed now.
    let files = documents_folder(dir.path());
    let copied = copy.path().join(files.file_name().unwrap());
    fs::create_dir(&copied).unwrap();
    for file in fs::read_dir(&files).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copied.join(file.file_name())).unwrap();
    }
    // And something half written.
    fs::write(copied.join("0123456789abcdef0123456789abcdef.store"), b"half").unwrap();
    index.write(vec![entry("second", "")], at("p2")).await.unwrap();

    let index = open(copy.path());
    assert_eq!(position(&index).await, at("p1"));
    assert_eq!(everything(&index).await.total, 1);
    index.write(vec![entry("third", "")], at("p3")).await.unwrap();
    assert_eq!(everything(&index).await.total, 2);
}

#[tokio::test]
async fn a_missing_or_emptied_folder_gives_a_new_index() {
    let dir = folder();
    let path = dir.path().join("not/there/yet");
    let index = open(&path);
    assert_eq!(position(&index).await, None);
    index.write(vec![entry("first", "")], at("p1")).await.unwrap();
    drop(index);
    fs::remove_dir_all(documents_folder(&path)).unwrap();
    let index = open(&path);
    assert_eq!(position(&index).await, None);
    assert_eq!(everything(&index).await.total, 0);
    index.write(vec![entry("first", "")], at("p1")).await.unwrap();
    assert_eq!(everything(&index).await.total, 1);
}

#[tokio::test]
async fn a_damaged_file_of_any_kind_gives_a_new_index() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("emptied", |path| fs::write(path, b"").unwrap()),
        ("overwritten", |path| {
            let size = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
            fs::write(path, vec![0x5a; size]).unwrap();
        }),
        ("flipped", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[0] ^= 0x10;
            fs::write(path, bytes).unwrap();
        }),
    ];
    for extension in ["json", "idx", "pos", "term", "store", "fast", "fieldnorm"] {
        for (kind, damage) in damages {
            let dir = folder();
            let index = open(dir.path());
            let entries = (0..20).map(|n| entry(&format!("title {n}"), "some text")).collect();
            index.write(entries, at("p1")).await.unwrap();
            drop(index);
            let files = documents_folder(dir.path());
            let damaged = fs::read_dir(files)
                .unwrap()
                .map(|file| file.unwrap().path())
                .filter(|file| file.extension().is_some_and(|found| found == extension))
                .filter(|file| file.file_name().is_none_or(|name| name != ".managed.json"))
                .map(|file| damage(&file))
                .count();
            assert!(damaged > 0, "{extension} {kind}");

            let index = open(dir.path());
            assert_eq!(position(&index).await, None, "{extension} {kind}");
            assert_eq!(everything(&index).await.total, 0, "{extension} {kind}");
            index.write(vec![entry("new", "")], at("p2")).await.unwrap();
            assert_eq!(find(&index, "new").await.total, 1, "{extension} {kind}");
        }
    }
}

#[tokio::test]
async fn an_index_of_another_schema_is_removed() {
    let dir = folder();
    let older = dir.path().join("documents-0123456789abcdef");
    fs::create_dir_all(&older).unwrap();
    fs::write(older.join("meta.json"), b"{}").unwrap();
    let foreign = dir.path().join("something else");
    fs::create_dir(&foreign).unwrap();
    let index = open(dir.path());
    assert_eq!(position(&index).await, None);
    assert!(!older.exists());
    assert!(foreign.exists(), "what isn't an index is left alone");
}

#[tokio::test]
async fn a_folder_belongs_to_one_index_at_a_time() {
    let dir = folder();
    let index = open(dir.path());
    let second = TantivyIndex::open(dir.path(), TantivyOptions::default());
    assert_eq!(second.err().map(|error| error.kind()), Some(ErrorKind::Unavailable));
    drop(index);
    assert!(TantivyIndex::open(dir.path(), TantivyOptions::default()).is_ok());
}

#[tokio::test]
async fn a_dropped_write_happens_whole_or_not_at_all() {
    let dir = folder();
    let index = open(dir.path());
    for polls in 0..6 {
        let entries = (0..50).map(|_| entry("same", "")).collect();
        let mut write = Box::pin(index.write(entries, at(&format!("p{polls}"))));
        for _ in 0..polls {
            if futures_poll(write.as_mut()).await {
                break;
            }
        }
        drop(write);
    }
    // Waits for whatever goes on.
    index.write(vec![entry("last", "")], None).await.unwrap();
    let count = index.count().await.unwrap() - 1;
    assert_eq!(count % 50, 0, "{count}");
    let position = position(&index).await;
    assert_eq!(position.is_some(), count > 0, "{position:?} {count}");
}

/// Polls once, then lets others run; says whether the future is ready.
async fn futures_poll(mut future: std::pin::Pin<&mut (impl Future + ?Sized)>) -> bool {
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
    tokio::task::yield_now().await;
    polled.is_ready()
}

#[tokio::test]
async fn many_writes_are_merged_and_their_files_removed() {
    let dir = folder();
    let index = open(dir.path());
    let mut entries: Vec<_> = (0..10).map(|n| entry(&format!("title {n}"), "text")).collect();
    for _ in 0..40 {
        index.write(entries.clone(), None).await.unwrap();
        entries = entries.iter().map(|entry| changed(entry, |_| ())).collect();
    }
    assert_eq!(everything(&index).await.total, 10);
    let files = documents_folder(dir.path());
    let settled = async {
        // Each segment has seven files or eight. Searches absorb what was merged.
        while fs::read_dir(&files).unwrap().count() > 80 {
            everything(&index).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), settled).await.unwrap();
    assert!(index.size_bytes().await.unwrap() > 0);
    assert_eq!(everything(&index).await.total, 10);
}

#[tokio::test]
async fn a_batch_larger_than_the_writers_memory_is_one_commit() {
    let dir = folder();
    let index = open(dir.path());
    let entries: Vec<_> = (0..40)
        .map(|n| {
            let words: Vec<_> = (0..20_000).map(|word| format!("w{n}x{word}")).collect();
            entry(&format!("large {n}"), &words.join(" "))
        })
        .collect();
    index.write(entries, at("p1")).await.unwrap();
    assert_eq!(find(&index, "large").await.total, 40);
    assert_eq!(find(&index, "w39x19999").await.total, 1);
    drop(index);
    assert_eq!(find(&open(dir.path()), "large").await.total, 40);
}

#[tokio::test]
async fn searches_over_the_bound_are_refused_in_time() {
    let dir = folder();
    let options = TantivyOptions {
        searches_max: 1,
        search_time_max: std::time::Duration::ZERO,
        ..TantivyOptions::default()
    };
    let index = TantivyIndex::open(dir.path(), options).unwrap();
    index.write(vec![entry("title", "")], None).await.unwrap();
    let error = index.search(&SearchQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.retry_after().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_and_writes_at_once_see_whole_commits() {
    let dir = folder();
    let index = std::sync::Arc::new(open(dir.path()));
    let pairs: Vec<_> = (0..10).map(|_| [entry("odd", ""), entry("even", "")]).collect();
    index.write(pairs.concat(), at("0")).await.unwrap();
    let writer = {
        let index = std::sync::Arc::clone(&index);
        tokio::spawn(async move {
            let mut pairs = pairs;
            for round in 1..30 {
                for pair in &mut pairs {
                    *pair = pair.each_ref().map(|entry| changed(entry, |_| ()));
                }
                index.write(pairs.concat(), at(&round.to_string())).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let found = everything(&index).await;
        let versions: std::collections::HashSet<_> =
            found.hits.iter().map(|hit| hit.document.version).collect();
        assert_eq!((found.total, versions.len()), (20, 1), "{versions:?}");
    }
    writer.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// The fake and this index give the same answers, whatever is written and asked.
    #[test]
    fn finds_what_the_fake_finds(
        documents in prop::collection::vec(
            ("[a-dé ]{1,12}", "[a-d]{1,2}", "([a-f]{1,2}[ .,<-]){0,12}", 0_usize..3, any::<bool>()),
            1..25,
        ),
        questions in prop::collection::vec("(-?\"?[a-fé]{1,2}[ \".@-]){0,5}", 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = folder();
            let index = open(dir.path());
            let fake = dms_core::fake::InMemorySearchIndex::new();
            for part in documents.chunks(7) {
                let entries: Vec<_> = part
                    .iter()
                    .map(|(title, creator, text, status, deleted)| {
                        let mut entry = entry(title, text);
                        entry.row.created_by.clone_from(creator);
                        entry.row.status = DocumentStatus::ALL[*status];
                        entry.row.deleted = *deleted;
                        entry
                    })
                    .collect();
                let outcomes = index.write(entries.clone(), None).await.unwrap();
                assert_eq!(outcomes, fake.write(entries, None).await.unwrap());
            }
            for question in &questions {
                for status in [None, Some(DocumentStatus::Viewed)] {
                    let filter = SearchFilter { status, ..SearchFilter::default() };
                    let query = SearchQuery {
                        text: Some(question.clone()),
                        filter: filter.clone(),
                        from: 0,
                        size: 100,
                    };
                    let (mut ours, mut theirs) =
                        (index.search(&query).await.unwrap(), fake.search(&query).await.unwrap());
                    // How well something matches is each engine's own; the rest is not.
                    for hits in [&mut ours.hits, &mut theirs.hits] {
                        for hit in &mut *hits {
                            hit.score = 0.0;
                        }
                        hits.sort_by_key(|hit| hit.document.id);
                    }
                    assert_eq!(ours, theirs, "{question:?} {status:?}");
                    let aggregation = AggregationQuery {
                        field: AggregationField::CreatedBy,
                        text: Some(question.clone()),
                        filter,
                        size: 5,
                    };
                    let ours: Vec<Bucket> = index.aggregate(&aggregation).await.unwrap();
                    assert_eq!(ours, fake.aggregate(&aggregation).await.unwrap(), "{question:?}");
                }
            }
        });
    }

    #[test]
    fn any_text_can_be_asked(questions in prop::collection::vec("\\PC{0,60}|.{0,60}", 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = folder();
            let index = open(dir.path());
            index.write(vec![entry("title", "text")], None).await.unwrap();
            for question in &questions {
                assert!(find(&index, question).await.total <= 1);
            }
        });
    }

    /// Small pages and large ones go through the same hits in the same order, without a gap and without
    /// one twice, though for a small page most matches need not be looked at.
    #[test]
    fn pages_of_any_size_show_the_same_hits(
        texts in prop::collection::vec("([a-c]|[a-h] |[a-z] ){1,40}", 300..700),
        changed_every in 2_usize..40,
        batch in 60_usize..700,
        question in "[a-h]( [a-h]){0,3}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = folder();
            let index = open(dir.path());
            let entries: Vec<_> = texts.iter().map(|text| entry("t", text)).collect();
            for part in entries.chunks(batch) {
                index.write(part.to_vec(), None).await.unwrap();
            }
            let newer = entries.iter().step_by(changed_every);
            let newer = newer.map(|entry| changed(entry, |_| {})).collect();
            index.write(newer, None).await.unwrap();

            let asked: Vec<_> = question.split(' ').collect();
            let expected = texts
                .iter()
                .filter(|text| text.split_whitespace().any(|word| asked.contains(&word)))
                .count();
            let mut all = Vec::new();
            for size in [7, 33, 100] {
                let mut hits = Vec::new();
                loop {
                    let from = u32::try_from(hits.len()).unwrap();
                    let text = Some(question.clone());
                    let query = SearchQuery { text, from, size, ..SearchQuery::default() };
                    let found = search(&index, &query).await;
                    assert_eq!(found.total, expected as u64, "{question}");
                    if found.hits.is_empty() {
                        break;
                    }
                    hits.extend(found.hits.iter().map(|hit| (hit.score, hit.document.id)));
                }
                assert_eq!(hits.len(), expected, "{question}");
                let falls = |pair: &[(f32, DocumentId)]| pair[0] > pair[1];
                assert!(hits.windows(2).all(falls), "{question}: {hits:?}");
                all.push(hits);
            }
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{question}: {all:?}");
        });
    }
}
