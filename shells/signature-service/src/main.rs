//! Signatures over REST.

use std::process::ExitCode;
use std::sync::Arc;

use dms_assembly::{Assembly, Faces, Tokens, run_service};
use dms_core::use_cases::{Signatures, SignaturesPorts};
use dms_rpc::rest::{self, LayerOptions, SignaturesState, Writes};
use dms_runtime::settings::{Backends, ProcessEnvironment};
use dms_runtime::{Program, Settings, StartupError};

const PROGRAM: Program = Program {
    name: "signature-service",
    version: env!("CARGO_PKG_VERSION"),
    http_port: 8002,
    grpc_port: None,
    backends: Backends {
        database: &["postgres"],
        storage: &["file", "s3"],
        cache: &["memory", "redis"],
        document_service: true,
        ..Backends::NONE
    },
};

#[tokio::main]
async fn main() -> ExitCode {
    let about = "Signs documents; finishes what a crash or an absent document service interrupted";
    run_service(&PROGRAM, about, std::env::args_os(), &ProcessEnvironment, assemble).await
}

async fn assemble(settings: &Settings, assembly: &mut Assembly) -> Result<Faces, StartupError> {
    let repositories = assembly.repositories().await?;
    let tokens = Tokens::from_settings(&settings.auth, assembly.clock())?;
    // Signatures are taken as pending while it is away.
    let documents = assembly.document_client(settings, &tokens, false)?;
    let signatures = Signatures::new(SignaturesPorts {
        signatures: Arc::clone(&repositories.signatures),
        blobs: assembly.blobs().await?,
        documents,
        idempotency: Arc::clone(&repositories.idempotency),
    });
    assembly.spawn_reconciler(&signatures);

    let access = tokens.access(settings.listen.trusted_proxies);
    let writes = Writes::new();
    let routes = rest::signatures::routes(SignaturesState {
        signatures,
        access: access.clone(),
        writes: writes.clone(),
        image_bytes_max: settings.limits.content_bytes_max,
    });
    let http = rest::app(routes, access, &LayerOptions::default())
        .map_err(|error| StartupError::from_part("the interface", error))?;
    Ok(Faces { writes, ..Faces::http(http) })
}
