//! Removes content that no row points at: what a crash between storing and inserting left.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;

use crate::ports::{BlobInfo, BlobStore, Clock, DocumentRepository, SignatureRepository};
use crate::{DocumentId, Result, SignatureId};

/// How many blobs are looked up in one query.
const BATCH: usize = 500;

/// What a round of the sweeper did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Blobs seen.
    pub scanned: u64,
    /// Orphans removed.
    pub removed: u64,
}

/// Sweeps orphans older than a grace period, which must exceed the longest time a request may take
/// between storing content and inserting its row.
pub struct Sweeper {
    /// Where the content is.
    pub blobs: Arc<dyn BlobStore>,
    /// Rows of documents.
    pub documents: Arc<dyn DocumentRepository>,
    /// Rows of signatures.
    pub signatures: Arc<dyn SignatureRepository>,
    /// The time, to be compared with the store's.
    pub clock: Arc<dyn Clock>,
    /// How old an orphan must be.
    pub grace: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Document(DocumentId),
    Signature(SignatureId),
}

impl Sweeper {
    /// Looks at every blob once. Keys that aren't made by the use cases are left alone.
    ///
    /// # Errors
    /// `Unavailable`; what was removed until then stays removed.
    pub async fn sweep(&self) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        let oldest_kept = self.clock.now() - self.grace;
        let mut blobs = self.blobs.list("");
        let mut candidates = Vec::with_capacity(BATCH);
        while let Some(blob) = blobs.try_next().await? {
            report.scanned += 1;
            if blob.modified_at >= oldest_kept {
                continue;
            }
            if let Some(owner) = owner_of(&blob.key) {
                candidates.push((owner, blob));
            }
            if candidates.len() == BATCH {
                report.removed += self.remove_orphans(&mut candidates).await?;
            }
        }
        report.removed += self.remove_orphans(&mut candidates).await?;
        Ok(report)
    }

    async fn remove_orphans(&self, candidates: &mut Vec<(Owner, BlobInfo)>) -> Result<u64> {
        let mut documents = Vec::new();
        let mut signatures = Vec::new();
        for (owner, _) in candidates.iter() {
            match owner {
                Owner::Document(id) => documents.push(*id),
                Owner::Signature(id) => signatures.push(*id),
            }
        }
        let documents = match documents.as_slice() {
            [] => HashSet::new(),
            ids => self.documents.referenced(ids).await?,
        };
        let signatures = match signatures.as_slice() {
            [] => HashSet::new(),
            ids => self.signatures.referenced(ids).await?,
        };
        let mut removed = 0;
        for (owner, blob) in candidates.drain(..) {
            let referenced = match owner {
                Owner::Document(id) => documents.contains(&id),
                Owner::Signature(id) => signatures.contains(&id),
            };
            if !referenced {
                self.blobs.delete(&blob.key).await?;
                tracing::info!(key = blob.key, size_bytes = blob.size, "orphan removed");
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn owner_of(key: &str) -> Option<Owner> {
    if let Some(rest) = key.strip_prefix("signatures/") {
        return rest.strip_suffix("/image")?.parse().ok().map(Owner::Signature);
    }
    key.strip_suffix("/content")?.parse().ok().map(Owner::Document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_use_cases_have_an_owner() {
        let id = DocumentId::generate();
        assert_eq!(owner_of(&format!("{id}/content")), Some(Owner::Document(id)));
        assert!(owner_of(&format!("signatures/{id}/image")).is_some());
        for foreign in ["content", "x/content", "signatures/x/image", "lost+found", "a/b/content"] {
            assert_eq!(owner_of(foreign), None, "{foreign}");
        }
    }
}
