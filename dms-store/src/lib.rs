//! Where documents are kept.
//!
//! | port | implementation | feature |
//! |---|---|---|
//! | documents, signatures, texts, idempotency keys, dead letters | [`sqlite::SqliteDatabase`] | `sqlite` |
//! | the same | [`postgres::PostgresDatabase`] | `postgres` |
//! | view counter | [`sqlite::SqliteViewCounter`] | `sqlite` |
//! | content | [`blobs::FileBlobStore`] | `files` |
//! | content | [`s3::S3BlobStore`] | `s3` |
//! | document cache | [`cache::MokaDocumentCache`] | `memory` |
//! | document cache, view counter, idempotency keys that are completed | [`redis::RedisClient`] | `redis` |

#[cfg(feature = "files")]
pub mod blobs;
#[cfg(feature = "memory")]
pub mod cache;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
