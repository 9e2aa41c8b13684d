//! Document cache in process.

mod document_cache;
mod entry;
mod flight;

pub use document_cache::{CacheOptions, MokaDocumentCache};
