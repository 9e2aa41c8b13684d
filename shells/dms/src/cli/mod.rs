//! The commands of the program `dms`.

mod check;
mod import;
mod serve;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use dms_assembly::Tokens;
use dms_assembly::commands::IndexCommand;
use dms_core::ports::{Clock, SystemClock};
use dms_core::use_cases::DocumentLimits;
use dms_runtime::settings::{Backends, Source};
use dms_runtime::{
    Cli, ExitStatus, HealthcheckCommand, Program, SettingFlags, Settings, StartupError, report,
    report_arguments,
};

use crate::{Dms, DmsBuilder};

const PROGRAM: Program = Program {
    name: "dms",
    version: env!("CARGO_PKG_VERSION"),
    http_port: 8000,
    grpc_port: Some(50051),
    backends: if cfg!(feature = "engines") {
        Backends::ALL
    } else {
        Backends {
            hint: Some("a build with --features engines accepts more"),
            ..Backends::EMBEDDED
        }
    },
};

/// Documents that are stored, signed, searchable and live, in one process
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Cli,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the product; the default
    Serve(Cli),
    /// Upload files and folders to a running server
    ///
    /// A file whose title, content and creator are there already is not uploaded again, so an import
    /// can be stopped at any time and run again, also days later.
    Import(import::ImportCommand),
    #[command(flatten)]
    Index(IndexCommand),
    /// Validate the settings, open everything, then exit
    Check(SettingFlags),
    /// Exit with 0 when the running server is ready
    Healthcheck(HealthcheckCommand),
    /// Print a token to try the API with
    ///
    /// With `DMS_JWT_SECRET` the token is signed here. Without it the running server is asked, which
    /// gives tokens on loopback as long as no key is configured.
    Token(token::TokenCommand),
}

/// Runs the program; gives its exit status.
pub async fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &dyn Source,
) -> ExitCode {
    let Arguments { command, serve } = match PROGRAM.parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return report_arguments(&error),
    };
    let outer = serve.settings;
    let status = match command
        .unwrap_or(Command::Serve(Cli { settings: SettingFlags::default(), check: serve.check }))
    {
        Command::Serve(command) => {
            let flags = command.settings.or(&outer);
            if command.check || serve.check {
                check::run(&flags, environment).await
            } else {
                serve::run(&flags, environment).await
            }
        }
        Command::Check(flags) => check::run(&flags.or(&outer), environment).await,
        Command::Index(command) => command.run(&PROGRAM, &outer, environment).await,
        Command::Import(command) => command.run(&outer, environment).await,
        Command::Token(command) => command.run(&outer, environment).await,
        Command::Healthcheck(command) => {
            return command.run(&PROGRAM, &outer, environment).await.into();
        }
    };
    match status {
        Ok(status) => status.into(),
        Err(error) => report(&error).into(),
    }
}

type CommandResult = Result<ExitStatus, StartupError>;

fn read_settings(flags: &SettingFlags, source: &dyn Source) -> Result<Settings, StartupError> {
    Settings::read(&PROGRAM, flags, source)
}

/// A builder that does what the settings say.
fn builder(settings: &Settings) -> Result<DmsBuilder, StartupError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tokens = Tokens::from_settings(&settings.auth, Arc::clone(&clock))?;
    let limits = DocumentLimits {
        content_bytes_max: settings.limits.content_bytes_max,
        ..DocumentLimits::default()
    };
    Ok(Dms::builder(&settings.storage.data_dir)
        .locations(settings.storage.clone())
        .clock(clock)
        .limits(limits)
        .trusted_proxies(settings.listen.trusted_proxies)
        .tokens(tokens))
}
