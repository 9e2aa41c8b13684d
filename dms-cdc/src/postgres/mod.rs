//! Changes from the write-ahead log of PostgreSQL, by logical replication (output plugin
//! `pgoutput`), with no broker between.
//!
//! A **slot** keeps the log for one consumer, and remembers how far it has got. The source makes it
//! when it is missing; the **publication**, which says what is streamed, is expected: the
//! database's migrations make it. Both tables want `REPLICA IDENTITY FULL`, so that a long value
//! that an update left alone can be had from the row before.
//!
//! # Positions
//!
//! `X/Y` is a place between transactions, such as the end of a commit; `X/Y+N` is the `N`th change of
//! the transaction whose commit is at `X/Y`. Transactions come in the order of their commits,
//! whatever the order of the changes in the log, so positions only grow. Batches end with a
//! transaction where they can; a transaction that fills more than one is split. PostgreSQL is only
//! ever told ends of commits.
//!
//! # What is remembered, and where
//!
//! The slot has the confirmed position. The table `wal_consumers`, which the source makes, has a
//! row per slot with what a slot can't say: whether its consumer has to be rebuilt before it may
//! follow (it is new on a database with rows, or has lost changes), and which stretch of the log
//! was confirmed although nothing of it was for the consumer.

mod connection;
mod decoder;
mod error;
mod ledger;
mod options;
mod position;
mod raw;
mod reader;
mod row;
mod slot;
mod source;
mod state;
mod tuple;

pub use decoder::{Decoded, WalDecoder};
pub use options::WalOptions;
pub use raw::decode_dead_letter;
pub use source::WalChangeSource;
