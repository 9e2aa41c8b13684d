//! What is kept of one document, and what may replace it.

use std::sync::Arc;

use dms_core::{Document, DocumentId};

/// What is kept of one document. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The document.
    Live(Arc<Document>),
    /// It was deleted at this version.
    Deleted(i32),
    /// Nothing, except that there is this version: an older one must not come back.
    AtLeast(i32),
}

impl Entry {
    pub(crate) fn version(&self) -> i32 {
        match self {
            Self::Live(document) => document.version,
            Self::Deleted(version) | Self::AtLeast(version) => *version,
        }
    }

    /// Of one version a deletion says most, and that there is such a version least.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::AtLeast(_) => 0,
            Self::Live(_) => 1,
            Self::Deleted(_) => 2,
        }
    }

    /// Whether this may take the place of `kept`.
    pub(super) fn replaces(&self, kept: &Self) -> bool {
        (self.version(), self.rank()) > (kept.version(), kept.rank())
    }

    /// Bytes of memory that keeping this takes, about.
    pub(super) fn weight(&self) -> u32 {
        /// Of the map, the queues and the counters that know the entry.
        const OVERHEAD_BYTES: usize = 320;
        let own = size_of::<DocumentId>() + size_of::<Self>() + OVERHEAD_BYTES;
        let document = match self {
            Self::Live(document) => {
                size_of::<Document>()
                    + document.title.capacity()
                    + document.content_type.capacity()
                    + document.s3_key.capacity()
                    + document.created_by.capacity()
            }
            Self::Deleted(_) | Self::AtLeast(_) => 0,
        };
        u32::try_from(own + document).unwrap_or(u32::MAX)
    }
}
