//! How fast the tantivy index searches and writes, on this machine: prints rates and sizes.
//!
//! ```text
//! cargo bench -p dms-search --features tantivy -- 100000
//! ```

use std::time::{Duration, Instant};

use dms_core::model::change::{DocumentRow, Position};
use dms_core::model::search::{AggregationField, AggregationQuery};
use dms_core::model::search::{IndexEntry, SearchFilter, SearchQuery};
use dms_core::ports::SearchIndex;
use dms_core::{DocumentId, DocumentStatus, Sha256};
use dms_search::{TantivyIndex, TantivyOptions};
use time::macros::datetime;

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Small numbers often, large ones seldom, as words are in a language.
    fn word(&mut self) -> String {
        let bound = 1 << (1 + self.below(14));
        format!("word{}", self.below(bound))
    }

    fn text(&mut self, words: u64) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

fn entry(numbers: &mut Numbers) -> IndexEntry {
    let id = DocumentId::generate();
    let at = datetime!(2026-01-02 03:04:05 UTC);
    let text = numbers.text(150);
    let row = DocumentRow {
        id,
        title: format!("Agreement {}", numbers.text(5)),
        content_type: "text/plain".to_owned(),
        content_size: text.len() as u64,
        content_sha256: Some(Sha256::of(text.as_bytes())),
        s3_key: Some(format!("{id}/content")),
        status: DocumentStatus::Created,
        created_by: format!("user{}@example.org", numbers.below(1_000)),
        created_at: at,
        updated_at: at,
        version: 1,
        deleted: false,
    };
    IndexEntry { row, text }
}

fn main() {
    let documents: usize =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(45_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(documents));
}

async fn measure(documents: usize) {
    let dir = tempfile::tempdir().unwrap();
    let index = TantivyIndex::open(dir.path(), TantivyOptions::default()).unwrap();
    let mut numbers = Numbers(42);
    println!("empty: {}", memory());

    let begun = Instant::now();
    let mut last = Vec::new();
    for part in 0..documents.div_ceil(1_000) {
        last = (0..1_000).map(|_| entry(&mut numbers)).collect();
        index.write(last.clone(), Some(Position::new(part.to_string()))).await.unwrap();
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let rate = documents as f64 / seconds;
    println!("{documents} documents in batches of 1000: {seconds:.1} s, {rate:.0}/s; {}", memory());

    let mut commits = Vec::new();
    for round in 0..200 {
        for entry in &mut last[round % 90 * 10..][..10] {
            entry.row.version += 1;
            entry.row.status = DocumentStatus::Signed;
        }
        let batch = last[round % 90 * 10..][..10].to_vec();
        let begun = Instant::now();
        index.write(batch, Some(Position::new(format!("r{round}")))).await.unwrap();
        commits.push(begun.elapsed());
    }
    show("write of 10 changed documents", commits);

    tokio::time::sleep(Duration::from_secs(2)).await;
    index.check().await.unwrap();
    println!("{} bytes on disk; {}", index.size_bytes().await.unwrap(), memory());

    let search = |text: &str| SearchQuery {
        text: (!text.is_empty()).then(|| text.to_owned()),
        ..SearchQuery::default()
    };
    for (name, text) in [
        ("no text", ""),
        ("a rare word", "word8000"),
        ("a word of one in ten", "word300"),
        ("a word of all titles", "agreement"),
        ("two common words", "word1 agreement"),
        ("a phrase", "\"word1 word2\""),
        ("an exclusion", "word300 -word1"),
        ("a creator", "user7@example.org"),
    ] {
        time(name, &index, &search(text)).await;
    }
    let signed = SearchFilter { status: Some(DocumentStatus::Signed), ..SearchFilter::default() };
    time("a filter", &index, &SearchQuery { filter: signed, ..search("agreement") }).await;
    time("a deep page", &index, &SearchQuery { from: 9_000, ..search("agreement") }).await;
    for field in [AggregationField::Status, AggregationField::CreatedBy] {
        let query =
            AggregationQuery { field, text: None, filter: SearchFilter::default(), size: 10 };
        let mut times = Vec::new();
        for _ in 0..100 {
            let begun = Instant::now();
            index.aggregate(&query).await.unwrap();
            times.push(begun.elapsed());
        }
        show(&format!("counts by {field}"), times);
    }
    println!("{}", memory());
}

async fn time(name: &str, index: &TantivyIndex, query: &SearchQuery) {
    let mut times = Vec::new();
    let mut total = 0;
    for _ in 0..300 {
        let begun = Instant::now();
        total = index.search(query).await.unwrap().total;
        times.push(begun.elapsed());
    }
    show(&format!("{name} ({total} found)"), times);
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let median = times[times.len() / 2];
    let slow = times[times.len() * 99 / 100];
    println!("{name}: {median:.1?}, 99 %: {slow:.1?}, {:.0}/s", 1.0 / median.as_secs_f64());
}

/// Memory of this process, where the system tells.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines =
        status.lines().filter(|line| line.starts_with("RssAnon") || line.starts_with("RssFile"));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
