//! Ports to what makes reads fast and counts them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::{Document, DocumentId, Result, ViewStats, Visitor};

/// Reads a document from where it's kept when the cache doesn't have it.
pub type DocumentLoader = BoxFuture<'static, Result<Arc<Document>>>;

/// A view to be counted along with a read.
#[derive(Clone)]
pub struct View {
    /// Who reads.
    pub visitor: Visitor,
    /// What counts.
    pub counter: Arc<dyn ViewCounter>,
}

/// A document that was read by somebody, and whether that was counted.
#[derive(Debug)]
pub struct Viewed {
    /// The document.
    pub document: Arc<Document>,
    /// Why the view wasn't counted, if it wasn't. The read is good all the same.
    pub counted: Result<()>,
}

/// Identity of what keeps documents or counts. Clones are equal, others aren't.
#[derive(Clone)]
pub struct StoreId(Arc<()>);

impl StoreId {
    /// An identity that nothing else has.
    pub fn unique() -> Self {
        Self(Arc::new(()))
    }
}

impl PartialEq for StoreId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StoreId {}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({:p})", Arc::as_ptr(&self.0))
    }
}

/// Documents read recently. Bounded in bytes and in age (30 s unless configured otherwise).
///
/// A newer version is never replaced by an older one, nor a deletion by a version before it, as
/// long as the entry is kept; that includes values whose loading began before a write. A cache that
/// can't be reached behaves as an empty one and never fails a read.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DocumentCache: Send + Sync {
    /// The cached document, or what `load` gives, which is then kept. Of concurrent calls for one
    /// id only one runs its loader; if that one is dropped, another takes over.
    ///
    /// # Errors
    /// Those of `load`; errors aren't kept. `NotFound` for a document whose deletion was put.
    async fn get_or_load(&self, id: DocumentId, load: DocumentLoader) -> Result<Arc<Document>>;

    /// What [`get_or_load`](Self::get_or_load) gives, and one view of it counted; none if there is
    /// no document. Each of the callers that share a load is counted.
    ///
    /// A cache that keeps its documents where the counter keeps its counts
    /// ([`ViewCounter::store`]) asks for both in one round trip; else one follows the other.
    ///
    /// # Errors
    /// Those of [`get_or_load`](Self::get_or_load); that a view can't be counted is none.
    async fn get_or_load_viewed(
        &self,
        id: DocumentId,
        load: DocumentLoader,
        view: View,
    ) -> Result<Viewed> {
        let document = self.get_or_load(id, load).await?;
        let counted = view.counter.record(id, &view.visitor).await;
        Ok(Viewed { document, counted })
    }

    /// Keeps a document after a write.
    async fn put(&self, document: Arc<Document>);

    /// Records that the document was deleted at `version`.
    async fn put_deleted(&self, id: DocumentId, version: i32);

    /// Forgets the document unless it is kept at `version` or newer: another process wrote it.
    async fn invalidate(&self, id: DocumentId, version: i32);
}

/// Counts views of documents.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ViewCounter: Send + Sync {
    /// Counts one view. Once it returns, the view is in [`stats`](Self::stats) and survives the
    /// death of the process.
    async fn record(&self, id: DocumentId, visitor: &Visitor) -> Result<()>;

    /// Views so far; zeros for a document nobody viewed.
    async fn stats(&self, id: DocumentId) -> Result<ViewStats>;

    /// What the counts are kept in, if a [`DocumentCache`] may keep its documents there too.
    fn store(&self) -> Option<StoreId> {
        None
    }
}
