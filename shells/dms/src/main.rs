//! The whole product in one process.

use std::process::ExitCode;

/// The C library's allocator keeps memory apart for each of a dozen groups of threads: after a load,
/// the product took twice as much with it. Without huge pages, which would take as much again, and in
/// its second version: the third kept half as much again of what many threads had given back.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    dms::cli::run(std::env::args_os(), &dms_runtime::settings::ProcessEnvironment).await
}
