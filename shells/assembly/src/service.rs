//! From command line to drained stop.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use clap::{Parser, Subcommand};
use dms_realtime::Hub;
use dms_rpc::grpc::GrpcServer;
use dms_rpc::rest::Writes;
use dms_runtime::settings::{ListenSettings, Source, names, reachable};
use dms_runtime::{
    Cli, ExitStatus, HealthcheckCommand, Program, Server, SettingFlags, Settings, StartupError,
    metrics_handle, report, report_arguments, telemetry, wait_for_signal,
};
use tokio_util::sync::CancellationToken;

use crate::{Assembly, AssemblyOptions};

/// How long background tasks may take to end.
const TASKS_GRACE: Duration = Duration::from_secs(10);

/// What a service shows.
pub struct Faces {
    /// Its HTTP routes, without health and metrics.
    pub http: Router,
    /// Its gRPC services; none if its program has no port for them.
    pub grpc: Option<GrpcServer>,
    /// Live connections, to be closed when it stops.
    pub hub: Option<Hub>,
    /// Writes that go on when their clients leave.
    pub writes: Writes,
}

impl Faces {
    /// HTTP routes alone.
    pub fn http(http: Router) -> Self {
        Self { http, grpc: None, hub: None, writes: Writes::new() }
    }
}

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<ServiceCommand>,
    #[command(flatten)]
    serve: Cli,
}

/// What every service can be told to do.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Run the service; the default
    Serve(Cli),
    /// Validate the settings and reach every dependency, then exit
    Check(SettingFlags),
    /// Exit with 0 when the running service is ready
    Healthcheck(HealthcheckCommand),
}

impl ServiceCommand {
    /// Does it. `outer` are the options given before the command; `assemble` opens the program's
    /// ports and starts its tasks.
    pub async fn run<A>(
        self,
        program: &Program,
        outer: &Cli,
        environment: &dyn Source,
        assemble: A,
    ) -> ExitCode
    where
        A: AsyncFnOnce(&Settings, &mut Assembly) -> Result<Faces, StartupError>,
    {
        let (flags, check) = match self {
            Self::Serve(command) => {
                (command.settings.or(&outer.settings), command.check || outer.check)
            }
            Self::Check(flags) => (flags.or(&outer.settings), true),
            Self::Healthcheck(command) => {
                return command.run(program, &outer.settings, environment).await.into();
            }
        };
        conclude(serve_or_check(program, &flags, environment, check, assemble).await)
    }
}

/// Runs a service that has no commands of its own. `assemble` opens its ports and starts its tasks.
pub async fn run_service<A>(
    program: &Program,
    about: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
    environment: &dyn Source,
    assemble: A,
) -> ExitCode
where
    A: AsyncFnOnce(&Settings, &mut Assembly) -> Result<Faces, StartupError>,
{
    match program.parse_about::<Arguments>(about, arguments) {
        Ok(Arguments { command, serve }) => {
            let command = command.unwrap_or(ServiceCommand::Serve(Cli::default()));
            command.run(program, &serve, environment, assemble).await
        }
        Err(error) => report_arguments(&error),
    }
}

/// The exit status of an outcome; an error is shown.
pub fn conclude(outcome: Result<ExitStatus, StartupError>) -> ExitCode {
    match outcome {
        Ok(status) => status.into(),
        Err(error) => report(&error).into(),
    }
}

