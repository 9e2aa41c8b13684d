//! Feeds a hub from the change stream.

use async_trait::async_trait;
use dms_core::Result;
use dms_core::model::change::{Change, Position};
use dms_core::ports::{ChangeSink, Outcome};

use crate::hub::{Hub, Published};

/// Deliveries after which other tasks get their turn.
const DELIVERIES_BEFORE_YIELD: usize = 4_096;

/// The sink named `live`. It never fails and keeps nothing: a connection begins with a snapshot, so
/// what was published while nobody listened isn't missed.
#[derive(Debug, Clone)]
pub struct HubSink {
    hub: Hub,
}

impl HubSink {
    /// A sink that publishes on `hub`.
    pub fn new(hub: Hub) -> Self {
        Self { hub }
    }
}

#[async_trait]
impl ChangeSink for HubSink {
    fn name(&self) -> &'static str {
        "live"
    }

    async fn apply(&self, changes: &[Change], _up_to: &Position) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut deliveries = 0;
        for change in changes {
            outcomes.push(match self.hub.publish(change) {
                Published::Queued(count) => {
                    deliveries += count;
                    Outcome::Applied
                }
                Published::AlreadyNewer => Outcome::AlreadyNewer,
                Published::NoSubscribers => Outcome::Skipped("nobody listens"),
                Published::NothingToTell => Outcome::Skipped("nothing to tell"),
            });
            if deliveries >= DELIVERIES_BEFORE_YIELD {
                deliveries = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(outcomes)
    }
}
