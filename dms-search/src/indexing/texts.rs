//! The texts of a batch: read at once where they are kept, else taken out of the content.

use std::collections::{HashMap, HashSet};

use dms_core::model::change::DocumentRow;
use dms_core::model::text::{TextFormat, TextKey};
use dms_core::ports::{BlobStore, TextRepository};
use dms_core::{Error, ErrorChain, ErrorKind, Result};
use futures_util::{StreamExt as _, stream};

use super::IndexingOptions;
use crate::extract;

/// What is known of the texts of a batch.
#[derive(Default)]
pub(super) struct Texts {
    found: HashMap<TextKey, String>,
    /// Those whose content can't be read now, and why.
    unavailable: HashMap<TextKey, String>,
}

/// What is known of one text.
pub(super) enum Text {
    /// This; nothing if the content has none.
    Known(String),
    /// It can be had later.
    Unavailable(String),
}

impl Texts {
    /// The text of a row's content.
    pub(super) fn of(&self, row: &DocumentRow) -> Text {
        let Some(key) = key(row) else { return Text::Known(String::new()) };
        if let Some(why) = self.unavailable.get(&key) {
            return Text::Unavailable(why.clone());
        }
        Text::Known(self.found.get(&key).cloned().unwrap_or_default())
    }
}

/// By what the text of a row is kept; none if it has no text.
pub(super) fn key(row: &DocumentRow) -> Option<TextKey> {
    if row.deleted || row.content_size == 0 {
        return None;
    }
    let format = TextFormat::of(&row.content_type)?;
    Some(TextKey { content_sha256: row.content_sha256?, format })
}

/// Gets the texts of rows.
///
/// # Errors
/// Those of the text repository's read.
pub(super) async fn texts_of(
    rows: &[DocumentRow],
    texts: &dyn TextRepository,
    blobs: &dyn BlobStore,
    options: &IndexingOptions,
) -> Result<Texts> {
    let mut places: HashMap<TextKey, String> = HashMap::new();
    for row in rows {
        if let (Some(key), Some(place)) = (key(row), &row.s3_key) {
            places.entry(key).or_insert_with(|| place.clone());
        }
    }
    if places.is_empty() {
        return Ok(Texts::default());
    }
    let keys: Vec<_> = places.keys().copied().collect();
    let mut found = texts.get_many(&keys).await?;
    let known: HashSet<_> = found.keys().copied().collect();
    places.retain(|key, _| !known.contains(key));
    for text in found.values_mut() {
        dms_core::model::text::truncate_at_char(text, options.text_bytes_max);
    }
    let mut all = Texts { found, unavailable: HashMap::new() };
    let mut read = stream::iter(places)
        .map(|(key, place)| async move {
            let text = text_of(key, &place, blobs, options).await;
            (key, place, text)
        })
        .buffer_unordered(options.reads_max.max(1));
    let mut fresh = Vec::new();
    while let Some((key, place, text)) = read.next().await {
        match text {
            Ok(text) => fresh.push((key, text)),
            Err(error) if error.is_retryable() => {
                all.unavailable.insert(key, ErrorChain(&error).to_string());
            }
            // A document without text is worth more than none. Its text isn't kept, so that a
            // rebuild tries again.
            Err(error) => {
                metrics::counter!("dms_search_text_missing_total", "reason" => reason(&error))
                    .increment(1);
                tracing::warn!(key = place, error = %ErrorChain(&error), "document indexed without its text");
            }
        }
    }
    drop(read);
    if !fresh.is_empty() {
        // Only saves work later; the index doesn't depend on it.
        if let Err(error) = texts.put_many(&fresh).await {
            tracing::warn!(texts = fresh.len(), error = %ErrorChain(&error), "extracted texts not kept");
        }
        all.found.extend(fresh);
    }
    Ok(all)
}

fn reason(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "content_missing",
        _ => "not_extracted",
    }
}

async fn text_of(
    key: TextKey,
    place: &str,
    blobs: &dyn BlobStore,
    options: &IndexingOptions,
) -> Result<String> {
    let content = content(place, blobs, options.content_bytes_max).await?;
    let limit_bytes = options.text_bytes_max;
    // Parsing takes milliseconds for a large document: too long for a thread that serves others.
    tokio::task::spawn_blocking(move || extract(key.format, &content, limit_bytes))
        .await
        .map_err(|e| Error::internal("text extraction failed").with_source(e))?
}

/// The first bytes of a blob.
async fn content(place: &str, blobs: &dyn BlobStore, bytes_max: usize) -> Result<Vec<u8>> {
    let mut blob = blobs.get(place, None).await?;
    let size = usize::try_from(blob.size).unwrap_or(usize::MAX);
    let mut content = Vec::with_capacity(size.min(bytes_max));
    while let Some(piece) = blob.stream.next().await {
        let piece = piece.map_err(|e| {
            Error::unavailable("storage", "content can't be read to its end").with_source(e)
        })?;
        let room = bytes_max - content.len();
        if piece.len() >= room {
            content.extend_from_slice(&piece[..room]);
            break;
        }
        content.extend_from_slice(&piece);
    }
    Ok(content)
}
