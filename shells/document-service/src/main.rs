//! Documents over REST and gRPC.

use std::process::ExitCode;
use std::sync::Arc;

use dms_assembly::{Assembly, Faces, LiveFeed, Tokens, run_service};
use dms_core::use_cases::{DocumentLimits, Documents, DocumentsPorts};
use dms_rpc::grpc::{DocumentServer, GrpcLimits, GrpcServer};
use dms_rpc::rest::{self, DocumentsState, LayerOptions, Writes};
use dms_runtime::settings::{Backends, ProcessEnvironment};
use dms_runtime::{Program, Settings, StartupError, live};

const PROGRAM: Program = Program {
    name: "document-service",
    version: env!("CARGO_PKG_VERSION"),
    http_port: 8005,
    grpc_port: Some(50051),
    backends: Backends {
        database: &["postgres"],
        storage: &["file", "s3"],
        cache: &["memory", "redis"],
        events: &["postgres", "kafka"],
        ..Backends::NONE
    },
};

#[tokio::main]
async fn main() -> ExitCode {
    let about = "Creates, reads, lists, changes and deletes documents, and counts their views";
    run_service(&PROGRAM, about, std::env::args_os(), &ProcessEnvironment, assemble).await
}

async fn assemble(settings: &Settings, assembly: &mut Assembly) -> Result<Faces, StartupError> {
    let repositories = assembly.repositories().await?;
    let blobs = assembly.blobs().await?;
    let reads = assembly.reads().await?;
    let documents = Documents::new(
        DocumentsPorts {
            documents: Arc::clone(&repositories.documents),
            blobs: Arc::clone(&blobs),
            cache: Arc::clone(&reads.cache),
            views: Arc::clone(&reads.views),
            idempotency: Arc::clone(&repositories.idempotency),
        },
        DocumentLimits {
            content_bytes_max: settings.limits.content_bytes_max,
            ..DocumentLimits::default()
        },
    );

    // What another instance writes becomes stale in this one's cache.
    let feed = LiveFeed::new(assembly.live_source()?, None, Some(reads.cache), assembly.clock());
    assembly.spawn_live_feed(feed);
    assembly.spawn_sweeper(&repositories, &blobs);
    assembly.spawn_purge(&repositories);

    let failed = |error| StartupError::from_part("the interface", error);
    let tokens = Tokens::from_settings(&settings.auth, assembly.clock())?;
    let access = tokens.access(settings.listen.trusted_proxies);
    let writes = Writes::new();
    let server = DocumentServer::new(documents.clone());
    let grpc = GrpcServer::new(server, tokens.grpc(), GrpcLimits::default()).map_err(failed)?;
    let routes = rest::documents::routes(DocumentsState {
        documents,
        access: access.clone(),
        writes: writes.clone(),
    });
    // The gateway's document is this service's, so it is that of the whole product.
    let others = [rest::signatures::open_api(), rest::search::open_api(), live::open_api()];
    let http = rest::app_with_others(routes, others, access, &LayerOptions::default());
    let http = http.map_err(failed)?;
    Ok(Faces { http, grpc: Some(grpc), hub: None, writes })
}
