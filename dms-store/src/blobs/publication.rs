//! The last step of a put: all of the content under its name, or nothing.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dms_core::{Error, Result};

use super::directories::Directories;
use super::error::{already_exists, from_io, unavailable};
use super::journal::{CONTENT_BYTES_MAX, Journal, Recorded};
use super::name::path_of;
use super::staging::{StagedFile, Staging};

/// Names that are about to be given or withdrawn.
///
/// Withdrawing a name that someone else has meanwhile freed and given anew would lose a blob.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashSet<PathBuf>>);

struct Claim {
    claims: Arc<Claims>,
    path: PathBuf,
}

impl Claims {
    fn claim(self: &Arc<Self>, path: &Path) -> Option<Claim> {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claimed
            .insert(path.to_owned())
            .then(|| Claim { claims: Arc::clone(self), path: path.to_owned() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

mod state {
    pub(super) const RUNNING: u8 = 0;
    pub(super) const DONE: u8 = 1;
    pub(super) const CANCELLED: u8 = 2;
}

/// One name being given, shared by the thread that does it and the future that waits for it.
pub(super) struct Publication {
    root: PathBuf,
    key: String,
    path: PathBuf,
    journal: Arc<Journal>,
    state: AtomicU8,
    claims: Arc<Claims>,
    /// Kept until both the thread and the future are done with the name.
    claim: Mutex<Option<Claim>>,
}

/// The future's part: if it is dropped before [`settle`](Self::settle), the name is withdrawn.
pub(super) struct Pending(Option<Arc<Publication>>);

impl Publication {
    pub(super) fn new(
        root: &Path,
        key: &str,
        claims: Arc<Claims>,
        journal: Arc<Journal>,
    ) -> (Arc<Self>, Pending) {
        let publication = Arc::new(Self {
            root: root.to_owned(),
            key: key.to_owned(),
            path: path_of(root, key),
            journal,
            state: AtomicU8::new(state::RUNNING),
            claims,
            claim: Mutex::default(),
        });
        let pending = Pending(Some(Arc::clone(&publication)));
        (publication, pending)
    }

    /// Writes the rest, gives the name, and returns once all of it is durable. Blocks.
    pub(super) fn run(
        &self,
        staging: &Staging,
        directories: &Directories,
        staged: Option<StagedFile>,
        rest: &[Bytes],
    ) -> Result<()> {
        self.ensure_wanted()?;
        let written = |error| from_io("content can't be written", error);
        let is_small =
            staged.is_none() && rest.iter().map(Bytes::len).sum::<usize>() <= CONTENT_BYTES_MAX;
        let mut staged = staged.map_or_else(|| staging.create(), Ok).map_err(written)?;
        staged.append(rest).map_err(written)?;
        self.claim()?;
        let durable = match self.name(&staged, rest, is_small)? {
            Some(recorded) if recorded.counts(&self.key) => Ok(()),
            Some(_) => staged.sync().and_then(|()| directories.sync(&self.root)),
            None => directories.sync(&self.root),
        };
        let durable = durable.map_err(written);
        drop(staged);
        if durable.is_err() || !self.advance(state::DONE) {
            self.withdraw();
        }
        durable
    }

    /// Gives the name to content that is durable already; gives its record, if it has one.
    fn name(
        &self,
        staged: &StagedFile,
        content: &[Bytes],
        is_small: bool,
    ) -> Result<Option<Recorded>> {
        let recorded = if is_small { self.record(content)? } else { None };
        if recorded.is_none() {
            let durable = staged.sync().and_then(|()| self.journal.sync_removals());
            durable.map_err(|error| from_io("content can't be written", error))?;
        }
        if let Err(error) = self.link(staged) {
            if recorded.is_some() {
                self.journal.forget(&self.key);
            }
            return Err(error);
        }
        Ok(recorded)
    }

    fn claim(&self) -> Result<()> {
        let claim = self.claims.claim(&self.path).ok_or_else(already_exists)?;
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
        Ok(())
    }

    /// Keeps the content in the journal, if that is possible and the name is free: content that is
    /// there must not be replaced by a replay.
    fn record(&self, content: &[Bytes]) -> Result<Option<Recorded>> {
        if std::fs::symlink_metadata(&self.path).is_ok() {
            return Err(already_exists());
        }
        Ok(self.journal.record(&self.key, content))
    }

    fn ensure_wanted(&self) -> Result<()> {
        match self.state.load(Ordering::Acquire) {
            state::CANCELLED => Err(unavailable("nobody waits for the content any more")),
            _ => Ok(()),
        }
    }

    fn advance(&self, to: u8) -> bool {
        self.state.compare_exchange(state::RUNNING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn link(&self, staged: &StagedFile) -> Result<()> {
        self.ensure_wanted()?;
        std::fs::hard_link(staged.path(), &self.path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists().with_source(error),
            _ => from_io("content can't be given its name", error),
        })
    }

    fn withdraw(&self) {
        self.journal.forget(&self.key);
        match std::fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "content left to the sweeper");
            }
        }
    }
}

impl Pending {
    /// The outcome is known to the caller: nothing is to be withdrawn.
    pub(super) fn settle(mut self, outcome: &Result<(), Error>) {
        if outcome.is_ok() {
            self.0 = None;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(publication) = self.0.take() else { return };
        // If the thread is still at work it finds out by itself.
        if publication.state.swap(state::CANCELLED, Ordering::AcqRel) == state::DONE {
            publication.withdraw();
        }
    }
}
