//! Documents that do what a test says, served over an ephemeral port.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::model::change::DocumentRow;
use dms_core::model::text::TextKey;
use dms_core::ports::{
    DocumentRepository, IdempotencyRecord, MockBlobStore, MockDocumentCache,
    MockIdempotencyRepository, MockViewCounter, Updated,
};
use dms_core::use_cases::{DocumentLimits, Documents, DocumentsPorts};
use dms_core::{
    Document, DocumentId, DocumentPage, DocumentPatch, DocumentStatus, ListQuery, NewDocument,
    Result, Sha256,
};
use dms_rpc::grpc::proto::document_service_client::DocumentServiceClient;
use dms_rpc::grpc::{
    DocumentServer, GrpcAuthentication, GrpcClientConfig, GrpcHealth, GrpcLimits, GrpcServer,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Long enough for anything that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn document(id: DocumentId) -> Document {
    let at = dms_core::model::timestamp::parse("2026-01-02T03:04:05.678901Z").unwrap();
    Document {
        id,
        title: "Contract".into(),
        content_type: "text/plain".into(),
        content_size: 5,
        content_sha256: Sha256::of(b"hello"),
        s3_key: Document::content_key(id),
        status: DocumentStatus::Created,
        created_by: "ann".into(),
        created_at: at,
        updated_at: at,
        version: 1,
    }
}

/// What an update was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update {
    pub(crate) id: DocumentId,
    pub(crate) patch: DocumentPatch,
    pub(crate) expected_version: Option<i32>,
    pub(crate) idempotency: Option<IdempotencyRecord>,
}

type OnGet = Box<dyn Fn(DocumentId) -> BoxFuture<'static, Result<Document>> + Send + Sync>;
type OnUpdate = Box<dyn Fn(Update) -> BoxFuture<'static, Result<Document>> + Send + Sync>;

/// A repository whose answers a test gives.
pub(crate) struct ScriptedDocuments {
    on_get: OnGet,
    on_update: OnUpdate,
}

impl ScriptedDocuments {
    /// Every document is there, and every update succeeds.
    pub(crate) fn new() -> Self {
        Self::on_get(|id| async move { Ok(document(id)) })
    }

    pub(crate) fn on_get<F>(get: impl Fn(DocumentId) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Document>> + Send + 'static,
    {
        let on_update = |update: Update| {
            let status = update.patch.status.unwrap();
            async move { Ok(Document { status, version: 2, ..document(update.id) }) }.boxed()
        };
        Self { on_get: Box::new(move |id| get(id).boxed()), on_update: Box::new(on_update) }
    }

    pub(crate) fn on_update<F>(update: impl Fn(Update) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Document>> + Send + 'static,
    {
        Self { on_update: Box::new(move |u| update(u).boxed()), ..Self::new() }
    }

    /// The use cases on it.
    pub(crate) fn documents(self) -> Documents {
        let mut cache = MockDocumentCache::new();
        cache.expect_put().return_const(());
        let ports = DocumentsPorts {
            documents: Arc::new(self),
            blobs: Arc::new(MockBlobStore::new()),
            cache: Arc::new(cache),
            views: Arc::new(MockViewCounter::new()),
            idempotency: Arc::new(MockIdempotencyRepository::new()),
        };
        Documents::new(ports, DocumentLimits::default())
    }

    pub(crate) fn server(self) -> GrpcServer {
        self.server_with(GrpcAuthentication::Off, GrpcLimits::default())
    }

    pub(crate) fn server_with(
        self,
        authentication: GrpcAuthentication,
        limits: GrpcLimits,
    ) -> GrpcServer {
        GrpcServer::new(DocumentServer::new(self.documents()), authentication, limits).unwrap()
    }
}

#[async_trait]
impl DocumentRepository for ScriptedDocuments {
    async fn get(&self, id: DocumentId) -> Result<Document> {
        (self.on_get)(id).await
    }

    async fn update(
        &self,
        id: DocumentId,
        patch: &DocumentPatch,
        expected_version: Option<i32>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Updated> {
        let update = Update { id, patch: patch.clone(), expected_version, idempotency };
        let document = (self.on_update)(update).await?;
        Ok(Updated { document, changed: true })
    }

    async fn create(
        &self,
        _: NewDocument,
        _: Option<(TextKey, String)>,
        _: Option<IdempotencyRecord>,
    ) -> Result<Document> {
        unreachable!("gRPC creates nothing")
    }

    async fn list(&self, _: &ListQuery) -> Result<DocumentPage> {
        unreachable!("gRPC lists nothing")
    }

    async fn delete(&self, _: DocumentId, _: Option<i32>) -> Result<i32> {
        unreachable!("gRPC deletes nothing")
    }

    async fn scan(&self, _: Option<DocumentId>, _: u32) -> Result<Vec<DocumentRow>> {
        unreachable!("gRPC scans nothing")
    }

    async fn referenced(&self, _: &[DocumentId]) -> Result<HashSet<DocumentId>> {
        unreachable!("gRPC sweeps nothing")
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A server that runs until it is stopped or dropped.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) health: GrpcHealth,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(server: GrpcServer) -> Self {
        Self::start_on(server, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn start_on(server: GrpcServer, listener: TcpListener) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let health = server.health();
        let task = tokio::spawn(server.serve(listener, stop.clone().cancelled_owned()));
        Self { url, health, stop, task }
    }

    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone()).unwrap().connect_lazy()
    }

    pub(crate) fn calls(&self) -> DocumentServiceClient<Channel> {
        DocumentServiceClient::new(self.channel())
    }

    pub(crate) fn config(&self) -> GrpcClientConfig {
        GrpcClientConfig {
            retry_pause: Duration::from_millis(1),
            deadline: PATIENCE,
            ..GrpcClientConfig::new(&self.url)
        }
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the server has drained.
    pub(crate) async fn stopped(mut self) {
        self.stop.cancel();
        patiently(&mut self.task).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it should have happened by now")
}

/// Counts, and lets a test wait for a count.
#[derive(Clone, Default)]
pub(crate) struct Counter {
    count: Arc<AtomicUsize>,
    changed: Arc<tokio::sync::Notify>,
}

impl Counter {
    pub(crate) fn get(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Adds one; gives how many there were before.
    pub(crate) fn add(&self) -> usize {
        let before = self.count.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        before
    }

    pub(crate) fn subtract(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) async fn reached(&self, count: usize) {
        patiently(async {
            loop {
                let changed = self.changed.notified();
                if self.get() >= count {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}
