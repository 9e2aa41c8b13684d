//! Making files again from what the volumes have a record of.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use dms_core::ports::check_blob_key;

use super::durable::make_durable;
use crate::blobs::directories::sync_now;
use crate::blobs::name::path_of;
use crate::blobs::record::{self, Kind};

/// Restores what the journals in `folder`, of a store that is gone, have a record of, and makes it
/// durable. Blocks.
pub(in crate::blobs) fn replay(root: &Path, folder: &Path) -> io::Result<()> {
    let volumes: Vec<_> = record::VOLUMES.iter().map(|name| folder.join(name)).collect();
    let keys = restore(root, folder, &volumes, Existing::KeptIfWhole)?;
    if !keys.is_empty() {
        make_durable(root, &File::open(root)?, &keys)?;
        tracing::info!(contents = keys.len(), "content journal replayed");
    }
    Ok(())
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    KeptIfWhole,
    Replaced,
}

/// Writes the files whose content is in `volumes`; gives the keys of all that are there now. What it
/// writes itself is synced.
pub(super) fn restore(
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
        let path = path_of(root, key);
        let is_whole = || fs::read(&path).is_ok_and(|found| found == *content);
        if existing == Existing::KeptIfWhole && is_whole() {
            continue;
        }
        let mut file = File::create(&restored)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&restored, &path)?;
    }
    let keys: Vec<_> = newest.into_keys().map(str::to_owned).collect();
    if existing == Existing::Replaced {
        sync_now(root)?;
    }
    Ok(keys)
}
