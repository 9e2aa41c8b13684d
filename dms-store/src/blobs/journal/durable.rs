//! Making many files durable at once.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::blobs::directories::sync_now;
use crate::blobs::name::path_of;

/// So many files are synced one by one; of more, the whole file system is, which is faster by then,
/// though it may have to write what others left.
const SYNCED_ONE_BY_ONE_MAX: usize = 64;

/// Returns once files and their names are durable as they are now.
pub(super) fn make_durable(root: &Path, root_folder: &File, keys: &[String]) -> io::Result<()> {
    if keys.len() > SYNCED_ONE_BY_ONE_MAX
        && let Some(synced) = sync_file_system(root_folder)
    {
        return synced;
    }
    for key in keys {
        match File::open(path_of(root, key)) {
            Ok(file) => file.sync_all()?,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sync_now(root)
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
