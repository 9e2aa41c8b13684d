//! Carries changes of documents into the search index.

use std::process::ExitCode;
use std::sync::Arc;

use dms_assembly::{Assembly, Faces, Indexing, run_service};
use dms_core::use_cases::DocumentLimits;
use dms_runtime::settings::{Backends, ProcessEnvironment};
use dms_runtime::{Program, Settings, StartupError};

const PROGRAM: Program = Program {
    name: "event-processor",
    version: env!("CARGO_PKG_VERSION"),
    http_port: 8006,
    grpc_port: None,
    backends: Backends {
        database: &["postgres"],
        storage: &["file", "s3"],
        events: &["postgres", "kafka"],
        search: &["http"],
        ..Backends::NONE
    },
};

#[tokio::main]
async fn main() -> ExitCode {
    let about = "Carries changes of documents into the search index";
    run_service(&PROGRAM, about, std::env::args_os(), &ProcessEnvironment, assemble).await
}

async fn assemble(_settings: &Settings, assembly: &mut Assembly) -> Result<Faces, StartupError> {
    let ports = assembly.indexing_ports(PROGRAM.name).await?;
    assembly.watch_index(&ports.index, true);
    let limits = DocumentLimits::default();
    let indexing = Arc::new(Indexing::new(ports, assembly.clock(), limits));
    assembly.watch_indexing(&indexing, true);
    assembly.spawn_indexing(&indexing);
    Ok(Faces::http(axum::Router::new()))
}
