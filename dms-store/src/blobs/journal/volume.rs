//! One of the two files that records are written to.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blobs::record;

/// Size of a volume: some thousand puts of a kilobyte, replayed in a fraction of a second.
pub(super) const VOLUME_BYTES: usize = 4 << 20;

/// A volume and what is known of what it holds.
pub(super) struct Volume {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Which use of any volume this is: later ones have greater numbers.
    pub(super) epoch: u64,
    pub(super) end: usize,
    /// Room for the removal of each record.
    pub(super) reserved: usize,
    /// Keys whose files may not be durable yet.
    pub(super) keys: HashSet<Box<str>>,
    /// Puts that have a record and no name yet.
    pub(super) under_way: usize,
    pub(super) full: bool,
    /// Whether a removal was recorded that isn't synced.
    pub(super) has_removals: bool,
}

impl Volume {
    pub(super) fn make(folder: &Path, index: usize) -> io::Result<Self> {
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

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        !self.full && self.end + self.reserved + bytes <= VOLUME_BYTES
    }

    /// Begins anew, so that nothing of what was recorded is ever replayed.
    pub(super) fn reset(&mut self) -> io::Result<()> {
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
