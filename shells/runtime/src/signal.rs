//! Signals that ask the program to stop.

use std::io;

/// Waits for SIGTERM or SIGINT and gives its name. From then on a second one ends the process at once,
/// with status 128 plus its number, so that a drain that hangs can be cut short.
///
/// Signals that arrive after this future is first polled are not missed.
///
/// # Errors
/// The operating system refuses to install a handler.
#[cfg(unix)]
pub async fn wait_for_signal() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tokio::spawn(async move {
        let status = tokio::select! {
            _ = terminate.recv() => 128 + 15,
            _ = interrupt.recv() => 128 + 2,
        };
        tracing::warn!("second signal, leaving at once");
        std::process::exit(status);
    });
    Ok(name)
}

/// Waits for Ctrl-C and gives its name. From then on a second one ends the process at once.
///
/// # Errors
/// The operating system refuses to install a handler.
#[cfg(not(unix))]
pub async fn wait_for_signal() -> io::Result<&'static str> {
    tokio::signal::ctrl_c().await?;
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            tracing::warn!("second signal, leaving at once");
            std::process::exit(130);
        }
    });
    Ok("Ctrl-C")
}
