//! Writes: `_bulk` in parts of bounded size, and what became of each document.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dms_core::model::search::IndexEntry;
use dms_core::ports::Outcome;
use dms_core::{Error, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::client::{Class, Client, Payload};
use super::error::{Refusal, of_answer, of_refusal, refusal, unreadable};
use super::mapping::write_document;

/// Documents that are sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// Two lines for each document.
    lines: Bytes,
    /// Where each document's lines end.
    ends: Vec<usize>,
    /// The place of each document in the batch.
    places: Vec<usize>,
}

impl Part {
    /// Two parts of about the same number of documents; none of a single one.
    fn halves(self) -> Option<[Self; 2]> {
        let half = self.ends.len() / 2;
        let cut = *self.ends.get(half.checked_sub(1)?)?;
        let first = Self {
            lines: self.lines.slice(..cut),
            ends: self.ends[..half].to_vec(),
            places: self.places[..half].to_vec(),
        };
        let second = Self {
            lines: self.lines.slice(cut..),
            ends: self.ends[half..].iter().map(|end| end - cut).collect(),
            places: self.places[half..].to_vec(),
        };
        Some([first, second])
    }
}

/// How a batch is written.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    /// An alias: writing to one that isn't there fails instead of making an index of that name.
    pub(super) alias: String,
    /// What `refresh` is in the request.
    pub(super) refresh: &'static str,
    /// The fields the index has, unless it has all.
    pub(super) fields: Option<Arc<HashSet<String>>>,
    pub(super) bytes_max: usize,
    pub(super) parts_max: usize,
}

/// Writes entries; answers for each, in order.
pub(super) async fn write(
    client: &Client,
    writing: Writing,
    entries: Vec<IndexEntry>,
) -> Result<Vec<Outcome>> {
    let newest = IndexEntry::newest_of_each(&entries);
    let mut outcomes: Vec<Outcome> = entries
        .iter()
        .map(|entry| {
            let is_incomplete = entry.row.is_incomplete();
            if is_incomplete { Outcome::Skipped("incomplete") } else { Outcome::AlreadyNewer }
        })
        .collect();
    let count = newest.iter().filter(|is_newest| **is_newest).count();
    if count == 0 {
        return Ok(outcomes);
    }
    let (bytes_max, fields) = (writing.bytes_max, writing.fields.clone());
    // Taking texts apart takes milliseconds: too long for a thread that serves others.
    let parts = tokio::task::spawn_blocking(move || {
        let wanted = entries.iter().zip(newest).enumerate();
        let wanted = wanted.filter(|(_, (_, is_newest))| *is_newest);
        parts(wanted.map(|(place, (entry, _))| (place, entry)), fields.as_deref(), bytes_max)
    })
    .await
    .map_err(|error| Error::internal("writing documents as json failed").with_source(error))??;
    let path = format!("{}/_bulk?require_alias=true&refresh={}", writing.alias, writing.refresh);
    let (path, begun) = (path.as_str(), Instant::now());
    let answers: Vec<_> = stream::iter(parts)
        .map(|part| send(client, path, part))
        .buffer_unordered(writing.parts_max.max(1))
        .try_collect()
        .await?;
    metrics::histogram!("dms_search_bulk_seconds").record(begun.elapsed());
    for (place, outcome) in answers.into_iter().flatten() {
        outcomes[place] = outcome;
    }
    Ok(outcomes)
}

/// Makes parts of at most `bytes_max`, but for a document that is larger by itself.
fn parts<'a>(
    entries: impl Iterator<Item = (usize, &'a IndexEntry)>,
    fields: Option<&HashSet<String>>,
    bytes_max: usize,
) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let (mut lines, mut ends, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (place, entry) in entries {
        let begin = lines.len();
        write_lines(entry, fields, &mut lines)?;
        if begin > 0 && lines.len() > bytes_max {
            let last = lines.split_off(begin);
            let full = std::mem::replace(&mut lines, last);
            let (ends, places) = (std::mem::take(&mut ends), std::mem::take(&mut places));
            parts.push(Part { lines: full.into(), ends, places });
        }
        ends.push(lines.len());
        places.push(place);
    }
    if !ends.is_empty() {
        parts.push(Part { lines: lines.into(), ends, places });
    }
    Ok(parts)
}

