//! The store.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dms_core::ports::{BlobContent, BlobInfo, BlobStore, ByteStream, check_blob_key};
use dms_core::{Error, Result};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;

use super::directories::Directories;
use super::error::{from_io, unavailable};
use super::name::path_of;
use super::publication::{Claims, Publication};
use super::read;
use super::staging::Staging;
use super::walk::Walk;

/// Content is written in parts of at least this size; smaller content in one go.
const PART_BYTES: usize = 256 << 10;

/// Bounds of a [`FileBlobStore`]. The defaults suit a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileBlobOptions {
    /// How long one step may take, waiting for its turn included; 10 s. Opening, storing, removing
    /// and each part of what is streamed are a step; what the other side of a stream takes isn't
    /// counted.
    pub step_timeout: Duration,
    /// Steps that run at the same time, each on a thread of Tokio's blocking pool; eight for each
    /// processor, and 16 at least. Syncs that run at the same time share the work of the disk; but
    /// threads that wait for it cost memory and turns of the processors.
    pub concurrent_steps_max: usize,
}

impl Default for FileBlobOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            step_timeout: Duration::from_secs(10),
            concurrent_steps_max: (8 * processors).max(16),
        }
    }
}

/// Content in the files of a folder. Cheap to clone. Methods must be called in a Tokio runtime.
///
/// A put is durable when it returns, the name included; a removal may come undone if
/// the machine loses power, or if another store had put the blob and is killed. At most 256 KiB and
/// one piece of the stream are in memory for each put, and 256 KiB for each reader. The file system
/// must have hard links and file locks.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> dms_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let root = folder.path().join("blobs");
/// use dms_core::ports::BlobStore as _;
/// use dms_core::use_cases::bytes_stream;
/// use dms_store::blobs::{FileBlobOptions, FileBlobStore};
///
/// let blobs = FileBlobStore::open(&root, FileBlobOptions::default()).await?;
/// blobs.put("some-id/content", bytes_stream("hello")).await?;
/// assert_eq!(blobs.get("some-id/content", Some(1..3)).await?.size, 5);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FileBlobStore(Arc<Shared>);

/// What steps work on.
pub(super) struct Shared {
    root: PathBuf,
    staging: Staging,
    directories: Directories,
    claims: Arc<Claims>,
    permits: Arc<Semaphore>,
    step_timeout: Duration,
}

impl Shared {
    /// Does a step on a thread that may block. If the future is dropped, a step that has begun
    /// still goes on to its end.
    pub(super) async fn step<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = async {
            let permit = Arc::clone(&self.permits)
                .acquire_owned()
                .await
                .map_err(|error| unavailable("storage closed").with_source(error))?;
            let shared = Arc::clone(self);
            let work = move || {
                let _permit = permit;
                work(&shared)
            };
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| Error::internal("storage step ended early").with_source(error))?
        };
        match tokio::time::timeout(self.step_timeout, done).await {
            Ok(outcome) => outcome,
            Err(elapsed) => Err(unavailable("storage takes too long").with_source(elapsed)),
        }
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        check_blob_key(key)?;
        Ok(path_of(&self.root, key))
    }
}

impl FileBlobStore {
    /// Opens the store in folder `root`, making the folder if it isn't there, and removes what
    /// earlier stores left unfinished. Several stores may be open on one folder. Content of documents
    /// and images of signatures that are in folders of their own, as they once were, are moved.
    ///
    /// # Errors
    /// `Unavailable` or `StorageFull` if the folder can't be made, locked or written to.
    pub async fn open(root: &Path, options: FileBlobOptions) -> Result<Self> {
        let root = root.to_owned();
        let open = move || {
            let root = std::path::absolute(root)?;
            let directories = Directories::default();
            make_durable_folder(&root, &directories)?;
            let staging = Staging::open(&root)?;
            Ok((root, staging, directories))
        };
        let (root, staging, directories) = tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| Error::internal("opening ended early").with_source(error))?
            .map_err(|error| from_io("content folder can't be opened", error))?;
        let steps_max = options.concurrent_steps_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self(Arc::new(Shared {
            root,
            staging,
            directories,
            claims: Arc::default(),
            permits: Arc::new(Semaphore::new(steps_max)),
            step_timeout: options.step_timeout,
        })))
    }

    /// The folder, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.0.root
    }
}

