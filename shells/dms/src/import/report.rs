//! What an import did, told while it runs and at its end.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Where lines go when there is no terminal: at most one a second.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOutcome {
    /// It's a new document.
    Imported {
        /// Its size.
        bytes: u64,
    },
    /// A document with this title, content and creator was there.
    AlreadyThere,
    /// It couldn't be taken.
    Failed {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Counts of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportCounts {
    /// New documents.
    pub imported: u64,
    /// Documents that were there.
    pub already_there: u64,
    /// Files that couldn't be taken.
    pub failed: u64,
    /// Bytes of new documents.
    pub bytes: u64,
}

impl ImportCounts {
    fn seen(&self) -> u64 {
        self.imported + self.already_there + self.failed
    }
}

/// Shows progress: a bar on a terminal, plain lines otherwise. Failures are told at once.
pub struct Reporter {
    counts: ImportCounts,
    bar: Option<ProgressBar>,
    total: u64,
    last_line: Instant,
}

impl Reporter {
    /// A reporter of an import of `total` files.
    pub fn new(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{bar:30} {pos}/{len} files  {per_sec}  {eta} left  {msg}";
            let bar = ProgressBar::new(total);
            // The template is a constant, and a bar without style is still a bar.
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar
        });
        Self { counts: ImportCounts::default(), bar, total, last_line: Instant::now() }
    }

    /// Counts an outcome.
    pub fn record(&mut self, outcome: FileOutcome) {
        match outcome {
            FileOutcome::Imported { bytes } => {
                self.counts.imported += 1;
                self.counts.bytes += bytes;
            }
            FileOutcome::AlreadyThere => self.counts.already_there += 1,
            FileOutcome::Failed { path, reason } => {
                self.counts.failed += 1;
                self.failure(&path, &reason);
            }
        }
        self.progress();
    }

    /// The counts so far.
    pub fn counts(&self) -> ImportCounts {
        self.counts
    }

    /// Ends the display with the counts; gives how many files were not tried.
    pub fn finish(&self) -> u64 {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let ImportCounts { imported, already_there, failed, bytes } = self.counts;
        let left = self.total.saturating_sub(self.counts.seen());
        let mut out = std::io::stdout().lock();
        // Nobody listens if this fails.
        let _ = writeln!(
            out,
            "imported {imported} files ({}), already there {already_there}, failed {failed}",
            HumanBytes(bytes)
        );
        if left > 0 {
            let _ = writeln!(out, "stopped with {left} files left: run the same command to go on");
        }
        left
    }

    fn failure(&self, path: &Path, reason: &str) {
        let line = format!("{}: {reason}", path.display());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }

    fn progress(&mut self) {
        let seen = self.counts.seen();
        if let Some(bar) = &self.bar {
            bar.set_position(seen);
            bar.set_message(format!("{} failed", self.counts.failed));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let _ = writeln!(
                std::io::stderr(),
                "{seen} of {} files, {} failed",
                self.total,
                self.counts.failed
            );
        }
    }
}
