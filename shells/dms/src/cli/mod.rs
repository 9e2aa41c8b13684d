//! The commands of the program `dms`.

mod check;
mod import;
mod reindex;
mod serve;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use dms_core::ports::{Clock, SystemClock, TokenVerifier};
use dms_core::use_cases::DocumentLimits;
use dms_realtime::token::{DevelopmentTokens, JwksOptions, JwtVerifier, TokenRules};
use dms_rpc::grpc::ServiceToken;
use dms_runtime::settings::{
    AuthMode, AuthSettings, DatabaseLocation, Migrate, SearchLocation, Source, StorageLocation,
    TokenKey,
};
use dms_runtime::{
    Cli, ExitStatus, HealthcheckCommand, Program, SettingFlags, Settings, StartupError, report,
    report_arguments,
};

use crate::backends::Places;
use crate::{Dms, DmsBuilder};

const PROGRAM: Program = Program {
    name: "dms",
    version: env!("CARGO_PKG_VERSION"),
    http_port: 8000,
    grpc_port: Some(50051),
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
    /// Build the search index anew from the database, while no server runs
    Reindex(SettingFlags),
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
        Command::Reindex(flags) => reindex::run(&flags.or(&outer), environment).await,
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
    let storage = &settings.storage;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut builder = Dms::builder(&storage.data_dir)
        .clock(Arc::clone(&clock))
        .migrate(storage.migrate == Migrate::Auto)
        .limits(DocumentLimits {
            content_bytes_max: settings.limits.content_bytes_max,
            ..DocumentLimits::default()
        });
    builder.places = places(settings)?;
    authenticate(builder, &settings.auth, clock)
}

fn places(settings: &Settings) -> Result<Places, StartupError> {
    let storage = &settings.storage;
    let unknown = || StartupError::usage("this build has no backend for the configured URLs");
    let DatabaseLocation::Sqlite(database) = &storage.database else { return Err(unknown()) };
    let StorageLocation::Files(blobs) = &storage.storage else { return Err(unknown()) };
    let SearchLocation::Files(index) = &storage.search else { return Err(unknown()) };
    Ok(Places {
        database: database.clone(),
        blobs: blobs.clone(),
        index: index.clone(),
        ..Places::below(&storage.data_dir)
    })
}

fn authenticate(
    mut builder: DmsBuilder,
    auth: &AuthSettings,
    clock: Arc<dyn Clock>,
) -> Result<DmsBuilder, StartupError> {
    let rules = TokenRules { issuer: auth.issuer.clone(), audience: auth.audience.clone() };
    let refused = |setting: &str, error: dms_core::Error| {
        let why = error.fields().first().map_or_else(|| error.to_string(), |f| f.message.clone());
        StartupError::usage(format!("{setting} {why}")).with_source(error)
    };
    let verifier: Option<Arc<dyn TokenVerifier>> = match &auth.key {
        TokenKey::Development(_) => {
            let tokens = DevelopmentTokens::generate(clock)
                .map_err(|error| StartupError::from_part("the development key", error))?;
            builder = builder.development_tokens(Arc::new(tokens));
            None
        }
        TokenKey::Shared(secret) => Some(Arc::new(
            JwtVerifier::with_secret(secret.expose_bytes(), rules, clock)
                .map_err(|error| refused("DMS_JWT_SECRET", error))?,
        )),
        TokenKey::PublicPem(pem) => Some(Arc::new(
            JwtVerifier::with_public_key(pem.as_bytes(), rules, clock)
                .map_err(|error| refused("DMS_JWT_PUBLIC_KEY", error))?,
        )),
        TokenKey::KeySet(url) => Some(Arc::new(
            JwtVerifier::with_jwks(url, JwksOptions::default(), rules, clock)
                .map_err(|error| refused("DMS_JWKS_URL", error))?,
        )),
        _ => None,
    };
    if let Some(verifier) = verifier {
        builder = builder.token_verifier(verifier);
    }
    if let Some(token) = &auth.service_token {
        let token = ServiceToken::new(token.expose())
            .map_err(|error| refused("DMS_SERVICE_TOKEN", error))?;
        builder = builder.service_token(token);
    }
    Ok(builder.require_tokens(auth.mode == AuthMode::Required))
}