fn write_lines(
    entry: &IndexEntry,
    fields: Option<&HashSet<String>>,
    into: &mut Vec<u8>,
) -> Result<()> {
    let (id, version) = (entry.row.id, entry.row.version);
    let action = format!(
        "{{\"index\":{{\"_id\":\"{id}\",\"version\":{version},\"version_type\":\"external\"}}}}\n"
    );
    into.extend_from_slice(action.as_bytes());
    write_document(entry, fields, into)?;
    into.push(b'\n');
    Ok(())
}

/// Sends a part, in halves if it is too large; the outcome of each place.
async fn send(client: &Client, path: &str, part: Part) -> Result<Vec<(usize, Outcome)>> {
    let mut outcomes = Vec::with_capacity(part.places.len());
    let mut waiting = vec![part];
    while let Some(part) = waiting.pop() {
        let payload = Payload::Lines(part.lines.clone());
        let answer = client.send(Class::Write, Method::POST, path, payload).await?;
        match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                metrics::counter!("dms_search_bulk_halved_total").increment(1);
                let place = part.places[0];
                match part.halves() {
                    Some(halves) => waiting.extend(halves),
                    None => outcomes.push((
                        place,
                        Outcome::Rejected("larger than the search index accepts".to_owned()),
                    )),
                }
            }
            status if status.is_success() => {
                let answer: BulkAnswer = answer.json()?;
                let items = answer.outcomes(part.places.len())?;
                outcomes.extend(part.places.into_iter().zip(items));
            }
            _ => {
                tracing::debug!(refusal = %refusal(&answer), "bulk request refused");
                return Err(of_answer(&answer));
            }
        }
    }
    Ok(outcomes)
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<Item>,
}

/// Named after the action in the request, which is always `index`.
#[derive(Deserialize)]
struct Item {
    index: ItemAnswer,
}

#[derive(Deserialize)]
struct ItemAnswer {
    status: u16,
    #[serde(default)]
    error: Option<Refusal>,
}

impl BulkAnswer {
    /// The outcome of each document.
    ///
    /// # Errors
    /// What concerns the whole index rather than a document: that is to be waited for, and no
    /// document may be given up because of it.
    fn outcomes(self, count: usize) -> Result<Vec<Outcome>> {
        if self.items.len() != count {
            return Err(unreadable("has another number of items"));
        }
        self.items.into_iter().map(|item| outcome(item.index)).collect()
    }
}

fn outcome(item: ItemAnswer) -> Result<Outcome> {
    let status = StatusCode::from_u16(item.status).map_err(|_| unreadable("has an odd status"))?;
    if status.is_success() {
        return Ok(Outcome::Applied);
    }
    let refusal = item.error.unwrap_or_default();
    let concerns_index = refusal.is_block()
        || refusal.is_missing_index()
        || refusal.is_unknown_field()
        || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if concerns_index {
        return Err(of_refusal(status, refusal));
    }
    Ok(match status {
        StatusCode::CONFLICT if refusal.name == "version_conflict_engine_exception" => {
            Outcome::AlreadyNewer
        }
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
            Outcome::Rejected(told(&refusal))
        }
        // Overload, a shard that moves, a node that stops: whatever is unknown may pass, too.
        _ => Outcome::Retry(format!("status {}: {}", item.status, told(&refusal))),
    })
}

/// A refusal with its causes, for people.
fn told(refusal: &Refusal) -> String {
    let mut told = refusal.to_string();
    let mut cause = refusal.caused_by.as_deref();
    while let Some(refusal) = cause {
        told.push_str(": ");
        told.push_str(&refusal.to_string());
        cause = refusal.caused_by.as_deref();
    }
    told
}

#[cfg(test)]
mod tests {
    use dms_core::model::change::DocumentRow;
    use dms_core::{DocumentId, DocumentStatus, Sha256};
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;