fn make_durable_folder(folder: &Path, directories: &Directories) -> io::Result<()> {
    let new = folder.ancestors().take_while(|ancestor| !ancestor.exists()).count();
    std::fs::create_dir_all(folder)?;
    folder.ancestors().skip(1).take(new).try_for_each(|parent| directories.sync(parent))
}

impl fmt::Debug for FileBlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBlobStore").field("root", &self.0.root).finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobStore for FileBlobStore {
    async fn put(&self, key: &str, mut content: ByteStream) -> Result<u64> {
        check_blob_key(key)?;
        let mut staged = None;
        let mut part = Part::default();
        let mut size = 0;
        while let Some(chunk) = content.try_next().await? {
            size += chunk.len() as u64;
            part.push(chunk);
            if part.bytes >= PART_BYTES {
                let part = std::mem::take(&mut part);
                let write = self.0.step(move |shared| {
                    let write = || {
                        let mut staged = staged.map_or_else(|| shared.staging.create(), Ok)?;
                        staged.append(&part.chunks)?;
                        Ok(staged)
                    };
                    write().map_err(|error| from_io("content can't be written", error))
                });
                staged = Some(write.await?);
            }
        }
        drop(content);
        let claims = Arc::clone(&self.0.claims);
        let journal = Arc::clone(self.0.staging.journal());
        let (publication, pending) = Publication::new(&self.0.root, key, claims, journal);
        let run = self.0.step(move |shared| {
            publication.run(&shared.staging, &shared.directories, staged, &part.chunks)
        });
        let outcome = run.await;
        pending.settle(&outcome);
        outcome.map(|()| size)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<BlobContent> {
        let path = self.0.path(key)?;
        let key = key.to_owned();
        let opened = self.0.step(move |_| read::open(&path, &key, range)).await?;
        Ok(opened.into_content(Arc::clone(&self.0)))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.0.path(key)?;
        let key = key.to_owned();
        let remove = self.0.step(move |shared| {
            shared.staging.journal().forget(&key);
            match std::fs::remove_file(&path) {
                Ok(()) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound || path.is_dir() => Ok(()),
                Err(error) => Err(from_io("content can't be removed", error)),
            }
        });
        remove.await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo>> {
        let unlisted = |error| from_io("content can't be listed", error);
        let shared = Arc::clone(&self.0);
        let prefix = prefix.to_owned();
        let begin = async move {
            let walk = shared
                .step(move |shared| Walk::begin(&shared.root, &prefix).map_err(unlisted))
                .await?;
            let batches =
                stream::try_unfold((shared, walk), move |(shared, mut walk)| async move {
                    let go_on = shared.step(move |_| {
                        let batch = walk.next_batch().map_err(unlisted)?;
                        Ok((batch, walk))
                    });
                    let (batch, walk) = go_on.await?;
                    Ok::<_, Error>(batch.map(|batch: VecDeque<_>| (batch, (shared, walk))))
                });
            Ok::<_, Error>(batches)
        };
        stream::once(begin)
            .try_flatten()
            .map_ok(|batch| stream::iter(batch.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn check(&self) -> Result<()> {
        let write = self.0.step(|shared| {
            let write = || shared.staging.create()?.append(&[Bytes::from_static(b"check")]);
            write().map_err(|error| from_io("content folder can't be written to", error))
        });
        write.await
    }
}

/// Pieces of a stream until there are enough to write; small ones are joined.
#[derive(Default)]
struct Part {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Part {
    fn push(&mut self, chunk: Bytes) {
        const SMALL_BYTES: usize = 4 << 10;
        self.bytes += chunk.len();
        if chunk.is_empty() {
            return;
        }
        match self.chunks.pop() {
            Some(last) if last.len() < SMALL_BYTES || chunk.len() < SMALL_BYTES => {
                let mut joined = last.try_into_mut().unwrap_or_else(|last| last[..].into());
                joined.extend_from_slice(&chunk);
                self.chunks.push(joined.freeze());
            }
            last => {
                self.chunks.extend(last);
                self.chunks.push(chunk);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_pieces_become_few() {
        let mut part = Part::default();
        for i in 0..100_000_u32 {
            part.push(Bytes::copy_from_slice(&i.to_be_bytes()));
            part.push(Bytes::new());
        }
        assert_eq!(part.bytes, 400_000);
        let joined = part.chunks.concat();
        assert!(part.chunks.len() < 200, "{} pieces", part.chunks.len());
        let expected: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        assert!(joined == expected, "same bytes in the same order");
    }
}
