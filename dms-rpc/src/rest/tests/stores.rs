//! The smallest stores that keep their ports' promises.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use dms_core::ports::{
    BlobContent, BlobInfo, BlobStore, ByteStream, DocumentCache, DocumentLoader, ViewCounter,
};
use dms_core::{Document, DocumentId, Error, ErrorKind, Result, ViewStats, Visitor};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

#[derive(Default)]
pub(super) struct InMemoryBlobStore(Mutex<HashMap<String, Bytes>>);

#[async_trait]
impl BlobStore for InMemoryBlobStore {
    async fn put(&self, key: &str, content: ByteStream) -> Result<u64> {
        let chunks: Vec<Bytes> = content.try_collect().await?;
        let content = Bytes::from(chunks.concat());
        let size = content.len() as u64;
        match self.0.lock().unwrap().insert(key.to_owned(), content) {
            None => Ok(size),
            Some(_) => Err(Error::new(ErrorKind::Conflict, "taken").with_code("already_exists")),
        }
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<BlobContent> {
        let content = self.0.lock().unwrap().get(key).cloned();
        let content = content.ok_or_else(|| Error::not_found("blob", key))?;
        let size = content.len() as u64;
        let range = range.unwrap_or(0..size);
        let index = |at: u64| usize::try_from(at).unwrap();
        let part = content.slice(index(range.start)..index(range.end));
        // Several pieces, as a real store gives them.
        let pieces: Vec<_> = part.chunks(4).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Ok(BlobContent { size, stream: futures_util::stream::iter(pieces).boxed() })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo>> {
        let blobs = self.0.lock().unwrap();
        let infos: Vec<_> = blobs
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, content)| {
                Ok(BlobInfo {
                    key: key.clone(),
                    size: content.len() as u64,
                    modified_at: time::OffsetDateTime::UNIX_EPOCH,
                })
            })
            .collect();
        futures_util::stream::iter(infos).boxed()
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Keeps nothing.
#[derive(Default)]
pub(super) struct InMemoryDocumentCache;

#[async_trait]
impl DocumentCache for InMemoryDocumentCache {
    async fn get_or_load(&self, _id: DocumentId, load: DocumentLoader) -> Result<Arc<Document>> {
        load.await
    }

    async fn put(&self, _document: Arc<Document>) {}

    async fn put_deleted(&self, _id: DocumentId, _version: i32) {}

    async fn invalidate(&self, _id: DocumentId, _version: i32) {}
}

#[derive(Default)]
pub(super) struct InMemoryViewCounter(Mutex<HashMap<DocumentId, (u64, HashSet<Visitor>)>>);

#[async_trait]
impl ViewCounter for InMemoryViewCounter {
    async fn record(&self, id: DocumentId, visitor: &Visitor) -> Result<()> {
        let mut views = self.0.lock().unwrap();
        let (total, visitors) = views.entry(id).or_default();
        *total += 1;
        visitors.insert(visitor.clone());
        Ok(())
    }

    async fn stats(&self, id: DocumentId) -> Result<ViewStats> {
        let views = self.0.lock().unwrap();
        let (total, unique) = views.get(&id).map_or((0, 0), |(t, v)| (*t, v.len() as u64));
        Ok(ViewStats { total_views: total, unique_views: unique })
    }
}
