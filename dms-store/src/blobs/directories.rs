//! Durable directory entries.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Syncs directories, once for all who ask while a sync of the same directory is running.
///
/// Every blob adds an entry to the root: without this, each put would sync it by itself.
#[derive(Default)]
pub(super) struct Directories(Mutex<HashMap<PathBuf, Running>>);

/// A directory that is being synced.
#[derive(Default)]
struct Running {
    /// Those who came since; the sync under way may have missed their entries.
    next: Option<Arc<Round>>,
}

/// One sync that several threads wait for.
#[derive(Default)]
struct Round {
    state: Mutex<RoundState>,
    changed: Condvar,
}

#[derive(Default)]
enum RoundState {
    /// The round before is running.
    #[default]
    Waiting,
    /// The first to see this does the work.
    Due,
    Begun,
    Done(Result<(), Arc<io::Error>>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Directories {
    /// Returns once the entries that `directory` had at the time of the call are durable. Blocks.
    pub(super) fn sync(&self, directory: &Path) -> io::Result<()> {
        self.sync_with(directory, sync_now)
    }

    /// The same with another way to sync, of whatever `directory` stands for.
    pub(super) fn sync_with(
        &self,
        directory: &Path,
        sync: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let joined = {
            let mut running = lock(&self.0);
            if let Some(running) = running.get_mut(directory) {
                Some(Arc::clone(running.next.get_or_insert_default()))
            } else {
                running.insert(directory.to_owned(), Running::default());
                None
            }
        };
        let Some(round) = joined else {
            let _ended = Ended { directories: self, directory };
            return sync(directory);
        };
        if let Some(result) = round.wait() {
            return result;
        }
        let result = {
            let _ended = Ended { directories: self, directory };
            sync(directory).map_err(Arc::new)
        };
        round.advance(RoundState::Done(result.clone()));
        result.map_err(again)
    }
}

impl Round {
    /// Gives the result, or none if it's the caller who has to sync.
    fn wait(&self) -> Option<io::Result<()>> {
        let mut state = lock(&self.state);
        loop {
            match &*state {
                RoundState::Waiting | RoundState::Begun => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                RoundState::Due => {
                    *state = RoundState::Begun;
                    return None;
                }
                RoundState::Done(result) => return Some(result.clone().map_err(again)),
            }
        }
    }

    fn advance(&self, to: RoundState) {
        *lock(&self.state) = to;
        self.changed.notify_all();
    }
}

/// Hands over to those who came meanwhile, however the sync ended.
struct Ended<'a> {
    directories: &'a Directories,
    directory: &'a Path,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let next = {
            let mut running = lock(&self.directories.0);
            let next = running.get_mut(self.directory).and_then(|running| running.next.take());
            if next.is_none() {
                running.remove(self.directory);
            }
            next
        };
        if let Some(next) = next {
            next.advance(RoundState::Due);
        }
    }
}

fn again(error: Arc<io::Error>) -> io::Error {
    io::Error::new(error.kind(), error)
}

/// Makes the entries of a directory durable. Blocks.
#[cfg(unix)]
pub(super) fn sync_now(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

/// Directories can't be opened as files here; the file system's journal keeps their entries.
#[cfg(not(unix))]
pub(super) fn sync_now(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn whoever_comes_during_a_sync_waits_for_one_that_begins_later() {
        let directories = Directories::default();
        let path = Path::new("some/folder");
        // An entry is durable if a sync began after it was made.
        let (made, durable, syncs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let sync = |_: &Path| {
            let seen = made.load(Ordering::SeqCst);
            syncs.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
            durable.fetch_max(seen, Ordering::SeqCst);
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let mine = made.fetch_add(1, Ordering::SeqCst) + 1;
                        directories.sync_with(path, sync).unwrap();
                        assert!(durable.load(Ordering::SeqCst) >= mine, "returned too early");
                    }
                });
            }
        });
        assert!(syncs.load(Ordering::SeqCst) <= 3_200);
        assert!(lock(&directories.0).is_empty(), "nothing is remembered of an idle directory");
    }

    #[test]
    fn those_who_wait_together_share_one_sync_and_its_error() {
        let directories = Directories::default();
        let path = Path::new("some/folder");
        let syncs = AtomicU64::new(0);
        let (begun, first_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let directories = &directories;
            let first = scope.spawn(move || {
                directories.sync_with(path, |_| {
                    begun.send(()).unwrap();
                    released.recv().unwrap();
                    Ok(())
                })
            });
            first_begun.recv().unwrap();
            let failing = |_: &Path| {
                syncs.fetch_add(1, Ordering::SeqCst);
                Err(io::Error::from(io::ErrorKind::StorageFull))
            };
            let waiting: Vec<_> =
                (0..8).map(|_| scope.spawn(move || directories.sync_with(path, failing))).collect();
            let joined = || {
                let running = lock(&directories.0);
                let round = running.get(path).and_then(|running| running.next.clone());
                round.map_or(0, |round| Arc::strong_count(&round) - 2)
            };
            while joined() < 8 {
                thread::yield_now();
            }
            release.send(()).unwrap();
            first.join().unwrap().expect("the first sync is not the failing one");
            for waiting in waiting {
                let error = waiting.join().unwrap().expect_err("the shared sync failed");
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            }
        });
        assert_eq!(syncs.load(Ordering::SeqCst), 1, "one sync for all who waited");
        let other = Path::new("another/folder");
        directories.sync_with(other, |_| Ok(())).expect("an error isn't remembered");
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let directories = Directories::default();
        directories.sync(folder.path()).expect("an existing directory");
        let error = directories.sync(&folder.path().join("gone")).expect_err("no such directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
