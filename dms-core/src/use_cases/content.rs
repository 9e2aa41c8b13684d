//! Content on its way in: counted, hashed, bounded, and its beginning kept for text extraction.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256 as Hasher};

use crate::ports::ByteStream;
use crate::{Error, Result, Sha256};

/// What went through a [`metered`] stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
    /// The first bytes, up to the bound that was asked for.
    pub(crate) head: Vec<u8>,
}

#[derive(Default)]
struct State {
    size: u64,
    hasher: Hasher,
    head: Vec<u8>,
}

/// Reads the measurements once the stream has ended.
pub(crate) struct Meter(Arc<Mutex<State>>);

impl Meter {
    pub(crate) fn measured(&self) -> Measured {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Measured {
            size: state.size,
            sha256: Sha256::from_bytes(state.hasher.clone().finalize().into()),
            head: std::mem::take(&mut state.head),
        }
    }
}

struct Metered {
    inner: ByteStream,
    state: Arc<Mutex<State>>,
    size_max: u64,
    head_max: usize,
}

/// Passes `content` on, and fails with `TooLarge` as soon as it exceeds `size_max` bytes.
pub(crate) fn metered(content: ByteStream, size_max: u64, head_max: usize) -> (ByteStream, Meter) {
    let state = Arc::<Mutex<State>>::default();
    let meter = Meter(Arc::clone(&state));
    (Metered { inner: content, state, size_max, head_max }.boxed(), meter)
}

impl Stream for Metered {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.inner.poll_next_unpin(cx));
        Poll::Ready(item.map(|chunk| {
            let chunk = chunk?;
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.size += chunk.len() as u64;
            if state.size > self.size_max {
                return Err(Error::too_large(self.size_max));
            }
            state.hasher.update(&chunk);
            let room = self.head_max.saturating_sub(state.head.len());
            state.head.extend_from_slice(&chunk[..chunk.len().min(room)]);
            Ok(chunk)
        }))
    }
}

/// Reads `content` to its end without keeping it.
pub(crate) async fn drain(mut content: BoxStream<'static, Result<Bytes>>) -> Result<()> {
    while let Some(chunk) = content.next().await {
        chunk?;
    }
    Ok(())
}

/// Content that is already in memory, as a stream.
pub fn bytes_stream(content: impl Into<Bytes>) -> ByteStream {
    let content = content.into();
    futures_util::stream::iter((!content.is_empty()).then_some(Ok(content))).boxed()
}

/// Digest of a request: of its parts, each preceded by its length, so that no two lists of parts
/// give the same bytes.
pub(crate) fn request_digest(parts: &[&[u8]]) -> Sha256 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Sha256::from_bytes(hasher.finalize().into())
}
