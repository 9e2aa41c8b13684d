//! Listing blobs.

use std::collections::VecDeque;
use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::path::Path;

use dms_core::ports::{BlobInfo, check_blob_key};
use time::OffsetDateTime;

use super::error::is_absent;

/// Most entries looked at in one go.
const BATCH: usize = 1_000;

/// Folders within each other that are looked into; keys have fewer words.
const DEPTH_MAX: usize = 16;

/// A walk through the folders that can hold keys with a prefix.
pub(super) struct Walk {
    prefix: String,
    /// The folders being read, outermost first, each with the beginning of its keys.
    folders: Vec<(String, ReadDir)>,
}

impl Walk {
    /// Begins where all keys with `prefix` are. Blocks.
    pub(super) fn begin(root: &Path, prefix: &str) -> io::Result<Self> {
        let mut walk = Self { prefix: prefix.to_owned(), folders: Vec::new() };
        let (start, path) = match prefix.rsplit_once('/') {
            None => (String::new(), root.to_owned()),
            Some((folder, _)) if check_blob_key(folder).is_ok() => {
                (format!("{folder}/"), root.join(folder))
            }
            Some(_) => return Ok(walk),
        };
        match fs::read_dir(path) {
            Ok(entries) => walk.folders.push((start, entries)),
            // Without its root there is no store, which is not the same as an empty one.
            Err(error) if is_absent(&error) && !start.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(walk)
    }

    /// Goes on for a while; none once everything was seen. Blocks.
    pub(super) fn next_batch(&mut self) -> io::Result<Option<VecDeque<BlobInfo>>> {
        let mut found = VecDeque::new();
        for _ in 0..BATCH {
            let Some((start, entries)) = self.folders.last_mut() else {
                return Ok((!found.is_empty()).then_some(found));
            };
            match entries.next() {
                None => {
                    self.folders.pop();
                }
                Some(entry) => {
                    let entry = entry?;
                    let name = entry.file_name();
                    if let Some(name) = name.to_str() {
                        let key = format!("{start}{name}");
                        found.extend(self.visit(key, &entry)?);
                    }
                }
            }
        }
        Ok(Some(found))
    }

    fn visit(&mut self, key: String, entry: &DirEntry) -> io::Result<Option<BlobInfo>> {
        if check_blob_key(&key).is_err() {
            return Ok(None);
        }
        match self.look_at(key, entry) {
            // Removed since the folder was read.
            Err(error) if is_absent(&error) => Ok(None),
            seen => seen,
        }
    }

    fn look_at(&mut self, key: String, entry: &DirEntry) -> io::Result<Option<BlobInfo>> {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let start = key + "/";
            let can_match = start.starts_with(&self.prefix) || self.prefix.starts_with(&start);
            if can_match && self.folders.len() < DEPTH_MAX {
                self.folders.push((start, fs::read_dir(entry.path())?));
            }
            return Ok(None);
        }
        if !kind.is_file() || !key.starts_with(&self.prefix) {
            return Ok(None);
        }
        let metadata = entry.metadata()?;
        let modified_at = OffsetDateTime::from(metadata.modified()?);
        Ok(Some(BlobInfo { key, size: metadata.len(), modified_at }))
    }
}
