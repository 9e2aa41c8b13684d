//! In-memory implementations of every port, for tests and for trying things out.
//!
//! They pass the same conformance suites as the real backends. Each starts empty and keeps what it
//! is given until it is dropped.

mod blobs;
mod cache;
mod index;
mod outside;
mod repositories;
mod stream;

pub use blobs::InMemoryBlobStore;
pub use cache::{InMemoryDocumentCache, InMemoryViewCounter};
pub use index::InMemorySearchIndex;
pub use outside::{
    DocumentCall, DocumentFault, InMemoryDocumentClient, ManualClock, StaticTokenVerifier,
};
pub use repositories::{
    InMemoryDatabase, InMemoryDeadLetterRepository, InMemoryDocumentRepository,
    InMemoryIdempotencyRepository, InMemorySignatureRepository, InMemoryTextRepository,
};
pub use stream::{
    InMemoryChangeLog, InMemoryChangeSource, RecordingSink, ScriptedChangeSource, SinkCall,
    SourceHistory,
};
