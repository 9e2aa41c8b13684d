//! Load: several writers that create, change, sign and delete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{DocumentRepository as _, SignatureRepository as _};
use dms_core::{
    DocumentId, DocumentPatch, DocumentStatus, NewDocument, NewSignature, Result, Sha256,
    SignatureId,
};
use dms_store::postgres::PostgresDatabase;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;

const WRITERS: u64 = 3;
/// Documents that one writer still changes.
const OPEN_MAX: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Writers {
    running: watch::Sender<bool>,
    /// Held by each writer while it writes.
    writing: Arc<RwLock<()>>,
    pub(crate) written: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Writers {
    pub(crate) fn start(database: &PostgresDatabase, seed: u64) -> Self {
        let (running, _) = watch::channel(true);
        let (writing, written) = (Arc::new(RwLock::new(())), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer {
                database: database.clone(),
                random: Random::new(seed + number),
                open: Vec::new(),
            };
            let written = Arc::clone(&written);
            tasks.spawn(writer.run(running.subscribe(), Arc::clone(&writing), written));
        }
        Self { running, writing, written, _tasks: tasks }
    }

    /// Nothing is being written once this returns.
    pub(crate) async fn pause(&self) {
        self.running.send_replace(false);
        drop(self.writing.write().await);
    }

    pub(crate) fn resume(&self) {
        self.running.send_replace(true);
    }
}

struct Writer {
    database: PostgresDatabase,
    random: Random,
    open: Vec<DocumentId>,
}

impl Writer {
    async fn run(
        mut self,
        mut running: watch::Receiver<bool>,
        writing: Arc<RwLock<()>>,
        written: Arc<AtomicU64>,
    ) {
        while running.wait_for(|running| *running).await.is_ok() {
            let guard = writing.read().await;
            if !*running.borrow() {
                continue;
            }
            match self.write().await {
                Ok(()) => drop(written.fetch_add(1, Ordering::Relaxed)),
                // The database is away, or the document is no longer as it was.
                Err(_) => tokio::time::sleep(PAUSE * 5).await,
            }
            drop(guard);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write(&mut self) -> Result<()> {
        let documents = self.database.documents();
        if self.open.len() < 5 || self.random.below(10) < 4 {
            let created = create(&self.database, "writer", self.random.next()).await?;
            self.open.push(created);
            if self.open.len() > OPEN_MAX {
                self.open.swap_remove(0);
            }
            return Ok(());
        }
        let at = usize::try_from(self.random.below(self.open.len() as u64)).expect("small");
        let id = self.open[at];
        match self.random.below(4) {
            0 => {
                self.open.swap_remove(at);
                documents.delete(id, None).await?;
            }
            1 => {
                self.open.swap_remove(at);
                let signature = NewSignature {
                    id: SignatureId::generate(),
                    document_id: id,
                    signer_email: "ann@example.org".to_owned(),
                    signer_name: "Ann".to_owned(),
                    image_key: "signatures/none".to_owned(),
                    image_content_type: "image/png".to_owned(),
                };
                let signature = self.database.signatures().create(signature, None).await?;
                let signed = DocumentPatch::status(DocumentStatus::Signed);
                documents.update(id, &signed, None, None).await?;
                self.database.signatures().mark_applied(signature.id).await?;
            }
            _ => {
                let title = Some(format!("title {}", self.random.next()));
                let patch = DocumentPatch { title, status: None };
                documents.update(id, &patch, None, None).await?;
            }
        }
        Ok(())
    }
}

/// Creates a document with a text of its own.
pub(crate) async fn create(
    database: &PostgresDatabase,
    creator: &str,
    number: u64,
) -> Result<DocumentId> {
    let id = DocumentId::generate();
    let text = format!("content {number} of {id}");
    let key = TextKey { content_sha256: Sha256::of(text.as_bytes()), format: TextFormat::Plain };
    let document = NewDocument {
        id,
        title: format!("document {number}"),
        content_type: "text/plain".to_owned(),
        content_size: text.len() as u64,
        content_sha256: key.content_sha256,
        s3_key: format!("documents/{id}"),
        created_by: creator.to_owned(),
    };
    database.documents().create(document, Some((key, text)), None).await.map(|created| created.id)
}

/// Numbers that look random and follow from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
