//! The client and the REST server, each against the other.

use std::sync::Arc;

use bytes::Bytes;
use dms_core::fake::{
    InMemoryBlobStore, InMemoryDatabase, InMemoryDocumentCache, InMemorySearchIndex,
    InMemoryViewCounter,
};
use dms_core::model::search::{
    AggregationField, AggregationQuery, IndexEntry, SearchFilter, SearchQuery,
};
use dms_core::ports::SearchIndex as _;
use dms_core::use_cases::{
    CreateDocument, DocumentLimits, Documents, DocumentsPorts, Signatures, SignaturesPorts,
};
use dms_core::{AppliedStatus, DocumentId, DocumentStatus, Sha256};
use dms_rpc::client::{DmsClient, DocumentQuery, UploadContent};
use dms_rpc::rest::{
    self, Access, DocumentsState, LayerOptions, RestState, SearchState, SignaturesState, Writes,
};
use dms_rpc::types::{CreateSignatureBody, PatchDocumentBody};
use futures_util::{TryStreamExt as _, stream};

use super::support::TestServer;

const CONTENT_BYTES_MAX: u64 = 1 << 20;

struct System {
    server: TestServer,
    index: Arc<InMemorySearchIndex>,
}

impl System {
    async fn start() -> Self {
        let database = InMemoryDatabase::default();
        let blobs = Arc::new(InMemoryBlobStore::default());
        let index = Arc::new(InMemorySearchIndex::new());
        let ports = DocumentsPorts {
            documents: Arc::new(database.documents()),
            blobs: blobs.clone(),
            cache: Arc::new(InMemoryDocumentCache::new()),
            views: Arc::new(InMemoryViewCounter::new()),
            idempotency: Arc::new(database.idempotency()),
        };
        let limits =
            DocumentLimits { content_bytes_max: CONTENT_BYTES_MAX, ..DocumentLimits::default() };
        let documents = Documents::new(ports, limits);
        let signatures = Signatures::new(SignaturesPorts {
            signatures: Arc::new(database.signatures()),
            blobs,
            documents: Arc::new(documents.clone()),
            idempotency: Arc::new(database.idempotency()),
        });
        let (access, writes) = (Access::default(), Writes::new());
        let state = RestState {
            documents: DocumentsState { documents, access: access.clone(), writes: writes.clone() },
            signatures: SignaturesState {
                signatures,
                access: access.clone(),
                writes,
                image_bytes_max: CONTENT_BYTES_MAX,
            },
            search: SearchState { index: index.clone(), access: access.clone() },
        };
        let app = rest::app(rest::routes(state), access, &LayerOptions::default()).unwrap();
        Self { server: TestServer::of(app).await, index }
    }

    fn client(&self) -> DmsClient {
        self.server.client()
    }
}

fn fields() -> CreateDocument {
    CreateDocument {
        title: "Vertrag „Süd“ & Söhne".into(),
        created_by: "ann+b@example.org".into(),
        content_type: Some("text/markdown; charset=utf-8".into()),
    }
}

#[tokio::test]
async fn text_and_bytes_arrive_as_they_are() {
    let system = System::start().await;
    let client = system.client();
    for content in ["# Größe", ""].map(Bytes::from).into_iter().chain([Bytes::from(vec![0, 255])])
    {
        let created = client.create_document(&fields(), content.clone(), None).await.unwrap();
        assert_eq!(created.title, fields().title);
        assert_eq!(created.created_by, fields().created_by);
        assert_eq!(created.content_sha256, Sha256::of(&content));
        let download = client.content(created.id, ..).await.unwrap();
        assert_eq!(download.content_type, "text/markdown; charset=utf-8");
        assert_eq!(download.size, Some(content.len() as u64));
        assert_eq!(download.into_bytes(100).await.unwrap(), content);
    }
}

#[tokio::test]
async fn uploads_arrive_from_anywhere() {
    let system = System::start().await;
    let client = system.client();
    let content = Bytes::from(vec![7; 300_000]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let chunks: Vec<_> = content.chunks(1_000).map(Bytes::copy_from_slice).map(Ok).collect();
    for upload in [
        UploadContent::bytes(content.clone()),
        UploadContent::file(file.path()),
        UploadContent::stream(stream::iter(chunks), None),
    ] {
        let created = client.upload_document(&fields(), upload, None).await.unwrap();
        assert_eq!(created.content_sha256, Sha256::of(&content));
        assert_eq!(created.content_type, "text/markdown; charset=utf-8");
        let part = client.content(created.id, 299_990..).await.unwrap();
        assert_eq!(part.size, Some(300_000));
        assert_eq!(part.into_bytes(100).await.unwrap().len(), 10);
    }
    let untyped = CreateDocument { content_type: None, ..fields() };
    let created = client.upload_document(&untyped, UploadContent::bytes("x"), None).await.unwrap();
    assert_eq!(created.content_type, "text/plain");
}

#[tokio::test]
async fn a_key_makes_one_document_however_often_it_is_shown() {
    let system = System::start().await;
    let client = system.client();
    let mut made = Vec::new();
    for _ in 0..2 {
        made.push(client.create_document(&fields(), "hello", Some("k-1")).await.unwrap());
        let upload = UploadContent::bytes("hello");
        made.push(client.upload_document(&fields(), upload, Some("k-1")).await.unwrap());
    }
    assert!(made.iter().all(|document| *document == made[0]), "{made:?}");
    let error = client.create_document(&fields(), "other", Some("k-1")).await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(422), Some("idempotency_key_reused")));
}

