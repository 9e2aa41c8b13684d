//! Listing blobs.

use std::collections::VecDeque;
use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::iter::Fuse;
use std::path::Path;

use dms_core::ports::BlobInfo;
use time::OffsetDateTime;

use super::name::key_of;

/// Most entries looked at in one go.
const BATCH: usize = 1_000;

/// A walk through the root, for keys with a prefix.
pub(super) struct Walk {
    prefix: String,
    entries: Fuse<ReadDir>,
}

impl Walk {
    /// Begins. Without its root there is no store, which is not the same as an empty one. Blocks.
    pub(super) fn begin(root: &Path, prefix: &str) -> io::Result<Self> {
        Ok(Self { prefix: prefix.to_owned(), entries: fs::read_dir(root)?.fuse() })
    }

    /// Goes on for a while; none once everything was seen. Blocks.
    pub(super) fn next_batch(&mut self) -> io::Result<Option<VecDeque<BlobInfo>>> {
        let mut found = VecDeque::new();
        let mut seen = 0;
        for entry in self.entries.by_ref().take(BATCH) {
            seen += 1;
            found.extend(visit(&entry?, &self.prefix)?);
        }
        Ok((seen > 0).then_some(found))
    }
}

fn visit(entry: &DirEntry, prefix: &str) -> io::Result<Option<BlobInfo>> {
    let key = entry.file_name().to_str().and_then(key_of).filter(|key| key.starts_with(prefix));
    let Some(key) = key else { return Ok(None) };
    match entry.metadata() {
        Ok(metadata) if metadata.is_file() => {
            let modified_at = OffsetDateTime::from(metadata.modified()?);
            Ok(Some(BlobInfo { key, size: metadata.len(), modified_at }))
        }
        Ok(_) => Ok(None),
        // Removed since the folder was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
