//! Document cache in process.

mod document_cache;
mod entry;
mod flight;

#[cfg(feature = "redis")]
pub(crate) use entry::Entry;

pub use document_cache::{CacheOptions, MokaDocumentCache};
