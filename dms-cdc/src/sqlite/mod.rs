//! Changes from the change log of a SQLite database.
//!
//! Triggers of the database write each change of a row into the table `change_log`, in the
//! transaction that makes it; `seq` is the position. `change_consumers` says how far each durable
//! consumer is, so that [`ChangeLogTrimmer`] knows what nobody needs any more. `sqlite_sequence`
//! remembers the newest `seq` even when the log is empty, which is how a position that was trimmed
//! away, or that the database doesn't know because it was restored from a backup, is told from one
//! with nothing behind it. A restored database that has since grown past the position can't be told
//! apart.

mod error;
mod progress;
mod reader;
mod source;
mod trimmer;

pub use source::SqliteChangeSource;
pub use trimmer::{ChangeLogTrimmer, TrimOptions};
