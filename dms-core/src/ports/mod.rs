//! The ports: what the use cases and the pipeline need from the world.
//!
//! Each says what an implementation must guarantee; the suite in [`conformance`](crate::conformance)
//! of the same name (feature `conformance`) checks it, on the in-memory fake as on real backends.
//! Every trait is object-safe and, with feature `mock`, has a `mockall` mock.

mod blobs;
mod cache;
mod index;
mod outside;
mod repositories;
mod stream;

pub use blobs::{BlobContent, BlobInfo, BlobStore, ByteStream, check_blob_key};
pub use cache::{DocumentCache, DocumentLoader, StoreId, View, ViewCounter, Viewed};
pub use index::{
    INDEX_MISSING, IndexProgress, REBUILD_RUNNING, SearchIndex, StagedIndex, index_missing,
    rebuild_running,
};
pub use outside::{Clock, DocumentClient, SystemClock, TokenVerifier};
pub use repositories::{
    DocumentRepository, IdempotencyKey, IdempotencyRecord, IdempotencyRepository, Reservation,
    SignatureRepository, TextRepository, Updated,
};
pub use stream::{
    BatchLimits, ChangeSink, ChangeSource, DeadLetter, DeadLetterRepository, Outcome, RetryPolicy,
    StartAt,
};

#[cfg(feature = "mock")]
pub use self::{
    blobs::MockBlobStore,
    cache::{MockDocumentCache, MockViewCounter},
    index::{MockSearchIndex, MockStagedIndex},
    outside::{MockClock, MockDocumentClient, MockTokenVerifier},
    repositories::{
        MockDocumentRepository, MockIdempotencyRepository, MockSignatureRepository,
        MockTextRepository,
    },
    stream::{MockChangeSink, MockChangeSource, MockDeadLetterRepository},
};
