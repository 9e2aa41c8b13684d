//! Content: files, or S3.

use std::fmt;
use std::sync::Arc;

use dms_core::ports::BlobStore;
use dms_core::{Error, Result};
use dms_runtime::settings::StorageLocation;
use dms_store::blobs::{FileBlobOptions, FileBlobStore};

use crate::preparation::Preparations;

pub(crate) async fn open_storage(
    location: &StorageLocation,
    preparations: &mut Preparations,
) -> Result<Arc<dyn BlobStore>> {
    match location {
        StorageLocation::Files(folder) => {
            Ok(Arc::new(FileBlobStore::open(folder, FileBlobOptions::default()).await?))
        }
        #[cfg(feature = "engines")]
        StorageLocation::S3(bucket) => super::engines::s3(bucket, preparations),
        other => {
            let _ = preparations;
            Err(not_built(other))
        }
    }
}

/// Settings refuse such a place before it comes to this.
pub(super) fn not_built(location: &impl fmt::Debug) -> Error {
    Error::internal(format!("this build has no backend for {location:?}"))
}
