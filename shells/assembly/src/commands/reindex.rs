//! `reindex`: the search index, built anew.

use std::io::Write as _;

use clap::Args;
use dms_core::ports::ChangeSource;
use dms_runtime::{ExitStatus, SettingFlags, StartupError};
use dms_search::RebuildProgress;

use super::progress::Progress;
use crate::Indexing;

#[derive(Debug, Args)]
pub struct ReindexCommand {
    /// The options of all settings.
    #[command(flatten)]
    pub(super) settings: SettingFlags,
}

pub(super) async fn run(
    indexing: &Indexing,
    beside: &dyn ChangeSource,
) -> Result<ExitStatus, StartupError> {
    let mut progress = Progress::new();
    let mut tell = |now: RebuildProgress| {
        progress.tell(|| format!("{} documents, {} changes meanwhile", now.rows, now.followed));
    };
    let rebuilt = indexing.rebuild_anew(beside, &mut tell).await;
    let seconds = progress.finish();
    let report = rebuilt.map_err(|error| StartupError::from_part("the search index", error))?;
    // Nobody listens if this fails.
    let _ = writeln!(
        std::io::stdout(),
        "indexed {} documents, skipped {} without content, refused {}, in {seconds:.1} s",
        report.indexed,
        report.skipped,
        report.rejected,
    );
    Ok(ExitStatus::Success)
}
