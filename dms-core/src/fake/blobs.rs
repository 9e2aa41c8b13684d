//! Content in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use time::OffsetDateTime;

use crate::ports::{
    BlobContent, BlobInfo, BlobStore, ByteStream, Clock, SystemClock, check_blob_key,
};
use crate::{Error, ErrorKind, Result};

/// A [`BlobStore`] in memory. Give it a [`ManualClock`](super::ManualClock) to let blobs age.
///
/// ```
/// # futures_executor::block_on(async {
/// use dms_core::fake::InMemoryBlobStore;
/// use dms_core::ports::BlobStore as _;
/// use dms_core::use_cases::bytes_stream;
///
/// let blobs = InMemoryBlobStore::default();
/// blobs.put("some-id/content", bytes_stream("hello")).await?;
/// assert_eq!(blobs.bytes("some-id/content").as_deref(), Some(&b"hello"[..]));
/// # Ok::<(), dms_core::Error>(())
/// # }).unwrap();
/// ```
pub struct InMemoryBlobStore {
    blobs: Mutex<BTreeMap<String, Blob>>,
    clock: Arc<dyn Clock>,
}

struct Blob {
    content: Bytes,
    modified_at: OffsetDateTime,
}

impl InMemoryBlobStore {
    /// An empty store whose blobs get their times from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { blobs: Mutex::default(), clock }
    }

    /// The keys there are, in order.
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The content under a key.
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.lock().get(key).map(|blob| blob.content.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Blob>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for InMemoryBlobStore {
    /// An empty store with the time of the operating system.
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

#[async_trait]
impl BlobStore for InMemoryBlobStore {
    async fn put(&self, key: &str, mut content: ByteStream) -> Result<u64> {
        check_blob_key(key)?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = content.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        let blob = Blob { content: bytes.freeze(), modified_at: self.clock.now() };
        let size = blob.content.len() as u64;
        let mut blobs = self.lock();
        if blobs.contains_key(key) {
            return Err(Error::new(ErrorKind::Conflict, "there is a blob with this key")
                .with_code("already_exists"));
        }
        blobs.insert(key.to_owned(), blob);
        Ok(size)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<BlobContent> {
        check_blob_key(key)?;
        let content = self.bytes(key).ok_or_else(|| Error::not_found("blob", key))?;
        let size = content.len() as u64;
        let part = match range {
            None => content,
            Some(range) => {
                let outside = || Error::range_not_satisfiable(size);
                let start = usize::try_from(range.start).map_err(|_| outside())?;
                let end = usize::try_from(range.end).map_err(|_| outside())?;
                if start >= end || end > content.len() {
                    return Err(outside());
                }
                content.slice(start..end)
            }
        };
        let stream = stream::iter((!part.is_empty()).then_some(Ok(part))).boxed();
        Ok(BlobContent { size, stream })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_blob_key(key)?;
        self.lock().remove(key);
        Ok(())
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo>> {
        let blobs = self.lock();
        let listed: Vec<_> = blobs
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, blob)| {
                Ok(BlobInfo {
                    key: key.clone(),
                    size: blob.content.len() as u64,
                    modified_at: blob.modified_at,
                })
            })
            .collect();
        stream::iter(listed).boxed()
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use super::*;

    #[test]
    fn passes_the_suite() {
        futures_executor::block_on(crate::conformance::blobs::suite(&InMemoryBlobStore::default()));
    }
}