/// Configure → build → serve → wait → drain; with `check`, up to where it would serve.
///
/// # Errors
/// With the status to leave with and a line that says what to do.
pub async fn serve_or_check<A>(
    program: &Program,
    flags: &SettingFlags,
    source: &dyn Source,
    check: bool,
    assemble: A,
) -> Result<ExitStatus, StartupError>
where
    A: AsyncFnOnce(&Settings, &mut Assembly) -> Result<Faces, StartupError>,
{
    let settings = Settings::read(program, flags, source)?;
    let _telemetry = telemetry::init(&settings.log);
    settings.log_warnings();
    metrics_handle().set_build_info(program);
    dms_realtime::describe_metrics();

    let listeners = Listeners::bind(&settings.listen).await?;
    let mut assembly = Assembly::new(AssemblyOptions::new(settings.storage.clone()));
    let faces = assemble(&settings, &mut assembly).await?;
    assembly.prepare().await?;
    let health = assembly.health().clone();
    health.set_serving();
    if check {
        return checked(assembly).await;
    }

    let stop = CancellationToken::new();
    if let Some(grpc) = &faces.grpc {
        assembly.spawn_readiness_mirror(grpc, stop.clone());
    }
    let http = faces.http.merge(health.router(metrics_handle()));
    let grpc = faces.grpc.as_ref().map(GrpcServer::router);
    let up = |address, _| {
        // Nobody listens if this fails.
        let _ = writeln!(
            std::io::stdout(),
            "{} {} is up on http://{}",
            program.name,
            program.version,
            reachable(address)
        );
    };
    let drain = || {
        health.set_draining();
        if let Some(hub) = &faces.hub {
            hub.shutdown();
        }
    };
    listeners.serve(http, grpc, &stop, settings.limits.shutdown_grace, up, drain).await?;
    faces.writes.close();
    let _ = tokio::time::timeout(TASKS_GRACE, faces.writes.wait()).await;
    assembly.close(TASKS_GRACE).await.map_err(|error| {
        StartupError::new(ExitStatus::InputOutput, "not everything was closed cleanly")
            .with_source(error)
    })?;
    tracing::info!("stopped");
    Ok(ExitStatus::Success)
}

/// The addresses of a program, bound before anything is opened: one that is taken ends the start at
/// once.
pub struct Listeners {
    http: Server,
    grpc: Option<Server>,
}

impl Listeners {
    /// Binds what the settings name.
    ///
    /// # Errors
    /// With the setting whose address can't be listened on.
    pub async fn bind(settings: &ListenSettings) -> Result<Self, StartupError> {
        let http = Server::bind(&names::HTTP_ADDR, settings.http).await?;
        let grpc = match settings.grpc {
            Some(address) => Some(Server::bind(&names::GRPC_ADDR, address).await?),
            None => None,
        };
        Ok(Self { http, grpc })
    }

    /// Serves until a signal comes, then drains for at most `grace`. `up` is called once it serves,
    /// with the addresses; `drain` when the signal has come, before `stop` is cancelled.
    ///
    /// # Errors
    /// Signals can't be waited for.
    pub async fn serve(
        self,
        http: Router,
        grpc: Option<Router>,
        stop: &CancellationToken,
        grace: Duration,
        up: impl FnOnce(SocketAddr, Option<SocketAddr>),
        drain: impl FnOnce(),
    ) -> Result<(), StartupError> {
        let upkeep = tokio::spawn(metrics_handle().upkeep(stop.clone()));
        let addresses = (self.http.local_addr(), self.grpc.as_ref().map(Server::local_addr));
        let http = tokio::spawn(self.http.serve(http, stop.clone(), grace));
        let grpc = self
            .grpc
            .zip(grpc)
            .map(|(server, router)| tokio::spawn(server.serve(router, stop.clone(), grace)));
        up(addresses.0, addresses.1);

        let signal = wait_for_signal().await.map_err(|error| {
            StartupError::new(ExitStatus::Software, "can't wait for signals").with_source(error)
        })?;
        tracing::info!(signal, "stopping");
        drain();
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
        Ok(())
    }
}

/// Whether the service would be ready.
async fn checked(assembly: Assembly) -> Result<ExitStatus, StartupError> {
    let report = assembly.health().report().await;
    let down: Vec<_> = report.down().map(str::to_owned).collect();
    let ready = report.status.takes_requests();
    assembly
        .close(TASKS_GRACE)
        .await
        .map_err(|error| StartupError::from_part("a backend", error))?;
    if !ready {
        let message = format!("not ready: {}", down.join(", "));
        return Err(StartupError::new(ExitStatus::Unavailable, message));
    }
    // Nobody listens if this fails.
    let _ = writeln!(std::io::stdout(), "everything is in order");
    Ok(ExitStatus::Success)
}
