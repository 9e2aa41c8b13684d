//! Redis 7: document cache, view counter, idempotency keys that are completed.
//!
//! The product works without Redis. Nothing here needs it to be up at start; while it's away reads
//! come from their loader, without waiting for it, and it's used again once it's back.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `dms:{ID}:document:v1` | string | a document, its deletion, or that there is a version | [`RedisCacheOptions::time_to_live`] |
//! | `dms:{ID}:views` | string | views | for ever |
//! | `dms:{ID}:visitors` | `HyperLogLog` | distinct viewers | for ever |
//! | `dms:idempotency:SHA256` | string | how a key was completed | 24 h |
//!
//! Counts have no time to live, so that the policy `volatile-lru` never gives them up; they are as
//! durable as Redis is configured to be (`appendonly yes`).

mod client;
mod document_cache;
mod error;
mod idempotency;
mod link;
mod views;
mod wire;

pub use client::{RedisClient, RedisOptions};
pub use document_cache::{RedisCacheOptions, RedisDocumentCache};
pub use idempotency::RedisIdempotencyRepository;
pub use views::RedisViewCounter;
