//! Documents and all that goes with them in `PostgreSQL` 15 or newer, straight or through `PgBouncer`
//! 1.21 or newer in transaction mode.
//!
//! [`PostgresDatabase`] gives a repository for each port. Every call of a repository is one
//! statement that takes effect as a whole or not at all, and nothing ever begins a transaction on a
//! connection that is used again: a caller that leaves can't leave one open. A statement that was
//! begun is finished by a task of the database, whether or not somebody still waits for it.
//!
//! The database itself raises versions, by a trigger, and publishes documents and signatures: the
//! migrations say how.

mod connections;
mod database;
mod dead_letters;
mod documents;
mod error;
mod idempotency;
mod migrations;
mod options;
mod pooler;
mod replica;
mod row;
mod signatures;
mod texts;

pub use connections::PoolStats;
pub use database::PostgresDatabase;
pub use dead_letters::PostgresDeadLetterRepository;
pub use documents::PostgresDocumentRepository;
pub use idempotency::PostgresIdempotencyRepository;
pub use options::PostgresOptions;
pub use signatures::PostgresSignatureRepository;
pub use texts::PostgresTextRepository;
