//! `dms reindex`: the search index, built anew.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use dms_assembly::{Assembly, AssemblyOptions, Indexing};
use dms_core::use_cases::DocumentLimits;
use dms_runtime::settings::Source;
use dms_runtime::{ExitStatus, SettingFlags, StartupError, telemetry};
use indicatif::ProgressBar;

use super::{CommandResult, PROGRAM, TASKS_GRACE, read_settings};

pub(super) async fn run(flags: &SettingFlags, source: &dyn Source) -> CommandResult {
    let settings = read_settings(flags, source)?;
    let _telemetry = telemetry::init(&settings.log);
    let mut assembly = Assembly::new(AssemblyOptions::new(settings.storage));
    assembly.hold_directory()?;
    let ports = assembly.indexing_ports(PROGRAM.name).await?;
    assembly.prepare().await?;
    let indexing = Indexing::new(ports, assembly.clock(), DocumentLimits::default());
    let started = Instant::now();
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
    let mut told = Instant::now();
    let mut progress = |now: dms_search::RebuildProgress| match &bar {
        Some(bar) => {
            bar.set_message(format!("{} documents", now.rows));
            bar.tick();
        }
        None if told.elapsed() >= Duration::from_secs(1) => {
            told = Instant::now();
            eprintln!("{} documents", now.rows);
        }
        None => {}
    };
    let rebuilt = indexing.rebuild(&mut progress).await;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let report = rebuilt.map_err(|error| StartupError::from_part("the search index", error))?;
    assembly
        .close(TASKS_GRACE)
        .await
        .map_err(|error| StartupError::from_part("the data folder", error))?;
    // Nobody listens if this fails.
    let _ = writeln!(
        std::io::stdout(),
        "indexed {} documents, skipped {} without content, in {:.1} s",
        report.indexed,
        report.skipped,
        started.elapsed().as_secs_f64()
    );
    Ok(ExitStatus::Success)
}
