//! The HTTP and gRPC faces of a running product.

use std::sync::Arc;

use axum::Router;
use dms_assembly::Tokens;
use dms_core::Result;
use dms_core::ports::{DocumentClient, SearchIndex};
use dms_core::use_cases::{Documents, Signatures};
use dms_realtime::Live;
use dms_rpc::grpc::{DocumentServer, GrpcLimits, GrpcServer};
use dms_rpc::rest::{
    self, DocumentsState, LayerOptions, RestState, SearchState, SignaturesState, Writes,
};
use dms_runtime::live::LiveState;
use dms_runtime::{HealthRegistry, metrics_handle};

/// What the faces show.
pub(crate) struct Faces {
    pub(crate) documents: Documents,
    pub(crate) signatures: Signatures,
    pub(crate) live: Live,
    pub(crate) tokens: Tokens,
    pub(crate) trusted_proxies: u8,
}

impl Faces {
    pub(crate) fn http(
        &self,
        index: &Arc<dyn SearchIndex>,
        health: &HealthRegistry,
        writes: &Writes,
    ) -> Result<Router> {
        let access = self.tokens.access(self.trusted_proxies);
        let routes = rest::routes(RestState {
            documents: DocumentsState {
                documents: self.documents.clone(),
                access: access.clone(),
                writes: writes.clone(),
            },
            signatures: SignaturesState {
                signatures: self.signatures.clone(),
                access: access.clone(),
                writes: writes.clone(),
                image_bytes_max: self.documents.limits().content_bytes_max,
            },
            search: SearchState { index: Arc::clone(index), access: access.clone() },
        });
        let live = dms_runtime::live::routes(LiveState {
            live: self.live.clone(),
            documents: Arc::new(self.documents.clone()) as Arc<dyn DocumentClient>,
            verifier: self.tokens.verifier(),
            access: access.clone(),
            development_tokens: self.tokens.development.clone(),
        });
        let app = rest::app(routes.merge(live), access, &LayerOptions::default())?;
        Ok(app.merge(health.router(metrics_handle())))
    }

    pub(crate) fn grpc(&self) -> Result<GrpcServer> {
        let server = DocumentServer::new(self.documents.clone());
        GrpcServer::new(server, self.tokens.grpc(), GrpcLimits::default())
    }
}
