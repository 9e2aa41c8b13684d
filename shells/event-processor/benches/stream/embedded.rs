//! A topic that is full already, into tantivy, in a process of its own.
//!
//! The process is this program again. What it is to do comes in its environment, so that its memory is
//! that of the parts it is made of. The program `dms`, which has these parts too, has another allocator.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dms_assembly::{Indexing, IndexingPorts, Repositories};
use dms_cdc::kafka::{KafkaChangeSource, KafkaSourceOptions};
use dms_core::model::change::Position;
use dms_core::ports::{SearchIndex as _, SystemClock};
use dms_core::use_cases::DocumentLimits;
use dms_search::{TantivyIndex, TantivyOptions};
use dms_store::blobs::{FileBlobOptions, FileBlobStore};
use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::documents::Documents;
use crate::processor::memory_kib;
use crate::replay::{fill, rate};
use crate::system::{PATIENCE, System, database_url};
use crate::{print, topic};

const TASK: &str = "DMS_BENCH_TASK";
/// How often the index is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// As many as the runner gives to a sink.
const BATCH: usize = 1_000;

pub(crate) async fn measure(system: &System, documents: u64, text_bytes: usize) {
    println!("{documents} documents into tantivy, each with {text_bytes} bytes of text:");
    let documents = Documents { count: documents, text_bytes };
    fill(system, documents).await;
    let child = |kind: &str| Child {
        kind: kind.to_owned(),
        name: system.name.clone(),
        documents,
        folder: system.folder().join(kind),
    };
    let direct = child("direct").start().await;
    print(
        "entries given to tantivy directly",
        &format!("{:.0}/s, {} MiB at most", direct.per_second, direct.memory_mib),
    );
    let stream = child("stream").start().await;
    print(
        "the topic into tantivy",
        &format!(
            "{:.0}/s, {:.0} % of that, {} MiB at most, {} MiB without pages of files",
            stream.per_second,
            100.0 * stream.per_second / direct.per_second,
            stream.memory_mib,
            stream.anonymous_mib,
        ),
    );
}

/// What a child has measured.
struct Measured {
    per_second: f64,
    /// Most that was resident; and of that without pages of files, of the index above all, which the
    /// system may take back.
    memory_mib: u64,
    anonymous_mib: u64,
}

/// What a child is to do.
pub(crate) struct Child {
    kind: String,
    name: String,
    documents: Documents,
    folder: PathBuf,
}

impl Child {
    async fn start(self) -> Measured {
        let Documents { count, text_bytes } = self.documents;
        let folder = self.folder.display();
        let task = format!("{} {} {count} {text_bytes} {folder}", self.kind, self.name);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(TASK, task).stderr(Stdio::inherit());
        let ended = tokio::task::spawn_blocking(move || command.output()).await.expect("joins");
        let output = ended.expect("the child starts");
        assert!(output.status.success(), "the child measures");
        let said = String::from_utf8_lossy(&output.stdout);
        let mut words = said.split_whitespace();
        let mut next = || words.next().expect("a figure");
        Measured {
            per_second: next().parse().expect("a number"),
            memory_mib: next().parse().expect("a number"),
            anonymous_mib: next().parse().expect("a number"),
        }
    }

    /// This process's task, if it is a child.
    pub(crate) fn of_environment() -> Option<Self> {
        let task = std::env::var(TASK).ok()?;
        let mut words = task.splitn(5, ' ');
        let mut next = || words.next().expect("a task");
        let (kind, name) = (next().to_owned(), next().to_owned());
        let count = next().parse().expect("a number");
        let text_bytes = next().parse().expect("a number");
        let folder = next().into();
        Some(Self { kind, name, documents: Documents { count, text_bytes }, folder })
    }

    pub(crate) async fn run(self) {
        let folder = self.folder.join("index");
        std::fs::create_dir_all(&folder).expect("a folder");
        let index = TantivyIndex::open(&folder, TantivyOptions::default()).expect("an index");
        let (per_second, anonymous_kib) = if self.kind == "direct" {
            (self.direct(&index).await, 0)
        } else {
            self.stream(Arc::new(index)).await
        };
        let memory_mib = memory_kib("self", "VmHWM:") / 1024;
        println!("{per_second} {memory_mib} {}", anonymous_kib / 1024);
    }

    async fn direct(&self, index: &TantivyIndex) -> f64 {
        let mut took = Duration::ZERO;
        let mut entries = self.documents.all();
        loop {
            let batch: Vec<_> = entries.by_ref().take(BATCH).collect();
            let Some(last) = batch.last() else { break };
            let position = Position::new(last.row.id.to_string());
            let began = Instant::now();
            index.write(batch, Some(position)).await.expect("written");
            took += began.elapsed();
        }
        rate(self.documents.count, took)
    }

    /// Documents a second, and the most memory that isn't pages of files.
    async fn stream(&self, index: Arc<TantivyIndex>) -> (f64, u64) {
        let name = &self.name;
        // Complete up to before the first record, so that it isn't filled from the rows.
        let beginning = Position::new(format!("{name}.documents:;{name}.signatures:"));
        index.write(Vec::new(), Some(beginning)).await.expect("written");
        let options = PostgresOptions::new(&database_url(name));
        let database = PostgresDatabase::new(options).expect("options");
        let content = self.folder.join("content");
        let blobs = FileBlobStore::open(&content, FileBlobOptions::default()).await;
        let source = KafkaSourceOptions {
            topics: vec![format!("{name}.documents"), format!("{name}.signatures")],
            ..KafkaSourceOptions::new(topic::brokers(), format!("{name}tantivy"))
        };
        let ports = IndexingPorts {
            index: Arc::clone(&index) as _,
            repositories: Repositories {
                documents: Arc::new(database.documents()),
                signatures: Arc::new(database.signatures()),
                texts: Arc::new(database.texts()),
                idempotency: Arc::new(database.idempotency()),
                dead_letters: Arc::new(database.dead_letters()),
            },
            blobs: Arc::new(blobs.expect("a folder")),
            source: Arc::new(KafkaChangeSource::new(source).expect("options")),
        };
        let indexing = Indexing::new(ports, Arc::new(SystemClock), DocumentLimits::default());
        let stop = CancellationToken::new();
        let measured = async {
            let measured = self.watch(&index).await;
            stop.cancel();
            measured
        };
        let (followed, measured) = tokio::join!(indexing.follow(stop.clone()), measured);
        followed.expect("it follows the stream");
        measured
    }

    /// From the first documents that are found to the last.
    async fn watch(&self, index: &TantivyIndex) -> (f64, u64) {
        let wanted = self.documents.count;
        let started = Instant::now();
        let mut first = None;
        let mut anonymous_kib = 0;
        loop {
            let found = index.count().await.expect("counted");
            let now = Instant::now();
            anonymous_kib = anonymous_kib.max(memory_kib("self", "RssAnon:"));
            match first {
                None if found > 0 => first = Some((now, found)),
                Some((first, of_first)) if found >= wanted => {
                    return (rate(wanted - of_first, now - first), anonymous_kib);
                }
                _ => {}
            }
            assert!(started.elapsed() < PATIENCE, "{found} of {wanted} came");
            sleep(LOOK_EVERY).await;
        }
    }
}
