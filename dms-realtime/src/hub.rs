//! The hub: who listens to which document, and what they get.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use dms_core::model::change::Change;
use dms_core::{DocumentId, Error, Result, SignatureId};
use futures_util::Stream;
use metrics::{counter, gauge};

use crate::frame::{LiveFrame, Publication, Subject};
use crate::queue::{Budget, Offered, Queue};

/// A power of two, so that the low bits of an id choose one.
const SHARDS: usize = 64;

/// Signatures remembered of a document somebody listens to, so that a redelivery isn't sent twice.
const SIGNATURES_REMEMBERED_MAX: usize = 1_024;

/// Bounds of a [`Hub`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubOptions {
    /// Subscriptions at a time.
    pub connections_max: usize,
    /// What may wait for one subscription before its older frames are dropped, in bytes.
    pub connection_queue_bytes_max: usize,
    /// What may wait for all together, in bytes. Beyond it each subscription may hold the newest
    /// publication only, some 4 KB at most.
    pub total_queue_bytes_max: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            connections_max: 50_000,
            connection_queue_bytes_max: 64 << 10,
            total_queue_bytes_max: 64 << 20,
        }
    }
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    /// Something happened to the document.
    Frame(LiveFrame),
    /// The hub ends the subscription; nothing follows.
    End(EndOfFeed),
}

/// Why the hub ends a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfFeed {
    /// The process is going to stop.
    Restarting,
    /// What the subscriber left unread exceeded its bound.
    TooSlow,
    /// There were [`HubOptions::connections_max`] subscriptions already.
    Full,
}

/// What came of a change in the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Nobody listens to the document.
    NoSubscribers,
    /// The change isn't one that clients see.
    NothingToTell,
    /// Listeners were told of it, or of something newer, before.
    AlreadyNewer,
    /// Queued for so many subscriptions.
    Queued(usize),
}

/// Distributes changes to subscriptions by document. Cheap to clone.
///
/// On one subscription, the versions of documents never decrease and no change comes twice, however
/// often it is published; nothing newer than the subscription is left out, except that a slow
/// reader is first moved on to the newest version and then ended with [`EndOfFeed::TooSlow`].
/// (A signature published again after 1,024 others of its document may come again.)
///
/// Publishing a document's changes must happen in their order. An idle subscription costs a few
/// hundred bytes.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    options: HubOptions,
    budget: Arc<Budget>,
    connections: AtomicUsize,
    shut_down: AtomicBool,
}

type Shard = HashMap<DocumentId, Topic>;

/// A document with at least one subscription.
#[derive(Default)]
struct Topic {
    queues: Vec<Arc<Queue>>,
    newest: Option<Newest>,
    signatures: VecDeque<SignatureId>,
}

#[derive(Clone, Copy)]
struct Newest {
    version: i32,
    deleted: bool,
}

impl Topic {
    /// Whether `subject` is new here; from then on it isn't.
    fn admits(&mut self, subject: Subject) -> bool {
        match subject {
            Subject::Document { version, deleted } => {
                let new = self.newest.is_none_or(|newest| {
                    !newest.deleted
                        && (version > newest.version || deleted && version == newest.version)
                });
                if new {
                    self.newest = Some(Newest { version, deleted });
                }
                new
            }
            Subject::Signature(id) => {
                let new = !self.signatures.contains(&id);
                if new {
                    if self.signatures.len() == SIGNATURES_REMEMBERED_MAX {
                        self.signatures.pop_front();
                    }
                    self.signatures.push_back(id);
                }
                new
            }
        }
    }

    fn add(&mut self, queue: Arc<Queue>) {
        queue.place.store(self.queues.len(), Ordering::Relaxed);
        self.queues.push(queue);
    }

    fn remove(&mut self, place: usize) {
        self.queues.swap_remove(place);
        if let Some(moved) = self.queues.get(place) {
            moved.place.store(place, Ordering::Relaxed);
        }
        if self.queues.capacity() > 4 * self.queues.len() + 16 {
            self.queues.shrink_to(2 * self.queues.len());
        }
    }
}

impl Hub {
    /// A hub nobody listens to yet.
    pub fn new(options: HubOptions) -> Self {
        Self(Arc::new(Shared {
            shards: std::array::from_fn(|_| Mutex::default()),
            options,
            budget: Budget::new(options.connection_queue_bytes_max, options.total_queue_bytes_max),
            connections: AtomicUsize::new(0),
            shut_down: AtomicBool::new(false),
        }))
    }

