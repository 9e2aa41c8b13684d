//! Small contents, written once more one after the other, so that many puts share one sync.
//!
//! A file of its own costs a put three syncs: of the file, of its folder, and of the folder that is
//! in. Here a put writes its content to a journal as well, and waits only until that is synced, which
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
//! - **After a crash** whoever opens the folder next [replays](replay) the journals of stores that are
//!   gone, before anything else.
//!
//! The volumes are filled with zeros beforehand: a sync then has only bytes to write, and nothing to
//! tell the file system's own journal.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dms_core::ports::check_blob_key;

use super::directories::Directories;
use super::record::{self, Kind};

/// Largest content that is recorded, in bytes. Beyond it, writing twice costs more than it saves.
pub(super) const CONTENT_BYTES_MAX: usize = 32 << 10;

/// Size of a volume: some thousand puts of a kilobyte, replayed in a fraction of a second.
const VOLUME_BYTES: usize = 4 << 20;

/// So many files are synced one by one; of more, the whole file system is, which is faster by then,
/// though it may have to write what others left.
const SYNCED_ONE_BY_ONE_MAX: usize = 64;

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

struct Volume {
    path: PathBuf,
    file: Arc<File>,
    /// Which use of any volume this is: later ones have greater numbers.
    epoch: u64,
    end: usize,
    /// Room for the removal of each record.
    reserved: usize,
    /// Keys whose files may not be durable yet.
    keys: HashSet<Box<str>>,
    /// Puts that have a record and no name yet.
    under_way: usize,
    full: bool,
    /// Whether a removal was recorded that isn't synced.
    has_removals: bool,
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
    /// A journal in `folder` for files below `root`. Nothing is made before it is needed.
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

impl Volume {
    fn make(folder: &Path, index: usize) -> io::Result<Self> {
        let path = folder.join(record::VOLUMES[index]);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(&vec![0; VOLUME_BYTES])?;
        file.rewind()?;
        file.sync_all()?;
        Ok(Self {
            path,
            file: Arc::new(file),
            epoch: 1,
            end: 0,
            reserved: 0,
            keys: HashSet::new(),
            under_way: 0,
            full: false,
            has_removals: false,
        })
    }

    fn has_room(&self, bytes: usize) -> bool {
        !self.full && self.end + self.reserved + bytes <= VOLUME_BYTES
    }