    fn entry(text: &str) -> IndexEntry {
        let id = DocumentId::generate();
        let row = DocumentRow {
            id,
            title: "title".to_owned(),
            content_type: "text/plain".to_owned(),
            content_size: 5,
            content_sha256: Some(Sha256::of(b"x")),
            s3_key: Some("key".to_owned()),
            status: DocumentStatus::Created,
            created_by: "ann".to_owned(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            version: 3,
            deleted: false,
        };
        IndexEntry { row, text: text.to_owned() }
    }

    fn cut(entries: &[IndexEntry], bytes_max: usize) -> Vec<Part> {
        parts(entries.iter().enumerate(), None, bytes_max).unwrap()
    }

    /// Ids of the documents in a part, in order.
    fn ids(part: &Part) -> Vec<String> {
        let text = std::str::from_utf8(&part.lines).unwrap();
        let id = |line: &str| {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(action["index"]["version"], 3);
            assert_eq!(action["index"]["version_type"], "external");
            action["index"]["_id"].as_str().unwrap().to_owned()
        };
        text.lines().step_by(2).map(id).collect()
    }

    #[test]
    fn parts_are_bounded_and_complete() {
        let entries: Vec<_> = (0..10).map(|n| entry(&"x".repeat(n * 100))).collect();
        let parts = cut(&entries, 2_000);
        assert!(parts.len() > 2, "{}", parts.len());
        for part in &parts {
            assert!(part.lines.len() <= 2_000 || part.ends.len() == 1);
            assert_eq!(part.ends.last(), Some(&part.lines.len()));
        }
        let all: Vec<_> = parts.iter().flat_map(ids).collect();
        let expected: Vec<_> = entries.iter().map(|entry| entry.row.id.to_string()).collect();
        assert_eq!(all, expected);
        let places: Vec<_> = parts.iter().flat_map(|part| part.places.clone()).collect();
        assert_eq!(places, (0..10).collect::<Vec<_>>());
        assert!(cut(&[], 10).is_empty());
        assert_eq!(cut(&entries[..2], 1).len(), 2, "a larger document goes alone");
    }

    #[test]
    fn halves_hold_the_same_documents() {
        let entries: Vec<_> = (0..5).map(|_| entry("text")).collect();
        let [whole] = &cut(&entries, usize::MAX)[..] else { panic!("one part") };
        let mut waiting = vec![whole.clone()];
        let mut seen = Vec::new();
        while let Some(part) = waiting.pop() {
            match part.clone().halves() {
                Some([first, second]) => waiting.extend([second, first]),
                None => seen.extend(ids(&part)),
            }
        }
        assert_eq!(seen, ids(whole));
    }

    fn read(items: impl Into<serde_json::Value>) -> Result<Vec<Outcome>> {
        let items = items.into();
        let count = items.as_array().map_or(0, Vec::len);
        let answer: BulkAnswer = serde_json::from_value(json!({ "items": items })).unwrap();
        answer.outcomes(count)
    }

    fn item(status: u16, name: &str) -> serde_json::Value {
        if name.is_empty() {
            return json!({ "index": { "_id": "x", "status": status } });
        }
        let error = json!({ "type": name, "reason": "why", "caused_by": {
            "type": "inner", "reason": "deeper" } });
        json!({ "index": { "_id": "x", "status": status, "error": error } })
    }

    #[test]
    fn each_document_has_its_own_outcome() {
        let outcomes = read(json!([
            item(201, ""),
            item(200, ""),
            item(409, "version_conflict_engine_exception"),
            item(409, "something_else"),
            item(429, "es_rejected_execution_exception"),
            item(503, "unavailable_shards_exception"),
            item(500, ""),
            item(400, "document_parsing_exception"),
            item(413, ""),
            item(404, "shard_not_found_exception"),
        ]))
        .unwrap();
        let shape: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Applied => "applied",
                Outcome::AlreadyNewer => "newer",
                Outcome::Retry(_) => "retry",
                Outcome::Rejected(_) => "rejected",
                Outcome::Skipped(_) => "skipped",
            })
            .collect();
        let expected = [
            "applied", "applied", "newer", "retry", "retry", "retry", "retry", "rejected",
            "rejected", "retry",
        ];
        assert_eq!(shape, expected);
        let reason = "document_parsing_exception: why: inner: deeper";
        assert_eq!(outcomes[7], Outcome::Rejected(reason.to_owned()));
    }

    #[test]
    fn what_concerns_the_index_fails_the_whole_batch() {
        for (status, name, code) in [
            (404, "index_not_found_exception", "index_missing"),
            (403, "cluster_block_exception", "index_blocked"),
            (429, "cluster_block_exception", "index_blocked"),
            (403, "security_exception", "unavailable"),
            (400, "strict_dynamic_mapping_exception", "index_laid_out_otherwise"),
        ] {
            let error = read(json!([item(201, ""), item(status, name)])).unwrap_err();
            assert!(error.is_retryable(), "{name}");
            assert_eq!(error.code(), code, "{name}");
        }
    }

    #[test]
    fn an_answer_for_other_documents_is_none() {
        let answer: BulkAnswer = serde_json::from_value(json!({ "items": [] })).unwrap();
        assert!(answer.outcomes(1).unwrap_err().is_retryable());
        let odd: BulkAnswer = serde_json::from_value(json!({ "items": [item(1, "")] })).unwrap();
        assert!(odd.outcomes(1).unwrap_err().is_retryable());
    }
}
