//! The source over Kafka: its promises on a real broker, and its patience with one that is away.

mod conforming;
mod holding;
mod losing;
mod sharing;
mod support;
mod transient;
