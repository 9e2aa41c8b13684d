//! Search over documents: what becomes of content and changes until they can be found by words.
//!
//! - [`extract()`] takes text out of content (feature `extract`);
//! - [`IndexingSink`] carries changes into any [`SearchIndex`], [`rebuild`] and [`rebuild_beside`]
//!   fill one from the database's rows, [`verify`] and [`repair`] compare the two, [`DriftWatch`]
//!   does so all the time (feature `indexing`);
//! - [`TantivyIndex`] is the embedded index, in a folder of its own (feature `tantivy`);
//! - [`ElasticsearchIndex`] is the one for many machines (feature `elasticsearch`).
//!
//! How text is split into words, and what a search text means, is in [`dms_core::model`]: the same
//! for every index.
//!
//! [`SearchIndex`]: dms_core::ports::SearchIndex

#[cfg(feature = "elasticsearch")]
mod elasticsearch;
#[cfg(feature = "extract")]
mod extract;
#[cfg(feature = "indexing")]
mod indexing;
#[cfg(feature = "tantivy")]
mod tantivy;

#[cfg(feature = "elasticsearch")]
pub use self::elasticsearch::{ElasticsearchIndex, ElasticsearchOptions, RefreshPolicy};
#[cfg(feature = "extract")]
pub use self::extract::extract;
#[cfg(feature = "indexing")]
pub use self::indexing::{
    Drift, DriftKind, DriftReport, DriftWatch, DriftWatchOptions, IndexingOptions, IndexingSink,
    RebuildOptions, RebuildProgress, RebuildReport, SearchableWatch, SearchableWatchOptions,
    VerifyOptions, needs_rebuild, rebuild, rebuild_beside, repair, verify,
};
#[cfg(feature = "tantivy")]
pub use self::tantivy::{TantivyIndex, TantivyOptions};
