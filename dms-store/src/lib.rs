//! Where documents are kept.
//!
//! | port | implementation | feature |
//! |---|---|---|
//! | documents, signatures, texts, idempotency keys, dead letters | [`sqlite::SqliteDatabase`] | `sqlite` |
//! | the same | [`postgres::PostgresDatabase`] | `postgres` |
//! | view counter | [`sqlite::SqliteViewCounter`] | `sqlite` |
//! | content | [`blobs::FileBlobStore`] | `files` |
//! | document cache | [`cache::MokaDocumentCache`] | `memory` |

#[cfg(feature = "files")]
pub mod blobs;
#[cfg(feature = "memory")]
pub mod cache;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
