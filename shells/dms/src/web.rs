//! The HTTP and gRPC faces of a running product.

use std::sync::Arc;

use axum::Router;
use dms_core::ports::{DocumentClient, TokenVerifier};
use dms_core::use_cases::{Documents, Signatures};
use dms_core::{Claims, Error, ErrorKind, Result};
use dms_realtime::Live;
use dms_rpc::auth::Authentication;
use dms_rpc::grpc::{DocumentServer, GrpcAuthentication, GrpcLimits, GrpcServer};
use dms_rpc::rest::{
    self, Access, DocumentsState, LayerOptions, RestState, SearchState, SignaturesState, Writes,
};
use dms_runtime::live::LiveState;
use dms_runtime::{HealthRegistry, metrics_handle};

use crate::backends::Backends;
use crate::builder::Tokens;

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
        backends: &Backends,
        health: &HealthRegistry,
        writes: &Writes,
    ) -> Result<Router> {
        let access = Access {
            authentication: if self.tokens.required {
                Authentication::Required(self.verifier())
            } else {
                Authentication::Off
            },
            trusted_proxies: self.trusted_proxies,
        };
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
            search: SearchState { index: Arc::clone(&backends.index), access: access.clone() },
        });
        let live = dms_runtime::live::routes(LiveState {
            live: self.live.clone(),
            documents: Arc::new(self.documents.clone()) as Arc<dyn DocumentClient>,
            verifier: self.verifier(),
            access: access.clone(),
            development_tokens: self.tokens.development.clone(),
        });
        let app = rest::app(routes.merge(live), access, &LayerOptions::default())?;
        Ok(app.merge(health.router(metrics_handle())))
    }

    pub(crate) fn grpc(&self) -> Result<GrpcServer> {
        let authentication = if self.tokens.required {
            GrpcAuthentication::Required {
                verifier: self.verifier(),
                service_token: self.tokens.service_token.clone(),
            }
        } else {
            GrpcAuthentication::Off
        };
        let server = DocumentServer::new(self.documents.clone());
        GrpcServer::new(server, authentication, GrpcLimits::default())
    }

    fn verifier(&self) -> Arc<dyn TokenVerifier> {
        self.tokens.verifier.clone().unwrap_or_else(|| Arc::new(NoTokenIsValid))
    }
}

/// Stands in where nothing to check tokens with was given.
struct NoTokenIsValid;

#[async_trait::async_trait]
impl TokenVerifier for NoTokenIsValid {
    async fn verify(&self, _token: &str) -> Result<Claims> {
        let message = "tokens can't be checked: no key is configured";
        Err(Error::new(ErrorKind::Unauthenticated, message).with_code("token_invalid"))
    }
}
