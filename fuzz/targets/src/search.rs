//! What somebody types into a search box.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use dms_core::fake::InMemorySearchIndex;
use dms_core::model::change::DocumentRow;
use dms_core::model::highlight::{FragmentLimits, Highlighter};
use dms_core::model::search::{Highlights, IndexEntry, SearchQuery, SearchResults};
use dms_core::model::text_query::TextQuery;
use dms_core::ports::SearchIndex;
use dms_core::{Document, DocumentId, DocumentStatus, Sha256};
use dms_search::{ElasticsearchIndex, TantivyIndex, TantivyOptions};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Names in a request to Elasticsearch: whatever is searched for, nothing else is asked.
const NAMES: [&str; 27] = [
    "bool",
    "filter",
    "must",
    "must_not",
    "should",
    "minimum_should_match",
    "term",
    "match_phrase",
    "value",
    "query",
    "boost",
    "deleted",
    "words.title",
    "words.created_by",
    "words.content",
    "from",
    "size",
    "sort",
    "_score",
    "id",
    "track_total_hits",
    "timeout",
    "_source",
    "excludes",
    "status",
    "created_by.keyword",
    "content_type",
];

/// A search, and after the end of the line a text to search. The query is bounded, every index finds
/// the same, and what is shown is the text with nothing but `<em>` added.
pub fn search_text(input: &[u8]) {
    thread_local!(static INDEXES: OnceCell<Indexes> = const { OnceCell::new() });
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (search, text) = input.split_once('\n').unwrap_or((input, ""));
    if let Some(query) = TextQuery::parse(search) {
        let phrases = [&query.any, &query.all, &query.none];
        let clauses: usize = phrases.iter().map(|phrases| phrases.len()).sum();
        assert!(clauses <= TextQuery::CLAUSES_MAX);
        for phrase in phrases.into_iter().flatten() {
            assert!(!phrase.is_empty() && phrase.len() <= TextQuery::PHRASE_WORDS_MAX);
            assert!(phrase.iter().all(|word| !word.is_empty()));
        }
        assert_marked(&Highlighter::new(&query), text);
    }
    let query = SearchQuery { text: Some(search.to_owned()), size: 100, ..SearchQuery::default() };
    if let Some(request) = ElasticsearchIndex::search_request(&query, Duration::from_secs(1)) {
        assert_harmless(&serde_json::from_str(&request).expect("JSON"));
    }
    INDEXES.with(|indexes| indexes.get_or_init(Indexes::new).compare(&query));
}

fn assert_marked(highlighter: &Highlighter, text: &str) {
    if let Some(marked) = highlighter.whole(text) {
        assert_eq!(plain(&marked), text.trim());
    }
    let limits = FragmentLimits { count_max: 3, chars: 20, scan_bytes_max: 300 };
    let fragments = highlighter.fragments(text, limits);
    assert!(fragments.len() <= 3);
    for fragment in fragments {
        assert!(fragment.contains("<em>"));
        assert!(text.contains(&plain(&fragment)), "{fragment:?}");
    }
}

/// The text in HTML that holds nothing but `<em>`.
fn plain(html: &str) -> String {
    let html = html.replace("<em>", "").replace("</em>", "");
    assert!(!html.contains(['<', '>', '"', '\'']), "{html:?}");
    html.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#x27;", "'")
        .replace("&amp;", "&")
}

fn assert_harmless(value: &Value) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                assert!(NAMES.contains(&name.as_str()), "{name}");
                assert_harmless(value);
            }
        }
        Value::Array(items) => items.iter().for_each(assert_harmless),
        _ => {}
    }
}

/// Two indexes of the same documents.
struct Indexes {
    runtime: Runtime,
    real: TantivyIndex,
    model: InMemorySearchIndex,
    _folder: TempDir,
}

impl Indexes {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let options = TantivyOptions {
            searches_max: 1,
            search_time_max: Duration::from_mins(1),
            ..TantivyOptions::default()
        };
        let real = TantivyIndex::open(folder.path(), options).expect("an index");
        let model = InMemorySearchIndex::new();
        runtime.block_on(async {
            real.write(entries(), None).await.expect("written");
            model.write(entries(), None).await.expect("written");
            real.refresh().await.expect("refreshed");
        });
        Self { runtime, real, model, _folder: folder }
    }

    fn compare(&self, query: &SearchQuery) {
        let (real, model) = self
            .runtime
            .block_on(async { (self.real.search(query).await, self.model.search(query).await) });
        match (real, model) {
            (Ok(real), Ok(model)) => {
                assert_eq!(real.total, model.total);
                assert_eq!(hits(&real), hits(&model));
            }
            (Err(real), Err(model)) => assert_eq!(real.kind(), model.kind()),
            (real, model) => panic!("{real:?} {model:?}"),
        }
    }
}

/// Which documents were found, and what of them is shown.
fn hits(results: &SearchResults) -> BTreeMap<DocumentId, &Highlights> {
    let hits = &results.hits;
    for text in
        hits.iter().flat_map(|hit| hit.highlights.title.iter().chain(&hit.highlights.content))
    {
        plain(text);
    }
    hits.iter().map(|hit| (hit.document.id, &hit.highlights)).collect()
}

/// Words that are found by themselves, as phrases and among other scripts.
fn entries() -> Vec<IndexEntry> {
    let texts = [
        ("Annual report", "The annual report of 2026 is a draft."),
        ("Report annual", "annual annual report, state-of-the-art"),
        ("<b>Bold</b> & \"it's\"", "a<script>b</script> a b a b c"),
        ("Mietvertrag Straße", "Ärger in der Strasse, ann@example.org"),
        ("契約書", "この契約書は 2026-11-26 に 署名 された"),
        ("हिन्दी", "नमस्ते दुनिया ไทย ภาษา"),
        ("x_y", "x y z x_y x-y x.y"),
        ("", "no title at all"),
        ("a", "a"),
        ("a b", "b a"),
    ];
    let entry = |(number, (title, text)): (u128, &(&str, &str))| IndexEntry {
        row: row(DocumentId::from_uuid(Uuid::from_u128((0x0190_0000 << 96) | number)), title),
        text: (*text).to_owned(),
    };
    (1..).zip(&texts).map(entry).collect()
}

fn row(id: DocumentId, title: &str) -> DocumentRow {
    DocumentRow {
        id,
        title: title.to_owned(),
        content_type: "text/plain".to_owned(),
        content_size: 5,
        content_sha256: Some(Sha256::of(b"hello")),
        s3_key: Some(Document::content_key(id)),
        status: DocumentStatus::Created,
        created_by: "ann@example.org".to_owned(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version: 1,
        deleted: false,
    }
}
