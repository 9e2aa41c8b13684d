//! Cursors: where the next page of documents begins, opaque to clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dms_core::{DocumentId, FieldError, Sha256};
use uuid::Uuid;

const CHECK_BYTES: usize = 4;

/// The cursor of the page after document `id`.
pub fn encode(id: DocumentId) -> String {
    let id = id.as_uuid().into_bytes();
    URL_SAFE_NO_PAD.encode([&id[..], &check(&id)].concat())
}

/// The document before the page.
///
/// # Errors
/// Refuses everything that [`encode`] didn't make.
pub fn decode(cursor: &str) -> Result<DocumentId, FieldError> {
    let refuse = || FieldError::new("cursor", "must be the next_cursor of an earlier answer");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refuse())?;
    let (id, checked) = bytes.split_first_chunk::<16>().ok_or_else(refuse)?;
    if checked != check(id) {
        return Err(refuse());
    }
    Ok(DocumentId::from_uuid(Uuid::from_bytes(*id)))
}

/// Tells cursors that were cut or altered; it isn't a secret.
fn check(id: &[u8; 16]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::of(&[b"documents", &id[..]].concat());
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest.as_bytes()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn broken_cursors_are_refused() {
        let good = encode(DocumentId::generate());
        let longer = format!("{good}A");
        let altered = format!("{}{}", if good.starts_with('A') { 'B' } else { 'A' }, &good[1..]);
        let padded = format!("{good}=");
        for bad in ["", "!", "AAAA", &good[1..], &good[..26], &longer, &altered, &padded] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_the_id(bytes: [u8; 16]) {
            let id = DocumentId::from_uuid(Uuid::from_bytes(bytes));
            let cursor = encode(id);
            prop_assert!(cursor.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)));
            prop_assert_eq!(decode(&cursor), Ok(id));
        }

        #[test]
        fn decoding_never_panics_and_only_takes_what_was_encoded(text in "\\PC{0,40}") {
            if let Ok(id) = decode(&text) {
                prop_assert_eq!(encode(id), text);
            }
        }
    }
}
