//! What the standard health service says (`grpc.health.v1`).

use dms_core::Result;
use futures_util::FutureExt as _;
use tonic::server::NamedService as _;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::DocumentServer;
use super::proto::document_service_server::DocumentServiceServer;

const WHOLE_SERVER: &str = "";
const DOCUMENTS: &str = DocumentServiceServer::<DocumentServer>::NAME;

/// Says whether the server is ready for calls; `SERVING` at first. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GrpcHealth {
    reporter: HealthReporter,
}

impl GrpcHealth {
    pub(super) fn new() -> Result<Self> {
        let health = Self { reporter: HealthReporter::new() };
        // Nobody else has the reporter yet, so nothing is waited for.
        health
            .set_serving(true)
            .now_or_never()
            .ok_or_else(|| dms_core::Error::internal("the health of a new server is locked"))?;
        Ok(health)
    }

    /// Says from now on that the server and its document service are ready, or that they aren't.
    /// Watchers are told.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in [WHOLE_SERVER, DOCUMENTS] {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Says `NOT_SERVING` a last time and ends every watch, so that connections can close.
    pub(super) async fn end(mut self) {
        self.set_serving(false).await;
        for service in [WHOLE_SERVER, DOCUMENTS] {
            self.reporter.clear_service_status(service).await;
        }
    }

    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
