//! One file for each part of the product: from the place that the settings name to open ports.

mod database;
#[cfg(feature = "engines")]
mod engines;
mod events;
mod index;
mod reads;
mod storage;

use std::sync::Arc;

use dms_core::Result;
use dms_core::ports::{
    ChangeSource, DeadLetterRepository, DocumentCache, DocumentRepository, IdempotencyRepository,
    SignatureRepository, TextRepository, ViewCounter,
};

use futures_util::future::BoxFuture;

pub(crate) use database::{Database, open_database};
pub(crate) use events::{open_index_source, open_live_source};
pub(crate) use index::open_index;
pub(crate) use reads::CacheBackend;
pub(crate) use storage::open_storage;

/// Everything that is kept in one database.
#[derive(Clone)]
pub struct Repositories {
    /// Documents.
    pub documents: Arc<dyn DocumentRepository>,
    /// Signatures.
    pub signatures: Arc<dyn SignatureRepository>,
    /// Extracted texts.
    pub texts: Arc<dyn TextRepository>,
    /// Idempotency keys.
    pub idempotency: Arc<dyn IdempotencyRepository>,
    /// Changes that consumers couldn't take.
    pub dead_letters: Arc<dyn DeadLetterRepository>,
}

/// The change stream of a database, as its two kinds of consumers follow it.
#[derive(Clone)]
pub struct ChangeSources {
    /// For the index: everything, acknowledged durably.
    pub index: Arc<dyn ChangeSource>,
    /// For live updates: from now on, never acknowledged durably.
    pub live: Arc<dyn ChangeSource>,
}

/// What has to be done with a backend at the end.
pub(crate) struct Closer(Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send + Sync>);

impl Closer {
    pub(crate) fn new(
        close: impl FnOnce() -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(close))
    }

    pub(crate) async fn run(self) -> Result<()> {
        (self.0)().await
    }
}

/// What makes reads fast and counts them.
#[derive(Clone)]
pub struct Reads {
    /// Documents read recently.
    pub cache: Arc<dyn DocumentCache>,
    /// Views.
    pub views: Arc<dyn ViewCounter>,
}
