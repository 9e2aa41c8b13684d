//! Redis: suites of the ports on a real one, and what happens without it.
#![cfg(feature = "redis")]

mod away;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod connecting;
mod documents;
mod idempotency_keys;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../proxy/mod.rs"]
mod proxy;
mod support;
