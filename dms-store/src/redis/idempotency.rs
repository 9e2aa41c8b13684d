//! Completed idempotency keys.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::{IdempotencyKey, IdempotencyRepository, Reservation};
use dms_core::{ErrorChain, Result, Sha256};
use serde_json::{Value, json};

use super::client::RedisClient;

/// How long a completed key is answered from Redis.
const TIME_TO_LIVE: Duration = Duration::from_hours(24);

/// Largest answer that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Answers keys that are known to be completed from Redis, without the repository behind it. Cheap to
/// clone.
///
/// Only completed keys are kept, and those never change: so what Redis has lost costs a look into
/// the repository, and what it still has is right. A key that the repository has purged meanwhile
/// stays completed for up to 24 h more. Whoever takes the database back to an earlier state must
/// empty Redis too.
#[derive(Clone)]
pub struct RedisIdempotencyRepository {
    client: RedisClient,
    inner: Arc<dyn IdempotencyRepository>,
}

impl RedisIdempotencyRepository {
    /// A fast path to `inner`.
    pub fn new(client: RedisClient, inner: Arc<dyn IdempotencyRepository>) -> Self {
        Self { client, inner }
    }

    fn redis_key(&self, key: &IdempotencyKey) -> String {
        // The length tells a scope from a key that begins like its end.
        let whole = format!("{}:{}{}", key.scope().len(), key.scope(), key.key());
        self.client.key(&format!("idempotency:{}", Sha256::of(whole.as_bytes())))
    }

    async fn look_up(&self, redis_key: &str) -> Option<Reservation> {
        let get = redis::Cmd::get(redis_key);
        let found: Result<Option<Vec<u8>>> = self
            .client
            .run(|mut connection| async move { get.query_async(&mut connection).await })
            .await;
        match found {
            Ok(bytes) => decode(&bytes?),
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "idempotency key not looked up");
                None
            }
        }
    }

    async fn keep(&self, redis_key: &str, completed: Vec<u8>) {
        if completed.len() > VALUE_BYTES_MAX {
            return;
        }
        let set = redis::Cmd::set_ex(redis_key, completed, TIME_TO_LIVE.as_secs());
        let kept: Result<()> = self
            .client
            .run(|mut connection| async move { set.exec_async(&mut connection).await })
            .await;
        if let Err(error) = kept {
            tracing::debug!(error = %ErrorChain(&error), "completed idempotency key not kept");
        }
    }
}

fn encode(reservation: &Reservation) -> Option<Vec<u8>> {
    let Reservation::Completed { request_sha256, resource_id, first_answer } = reservation else {
        return None;
    };
    let completed = json!({
        "request_sha256": request_sha256.to_string(),
        "resource_id": resource_id.to_string(),
        "first_answer": first_answer,
    });
    Some(completed.to_string().into_bytes())
}

fn decode(bytes: &[u8]) -> Option<Reservation> {
    let mut completed: Value = serde_json::from_slice(bytes).ok()?;
    Some(Reservation::Completed {
        request_sha256: completed.get("request_sha256")?.as_str()?.parse().ok()?,
        resource_id: completed.get("resource_id")?.as_str()?.parse().ok()?,
        first_answer: completed.get_mut("first_answer")?.take(),
    })
}

impl fmt::Debug for RedisIdempotencyRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisIdempotencyRepository")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl IdempotencyRepository for RedisIdempotencyRepository {
    async fn reserve(&self, key: &IdempotencyKey, lease: Duration) -> Result<Reservation> {
        let redis_key = self.redis_key(key);
        if let Some(completed) = self.look_up(&redis_key).await {
            return Ok(completed);
        }
        let reservation = self.inner.reserve(key, lease).await?;
        if let Some(completed) = encode(&reservation) {
            self.keep(&redis_key, completed).await;
        }
        Ok(reservation)
    }

    async fn release(&self, key: &IdempotencyKey) -> Result<()> {
        self.inner.release(key).await
    }

    async fn purge(&self, retention: Duration) -> Result<u64> {
        self.inner.purge(retention).await
    }
}
