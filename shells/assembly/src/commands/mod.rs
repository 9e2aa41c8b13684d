//! What can be done with the index and its dead letters from the command line, whichever program
//! feeds it.

mod dead_letters;
mod progress;
mod reindex;
mod verify;

use std::time::Duration;

use clap::Subcommand;
use dms_core::use_cases::DocumentLimits;
use dms_runtime::settings::Source;
use dms_runtime::{ExitStatus, Program, SettingFlags, Settings, StartupError, telemetry};

use crate::{Assembly, AssemblyOptions, Indexing};

/// How long background tasks may take to end.
const TASKS_GRACE: Duration = Duration::from_secs(10);

/// Commands for the index.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Build the search index anew from the database
    ///
    /// Elasticsearch gets a new index beside the one in use, which is searched and written to until
    /// the new one takes its place; stopped half-way, the next run goes on. An index in a folder is
    /// built in its place, while no server runs.
    Reindex(reindex::ReindexCommand),
    /// Compare the search index with the database, and mend it if asked to
    ///
    /// Says which documents the index lacks, has in an older version or has too many. Ends with 1 if
    /// any remain. An index in a folder can be compared while no server runs.
    Verify(verify::VerifyCommand),
    /// List, show, replay or drop changes that the index couldn't take
    DeadLetters(dead_letters::DeadLettersCommand),
}

impl IndexCommand {
    /// Does it. `outer` are the options given before the command.
    ///
    /// # Errors
    /// With the status to leave with and a line that says what to do.
    pub async fn run(
        self,
        program: &Program,
        outer: &SettingFlags,
        source: &dyn Source,
    ) -> Result<ExitStatus, StartupError> {
        let flags = match &self {
            Self::Reindex(command) => &command.settings,
            Self::Verify(command) => &command.settings,
            Self::DeadLetters(command) => &command.settings,
        };
        let settings = Settings::read(program, &flags.clone().or(outer), source)?;
        let _telemetry = telemetry::init(&settings.log);
        let mut assembly = Assembly::new(AssemblyOptions::new(settings.storage));
        let ports = assembly.indexing_ports(program.name).await?;
        assembly.prepare().await?;
        let indexing = Indexing::new(ports, assembly.clock(), DocumentLimits::default());
        let outcome = match self {
            Self::Reindex(_) => {
                let beside = assembly.live_source()?;
                reindex::run(&indexing, &*beside).await
            }
            Self::Verify(command) => command.run(&indexing).await,
            Self::DeadLetters(command) => command.run(&indexing).await,
        };
        let closed = assembly.close(TASKS_GRACE).await;
        let status = outcome?;
        closed.map_err(|error| StartupError::from_part("a backend", error))?;
        Ok(status)
    }
}
