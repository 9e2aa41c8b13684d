//! Folders of an earlier layout, in which each content had a folder of its own.
//!
//! A mark in a file that is opened at each start anyway says that there are none left: a start must
//! not look through as many names as there are documents. The mark isn't synced. If it is lost, or if
//! a copy of an earlier folder is put over this one, the next start looks again.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use dms_core::{DocumentId, SignatureId};

use super::directories::sync_now;
use super::name::path_of;

const MARK: &[u8] = b"one file for each content\n";

/// Gives the content that is in folders of its own the names it has now, unless `mark` says that this
/// is done. Nobody else may be opening the store. Blocks.
///
/// It must come before journals are replayed: they know the names of now only. Whenever it is cut
/// off, the next start goes on with what is left.
pub(super) fn flatten(root: &Path, mut mark: &File) -> io::Result<()> {
    let mut found = Vec::new();
    mark.rewind()?;
    mark.take(MARK.len() as u64 + 1).read_to_end(&mut found)?;
    if found == MARK {
        return Ok(());
    }
    // Nothing but what the use cases have made: other folders are somebody else's.
    let documents = flatten_folder(root, root, |name| {
        name.parse::<DocumentId>().is_ok().then(|| format!("{name}/content"))
    })?;
    let signatures = root.join("signatures");
    let images = flatten_folder(root, &signatures, |name| {
        name.parse::<SignatureId>().is_ok().then(|| format!("signatures/{name}/image"))
    })?;
    // It fails if something is left, which is as it should be.
    let _ = fs::remove_dir(signatures);
    // Also what a start that was cut off has moved.
    sync_now(root)?;
    if documents + images > 0 {
        tracing::info!(documents, images, "content moved out of folders of its own");
    }
    mark.set_len(0)?;
    mark.rewind()?;
    mark.write_all(MARK)
}

/// Moves the file of each folder in `folder` that has a key; gives how many.
fn flatten_folder(
    root: &Path,
    folder: &Path,
    key: impl Fn(&str) -> Option<String>,
) -> io::Result<u64> {
    let mut moved = 0;
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(key) = entry.file_name().to_str().and_then(&key) else { continue };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        match fs::rename(root.join(&key), path_of(root, &key)) {
            Ok(()) => moved += 1,
            // It was moved before, or was never there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let _ = fs::remove_dir(entry.path());
    }
    Ok(moved)
}
