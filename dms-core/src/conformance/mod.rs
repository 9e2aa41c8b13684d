//! One suite per port: what every implementation must do, whatever it is made of.
//!
//! Each suite is an `async fn` that takes the implementation and panics with the name of the step
//! that fails. It runs on any executor and assumes nothing about earlier contents unless it says so.

pub mod blobs;
pub mod cache;
pub mod dead_letters;
pub mod documents;
pub mod idempotency;
pub mod index;
pub mod signatures;
pub mod source;
pub mod texts;
pub mod viewed_reads;
pub mod views;
