//! What the command lines of all programs share.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser};

use crate::health::healthcheck;
use crate::settings::{Backends, SettingFlags, Settings, Source, long_help, names, reachable};
use crate::{ExitStatus, StartupError};

/// What tells one program of the family from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Name of the binary.
    pub name: &'static str,
    /// Its version, `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// Port of HTTP unless another is given.
    pub http_port: u16,
    /// Port of gRPC unless another is given; none for a program that serves none.
    pub grpc_port: Option<u16>,
    /// What it can work on.
    pub backends: Backends,
}

/// What every program that serves takes; flatten it into the program's own clap struct.
#[derive(Debug, Clone, Default, Args)]
pub struct Cli {
    /// The options of all settings.
    #[command(flatten)]
    pub settings: SettingFlags,
    /// Validate the settings and reach every dependency, then exit
    #[arg(long)]
    pub check: bool,
}

/// What `healthcheck` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct HealthcheckCommand {
    /// Address the running service serves HTTP at
    ///
    /// Without it, where the settings say the program serves. [env: `DMS_HTTP_ADDR`]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http_addr: Option<OsString>,
}

impl HealthcheckCommand {
    /// Asks the running service whether it is ready: 0 if so, 1 if not (the reason goes to standard
    /// error), 64 if the address can't be used. Takes two seconds at most. `outer` are the options
    /// given before the subcommand.
    pub async fn run(
        &self,
        program: &Program,
        outer: &SettingFlags,
        source: &dyn Source,
    ) -> ExitStatus {
        let flags = match &self.http_addr {
            Some(address) => outer.clone().with(&names::HTTP_ADDR.option(), address),
            None => outer.clone(),
        };
        let address = match Settings::http_address(program, &flags, source) {
            Ok(address) => reachable(address),
            Err(error) => return report(&error),
        };
        match healthcheck(address).await {
            Ok(()) => ExitStatus::Success,
            Err(error) => {
                eprintln!("{error}");
                ExitStatus::Failure
            }
        }
    }
}

impl Program {
    /// Parses arguments (the program's name first) into `P`, with this program's defaults in the
    /// help and the exit statuses explained below it.
    ///
    /// # Errors
    /// clap's own, also for `--help` and `--version`; hand it to [`report_arguments`].
    pub fn parse<P: Parser>(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<P, clap::Error> {
        let mut matches = self.adapt(P::command()).try_get_matches_from(arguments)?;
        P::from_arg_matches_mut(&mut matches)
    }

    /// As [`parse`](Self::parse), for a `P` that several programs share; `about` says what this one
    /// is for.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_about<P: Parser>(
        &self,
        about: &'static str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<P, clap::Error> {
        let command = self.adapt(P::command()).about(about);
        let mut matches = command.try_get_matches_from(arguments)?;
        P::from_arg_matches_mut(&mut matches)
    }

    fn adapt(&self, command: clap::Command) -> clap::Command {
        let subcommands: Vec<String> =
            command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
        let mut command = self.with_defaults(command);
        for name in subcommands {
            command = command.mut_subcommand(name, |one| self.with_defaults(one));
        }
        command.name(self.name).version(self.version).after_long_help(AFTER_HELP)
    }

    /// Puts this program's ports into the help of a command that takes all settings.
    fn with_defaults(&self, command: clap::Command) -> clap::Command {
        let all = command.get_arguments().any(|one| one.get_id() == &names::DATA_DIR.option());
        if !all {
            return command;
        }
        let (http, grpc) = (names::HTTP_ADDR.option(), names::GRPC_ADDR.option());
        let unused = self.unused_options();
        command.mut_args(|argument| {
            if unused.iter().any(|option| argument.get_id() == option) {
                return argument.hide(true);
            }
            let (setting, port) = match argument.get_id().as_str() {
                id if id == http => (names::HTTP_ADDR, Some(self.http_port)),
                id if id == grpc => (names::GRPC_ADDR, self.grpc_port),
                _ => return argument,
            };
            let Some(port) = port else { return argument.hide(true) };
            argument.long_help(long_help(&setting, &format!("127.0.0.1:{port}")))
        })
    }
}

impl Program {
    /// The options of parts that the program doesn't use.
    fn unused_options(&self) -> Vec<String> {
        let Backends { database, storage, cache, events, search, document_service, .. } =
            self.backends;
        let postgres = database.contains(&"postgres");
        let unused = [
            (names::DATA_DIR, !self.backends.keeps_files() && cache.is_empty()),
            (names::DATABASE_URL, database.is_empty()),
            (names::DATABASE_DIRECT_URL, !postgres),
            (names::DATABASE_REPLICA_URL, !postgres),
            (names::MIGRATE, database.is_empty()),
            (names::STORAGE_URL, storage.is_empty()),
            (names::AWS_ENDPOINT_URL, !storage.contains(&"s3")),
            (names::AWS_REGION, !storage.contains(&"s3")),
            (names::AWS_ACCESS_KEY_ID, !storage.contains(&"s3")),
            (names::AWS_SECRET_ACCESS_KEY, !storage.contains(&"s3")),
            (names::CACHE_URL, cache.is_empty()),
            (names::EVENTS_URL, events.is_empty()),
            (names::CONSUMER_GROUP, events.is_empty() || search.is_empty()),
            (names::SEARCH_URL, search.is_empty()),
            (names::DOCUMENT_GRPC_URL, !document_service),
        ];
        unused
            .into_iter()
            .filter(|(_, unused)| *unused)
            .flat_map(|(setting, _)| [Some(setting.option()), setting.file_option()])
            .flatten()
            .collect()
    }
}

const AFTER_HELP: &str = "\
Each option can be given as the variable shown next to it; an option wins over a variable. Secrets \
can be given as a file.

Exit status: 0 all went well, 1 not ready (healthcheck), 64 a setting can't be used as given, 69 \
something needed can't be reached, 70 a defect, 73 a file or folder can't be created, 74 reading or \
writing failed, 75 somebody else holds what is needed (try later), 77 not permitted, 78 the settings \
don't fit what is stored.";

/// Shows what clap has to say. Help and version go to standard output with status 0, anything else to
/// standard error with status 64.
pub fn report_arguments(error: &clap::Error) -> ExitCode {
    // nothing can be done about a closed terminal
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitStatus::Success.into(),
        _ => ExitStatus::Usage.into(),
    }
}

/// Shows why the program can't start, as one line on standard error, and gives the status to leave
/// with.
pub fn report(error: &StartupError) -> ExitStatus {
    eprintln!("error: {}", error.report());
    error.exit()
}
