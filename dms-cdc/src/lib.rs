//! The change stream: where changes come from, and what drives them into sinks.
//!
//! A source yields changes in the order of their commits and is told how far everything is durable;
//! a [`Runner`] reads batches from a source, gives them to sinks, keeps what can never succeed as
//! dead letters, and acknowledges. Delivery is at least once: sinks drop what they already have by
//! the version of the row, so repetitions have no effect.
//!
//! - [`RawChange`] is a change as text columns, with the pure decoder; [`debezium`] decodes what
//!   Debezium writes; [`decode_dead_letter`] decodes what either left as a dead letter.
//! - [`Runner`] is what a program drives.
//! - `sqlite::SqliteChangeSource` (feature `sqlite`) reads the change log of a SQLite database, and
//!   `sqlite::ChangeLogTrimmer` keeps that log short.
//! - `kafka::KafkaChangeSource` (feature `kafka`) reads what Debezium writes to Kafka.
//! - `postgres::WalChangeSource` (feature `postgres`) reads the write-ahead log of PostgreSQL.

mod dead_letter;
pub mod debezium;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "postgres")]
pub mod postgres;
mod raw_change;
pub mod runner;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use dead_letter::decode_dead_letter;
pub use raw_change::RawChange;
pub use runner::{Runner, RunnerOptions, RunnerState, RunnerStatus, StreamCounts};
