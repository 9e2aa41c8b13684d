//! The folder that embedded backends keep everything in, held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::settings::names::DATA_DIR;
use crate::{ExitStatus, StartupError};

/// Name of the lock file in the folder.
const LOCK_FILE: &str = "lock";

/// A data directory that this process holds.
///
/// It is held by an advisory lock of the operating system on a file in it, so a process that is killed
/// lets go of it too. The file stays; it names the process that holds it. Dropping this value gives
/// the directory back: keep it until everything in it is closed.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    lock: File,
}

impl DataDirectory {
    /// Creates the folder if it is missing (for its owner only) and takes hold of it.
    ///
    /// # Errors
    /// [`ExitStatus::CannotCreate`] if it can't be created or written;
    /// [`ExitStatus::Temporary`] if another process holds it, which is named;
    /// [`ExitStatus::InputOutput`] if the disk fails or is full, or the file system has no locks.
    pub fn open(path: &Path) -> Result<Self, StartupError> {
        let path = absolute(path)?;
        create(&path).map_err(|error| refused("create", &path, error))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| refused("write to", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(refused("lock", &lock_path, error)),
        }
        write_holder(&mut lock).map_err(|error| refused("write to", &lock_path, error))?;
        Ok(Self { path, lock })
    }

    /// Whether [`open`](Self::open) could use the folder, without creating or holding it: whether it, or
    /// the nearest folder above it that exists, is a folder that can be written.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that another process may hold it.
    pub fn check(path: &Path) -> Result<(), StartupError> {
        let path = absolute(path)?;
        let existing = path
            .ancestors()
            .find(|candidate| candidate.try_exists().unwrap_or(true))
            .unwrap_or(&path);
        let probe = existing.join(format!(".dms-check-{}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&probe) {
            Ok(_) => std::fs::remove_file(&probe)
                .map_err(|error| refused("remove a file from", existing, error)),
            // left behind by a check that was killed, which proves as much
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(refused("write to", existing, error)),
        }
    }

    /// The folder, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // the lock goes with the file; the name of a process that is gone would only mislead
        let _ = self.lock.set_len(0);
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StartupError> {
    std::path::absolute(path).map_err(|error| refused("find", path, error))
}

fn create(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn refused(action: &str, path: &Path, error: io::Error) -> StartupError {
    StartupError::from_path(DATA_DIR.name, action, path, error)
}

fn held(path: &Path, lock: &mut File) -> StartupError {
    let mut holder = String::new();
    let read = lock.take(32).read_to_string(&mut holder);
    let process = match (read, holder.trim().parse::<u32>()) {
        (Ok(_), Ok(id)) => format!("process {id}"),
        _ => "another process".to_owned(),
    };
    StartupError::new(
        ExitStatus::Temporary,
        format!(
            "{}: {} is in use by {process}; stop that, or choose another folder",
            DATA_DIR.name,
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_missing_folders_for_the_owner_only() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a/b");
        let directory = DataDirectory::open(&path).expect("opens");
        assert_eq!(directory.path(), path);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let root = tempfile::tempdir().expect("a folder");
        let first = DataDirectory::open(root.path()).expect("opens");
        let error = DataDirectory::open(root.path()).expect_err("is held");
        assert_eq!(error.exit(), ExitStatus::Temporary);
        let report = error.report();
        assert!(report.contains(&format!("process {}", std::process::id())), "{report}");
        assert!(report.starts_with("DMS_DATA_DIR: "), "{report}");
        drop(first);
        DataDirectory::open(root.path()).expect("opens once it is given back");
    }

    #[test]
    fn a_file_in_the_way_is_said_to_be() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("file");
        std::fs::write(&file, "").expect("written");
        for path in [file.clone(), file.join("below")] {
            for error in [
                DataDirectory::open(&path).map(|_| ()).expect_err("refused"),
                DataDirectory::check(&path).expect_err("refused"),
            ] {
                assert_eq!(error.exit(), ExitStatus::CannotCreate, "{}", error.report());
                assert!(error.report().contains("a file is in the way"), "{}", error.report());
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_cannot_be_written_is_refused() {
        let error = DataDirectory::open(Path::new("/proc/dms-data")).expect_err("refused");
        assert_eq!(error.exit(), ExitStatus::CannotCreate, "{}", error.report());
    }

    #[test]
    fn checking_neither_creates_nor_minds_a_holder() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("data");
        DataDirectory::check(&path).expect("can be used");
        assert!(!path.exists());
        let _held = DataDirectory::open(&path).expect("opens");
        DataDirectory::check(&path).expect("can be used");
        let names: Vec<_> = std::fs::read_dir(&path).expect("listed").collect();
        assert_eq!(names.len(), 1, "only the lock is there");
    }
}
