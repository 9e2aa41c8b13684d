//! The whole product in one process.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    dms::cli::run(std::env::args_os(), &dms_runtime::settings::ProcessEnvironment).await
}
