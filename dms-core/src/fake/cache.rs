//! Cache and view counter in memory.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use crate::ports::{DocumentCache, DocumentLoader, ViewCounter};
use crate::{Document, DocumentId, Error, Result, ViewStats, Visitor};

/// A [`DocumentCache`] without bounds, neither in bytes nor in age.
#[derive(Clone, Default)]
pub struct InMemoryDocumentCache(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    slots: HashMap<DocumentId, Slot>,
    loads: u64,
}

#[derive(Default)]
struct Slot {
    kept: Kept,
    load: Option<Load>,
}

#[derive(Default)]
enum Kept {
    #[default]
    Nothing,
    /// Nothing either, but something older must not come back.
    AtLeast(i32),
    Live(Arc<Document>),
    Deleted(i32),
}

impl Kept {
    fn version(&self) -> i32 {
        match self {
            Self::Nothing => i32::MIN,
            Self::AtLeast(version) | Self::Deleted(version) => *version,
            Self::Live(document) => document.version,
        }
    }

    fn accepts(&self, document: &Document) -> bool {
        match self {
            Self::Deleted(version) => document.version > *version,
            _ => document.version >= self.version(),
        }
    }
}

/// A load that callers wait for together.
struct Load {
    number: u64,
    callers: usize,
    result: SharedResult,
}

type SharedResult = Shared<BoxFuture<'static, Result<Arc<Document>, Arc<Error>>>>;

fn deleted(id: DocumentId) -> Error {
    Error::not_found("document", id)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InMemoryDocumentCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// The version kept of a live document.
    pub fn version(&self, id: DocumentId) -> Option<i32> {
        match lock(&self.0).slots.get(&id)?.kept {
            Kept::Live(ref document) => Some(document.version),
            _ => None,
        }
    }

    /// Changes what is kept; whoever comes afterwards doesn't wait for a load that began before.
    fn write(&self, id: DocumentId, change: impl FnOnce(&mut Kept)) {
        let earlier = {
            let mut state = lock(&self.0);
            let slot = state.slots.entry(id).or_default();
            change(&mut slot.kept);
            slot.load.take()
        };
        // Dropped without the lock: the loader in it is someone else's code.
        drop(earlier);
    }

    fn load(&self, id: DocumentId, number: u64, load: DocumentLoader) -> SharedResult {
        let state = Arc::clone(&self.0);
        async move {
            let loaded = AssertUnwindSafe(load)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(Error::internal("document loader panicked")));
            finish(&state, id, number, loaded).map_err(Arc::new)
        }
        .boxed()
        .shared()
    }
}

/// Keeps what was loaded, unless something was written since.
fn finish(
    state: &Mutex<State>,
    id: DocumentId,
    number: u64,
    loaded: Result<Arc<Document>>,
) -> Result<Arc<Document>> {
    let mut state = lock(state);
    let slot = state.slots.entry(id).or_default();
    let ours = slot.load.take_if(|load| load.number == number);
    let loaded = loaded?;
    match &slot.kept {
        Kept::Live(newer) if newer.version > loaded.version => return Ok(Arc::clone(newer)),
        Kept::Deleted(version) if *version >= loaded.version => return Err(deleted(id)),
        _ => {}
    }
    if ours.is_some() && slot.kept.accepts(&loaded) {
        slot.kept = Kept::Live(Arc::clone(&loaded));
    }
    Ok(loaded)
}

/// One caller's part in a load; the last one to leave takes the load along.
struct Joined {
    state: Arc<Mutex<State>>,
    id: DocumentId,
    number: u64,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let Some(slot) = state.slots.get_mut(&self.id) else { return };
        let abandoned = slot.load.take_if(|load| {
            if load.number == self.number {
                load.callers -= 1;
            }
            load.number == self.number && load.callers == 0
        });
        drop(state);
        drop(abandoned);
    }
}

#[async_trait]
impl DocumentCache for InMemoryDocumentCache {
    async fn get_or_load(&self, id: DocumentId, load: DocumentLoader) -> Result<Arc<Document>> {
        let (joined, result) = {
            let mut state = lock(&self.0);
            state.loads += 1;
            let number = state.loads;
            let slot = state.slots.entry(id).or_default();
            match &slot.kept {
                Kept::Live(document) => return Ok(Arc::clone(document)),
                Kept::Deleted(_) => return Err(deleted(id)),
                Kept::Nothing | Kept::AtLeast(_) => {}
            }
            let running = slot.load.get_or_insert_with(|| Load {
                number,
                callers: 0,
                result: self.load(id, number, load),
            });
            running.callers += 1;
            let joined = Joined { state: Arc::clone(&self.0), id, number: running.number };
            (joined, running.result.clone())
        };
        let result = result.await.map_err(|error| Error::shared(&error));
        drop(joined);
        result
    }

    async fn put(&self, document: Arc<Document>) {
        self.write(document.id, |kept| {
            if kept.accepts(&document) {
                *kept = Kept::Live(document);
            }
        });
    }

    async fn put_deleted(&self, id: DocumentId, version: i32) {
        self.write(id, |kept| {
            if version >= kept.version() {
                *kept = Kept::Deleted(version);
            }
        });
    }

    async fn invalidate(&self, id: DocumentId, version: i32) {
        self.write(id, |kept| {
            if version > kept.version() {
                *kept = Kept::AtLeast(version);
            }
        });
    }
}

/// A [`ViewCounter`] in memory.
#[derive(Debug, Default)]
pub struct InMemoryViewCounter(Mutex<HashMap<DocumentId, Views>>);

#[derive(Debug, Default)]
struct Views {
    total: u64,
    visitors: HashSet<Visitor>,
}

impl InMemoryViewCounter {
    /// A counter that has counted nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DocumentId, Views>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ViewCounter for InMemoryViewCounter {
    async fn record(&self, id: DocumentId, visitor: &Visitor) -> Result<()> {
        let mut views = self.lock();
        let views = views.entry(id).or_default();
        views.total += 1;
        views.visitors.insert(visitor.clone());
        Ok(())
    }

    async fn stats(&self, id: DocumentId) -> Result<ViewStats> {
        let views = self.lock();
        Ok(views.get(&id).map_or(ViewStats { total_views: 0, unique_views: 0 }, |views| {
            ViewStats { total_views: views.total, unique_views: views.visitors.len() as u64 }
        }))
    }
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use super::*;

    #[test]
    fn the_cache_passes_the_suite() {
        let cache = InMemoryDocumentCache::new();
        futures_executor::block_on(crate::conformance::cache::suite(&cache));
    }

    #[test]
    fn reads_that_are_counted_pass_the_suite() {
        let (cache, views) = (InMemoryDocumentCache::new(), Arc::new(InMemoryViewCounter::new()));
        futures_executor::block_on(crate::conformance::viewed_reads::suite(&cache, views));
    }

    #[test]
    fn the_view_counter_passes_the_suite() {
        let views = InMemoryViewCounter::new();
        futures_executor::block_on(crate::conformance::views::suite(&views));
    }
}