    /// Begins anew, so that nothing of what was recorded is ever replayed.
    fn reset(&mut self) -> io::Result<()> {
        (&*self.file).rewind()?;
        (&*self.file).write_all(&[0; record::HEADER_BYTES])?;
        self.file.sync_data()?;
        (&*self.file).rewind()?;
        (self.end, self.reserved) = (0, 0);
        (self.full, self.has_removals) = (false, false);
        self.keys.clear();
        Ok(())
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
                Directories::default().sync(folder)?;
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

/// Restores what the journals in `folder`, of a store that is gone, have a record of, and makes it
/// durable. Blocks.
pub(super) fn replay(root: &Path, folder: &Path) -> io::Result<()> {
    let volumes: Vec<_> = record::VOLUMES.iter().map(|name| folder.join(name)).collect();
    let keys = restore(root, folder, &volumes, Existing::KeptIfWhole)?;
    if !keys.is_empty() {
        make_durable(root, &File::open(root)?, &keys)?;
        tracing::info!(contents = keys.len(), "content journal replayed");
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    KeptIfWhole,
    Replaced,
}

/// Writes the files whose content is in `volumes`; gives the keys of all that are there now. What it
/// writes itself is synced.
fn restore(
    root: &Path,
    folder: &Path,
    volumes: &[PathBuf],
    existing: Existing,
) -> io::Result<Vec<String>> {
    let mut read = Vec::new();
    for volume in volumes {
        match fs::read(volume) {
            Ok(bytes) => read.push(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut volumes: Vec<_> = read.iter().filter_map(|bytes| record::read(bytes)).collect();
    volumes.sort_unstable_by_key(|(epoch, _)| *epoch);
    let mut newest = BTreeMap::new();
    for record in volumes.into_iter().flat_map(|(_, records)| records) {
        match record.kind {
            Kind::Content => newest.insert(record.key, record.content),
            Kind::Removal => newest.remove(record.key),
        };
    }
    newest.retain(|key, _| check_blob_key(key).is_ok());
    let restored = folder.join("restored");
    for (key, content) in &newest {
        let path = root.join(key);
        let is_whole = || fs::read(&path).is_ok_and(|found| found == *content);
        if existing == Existing::KeptIfWhole && is_whole() {
            continue;
        }
        let mut file = File::create(&restored)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::rename(&restored, &path)?;
    }
    let keys: Vec<_> = newest.into_keys().map(str::to_owned).collect();
    if existing == Existing::Replaced {
        sync_folders(root, &keys)?;
    }
    Ok(keys)
}

/// Returns once files, and the folders they are in, are durable as they are now.
fn make_durable(root: &Path, root_folder: &File, keys: &[String]) -> io::Result<()> {
    if keys.len() > SYNCED_ONE_BY_ONE_MAX
        && let Some(synced) = sync_file_system(root_folder)
    {
        return synced;
    }
    for key in keys {
        match File::open(root.join(key)) {
            Ok(file) => file.sync_all()?,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sync_folders(root, keys)
}

fn sync_folders(root: &Path, keys: &[String]) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for key in keys {
        folders.extend(Path::new(key).ancestors().skip(1).map(|folder| root.join(folder)));
    }
    let directories = Directories::default();
    for folder in folders {
        match directories.sync(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Writes everything that the file system of `folder` has in memory; none where that isn't possible.
/// Linux tells of errors since 5.8, of all that happened since `folder` was opened.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "not everywhere")]
fn sync_file_system(folder: &File) -> Option<io::Result<()>> {
    Some(rustix::fs::syncfs(folder).map_err(io::Error::from))
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_folder: &File) -> Option<io::Result<()>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        root: tempfile::TempDir,
        folder: PathBuf,
        journal: Journal,
    }

    /// A journal that takes records.
    fn running() -> World {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(".staging/0");
        fs::create_dir_all(&folder).unwrap();
        let journal = Journal::new(root.path(), &folder);
        while journal.record("first/content", &[]).is_none() {
            std::thread::yield_now();
        }
        World { root, folder, journal }
    }

    impl World {
        fn path(&self, key: &str) -> PathBuf {
            self.root.path().join(key)
        }

        /// What a put does.
        fn put(&self, key: &str, content: &[u8]) {
            let recorded = self.journal.record(key, &[Bytes::copy_from_slice(content)]);
            let recorded = recorded.expect("recorded");
            fs::create_dir_all(self.path(key).parent().unwrap()).unwrap();
            fs::write(self.path(key), content).unwrap();
            assert!(recorded.counts(key));
        }

        fn remove(&self, key: &str) {
            self.journal.forget(key);
            fs::remove_file(self.path(key)).unwrap();
        }
    }

    #[test]
    fn a_replay_restores_what_is_torn_or_missing_and_nothing_that_was_removed() {
        let world = running();
        for key in ["whole", "torn", "missing", "removed", "again"] {
            world.put(&format!("{key}/content"), key.as_bytes());
        }
        world.remove("removed/content");
        world.remove("again/content");
        world.put("again/content", b"something else");
        let recorded = world.journal.record("unnamed/content", &[Bytes::from_static(b"x")]);
        drop(recorded);
        // As a power failure may leave it.
        fs::write(world.path("torn/content"), "").unwrap();
        fs::remove_dir_all(world.path("missing")).unwrap();

        replay(world.root.path(), &world.folder).unwrap();
        let read = |key: &str| fs::read_to_string(world.path(&format!("{key}/content"))).ok();
        assert_eq!(read("whole").as_deref(), Some("whole"));
        assert_eq!(read("torn").as_deref(), Some("torn"));
        assert_eq!(read("missing").as_deref(), Some("missing"));
        assert_eq!(read("again").as_deref(), Some("something else"));
        assert_eq!(read("removed"), None);
        assert_eq!(read("unnamed").as_deref(), Some("x"), "left to the sweeper");
        replay(world.root.path(), &world.folder).expect("any number of times");
        assert!(world.journal.close(), "nothing is left to be replayed");
        fs::remove_dir_all(world.path("whole")).unwrap();
        replay(world.root.path(), &world.folder).unwrap();
        assert_eq!(read("whole"), None, "a closed journal has no records");
    }

    #[test]
    fn volumes_take_turns_and_wait_for_puts_under_way() {
        let world = running();
        let content = [Bytes::from(vec![7; CONTENT_BYTES_MAX])];
        let mut held = Vec::new();
        while let Some(recorded) =
            world.journal.record(&format!("{}/content", held.len()), &content)
        {
            held.push(recorded);
        }
        let both = 2 * VOLUME_BYTES / (CONTENT_BYTES_MAX + 100);
        assert!((both - 2..=both).contains(&held.len()), "{} records", held.len());
        assert!(world.journal.record("one-more/content", &[]).is_none(), "both are full");
        held.clear();
        while world.journal.record("one-more/content", &content).is_none() {
            std::thread::yield_now();
        }
        assert!(world.journal.close());
        assert!(world.journal.record("late/content", &[]).is_none(), "closed");
    }

    #[test]
    fn a_taken_back_record_does_not_count() {
        let world = running();
        let recorded = world.journal.record("a/content", &[]).unwrap();
        assert!(recorded.counts("a/content"));
        world.journal.forget("a/content");
        world.journal.forget("never-recorded/content");
        assert!(!recorded.counts("a/content"));
    }

    #[test]
    fn files_that_cannot_be_synced_are_written_anew() {
        let world = running();
        world.put("a/content", b"hello");
        let volumes: Vec<_> = record::VOLUMES.iter().map(|name| world.folder.join(name)).collect();
        fs::write(world.path("a/content"), "lost").unwrap();
        restore(world.root.path(), &world.folder, &volumes, Existing::Replaced).unwrap();
        assert_eq!(fs::read(world.path("a/content")).unwrap(), b"hello");
    }
}
