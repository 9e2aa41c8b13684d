//! Search over REST.

use std::process::ExitCode;

use dms_assembly::{Assembly, Faces, Tokens, run_service};
use dms_rpc::rest::{self, LayerOptions, SearchState};
use dms_runtime::settings::{Backends, ProcessEnvironment};
use dms_runtime::{Program, Settings, StartupError};

const PROGRAM: Program = Program {
    name: "search-service",
    version: env!("CARGO_PKG_VERSION"),
    http_port: 8003,
    grpc_port: None,
    backends: Backends { search: &["http"], ..Backends::NONE },
};

#[tokio::main]
async fn main() -> ExitCode {
    let about = "Finds documents by their words, and counts them by their properties";
    run_service(&PROGRAM, about, std::env::args_os(), &ProcessEnvironment, assemble).await
}

async fn assemble(settings: &Settings, assembly: &mut Assembly) -> Result<Faces, StartupError> {
    let index = assembly.index().await?;
    assembly.watch_index(&index, true);
    let tokens = Tokens::from_settings(&settings.auth, assembly.clock())?;
    let access = tokens.access(settings.listen.trusted_proxies);
    let routes = rest::search::routes(SearchState { index, access: access.clone() });
    let http = rest::app(routes, access, &LayerOptions::default())
        .map_err(|error| StartupError::from_part("the interface", error))?;
    Ok(Faces::http(http))
}
