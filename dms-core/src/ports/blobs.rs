//! Port to the content.

use std::io;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use time::OffsetDateTime;

use crate::{Error, Result};

/// Content in pieces, read once, never whole in memory.
///
/// An error ends it: whoever consumes the stream must then leave nothing behind.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Content being read.
pub struct BlobContent {
    /// Size of the whole blob in bytes, whatever range was asked for.
    pub size: u64,
    /// The bytes asked for.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

/// What a listing says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// When it was stored, by the store's clock.
    pub modified_at: OffsetDateTime,
}

/// Longest key of a blob, in bytes: it may become the name of a file, which has 255 at most, and what
/// copies files adds some to names on the way.
const KEY_BYTES_MAX: usize = 200;

/// Refuses what no use case makes: a key is words of `A–Z a–z 0–9 - _ .` joined by `/`, none of
/// which begins with a dot or has more than 128 characters, and at most 200 bytes long. So it can't
/// leave the folder or bucket of its store, nor meet what a store keeps there for itself.
///
/// # Errors
/// `Internal`: keys come from rows and ids, never from callers.
pub fn check_blob_key(key: &str) -> Result<()> {
    let word = |word: &str| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        (1..=128).contains(&word.len()) && !word.starts_with('.') && word.bytes().all(plain)
    };
    if key.len() <= KEY_BYTES_MAX && key.split('/').all(word) {
        Ok(())
    } else {
        Err(Error::internal("blob key isn't made of plain words"))
    }
}

/// Content by key. Keys are made of ids and fixed words: `ID/content`, `signatures/ID/image`;
/// others are refused as [`check_blob_key`] says.
///
/// A blob is written once and never changed.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores content under a new key; gives its size in bytes. Durable when it returns. If the
    /// stream ends with an error, or the future is dropped, nothing is visible under the key; what
    /// was on its way when the future was dropped may take a moment to be withdrawn, and the key
    /// counts as taken until then.
    ///
    /// # Errors
    /// - `Conflict` with code `already_exists` if the key is taken; the blob there is untouched;
    /// - `StorageFull`, `Unavailable`;
    /// - whatever error the stream yields.
    async fn put(&self, key: &str, content: ByteStream) -> Result<u64>;

    /// Reads a blob or a part of it. `range` must not be empty.
    ///
    /// # Errors
    /// - `NotFound`;
    /// - `RangeNotSatisfiable` if `range` ends beyond the blob.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<BlobContent>;

    /// Removes a blob. Succeeds if there is none.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Every blob whose key begins with `prefix`, in no particular order. Blobs stored or removed
    /// meanwhile may be missed or listed.
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo>>;

    /// Whether the store can be reached and written to.
    async fn check(&self) -> Result<()>;
}
