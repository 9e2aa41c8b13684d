//! On the real one.

use std::sync::Arc;
use std::time::Duration;

use dms_core::fake::InMemoryDatabase;
use dms_core::model::change::Position;
use dms_core::model::search::SearchQuery;
use dms_core::ports::{
    ChangeSink as _, ChangeSource as _, DocumentRepository as _, INDEX_MISSING, IndexProgress,
    Outcome, REBUILD_RUNNING, SearchIndex,
};
use dms_core::{DocumentPatch, DocumentStatus, ErrorKind, conformance};
use dms_search::{
    ElasticsearchIndex, ElasticsearchOptions, RebuildOptions, RefreshPolicy, VerifyOptions,
    rebuild, rebuild_beside, repair, verify,
};
use serde_json::json;

use super::common::{DatabaseSource, create, expected, rows, sink, versions};
use super::support::{changed, entry, indexes, open, options, raw};

async fn find(index: &dyn SearchIndex, text: &str) -> Vec<String> {
    let query = SearchQuery { text: Some(text.to_owned()), size: 100, ..SearchQuery::default() };
    let found = index.search(&query).await.unwrap();
    found.hits.into_iter().map(|hit| hit.document.title).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Elasticsearch"]
async fn passes_the_suite() {
    let (index, cleanup) = open(&options());
    conformance::index::suite(&index).await;
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn documents_are_there_as_the_contract_says() {
    let options = options();
    let (index, cleanup) = open(&options);
    index.clear().await.unwrap();
    let mut written = entry("Die Straße", "state of the art");
    written.row.version = 7;
    index.write(vec![written.clone()], None).await.unwrap();
    let (status, kept) =
        raw("GET", &format!("{}/_doc/{}", options.alias, written.row.id), None).await;
    assert_eq!(status, 200);
    assert_eq!(kept["_version"], 7);
    let mut row = serde_json::to_value(&written.row).unwrap();
    row["content"] = "state of the art".into();
    assert_eq!(kept["_source"], row, "and nothing else");
    let (_, mapping) = raw("GET", &format!("{}/_mapping", options.alias), None).await;
    let mapping = &mapping.as_object().unwrap().values().next().unwrap()["mappings"];
    assert_eq!(mapping["dynamic"], "strict");
    for (field, kind) in [
        ("id", "keyword"),
        ("status", "keyword"),
        ("content_type", "keyword"),
        ("content_sha256", "keyword"),
        ("s3_key", "keyword"),
        ("title", "text"),
        ("created_by", "text"),
        ("content", "text"),
        ("content_size", "long"),
        ("created_at", "date"),
        ("updated_at", "date"),
        ("version", "integer"),
        ("deleted", "boolean"),
    ] {
        assert_eq!(mapping["properties"][field]["type"], kind, "{field}");
    }
    for field in ["title", "created_by"] {
        assert_eq!(mapping["properties"][field]["fields"]["keyword"]["type"], "keyword");
    }
    // Somebody who asks Elasticsearch itself finds the text, too.
    index.refresh().await.unwrap();
    let asked = json!({ "query": { "match": { "content": "ART" } } });
    let (_, found) = raw("POST", &format!("{}/_search", options.alias), Some(asked)).await;
    assert_eq!(found["hits"]["total"]["value"], 1);
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn a_read_only_block_holds_everything_and_heals() {
    let options = options();
    let (index, cleanup) = open(&options);
    index.clear().await.unwrap();
    let (one, other) = (entry("one", "text"), entry("other", "text"));
    index.write(vec![one.clone()], None).await.unwrap();
    index.refresh().await.unwrap();
    let settings = format!("{}/_settings", options.alias);
    for block in ["index.blocks.read_only_allow_delete", "index.blocks.write"] {
        raw("PUT", &settings, Some(json!({ block: true }))).await;
        let newer = changed(&one, |_| ());
        let error = index.write(vec![newer, other.clone()], None).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(error.code(), "index_blocked", "{error:?}");
        assert_eq!(find(&index, "text").await, ["one"], "searches go on");
        raw("PUT", &settings, Some(json!({ block: null }))).await;
    }
    let outcomes = index.write(vec![one, other], None).await.unwrap();
    assert_eq!(outcomes, [Outcome::AlreadyNewer, Outcome::Applied]);
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn only_a_document_that_the_mapping_refuses_is_rejected() {
    let (index, cleanup) = open(&options());
    index.clear().await.unwrap();
    let mut batch: Vec<_> = (0..5).map(|n| entry(&format!("title {n}"), "text")).collect();
    batch[2].row.content_size = u64::MAX;
    let outcomes = index.write(batch, None).await.unwrap();
    for (at, outcome) in outcomes.iter().enumerate() {
        assert_eq!(matches!(outcome, Outcome::Rejected(_)), at == 2, "{at}: {outcome:?}");
        assert!(at == 2 || *outcome == Outcome::Applied, "{at}: {outcome:?}");
    }
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn large_batches_go_in_parts_and_a_write_can_wait_until_it_is_visible() {
    let options = ElasticsearchOptions {
        bulk_bytes_max: 20_000,
        refresh: RefreshPolicy::Immediate,
        ..options()
    };
    let (index, cleanup) = open(&options);
    index.clear().await.unwrap();
    let batch: Vec<_> =
        (0..200).map(|n| entry(&format!("title {n}"), &"text ".repeat(n))).collect();
    let outcomes = index.write(batch, None).await.unwrap();
    assert_eq!(outcomes, vec![Outcome::Applied; 200]);
    assert_eq!(index.count().await.unwrap(), 200);
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn a_deleted_index_is_noticed_and_built_again() {
    let (index, cleanup) = open(&options());
    let alias = cleanup.0.clone();
    let index: Arc<ElasticsearchIndex> = Arc::new(index);
    let database = InMemoryDatabase::default();
    for n in 0..30 {
        create(&database, &format!("title {n}"), "text").await;
    }
    let (documents, sink) = (database.documents(), sink(&database, Arc::clone(&index) as _));
    let source = DatabaseSource::new(&database);
    let error = index.search(&SearchQuery::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, INDEX_MISSING));
    assert!(index.check().await.is_err());
    for round in 1..=2 {
        assert_eq!(index.progress().await.unwrap(), IndexProgress::New);
        let head = source.head().await.unwrap();
        let options = RebuildOptions { batch_rows_max: 10, ..RebuildOptions::default() };
        let report = rebuild(&*index, &documents, &sink, head, options, &mut |_| ()).await.unwrap();
        assert_eq!(report.indexed, 30, "round {round}");
        assert_eq!(index.progress().await.unwrap(), IndexProgress::Built);
        index.check().await.unwrap();
        assert_eq!(versions(&*index).await, expected(&database).await);
        for (name, _) in indexes(&alias).await {
            assert_eq!(raw("DELETE", &name, None).await.0, 200);
        }
        let change = database.changes()[0].clone();
        let up_to = Position::new("1");
        let error = sink.apply(&[change], &up_to).await.unwrap_err();
        assert!(error.is_retryable());
        assert_eq!(error.code(), INDEX_MISSING);
        sink.index_lost().await;
        let (status, _) = raw("GET", &alias, None).await;
        assert_eq!(status, 404, "nothing of the alias's name was made");
    }
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn an_older_mapping_is_written_to_as_it_is_and_replaced() {
    let options = options();
    let (index, cleanup) = open(&options);
    let database = InMemoryDatabase::default();
    for n in 0..5 {
        create(&database, &format!("title {n}"), "text").await;
    }
    let properties = json!({
        "id": { "type": "keyword" }, "title": { "type": "text" }, "version": { "type": "integer" },
        "deleted": { "type": "boolean" },
    });
    let old = json!({
        "aliases": { &options.alias: {} },
        "mappings": {
            "dynamic": "strict", "_meta": { "dms": { "mapping": 0, "built": true } },
            "properties": properties,
        },
    });
    assert_eq!(raw("PUT", &format!("{}-v3", options.alias), Some(old)).await.0, 200);
    let index: Arc<dyn SearchIndex> = Arc::new(index);
    let sink = sink(&database, Arc::clone(&index));
    assert_eq!(index.progress().await.unwrap(), IndexProgress::Outdated);
    let outcomes = sink.apply(&database.changes(), &Position::new("5")).await.unwrap();
    assert_eq!(outcomes, vec![Outcome::Applied; 5], "what it doesn't know is left out");
    let source = DatabaseSource::new(&database);
    let documents = database.documents();
    rebuild_beside(&*index, &documents, &sink, &source, RebuildOptions::default(), &mut |_| ())
        .await
        .unwrap();
    let (other, _) = open(&options);
    assert_eq!(other.progress().await.unwrap(), IndexProgress::Built);
    let left = indexes(&options.alias).await;
    assert_eq!(left, [(format!("{}-v4", options.alias), vec![options.alias.clone()])]);
    assert_eq!(find(&*index, "text").await.len(), 5);
    // Who wrote to the old one finds the way to the new one, and leaves nothing out there.
    create(&database, "late", "text").await;
    let late = database.changes().last().cloned().unwrap();
    let lost = sink.apply(std::slice::from_ref(&late), &Position::new("6")).await.unwrap_err();
    assert!(lost.is_retryable());
    let outcomes = sink.apply(&[late], &Position::new("6")).await.unwrap();
    assert_eq!(outcomes, [Outcome::Applied]);
    index.refresh().await.unwrap();
    assert_eq!(find(&*index, "late").await, ["late"]);
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn of_two_processes_one_builds() {
    let first = options();
    let lease = Duration::from_secs(4);
    let first = ElasticsearchOptions { build_lease: lease, ..first };
    let (index, cleanup) = open(&first);
    let (other, _) = open(&first);
    let staged = index.stage().await.unwrap().unwrap();
    let keep = async {
        loop {
            staged.keep().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let refused = tokio::select! {
        refused = other.stage() => refused.err(),
        () = keep => None,
    };
    assert_eq!(refused.map(|error| error.code()), Some(REBUILD_RUNNING));
    // It dies; the other takes over what is there.
    staged.index().write(vec![entry("one", "text")], None).await.unwrap();
    drop(staged);
    let taken = loop {
        match other.stage().await {
            Ok(taken) => break taken.unwrap(),
            // Its last sign of life was on its way.
            Err(error) => assert_eq!(error.code(), REBUILD_RUNNING),
        }
    };
    assert_eq!(versions(&*taken.index()).await.len(), 1);
    // Should it come back, it notices.
    let keep = async {
        loop {
            taken.keep().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let late = tokio::select! {
        late = index.stage() => late.err(),
        () = keep => None,
    };
    assert_eq!(late.map(|error| error.code()), Some(REBUILD_RUNNING));
    taken.promote(Position::new("1")).await.unwrap();
    assert_eq!(index.progress().await.unwrap(), IndexProgress::Built);
    assert_eq!(find(&index, "text").await, ["one"]);
    cleanup.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Elasticsearch"]
async fn the_index_is_swapped_under_writes_without_a_loss() {
    let (index, cleanup) = open(&options());
    let index: Arc<dyn SearchIndex> = Arc::new(index);
    let database = InMemoryDatabase::default();
    for n in 0..300 {
        create(&database, &format!("title {n}"), &format!("text {n}")).await;
    }
    let (documents, sink) = (database.documents(), Arc::new(sink(&database, Arc::clone(&index))));
    index.clear().await.unwrap();
    sink.apply(&database.changes(), &Position::new("300")).await.unwrap();
    let is_done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Somebody changes documents all the time, and the live consumer carries it over.
    let writer = tokio::spawn({
        let (database, sink, is_done) = (database.clone(), Arc::clone(&sink), Arc::clone(&is_done));
        async move {
            let mut at = database.changes().len();
            let mut round = 0_usize;
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                let rows = rows(&database).await;
                let row = &rows[round * 7 % rows.len()];
                round += 1;
                let documents = database.documents();
                if round.is_multiple_of(11) {
                    let _ = documents.delete(row.id, None).await;
                } else {
                    let title = Some(format!("round {round}"));
                    let patch = DocumentPatch { title, status: Some(DocumentStatus::Signed) };
                    let _ = documents.update(row.id, &patch, None, None).await;
                }
                create(&database, &format!("new {round}"), "new").await;
                let changes = database.changes()[at..].to_vec();
                at += changes.len();
                let up_to = Position::new(at.to_string());
                let mut again = changes;
                while !again.is_empty() {
                    if let Ok(outcomes) = sink.apply(&again, &up_to).await {
                        let mut outcomes = outcomes.into_iter();
                        again.retain(|_| matches!(outcomes.next(), Some(Outcome::Retry(_))));
                    }
                }
            }
            round
        }
    });
    for _ in 0..2 {
        let source = DatabaseSource::new(&database);
        let options = RebuildOptions { batch_rows_max: 50, ..RebuildOptions::default() };
        let report = rebuild_beside(&*index, &documents, &sink, &source, options, &mut |_| ())
            .await
            .unwrap();
        assert!(report.rows >= 300 && report.followed > 0, "{report:?}");
    }
    is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    let rounds = writer.await.unwrap();
    assert!(rounds > 10, "{rounds}");
    assert_eq!(versions(&*index).await, expected(&database).await);
    cleanup.remove().await;
}

#[tokio::test]
#[ignore = "needs Elasticsearch"]
async fn drift_is_found_and_mended() {
    let options = options();
    let (index, cleanup) = open(&options);
    let index: Arc<dyn SearchIndex> = Arc::new(index);
    let database = InMemoryDatabase::default();
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(create(&database, &format!("title {n}"), "text").await);
    }
    let (documents, sink) = (database.documents(), sink(&database, Arc::clone(&index)));
    index.clear().await.unwrap();
    let lost = &ids[10..13];
    let mut changes = database.changes();
    changes.retain(|change| change.document_id().is_none_or(|id| !lost.contains(&id)));
    sink.apply(&changes, &Position::new("40")).await.unwrap();
    documents
        .update(ids[3], &DocumentPatch::status(DocumentStatus::Signed), None, None)
        .await
        .unwrap();
    documents.delete(ids[4], None).await.unwrap();
    let stray = entry("stray", "text");
    index.write(vec![stray], None).await.unwrap();
    let check = VerifyOptions {
        batch_rows_max: 7,
        confirm_after: Duration::from_millis(100),
        ..VerifyOptions::default()
    };
    let found = verify(&*index, &documents, check, &mut |_| ()).await.unwrap();
    assert_eq!(found.found.values().copied().collect::<Vec<_>>(), [3, 2, 1], "{found:?}");
    let mended = repair(&*index, &documents, &sink, check, &mut |_| ()).await.unwrap();
    assert_eq!((mended.total(), mended.remaining()), (6, 0), "{mended:?}");
    let after = verify(&*index, &documents, check, &mut |_| ()).await.unwrap();
    assert_eq!(after.total(), 0, "{after:?}");
    assert!(find(&*index, "stray").await.is_empty());
    cleanup.remove().await;
}
