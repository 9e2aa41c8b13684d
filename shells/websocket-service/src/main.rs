//! Live updates over WebSocket and server-sent events.

use std::process::ExitCode;

use dms_assembly::{Assembly, Faces, LiveFeed, Tokens, run_service};
use dms_realtime::{Hub, Live};
use dms_rpc::rest::{self, LayerOptions};
use dms_runtime::live::{self, LiveState};
use dms_runtime::settings::{Backends, ProcessEnvironment};
use dms_runtime::{Program, Settings, StartupError};

const PROGRAM: Program = Program {
    name: "websocket-service",
    version: env!("CARGO_PKG_VERSION"),
    http_port: 8004,
    grpc_port: None,
    backends: Backends { events: &["postgres", "kafka"], document_service: true, ..Backends::NONE },
};

#[tokio::main]
async fn main() -> ExitCode {
    let about = "Tells whoever listens to a document what happens to it";
    run_service(&PROGRAM, about, std::env::args_os(), &ProcessEnvironment, assemble).await
}

async fn assemble(settings: &Settings, assembly: &mut Assembly) -> Result<Faces, StartupError> {
    let tokens = Tokens::from_settings(&settings.auth, assembly.clock())?;
    let documents = assembly.document_client(settings, &tokens, true)?;
    let hub = Hub::default();
    let source = assembly.live_source()?;
    assembly.spawn_live_feed(LiveFeed::new(source, Some(hub.clone()), None, assembly.clock()));

    let access = tokens.access(settings.listen.trusted_proxies);
    let routes = live::routes(LiveState {
        live: Live::new(hub.clone(), assembly.clock()),
        documents,
        verifier: tokens.verifier(),
        access: access.clone(),
        development_tokens: tokens.development.clone(),
    });
    let http = rest::app(routes, access, &LayerOptions::default())
        .map_err(|error| StartupError::from_part("the interface", error))?;
    Ok(Faces { hub: Some(hub), ..Faces::http(http) })
}
