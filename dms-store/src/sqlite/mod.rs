//! Documents and all that goes with them in one `SQLite` file.
//!
//! [`SqliteDatabase`] opens the file and gives a repository for each port. Reads go to a small pool
//! of read-only connections. Writes go to one task that owns the write connection: whatever waits
//! for it shares one transaction and one sync of the disk, and is answered after it.
//!
//! Statements say `LIMIT $n + 0`: the planner takes a bare parameter there as a hint, and so `SQLite`
//! prepares the statement anew each time a value is bound.
//!
//! The database itself raises versions and logs changes, by triggers: the migrations say how.

mod database;
mod dead_letters;
mod documents;
mod error;
mod idempotency;
mod migrations;
mod pages;
mod row;
mod signatures;
mod texts;
mod view_log;
mod views;
mod writer;

pub use database::{SqliteDatabase, SqliteOptions};
pub use dead_letters::SqliteDeadLetterRepository;
pub use documents::SqliteDocumentRepository;
pub use idempotency::SqliteIdempotencyRepository;
pub use signatures::SqliteSignatureRepository;
pub use texts::SqliteTextRepository;
pub use views::SqliteViewCounter;
