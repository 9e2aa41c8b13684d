//! Views that aren't in the tables yet, in a file that is written to directly.
//!
//! A record is 32 bytes: its number, the document, and what stands for the visitor. Numbers rise by
//! one and say which place of the file a record has; the file is as long as its places are many and is
//! written round and round. A record of which the tables say that they have it may be overwritten.
//!
//! A record lies within one sector of a disk, so it is there as a whole or not at all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dms_core::DocumentId;
use uuid::Uuid;

/// Records the file has room for: 512 KiB.
pub(super) const PLACES: u64 = 16_384;

const RECORD_BYTES: usize = 32;

/// How long to wait before a locked file is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(10);

/// One view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub(super) document: DocumentId,
    /// What stands for the visitor.
    pub(super) visitor: i64,
}

/// A view with its number.
pub(super) type Numbered = (u64, View);

/// The file. Belongs to one counter at a time, in all processes.
pub(super) struct ViewLog {
    file: File,
    next: u64,
    /// Whether the file's position is that of `next`.
    is_in_place: bool,
}

impl ViewLog {
    /// Where the log of a database is.
    pub(super) fn path_of(database: &Path) -> PathBuf {
        let mut name = database.as_os_str().to_owned();
        name.push("-log");
        name.into()
    }

    /// Opens or makes the file, waiting for at most `patience` until nobody else has it; gives the
    /// views with a number after `folded`, too. Blocks.
    pub(super) fn open(
        path: &Path,
        folded: u64,
        patience: Duration,
    ) -> io::Result<(Self, Vec<Numbered>)> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOCKED_PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut views: Vec<_> = bytes
            .chunks_exact(RECORD_BYTES)
            .filter_map(read)
            .filter(|(number, _)| *number > folded)
            .collect();
        views.sort_unstable_by_key(|(number, _)| *number);
        // If power failed, the newest may be all that is left. What has no room belongs to a file
        // of another time.
        let last = views.last().map_or(folded, |(number, _)| *number);
        views.retain(|(number, _)| last - number < PLACES);
        let log = Self { file, next: last + 1, is_in_place: false };
        Ok((log, views))
    }

    /// Number of the last view.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Writes a view, which then has reached the operating system; gives its number.
    pub(super) fn append(&mut self, view: View) -> io::Result<u64> {
        let place = self.next % PLACES;
        if place == 0 || !self.is_in_place {
            self.file.seek(SeekFrom::Start(place * RECORD_BYTES as u64))?;
        }
        self.is_in_place = false;
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&self.next.to_le_bytes());
        record[8..24].copy_from_slice(view.document.as_uuid().as_bytes());
        record[24..].copy_from_slice(&view.visitor.to_le_bytes());
        self.file.write_all(&record)?;
        self.is_in_place = true;
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Leaves an empty file behind. The tables must have what was in it.
    pub(super) fn clear(self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

fn read(record: &[u8]) -> Option<Numbered> {
    let (number, rest) = record.split_first_chunk()?;
    let (document, rest) = rest.split_first_chunk()?;
    let visitor = i64::from_le_bytes(*rest.first_chunk()?);
    let document = DocumentId::from_uuid(Uuid::from_bytes(*document));
    Some((u64::from_le_bytes(*number), View { document, visitor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(visitor: u64) -> View {
        View { document: DocumentId::generate(), visitor: visitor.cast_signed() }
    }

    fn open(path: &Path, folded: u64) -> (ViewLog, Vec<View>) {
        let (log, views) = ViewLog::open(path, folded, Duration::ZERO).unwrap();
        let expected = log.last() - views.len() as u64 + 1..=log.last();
        assert!(views.iter().map(|(number, _)| *number).eq(expected), "numbers rise by one");
        (log, views.into_iter().map(|(_, view)| view).collect())
    }

    #[test]
    fn what_the_tables_do_not_have_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let views: Vec<_> = (1..=PLACES + 10).map(view).collect();
        let (mut log, found) = open(&path, 0);
        assert_eq!((log.last(), found), (0, vec![]));
        for view in &views[..7] {
            log.append(*view).unwrap();
        }
        let error = ViewLog::open(&path, 0, Duration::ZERO).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "one at a time");
        drop(log);
        let (mut log, found) = open(&path, 2);
        assert_eq!((log.last(), &*found), (7, &views[2..7]));
        for view in &views[7..] {
            log.append(*view).unwrap();
        }
        assert_eq!(log.file.metadata().unwrap().len(), PLACES * RECORD_BYTES as u64);
        drop(log);
        let (mut log, found) = open(&path, 10);
        assert_eq!((log.last(), &*found), (PLACES + 10, &views[10..]));
        log.append(views[0]).unwrap();
        log.clear().unwrap();
        let (mut log, found) = open(&path, PLACES + 10);
        assert_eq!((log.last(), found), (PLACES + 10, vec![]));
        log.append(views[0]).unwrap();
        drop(log);
        let (log, found) = open(&path, PLACES + 10);
        assert_eq!((log.last(), &*found), (PLACES + 11, &views[..1]), "places before it are empty");
    }
}
