//! `dms serve`: configure, build, serve, wait, drain.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dms_runtime::settings::{Source, names, reachable};
use dms_runtime::{
    ExitStatus, Server, SettingFlags, Settings, StartupError, metrics_handle, telemetry,
    wait_for_signal,
};
use tokio_util::sync::CancellationToken;

use super::{CommandResult, PROGRAM, builder, read_settings};

pub(super) async fn run(flags: &SettingFlags, source: &dyn Source) -> CommandResult {
    let settings = read_settings(flags, source)?;
    let _telemetry = telemetry::init(&settings.log);
    for variable in &settings.unknown_variables {
        tracing::warn!(variable, "unknown variable is ignored");
    }
    let metrics = metrics_handle();
    metrics.set_build_info(&PROGRAM);
    dms_realtime::describe_metrics();

    let builder = builder(&settings)?;
    let http = Server::bind(&names::HTTP_ADDR, settings.listen.http).await?;
    let grpc = match settings.listen.grpc {
        Some(address) => Some(Server::bind(&names::GRPC_ADDR, address).await?),
        None => None,
    };
    let dms = builder.start().await?;

    let stop = CancellationToken::new();
    let upkeep = tokio::spawn(metrics.upkeep(stop.clone()));
    let (http_address, grpc_address) = (http.local_addr(), grpc.as_ref().map(Server::local_addr));
    let grace = settings.limits.shutdown_grace;
    let http = tokio::spawn(http.serve(dms.router(), stop.clone(), grace));
    let grpc = grpc.map(|grpc| tokio::spawn(grpc.serve(dms.grpc().router(), stop.clone(), grace)));
    greet(&settings, http_address, grpc_address);

    let signal = wait_for_signal().await.map_err(|error| {
        StartupError::new(ExitStatus::Software, "can't wait for signals").with_source(error)
    })?;
    tracing::info!(signal, "stopping");
    dms.drain();
    stop.cancel();
    let drained = async {
        // A server task ends when its connections have.
        let _ = http.await;
        if let Some(grpc) = grpc {
            let _ = grpc.await;
        }
        let _ = upkeep.await;
    };
    // The servers cut off what exceeds the grace period; this only guards against a defect there.
    let _ = tokio::time::timeout(grace + Duration::from_secs(5), drained).await;
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
