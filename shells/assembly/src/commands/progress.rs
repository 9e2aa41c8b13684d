//! How long work shows that it goes on: a line that changes on a terminal, else a line a second.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Least time between two lines.
const EVERY: Duration = Duration::from_secs(1);
/// Least time between two changes of a line on a terminal.
const EVERY_ON_TERMINAL: Duration = Duration::from_millis(100);

/// Shows progress on standard error.
pub(super) struct Progress {
    terminal: bool,
    told: Option<Instant>,
    started: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), told: None, started: Instant::now() }
    }

    /// Shows how far the work is, unless that was done a moment ago.
    pub(super) fn tell(&mut self, text: impl FnOnce() -> String) {
        let every = if self.terminal { EVERY_ON_TERMINAL } else { EVERY };
        let since = self.told.unwrap_or(self.started);
        if since.elapsed() < every {
            return;
        }
        self.told = Some(Instant::now());
        let mut out = std::io::stderr().lock();
        // Nobody looks if this fails.
        let _ = if self.terminal {
            write!(out, "\r\x1b[2K{}", text()).and_then(|()| out.flush())
        } else {
            writeln!(out, "{}", text())
        };
    }

    /// Removes the line that changes; gives the seconds since the start.
    pub(super) fn finish(self) -> f64 {
        if self.terminal && self.told.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
        self.started.elapsed().as_secs_f64()
    }
}