    /// Listens to a document from now on, until the subscription is dropped. If the hub is full or
    /// shut down, the subscription ends at once and says so.
    pub fn subscribe(&self, document_id: DocumentId) -> Subscription {
        let shared = Arc::clone(&self.0);
        let queue = Arc::new(Queue::new(Arc::clone(&shared.budget)));
        gauge!("dms_live_connections").increment(1);
        let connections = shared.connections.fetch_add(1, Ordering::Relaxed);
        if connections >= shared.options.connections_max {
            queue.end(EndOfFeed::Full);
        } else {
            let mut topics = shared.shard(document_id);
            // Looked at under the lock: either `shutdown` sees the subscription or this sees it.
            if shared.shut_down.load(Ordering::SeqCst) {
                queue.end(EndOfFeed::Restarting);
            } else {
                topics.entry(document_id).or_default().add(Arc::clone(&queue));
            }
        }
        Subscription { shared, queue, document_id }
    }

    /// Whether a new connection would be served, to be asked before a request is upgraded.
    ///
    /// # Errors
    /// `Unavailable` if the hub is full or shut down.
    pub fn check_room(&self) -> Result<()> {
        if self.0.shut_down.load(Ordering::SeqCst) {
            return Err(Error::unavailable("live", "live updates are shutting down"));
        }
        if self.connections() >= self.0.options.connections_max {
            return Err(Error::unavailable("live", "too many live connections"));
        }
        Ok(())
    }

    /// Subscriptions at present.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Bytes that wait for subscribers at present.
    pub fn queued_bytes(&self) -> usize {
        self.0.budget.queued()
    }

    /// Tells those who listen to the change's document. Costs next to nothing if nobody does.
    pub fn publish(&self, change: &Change) -> Published {
        let Some(document_id) = change.document_id() else { return Published::NothingToTell };
        if !self.0.shard(document_id).contains_key(&document_id) {
            return Published::NoSubscribers;
        }
        let Some(publication) = Publication::of_change(change) else {
            return Published::NothingToTell;
        };
        let mut wakers = Vec::new();
        let published = self.0.distribute(document_id, &publication, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        published
    }

    /// Ends every subscription, and each that is made from now on, with [`EndOfFeed::Restarting`].
    pub fn shutdown(&self) {
        self.0.shut_down.store(true, Ordering::SeqCst);
        self.disconnect();
    }

    /// Ends the subscriptions there are with [`EndOfFeed::Restarting`]: changes were missed, and
    /// whoever comes back reads the document anew.
    pub fn disconnect(&self) {
        for shard in &self.0.shards {
            let wakers: Vec<_> = lock(shard)
                .values()
                .flat_map(|topic| &topic.queues)
                .filter_map(|queue| queue.end(EndOfFeed::Restarting))
                .collect();
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(HubOptions::default())
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("options", &self.0.options)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn shard(&self, document_id: DocumentId) -> MutexGuard<'_, Shard> {
        // The last bytes of a version 7 UUID are random.
        let index = usize::from(document_id.as_uuid().as_bytes()[15]) % SHARDS;
        lock(&self.shards[index])
    }

    /// Wakers are left to the caller: they may run code that takes the lock of a shard again.
    fn distribute(
        &self,
        document_id: DocumentId,
        publication: &Publication,
        wakers: &mut Vec<Waker>,
    ) -> Published {
        let (mut queued, mut conflated) = (0, 0);
        {
            let mut shard = self.shard(document_id);
            let Some(topic) = shard.get_mut(&document_id) else { return Published::NoSubscribers };
            if !topic.admits(publication.subject) {
                return Published::AlreadyNewer;
            }
            for queue in &topic.queues {
                let (offered, waker) = queue.offer(publication);
                wakers.extend(waker);
                match offered {
                    Offered::Queued => queued += 1,
                    Offered::Conflated(dropped) => {
                        queued += 1;
                        conflated += dropped as u64;
                    }
                    Offered::NotNeeded | Offered::TooSlow => {}
                }
            }
        }
        if conflated > 0 {
            counter!("dms_live_conflated_total").increment(conflated);
        }
        Published::Queued(queued)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registered listener to one document: a stream of [`LiveEvent`]s. Dropping it unregisters.
#[must_use = "a subscription that is dropped hears nothing"]
pub struct Subscription {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    document_id: DocumentId,
}

impl Subscription {
    /// The document listened to.
    pub fn document_id(&self) -> DocumentId {
        self.document_id
    }

    /// Why the hub has ended the subscription; none while it goes on.
    pub fn ended(&self) -> Option<EndOfFeed> {
        self.queue.ended()
    }

    /// Says that the listener has the document as it was at `version`: what is older, queued or
    /// yet to come, isn't yielded.
    pub fn know(&self, version: i32) {
        self.queue.know(version);
    }
}

impl Stream for Subscription {
    type Item = LiveEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        self.queue.poll(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        {
            let mut shard = self.shared.shard(self.document_id);
            let place = self.queue.place.load(Ordering::Relaxed);
            if place != usize::MAX
                && let Some(topic) = shard.get_mut(&self.document_id)
            {
                topic.remove(place);
                if topic.queues.is_empty() {
                    shard.remove(&self.document_id);
                }
            }
        }
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        gauge!("dms_live_connections").decrement(1);
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("document_id", &self.document_id)
            .finish_non_exhaustive()
    }
}
