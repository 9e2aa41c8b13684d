//! Small contents, written once more one after the other, so that many puts share one sync.
//!
//! A file of its own costs a put two syncs: of the file, and of the folder it is in. Here a put writes its content to a journal as well, and waits only until that is synced, which
//! one sync does for all who wait. The files are made durable later, many at once; until then the
//! journal can make them again.
//!
//! - **Order.** The record is durable before the name is given, and the name is given before the put
//!   returns. So a name that is there after a power failure either has all of its content, or a
//!   record to repair it from.
//! - **Two volumes** take turns: while the files of one are made durable, the other takes records. If
//!   neither has room, or something is wrong with them, nothing is recorded, and whoever puts makes
//!   its file durable by itself.
//! - **Removals** are recorded too, so that what was removed stays so when the process is killed. They
//!   aren't synced: a power failure may undo a removal.
//! - **Giving up** a volume: once all of its puts have given their names, a sync that begins then
//!   covers every file; afterwards the volume begins anew.
//! - **After a crash** whoever opens the folder next [replays](replay::replay) the journals of stores
//!   that are gone, before anything else.
//!
//! The volumes are filled with zeros beforehand: a sync then has only bytes to write, and nothing to
//! tell the file system's own journal.

mod durable;
mod replay;
mod volume;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::directories::{Directories, sync_now};
use super::record::{self, Kind};
use durable::make_durable;
pub(super) use replay::replay;
use replay::{Existing, restore};
use volume::Volume;

/// Largest content that is recorded, in bytes. Beyond it, writing twice costs more than it saves.
pub(super) const CONTENT_BYTES_MAX: usize = 32 << 10;

/// How long to leave it alone after it couldn't be set up, or a volume couldn't be given up.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The journal of one open store.
pub(super) struct Journal {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    root: PathBuf,
    /// Where the volumes are.
    folder: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Who waits for a sync of a volume.
    syncs: Directories,
}

#[derive(Default)]
struct State {
    /// None until somebody puts something, and for good once a sync has failed.
    volumes: Option<[Volume; 2]>,
    active: usize,
    mode: Mode,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Idle,
    Preparing,
    Running,
    /// What was written may be lost: nothing more is recorded.
    Broken,
    Closed,
}

/// A durable record. Its volume isn't given up as long as this is held.
pub(super) struct Recorded {
    shared: Arc<Shared>,
    volume: usize,
}

impl Recorded {
    /// Whether the record still stands: who removes a name takes it back, whether the name has been
    /// given yet or not.
    pub(super) fn counts(&self, key: &str) -> bool {
        let state = self.shared.lock();
        state.volumes.as_ref().is_some_and(|volumes| volumes[self.volume].keys.contains(key))
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(volumes) = &mut state.volumes {
            volumes[self.volume].under_way -= 1;
            if volumes[self.volume].full {
                self.shared.changed.notify_all();
            }
        }
    }
}

impl Journal {
    /// A journal in `folder` for files in `root`. Nothing is made before it is needed.
    pub(super) fn new(root: &Path, folder: &Path) -> Self {
        let shared = Shared {
            root: root.to_owned(),
            folder: folder.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
            syncs: Directories::default(),
        };
        Self { shared: Arc::new(shared), keeper: Mutex::default() }
    }

    /// Keeps content durably under a key. None if that isn't possible now: the file must be made
    /// durable some other way then. Blocks.
    pub(super) fn record(&self, key: &str, content: &[Bytes]) -> Option<Recorded> {
        let body = record::body(Kind::Content, key, content);
        let (recorded, path, file) = self.append(key, body)?;
        match self.shared.syncs.sync_with(&path, |_| file.sync_data()) {
            Ok(()) => Some(recorded),
            Err(error) => {
                // What a failed sync has lost, a later one doesn't write.
                self.shared.broken(&error);
                None
            }
        }
    }

    fn append(&self, key: &str, mut body: Vec<u8>) -> Option<(Recorded, PathBuf, Arc<File>)> {
        let mut state = self.shared.lock();
        if state.mode == Mode::Idle {
            self.prepare(&mut state);
        }
        if state.mode != Mode::Running {
            return None;
        }
        let removal = record::removal_len(key);
        let index = state.active_with_room(body.len() + removal, &self.shared.changed)?;
        let volume = state.volumes.as_mut().map(|volumes| &mut volumes[index])?;
        record::seal(&mut body, volume.epoch);
        // In order and under the lock, so that no record is behind a hole.
        if let Err(error) = (&*volume.file).write_all(&body) {
            drop(state);
            self.shared.broken(&error);
            return None;
        }
        volume.end += body.len();
        volume.reserved += removal;
        volume.under_way += 1;
        volume.keys.insert(key.into());
        let recorded = Recorded { shared: Arc::clone(&self.shared), volume: index };
        Some((recorded, volume.path.clone(), Arc::clone(&volume.file)))
    }

