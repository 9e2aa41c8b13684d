//! The calls of `proto/document_service.proto` on the use cases.

use std::sync::Arc;

use async_trait::async_trait;
use dms_core::ports::DocumentClient;
use dms_core::use_cases::Documents;
use dms_core::{
    Caller, Document, DocumentId, DocumentPatch, DocumentStatus, Error, ErrorKind, RequestId,
    Result,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::convert::response_of;
use super::proto::document_service_server::DocumentService;
use super::proto::{
    DocumentExistsRequest, DocumentExistsResponse, DocumentResponse, GetDocumentRequest,
    UpdateDocumentStatusRequest,
};
use super::status::{REQUEST_ID, status_of};

/// The place a call takes among those under way, until the last clone is dropped.
#[derive(Clone)]
pub(super) struct InFlight {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl InFlight {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Arc::new(permit) }
    }
}

/// Answers the calls of the document service. Cheap to clone.
///
/// Reads give the last committed write, as signing needs it. An update that has begun runs to its
/// end even if the client goes away or its deadline passes.
#[derive(Clone)]
pub struct DocumentServer {
    documents: Documents,
    writes: TaskTracker,
}

impl DocumentServer {
    /// A server of these documents.
    pub fn new(documents: Documents) -> Self {
        Self { documents, writes: TaskTracker::new() }
    }

    /// Updates that are under way, also those whose client is gone.
    pub(super) fn writes(&self) -> &TaskTracker {
        &self.writes
    }

    async fn update(
        &self,
        caller: Caller,
        request: UpdateDocumentStatusRequest,
        in_flight: Option<InFlight>,
    ) -> Result<Document> {
        let id: DocumentId = request.document_id.parse()?;
        let status: DocumentStatus = request.status.parse()?;
        // A key belongs to what it is for, whoever repeats the call: with the caller in its scope,
        // a reconciler would repeat what a user's request had done already.
        let caller = if request.idempotency_key.is_some() {
            Caller { claims: None, ..caller }
        } else {
            caller
        };
        let documents = self.documents.clone();
        let write = async move {
            let updated = documents
                .update_once(
                    &caller,
                    id,
                    DocumentPatch::status(status),
                    request.expected_version,
                    request.idempotency_key.as_deref(),
                )
                .await;
            drop(in_flight);
            updated
        };
        self.writes
            .spawn(write.in_current_span())
            .await
            .map_err(|e| Error::internal("update didn't run to its end").with_source(e))?
    }

    async fn read(&self, caller: &Caller, document_id: &str) -> Result<Document> {
        // Not the method of the same name that counts a view.
        DocumentClient::get(&self.documents, caller, document_id.parse()?).await
    }
}

#[async_trait]
impl DocumentService for DocumentServer {
    async fn update_document_status(
        &self,
        request: Request<UpdateDocumentStatusRequest>,
    ) -> Result<Response<DocumentResponse>, Status> {
        let caller = caller_of(&request);
        let request_id = caller.request_id.clone();
        let in_flight = request.extensions().get::<InFlight>().cloned();
        match self.update(caller, request.into_inner(), in_flight).await {
            Ok(document) => Ok(Response::new(response_of(&document))),
            Err(error) => Err(status_of(&error, &request_id)),
        }
    }

    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> Result<Response<DocumentResponse>, Status> {
        let caller = caller_of(&request);
        match self.read(&caller, &request.get_ref().document_id).await {
            Ok(document) => Ok(Response::new(response_of(&document))),
            Err(error) => Err(status_of(&error, &caller.request_id)),
        }
    }

    async fn document_exists(
        &self,
        request: Request<DocumentExistsRequest>,
    ) -> Result<Response<DocumentExistsResponse>, Status> {
        let caller = caller_of(&request);
        let exists = match self.read(&caller, &request.get_ref().document_id).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(status_of(&error, &caller.request_id)),
        };
        Ok(Response::new(DocumentExistsResponse { exists }))
    }
}

/// Who calls: as found out before the call came here, or else what the request itself says.
fn caller_of<T>(request: &Request<T>) -> Caller {
    if let Some(caller) = request.extensions().get::<Caller>() {
        return caller.clone();
    }
    let request_id = request.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    Caller {
        claims: None,
        address: request.remote_addr().map(|address| address.ip()),
        request_id: request_id.and_then(RequestId::from_caller).unwrap_or_else(RequestId::generate),
    }
}
