//! What is kept of a document, as bytes: its version in ten digits, its rank in one, then the
//! document in JSON. So the first eleven bytes of two of them compare as the two do.

use std::sync::Arc;

use dms_core::{Document, DocumentId};

use crate::cache::Entry;

/// Version and rank.
const HEADER_BYTES: usize = 11;

/// Bytes of an entry.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    // There are no versions below 1.
    let mut bytes = format!("{:010}{}", entry.version().max(0), entry.rank()).into_bytes();
    if let Entry::Live(document) = entry {
        let written = serde_json::to_writer(&mut bytes, document);
        debug_assert!(written.is_ok(), "a document has nothing that JSON hasn't");
    }
    bytes
}

/// The entry, unless the bytes are something else, or another document's.
pub(super) fn decode(id: DocumentId, bytes: &[u8]) -> Option<Entry> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let (version, rank) = std::str::from_utf8(header).ok()?.split_at_checked(HEADER_BYTES - 1)?;
    if !version.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let version = version.parse().ok()?;
    match (rank, body) {
        ("0", b"") => Some(Entry::AtLeast(version)),
        ("1", body) => {
            let document: Document = serde_json::from_slice(body).ok()?;
            let fits = document.id == id && document.version == version;
            fits.then(|| Entry::Live(Arc::new(document)))
        }
        ("2", b"") => Some(Entry::Deleted(version)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use dms_core::{DocumentStatus, Sha256};
    use proptest::prelude::*;

    use super::*;

    fn document(id: DocumentId, version: i32) -> Entry {
        Entry::Live(Arc::new(Document {
            id,
            title: "a \"title\"\nof ä".to_owned(),
            content_type: "text/plain".to_owned(),
            content_size: u64::from(u32::MAX) + 7,
            content_sha256: Sha256::of(b"x"),
            s3_key: Document::content_key(id),
            status: DocumentStatus::Signed,
            created_by: "jane".to_owned(),
            created_at: std::time::SystemTime::UNIX_EPOCH.into(),
            updated_at: std::time::SystemTime::UNIX_EPOCH.into(),
            version,
        }))
    }

    fn entries(id: DocumentId) -> impl Strategy<Value = Entry> {
        let version = prop_oneof![Just(0), Just(1), Just(9), Just(10), 0..i32::MAX, Just(i32::MAX)];
        (version, 0..3).prop_map(move |(version, rank)| match rank {
            0 => Entry::AtLeast(version),
            1 => document(id, version),
            _ => Entry::Deleted(version),
        })
    }

    proptest! {
        #[test]
        fn entries_come_back_and_their_headers_compare_as_they_do(
            [one, other] in { let id = DocumentId::generate(); [entries(id), entries(id)] }
        ) {
            let id = match (&one, &other) {
                (Entry::Live(document), _) | (_, Entry::Live(document)) => document.id,
                _ => DocumentId::generate(),
            };
            let (a, b) = (encode(&one), encode(&other));
            prop_assert_eq!(decode(id, &a), Some(one.clone()));
            prop_assert_eq!(
                a[..HEADER_BYTES].cmp(&b[..HEADER_BYTES]),
                (one.version(), one.rank()).cmp(&(other.version(), other.rank()))
            );
        }

        #[test]
        fn anything_else_is_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let id = DocumentId::generate();
            prop_assert!(matches!(decode(id, &bytes), None | Some(Entry::AtLeast(_) | Entry::Deleted(_))));
            bytes.splice(0..0, *b"00000000011");
            prop_assert_eq!(decode(id, &bytes), None);
        }
    }

    #[test]
    fn another_documents_bytes_are_nothing() {
        let bytes = encode(&document(DocumentId::generate(), 3));
        assert_eq!(decode(DocumentId::generate(), &bytes), None);
    }
}