    /// A name is about to be removed or withdrawn: it isn't to be made again.
    pub(super) fn forget(&self, key: &str) {
        let mut state = self.shared.lock();
        let mut failed = None;
        for volume in state.volumes.iter_mut().flatten() {
            if volume.keys.remove(key) {
                let mut body = record::body(Kind::Removal, key, &[]);
                record::seal(&mut body, volume.epoch);
                volume.end += body.len();
                volume.reserved = volume.reserved.saturating_sub(body.len());
                volume.has_removals = true;
                failed = (&*volume.file).write_all(&body).err().or(failed);
            }
        }
        drop(state);
        if let Some(error) = failed {
            self.shared.broken(&error);
        }
    }

    /// Makes the removals durable that were recorded, before a name is given that has no record: it
    /// may be one that was removed. Blocks.
    pub(super) fn sync_removals(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        for volume in state.volumes.iter_mut().flatten().filter(|volume| volume.has_removals) {
            volume.file.sync_data()?;
            volume.has_removals = false;
        }
        Ok(())
    }

    /// Has the volumes made, on the thread that also gives them up.
    fn prepare(&self, state: &mut State) {
        state.mode = Mode::Preparing;
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name("blobs-journal".to_owned())
            .spawn(move || shared.keep());
        match started {
            Ok(handle) => {
                *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
            }
            Err(error) => {
                tracing::warn!(%error, "content is stored without a journal");
                state.mode = Mode::Broken;
            }
        }
    }

    /// Makes every file durable and ends the thread; gives whether nothing is left that must be
    /// replayed. Blocks.
    pub(super) fn close(&self) -> bool {
        self.shared.lock().mode = Mode::Closed;
        self.shared.changed.notify_all();
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = keeper.is_none_or(|keeper| keeper.join().is_ok());
        let state = self.shared.lock();
        ended && state.volumes.iter().flatten().all(|volume| volume.keys.is_empty())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// The volume that has room for so many bytes, which may be the other one.
    fn active_with_room(&mut self, bytes: usize, changed: &Condvar) -> Option<usize> {
        let volumes = self.volumes.as_mut()?;
        if volumes[self.active].has_room(bytes) {
            return Some(self.active);
        }
        volumes[self.active].full = true;
        changed.notify_all();
        let other = 1 - self.active;
        if volumes[other].full || !volumes[other].has_room(bytes) {
            return None;
        }
        volumes[other].epoch = volumes[self.active].epoch + 1;
        self.active = other;
        Some(other)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, error: &io::Error) {
        let mut state = self.lock();
        if state.mode == Mode::Running {
            tracing::error!(%error, "content journal given up");
            state.mode = Mode::Broken;
            for volume in state.volumes.iter_mut().flatten() {
                volume.full = true;
            }
            self.changed.notify_all();
        }
    }

    /// The thread: makes the volumes, then gives up those that are full, until the journal is closed.
    fn keep(&self) {
        // Open before anything is written, so that a sync of the file system tells of every error.
        let made = File::open(&self.root).and_then(|root| {
            let volumes = [Volume::make(&self.folder, 0)?, Volume::make(&self.folder, 1)?];
            for folder in [Some(&*self.folder), self.folder.parent()].into_iter().flatten() {
                sync_now(folder)?;
            }
            Ok((root, volumes))
        });
        let mut state = self.lock();
        let root = match made {
            Ok((root, volumes)) => {
                state.volumes = Some(volumes);
                root
            }
            Err(error) => {
                tracing::warn!(%error, "content is stored without a journal");
                state.mode = Mode::Broken;
                return;
            }
        };
        if state.mode == Mode::Preparing {
            state.mode = Mode::Running;
        }
        loop {
            let closed = state.mode == Mode::Closed;
            let due = state.volumes.iter().flatten().position(|volume| {
                (volume.full || closed) && volume.under_way == 0 && volume.end > 0
            });
            match due {
                Some(index) => {
                    let given_up;
                    (state, given_up) = self.give_up(&root, index, state);
                    if !given_up {
                        state.mode = if closed { return } else { Mode::Broken };
                        state = self.pause(state);
                    }
                }
                None if closed => return,
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Makes the files of a volume durable and lets it begin anew; gives whether that worked.
    fn give_up<'a>(
        &'a self,
        root: &File,
        index: usize,
        state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, bool) {
        let Some(volume) = state.volumes.as_ref().map(|volumes| &volumes[index]) else {
            return (state, true);
        };
        let keys: Vec<_> = volume.keys.iter().map(|key| String::from(&**key)).collect();
        let path = volume.path.clone();
        drop(state);
        let durable = make_durable(&self.root, root, &keys).or_else(|error| {
            tracing::error!(%error, "content not synced, writing it anew");
            restore(&self.root, &self.folder, &[path], Existing::Replaced).map(drop)
        });
        let mut state = self.lock();
        let reset = durable.and_then(|()| match &mut state.volumes {
            Some(volumes) => volumes[index].reset(),
            None => Ok(()),
        });
        if let Err(error) = &reset {
            tracing::error!(%error, "content is kept in the journal only");
        }
        (state, reset.is_ok())
    }

    fn pause<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let again = Instant::now() + RETRY_PAUSE;
        while state.mode != Mode::Closed && Instant::now() < again {
            let left = again.saturating_duration_since(Instant::now());
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}

#[cfg(test)]
mod tests;
