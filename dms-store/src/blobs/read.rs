//! Reading blobs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dms_core::ports::BlobContent;
use dms_core::{Error, Result};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use super::error::from_io;
use super::files::Shared;

/// Most bytes read at once, and held in memory per reader.
const CHUNK_BYTES: u64 = 256 << 10;

/// An open blob: its size, the first bytes asked for, and where the others are.
pub(super) struct Opened {
    size: u64,
    first: Bytes,
    rest: Rest,
}

struct Rest {
    file: File,
    bytes: u64,
}

impl Rest {
    fn read(&mut self) -> io::Result<Bytes> {
        let wanted = self.bytes.min(CHUNK_BYTES);
        let mut chunk = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        (&mut self.file).take(wanted).read_to_end(&mut chunk)?;
        if chunk.len() as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes -= wanted;
        Ok(chunk.into())
    }
}

/// Opens a blob and reads its beginning. Blocks.
pub(super) fn open(path: &Path, key: &str, range: Option<Range<u64>>) -> Result<Opened> {
    let unreadable = |error| from_io("content can't be read", error);
    let not_found = || Error::not_found("blob", key);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(not_found());
    }
    let size = metadata.len();
    let range = range.unwrap_or(0..size);
    let whole = range == (0..size);
    if range.end > size || (range.is_empty() && !whole) {
        return Err(Error::range_not_satisfiable(size));
    }
    if range.start > 0 {
        file.seek(SeekFrom::Start(range.start)).map_err(unreadable)?;
    }
    let mut rest = Rest { file, bytes: range.end - range.start };
    let first = rest.read().map_err(unreadable)?;
    Ok(Opened { size, first, rest })
}

impl Opened {
    pub(super) fn into_content(self, shared: Arc<Shared>) -> BlobContent {
        let first = stream::iter((!self.first.is_empty()).then_some(Ok(self.first)));
        let stream = if self.rest.bytes == 0 {
            first.boxed()
        } else {
            first.chain(remaining(shared, self.rest)).boxed()
        };
        BlobContent { size: self.size, stream }
    }
}

fn remaining(shared: Arc<Shared>, rest: Rest) -> BoxStream<'static, io::Result<Bytes>> {
    stream::try_unfold(rest, move |mut rest| {
        let shared = Arc::clone(&shared);
        async move {
            if rest.bytes == 0 {
                return Ok(None);
            }
            let read = shared.step(move |_| {
                let chunk = rest.read().map_err(|error| from_io("content can't be read", error))?;
                Ok((chunk, rest))
            });
            read.await.map(Some).map_err(io::Error::other)
        }
    })
    .boxed()
}
