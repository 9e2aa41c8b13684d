//! Changes that Debezium wrote to Kafka.
//!
//! # Delivery
//!
//! - A key lives in one partition, so its changes come in the order of their commits.
//! - An offset is committed only after it was acknowledged: at most once a second, on
//!   [`flush`](KafkaChangeSource::flush), and before partitions are given up in a rebalance. What is
//!   in flight for a partition when it is taken away comes again at its next owner, and an
//!   acknowledgement that comes too late for it has no effect.
//! - Consumers of one group share the partitions by cooperative rebalancing: what stays goes on
//!   undisturbed.
//! - A group that is new begins at the first record ever. It registers itself by committing where it
//!   begins, so that a topic that was deleted and made anew is told from one that is new: its
//!   position is lost, as it is when the records after it are gone or were never written. Not told
//!   apart are a group whose topics were all made anew, which is as good as new, and a position kept
//!   elsewhere than in Kafka whose topic was made anew and has grown past it.
//! - A topic that isn't there is waited for.
//!
//! # Memory
//!
//! At most [`fetch_bytes_max`](KafkaSourceOptions::fetch_bytes_max) are fetched ahead and
//! [`buffer_bytes_max`](KafkaSourceOptions::buffer_bytes_max) decoded, each exceeded by one fetch at
//! most. When nobody takes them, partitions are paused and the group is still answered, for however
//! long.
//!
//! # Positions
//!
//! Of a batch, or the head: the next offset of each partition, as
//! `cdc.documents:0=12,1=7;cdc.signatures:0=4`. A partition that isn't named is begun at its first
//! record. Of a single record: `cdc.documents/0@11`, the same whenever it is read; a partition that
//! isn't named is begun where the group is.

mod context;
mod control;
mod error;
mod options;
mod position;
mod progress;
mod reader;
mod source;

pub use options::KafkaSourceOptions;
pub use source::KafkaChangeSource;
