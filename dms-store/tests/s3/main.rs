//! S3: the suite of the port on a real one, and what happens when it's away.
#![cfg(feature = "s3")]

mod away;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
#[path = "../proxy/mod.rs"]
mod proxy;
mod set_up;
mod support;
mod uploads;
