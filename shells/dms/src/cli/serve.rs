//! `dms serve`: configure, build, serve, wait, drain.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use dms_assembly::service::Listeners;
use dms_runtime::settings::{Source, reachable};
use dms_runtime::{ExitStatus, SettingFlags, Settings, StartupError, metrics_handle, telemetry};
use tokio_util::sync::CancellationToken;

use super::{CommandResult, PROGRAM, builder, read_settings};

pub(super) async fn run(flags: &SettingFlags, source: &dyn Source) -> CommandResult {
    let settings = read_settings(flags, source)?;
    let _telemetry = telemetry::init(&settings.log);
    settings.log_warnings();
    metrics_handle().set_build_info(&PROGRAM);
    dms_realtime::describe_metrics();

    let builder = builder(&settings)?;
    let listeners = Listeners::bind(&settings.listen).await?;
    let dms = builder.start().await?;
    let (http, grpc) = (dms.router(), Some(dms.grpc().router()));
    let up = |http, grpc| greet(&settings, http, grpc);
    let (stop, grace) = (CancellationToken::new(), settings.limits.shutdown_grace);
    listeners.serve(http, grpc, &stop, grace, up, || dms.drain()).await?;
    dms.shutdown().await.map_err(|error| {
        StartupError::new(ExitStatus::InputOutput, "the data folder wasn't closed cleanly")
            .with_source(error)
    })?;
    tracing::info!("stopped");
    Ok(ExitStatus::Success)
}

/// Says where it listens, where its data is, and a line to try.
fn greet(settings: &Settings, http: SocketAddr, grpc: Option<SocketAddr>) {
    let data = std::path::absolute(&settings.storage.data_dir);
    let data = data.as_deref().unwrap_or(Path::new(&settings.storage.data_dir));
    let http = reachable(http);
    let mut out = std::io::stdout().lock();
    // Nobody listens if this fails.
    let _ = writeln!(out, "{} {} is ready", PROGRAM.name, PROGRAM.version);
    let _ = writeln!(out, "  HTTP  http://{http}  (try the API at http://{http}/docs)");
    if let Some(grpc) = grpc {
        let _ = writeln!(out, "  gRPC  http://{}", reachable(grpc));
    }
    let _ = writeln!(out, "  data  {}", data.display());
    let _ = writeln!(
        out,
        "  try   curl -s http://{http}/documents -H 'Content-Type: application/json' \
         -d '{{\"title\":\"Hello\",\"content\":\"A first document\",\"created_by\":\"me\"}}'"
    );
    let _ = out.flush();
}