#[tokio::test]
async fn refusals_arrive_with_their_fields() {
    let system = System::start().await;
    let client = system.client();
    let empty = CreateDocument { title: " ".into(), created_by: "\n".into(), content_type: None };
    let error = client.create_document(&empty, "x", None).await.unwrap_err();
    let problem = error.problem().unwrap();
    let fields_refused: Vec<_> = problem.fields.iter().map(|f| f.field.as_str()).collect();
    assert_eq!((problem.status, fields_refused), (422, vec!["title", "created_by"]));
    assert!(problem.request_id.is_some());
    let error = client.document(DocumentId::generate()).await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(404), Some("not_found")));
}

#[tokio::test]
async fn content_that_is_too_large_is_refused_while_it_is_sent() {
    let system = System::start().await;
    let client = system.client();
    let (fields, chunk) = (fields(), Bytes::from(vec![0; 64 << 10]));
    for _ in 0..5 {
        let chunk = chunk.clone();
        let endless = stream::repeat_with(move || Ok(chunk.clone()));
        let upload = UploadContent::stream(endless, None);
        let error = client.upload_document(&fields, upload, None).await.unwrap_err();
        assert_eq!((error.status(), error.code()), (Some(413), Some("content_too_large")));
    }
}

#[tokio::test]
async fn a_document_lives_its_life() {
    let system = System::start().await;
    let client = system.client();
    let id = client.create_document(&fields(), "hello", None).await.unwrap().id;
    assert_eq!(client.document(id).await.unwrap().version, 1);
    assert_eq!(client.document_if_changed(id, 1).await.unwrap(), None);

    let viewed = PatchDocumentBody { status: Some(DocumentStatus::Viewed), title: None };
    assert_eq!(client.update_document(id, &viewed, Some(1)).await.unwrap().version, 2);
    let stale = client.update_document(id, &viewed, Some(1)).await.unwrap_err();
    assert_eq!(stale.problem().unwrap().current_version, Some(2));
    let changed = client.document_if_changed(id, 1).await.unwrap().unwrap();
    assert_eq!(changed.status, DocumentStatus::Viewed);

    let stats = client.stats(id).await.unwrap();
    assert_eq!((stats.document_id, stats.unique_views), (id, 1));
    assert!(stats.total_views >= 2);

    assert_eq!(client.delete_document(id, Some(1)).await.unwrap_err().status(), Some(412));
    client.delete_document(id, Some(2)).await.unwrap();
    assert_eq!(client.document(id).await.unwrap_err().status(), Some(404));
}

#[tokio::test]
async fn a_document_is_signed() {
    let system = System::start().await;
    let client = system.client();
    let id = client.create_document(&fields(), "hello", None).await.unwrap().id;
    let body = CreateSignatureBody {
        document_id: id,
        signer_email: "bob@example.org".into(),
        signer_name: "Bob".into(),
        signature_data: "data:image/png;base64,aGVsbG8=".into(),
    };
    let signature = client.sign(&body, Some("s-1")).await.unwrap();
    assert_eq!(signature.document_status, AppliedStatus::Signed);
    assert_eq!(client.sign(&body, Some("s-1")).await.unwrap(), signature);
    let again = client.sign(&body, None).await.unwrap_err();
    assert_eq!((again.status(), again.code()), (Some(409), Some("already_signed")));
    assert_eq!(client.signatures(id).await.unwrap(), std::slice::from_ref(&signature));
    assert_eq!(client.signature(signature.id).await.unwrap(), signature);
    let image = client.signature_image(signature.id).await.unwrap();
    assert_eq!(image.into_bytes(100).await.unwrap(), "hello");
    assert_eq!(client.document(id).await.unwrap().status, DocumentStatus::Signed);
}

#[tokio::test]
async fn documents_are_listed_searched_and_counted() {
    let system = System::start().await;
    let client = system.client();
    let mut entries = Vec::new();
    for n in 0..7 {
        let fields = CreateDocument { title: format!("Contract {n}"), ..fields() };
        let created = client.create_document(&fields, "hello", None).await.unwrap();
        entries.push(IndexEntry { row: created.into(), text: "hello".into() });
    }
    let ids: Vec<_> = entries.iter().rev().map(|entry| entry.row.id).collect();
    system.index.write(entries, None).await.unwrap();

    let query = DocumentQuery {
        limit: Some(3),
        created_by: Some(fields().created_by),
        ..DocumentQuery::default()
    };
    let listed = client.documents(query).map_ok(|document| document.id);
    assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap(), ids);

    let filter = SearchFilter { status: Some(DocumentStatus::Created), ..SearchFilter::default() };
    let query = SearchQuery {
        text: Some("contract".into()),
        filter: filter.clone(),
        ..SearchQuery::default()
    };
    let found = client.search(&query).await.unwrap();
    assert_eq!((found.total, found.documents.len()), (7, 7));
    let query = AggregationQuery { field: AggregationField::Status, text: None, filter, size: 10 };
    let counted = client.aggregate(&query).await.unwrap();
    assert_eq!((counted.values[0].key.as_str(), counted.values[0].count), ("created", 7));
}
