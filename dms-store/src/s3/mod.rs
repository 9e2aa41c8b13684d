//! Content in S3, or what speaks its protocol (`MinIO`).
//!
//! A blob is an object at its key, behind the prefix if there is one. It is made by one conditional
//! request (`If-None-Match: *`): by a `PUT` if it is small, else by the completion of a multipart
//! upload. So it is there whole or not at all, and a key is given once. Each request carries the
//! SHA-256 of its bytes, which the server checks.
//!
//! An upload runs in a task that ends with its put: when the put is dropped or fails, the task
//! withdraws what it had begun. If the process dies, parts that were never completed stay behind,
//! invisible and unlisted; a lifecycle rule of the bucket (`AbortIncompleteMultipartUpload`) removes
//! them. `MinIO` does so after a day by itself.

mod bucket;
mod error;
mod options;
mod store;
mod transport;
mod upload;

pub use options::S3Options;
pub use store::S3BlobStore;
