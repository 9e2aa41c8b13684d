//! `dms import`: what the command line says of an import.

use std::path::PathBuf;

use clap::Args;
use dms_runtime::settings::{Source, reachable};
use dms_runtime::{ExitStatus, SettingFlags, Settings, StartupError};

use super::{CommandResult, PROGRAM};
use crate::import::{Import, ImportError, Selection};

#[derive(Debug, Args)]
pub(super) struct ImportCommand {
    /// Files and folders to upload
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where the server is
    ///
    /// [default: the address that `dms serve` listens on here]
    #[arg(long)]
    url: Option<String>,
    /// Bearer token, if the server asks for one
    ///
    /// [env: `DMS_TOKEN`]
    #[arg(long)]
    token: Option<String>,
    /// Creator that the documents get
    #[arg(long, value_name = "WHO", default_value = "import@localhost")]
    created_by: String,
    /// Take only files that match one of these globs, such as '*.md'
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out files and folders that match one of these globs
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Take files and folders whose names begin with a dot, too
    #[arg(long)]
    hidden: bool,
    /// How many files are uploaded at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
}

impl ImportCommand {
    pub(super) async fn run(self, outer: &SettingFlags, source: &dyn Source) -> CommandResult {
        let url = match self.url {
            Some(url) => url,
            None => {
                let address = Settings::http_address(&PROGRAM, outer, source)?;
                format!("http://{}", reachable(address))
            }
        };
        let import = Import {
            paths: self.paths,
            selection: Selection {
                include: self.include,
                exclude: self.exclude,
                hidden: self.hidden,
            },
            token: self
                .token
                .or_else(|| source.get("DMS_TOKEN").and_then(|t| t.into_string().ok())),
            created_by: self.created_by,
            concurrency: usize::from(self.concurrency),
            url,
        };
        let stopped = async {
            // Without signals the import can only be ended from outside.
            if dms_runtime::wait_for_signal().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match import.run(stopped).await {
            Ok(counts) if counts.failed == 0 => Ok(ExitStatus::Success),
            Ok(_) => Ok(ExitStatus::Failure),
            Err(ImportError::Usage(message)) => Err(StartupError::usage(message)),
            Err(ImportError::Unreachable { message, source }) => {
                Err(StartupError::new(ExitStatus::Unavailable, message).with_source(source))
            }
            Err(ImportError::Stopped(_)) => Ok(ExitStatus::Temporary),
        }
    }
}
