//! `verify`: whether the index is what the database says.

use std::io::Write as _;

use clap::Args;
use dms_runtime::{ExitStatus, SettingFlags, StartupError};
use dms_search::DriftReport;

use super::progress::Progress;
use crate::Indexing;

#[derive(Debug, Args)]
pub struct VerifyCommand {
    /// Mend what is found, while reads and writes go on
    #[arg(long)]
    repair: bool,
    /// The options of all settings.
    #[command(flatten)]
    pub(super) settings: SettingFlags,
}

impl VerifyCommand {
    pub(super) async fn run(self, indexing: &Indexing) -> Result<ExitStatus, StartupError> {
        let mut progress = Progress::new();
        let mut tell = |now: &DriftReport| {
            progress.tell(|| format!("{} documents, {} differ", now.rows, now.total()));
        };
        let compared = indexing.verify(self.repair, &mut tell).await;
        let seconds = progress.finish();
        let report =
            compared.map_err(|error| StartupError::from_part("the search index", error))?;
        // Nobody listens if writing fails.
        let mut out = std::io::stdout().lock();
        for drift in &report.examples {
            let version = |version: Option<i32>| {
                version.map_or_else(|| "none".to_owned(), |version| version.to_string())
            };
            let (row, index) = (version(drift.row), version(drift.index));
            let _ = writeln!(
                out,
                "{}  {}  database {row}, index {index}",
                drift.id,
                drift.kind.as_str()
            );
        }
        let _ = writeln!(
            out,
            "{} rows and {} entries compared in {seconds:.1} s: {} differed, {} mended, {} remain",
            report.rows,
            report.entries,
            report.total(),
            report.repaired,
            report.remaining()
        );
        if report.needs_rebuild() {
            let _ = writeln!(out, "the index is ahead of the database: run reindex");
        }
        Ok(if report.remaining() == 0 { ExitStatus::Success } else { ExitStatus::Failure })
    }
}
