//! Keeps a document cache in step with writes that this process didn't make.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Result;
use crate::model::change::{Change, Position, RowChange};
use crate::ports::{ChangeSink, DocumentCache, Outcome};

/// The sink that invalidates cached documents when the change stream tells of a newer version.
pub struct CacheInvalidation {
    cache: Arc<dyn DocumentCache>,
}

impl CacheInvalidation {
    /// A sink for `cache`.
    pub fn new(cache: Arc<dyn DocumentCache>) -> Self {
        Self { cache }
    }
}

#[async_trait]
impl ChangeSink for CacheInvalidation {
    fn name(&self) -> &'static str {
        "document-cache"
    }

    async fn apply(&self, changes: &[Change], _up_to: &Position) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            outcomes.push(match &change.row {
                RowChange::Document { before, after } => {
                    match after.as_ref().or(before.as_ref()) {
                        Some(row) if row.deleted || after.is_none() => {
                            self.cache.put_deleted(row.id, row.version).await;
                        }
                        Some(row) => self.cache.invalidate(row.id, row.version).await,
                        None => {}
                    }
                    Outcome::Applied
                }
                RowChange::Signature { .. } => Outcome::Skipped("not a document"),
            });
        }
        Ok(outcomes)
    }
}
