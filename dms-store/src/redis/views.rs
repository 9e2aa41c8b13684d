//! View counts.

use async_trait::async_trait;
use dms_core::ports::{StoreId, ViewCounter};
use dms_core::{DocumentId, Result, ViewStats, Visitor};

use super::client::RedisClient;

/// Where views of a document are counted.
pub(super) fn views_key(client: &RedisClient, id: DocumentId) -> String {
    client.document_key(id, "views")
}

/// Where its distinct viewers are.
pub(super) fn visitors_key(client: &RedisClient, id: DocumentId) -> String {
    client.document_key(id, "visitors")
}

/// Views counted in Redis: the total exactly, distinct viewers with `HyperLogLog`, whose standard
/// error is 0.81 %, in at most 12 KiB for each document. Cheap to clone.
///
/// A view whose answer is lost is an error and isn't counted again; it may have been counted.
#[derive(Debug, Clone)]
pub struct RedisViewCounter {
    client: RedisClient,
}

impl RedisViewCounter {
    /// A counter on this client.
    pub fn new(client: RedisClient) -> Self {
        Self { client }
    }
}

#[async_trait]
impl ViewCounter for RedisViewCounter {
    async fn record(&self, id: DocumentId, visitor: &Visitor) -> Result<()> {
        let mut both = redis::pipe();
        both.cmd("INCR").arg(views_key(&self.client, id)).ignore();
        both.cmd("PFADD").arg(visitors_key(&self.client, id)).arg(&*visitor.0).ignore();
        self.client
            .run(|mut connection| async move { both.exec_async(&mut connection).await })
            .await
    }

    async fn stats(&self, id: DocumentId) -> Result<ViewStats> {
        let mut both = redis::pipe();
        both.cmd("GET").arg(views_key(&self.client, id));
        both.cmd("PFCOUNT").arg(visitors_key(&self.client, id));
        let (total, unique_views): (Option<u64>, u64) = self
            .client
            .run(|mut connection| async move { both.query_async(&mut connection).await })
            .await?;
        Ok(ViewStats { total_views: total.unwrap_or(0), unique_views })
    }

    fn store(&self) -> Option<StoreId> {
        Some(self.client.store().clone())
    }
}
