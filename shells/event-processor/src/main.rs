//! Carries changes of documents into the search index.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use dms_assembly::commands::IndexCommand;
use dms_assembly::service::{ServiceCommand, conclude};
use dms_assembly::{Assembly, Faces, Indexing};
use dms_core::use_cases::DocumentLimits;
use dms_runtime::settings::{Backends, ProcessEnvironment};
use dms_runtime::{Cli, Program, Settings, StartupError, report_arguments};

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

/// Carries changes of documents into the search index
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Cli,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Service(ServiceCommand),
    #[command(flatten)]
    Index(IndexCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    let environment = ProcessEnvironment;
    match PROGRAM.parse::<Arguments>(std::env::args_os()) {
        Ok(Arguments { command: Some(Command::Index(command)), serve }) => {
            conclude(command.run(&PROGRAM, &serve.settings, &environment).await)
        }
        Ok(Arguments { command: Some(Command::Service(command)), serve }) => {
            command.run(&PROGRAM, &serve, &environment, assemble).await
        }
        Ok(Arguments { command: None, serve }) => {
            let command = ServiceCommand::Serve(Cli::default());
            command.run(&PROGRAM, &serve, &environment, assemble).await
        }
        Err(error) => report_arguments(&error),
    }
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
