//! Files on their way to becoming blobs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::journal::{self, Journal};
use super::layout;

/// Folder in the root; its name is no word of a key.
const FOLDER: &str = ".staging";

/// Locked by whoever opens a store, so that no two clean up at once; says which layout the root has.
const OPENING: &str = "opening.lock";

/// Locked for as long as the store is open whose folder it is in.
const ALIVE: &str = "alive.lock";

/// Folders that staged files are spread over: threads that create files in one folder wait for each
/// other, and that for as long as one of them is waiting for the journal.
const SPREAD: u64 = 64;

/// Where one open store keeps its staged files and its journal.
pub(super) struct Staging {
    folder: PathBuf,
    journal: Arc<Journal>,
    counter: AtomicU64,
    /// Keeps the lock.
    _alive: File,
}

impl Staging {
    /// Brings the root into the layout of now, removes what stores that are gone have left, and makes
    /// a folder of our own. Blocks.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let all = root.join(FOLDER);
        fs::create_dir_all(&all)?;
        let opening = lock_file(&all.join(OPENING))?;
        opening.lock()?;
        layout::flatten(root, &opening)?;
        sweep(root, &all)?;
        let folder = new_folder(&all)?;
        let alive = lock_file(&folder.join(ALIVE))?;
        alive.lock()?;
        for i in 0..SPREAD {
            fs::create_dir(folder.join(i.to_string()))?;
        }
        let journal = Arc::new(Journal::new(root, &folder));
        Ok(Self { folder, journal, counter: AtomicU64::new(0), _alive: alive })
    }

    pub(super) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// A new, empty file.
    pub(super) fn create(&self) -> io::Result<StagedFile> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut path = self.folder.join((number % SPREAD).to_string());
        path.push(number.to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(StagedFile { file, path })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.journal.close() {
            // What can't be removed is swept by the next store that is opened.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn sweep(root: &Path, all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let folder = entry.path();
        let alive = lock_file(&folder.join(ALIVE))?;
        match alive.try_lock() {
            Ok(()) => {
                tracing::info!(folder = %folder.display(), "removing unfinished content");
                journal::replay(root, &folder)?;
                fs::remove_dir_all(&folder)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn new_folder(all: &Path) -> io::Result<PathBuf> {
    let mut number = 0_u32;
    loop {
        let folder = all.join(number.to_string());
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A file that is removed with this value; a link to it stays.
pub(super) struct StagedFile {
    file: File,
    path: PathBuf,
}

impl StagedFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn append(&mut self, parts: &[Bytes]) -> io::Result<()> {
        parts.iter().try_for_each(|part| self.file.write_all(part))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // What can't be removed is swept by the next store that is opened.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                found.extend(files(&entry.path()));
            } else if entry.path().extension().is_none_or(|extension| extension != "lock") {
                found.push(entry.path());
            }
        }
        found
    }

    #[test]
    fn opening_removes_what_a_dead_store_left_and_nothing_of_a_live_one() {
        let root = tempfile::tempdir().unwrap();
        let left = root.path().join(FOLDER).join("0").join("17");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("4"), "torn").unwrap();
        fs::write(root.path().join(FOLDER).join("0").join(ALIVE), "").unwrap();

        let first = Staging::open(root.path()).unwrap();
        assert_eq!(files(root.path()), Vec::<PathBuf>::new(), "swept");
        let mut staged = first.create().unwrap();
        staged.append(&[Bytes::from_static(b"half")]).unwrap();

        let second = Staging::open(root.path()).unwrap();
        assert_eq!(files(root.path()), vec![staged.path().to_owned()], "still in use");
        let other = second.create().unwrap();
        assert_ne!(other.path(), staged.path());
        drop((staged, other));
        assert_eq!(files(root.path()), Vec::<PathBuf>::new(), "removed when dropped");
        drop((first, second));
        let entries = fs::read_dir(root.path().join(FOLDER)).unwrap().count();
        assert_eq!(entries, 1, "only the lock of opening is left");
    }
}
