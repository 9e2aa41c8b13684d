//! `dms check`: whether the product would start.

use std::io::Write as _;

use dms_assembly::service::Listeners;
use dms_runtime::settings::Source;
use dms_runtime::{ExitStatus, SettingFlags, StartupError, telemetry};

use super::{CommandResult, builder, read_settings};

pub(super) async fn run(flags: &SettingFlags, source: &dyn Source) -> CommandResult {
    let settings = read_settings(flags, source)?;
    let _telemetry = telemetry::init(&settings.log);
    let builder = builder(&settings)?;
    let _listeners = Listeners::bind(&settings.listen).await?;
    let dms = builder.start().await?;
    let report = dms.health().report().await;
    let ready = report.status.takes_requests();
    let down: Vec<_> = report.down().map(str::to_owned).collect();
    dms.shutdown().await.map_err(|error| StartupError::from_part("the data folder", error))?;
    if !ready {
        let message = format!("not ready: {}", down.join(", "));
        return Err(StartupError::new(ExitStatus::Unavailable, message));
    }
    // Nobody listens if this fails.
    let _ = writeln!(std::io::stdout(), "everything is in order");
    Ok(ExitStatus::Success)
}
