//! Documents on the wire, in both directions.

use dms_core::model::timestamp;
use dms_core::{Document, Error, Result};
use prost_types::Timestamp;
use time::OffsetDateTime;

use super::proto::DocumentResponse;

/// The message for a document.
pub(super) fn response_of(document: &Document) -> DocumentResponse {
    DocumentResponse {
        id: document.id.to_string(),
        title: document.title.clone(),
        status: document.status.as_str().to_owned(),
        content_type: document.content_type.clone(),
        content_size: i64::try_from(document.content_size).unwrap_or(i64::MAX),
        s3_key: document.s3_key.clone(),
        created_by: document.created_by.clone(),
        created_at: Some(timestamp_of(document.created_at)),
        updated_at: Some(timestamp_of(document.updated_at)),
        version: document.version,
        content_sha256: document.content_sha256.to_string(),
    }
}

/// The document in a message.
///
/// # Errors
/// `Internal` if it isn't one: the two sides don't speak the same protocol.
pub(super) fn document_of(response: DocumentResponse) -> Result<Document> {
    let unreadable = |cause: Error| {
        Error::internal("the document service sent a document that can't be read")
            .with_source(cause)
    };
    Ok(Document {
        id: response.id.parse().map_err(unreadable)?,
        title: response.title,
        content_type: response.content_type,
        content_size: u64::try_from(response.content_size)
            .map_err(|e| unreadable(Error::malformed("negative content_size").with_source(e)))?,
        content_sha256: response.content_sha256.parse().map_err(unreadable)?,
        s3_key: response.s3_key,
        status: response.status.parse().map_err(unreadable)?,
        created_by: response.created_by,
        created_at: date_time_of(response.created_at).map_err(unreadable)?,
        updated_at: date_time_of(response.updated_at).map_err(unreadable)?,
        version: response.version,
    })
}

fn timestamp_of(at: OffsetDateTime) -> Timestamp {
    // Less than 10⁹, so it always fits.
    let nanos = i32::try_from(at.nanosecond()).unwrap_or_default();
    Timestamp { seconds: at.unix_timestamp(), nanos }
}

fn date_time_of(at: Option<Timestamp>) -> Result<OffsetDateTime> {
    let out_of_range = || Error::malformed("timestamp missing or out of range");
    let at = at.ok_or_else(out_of_range)?;
    let nanos = u32::try_from(at.nanos).map_err(|e| out_of_range().with_source(e))?;
    OffsetDateTime::from_unix_timestamp(at.seconds)
        .and_then(|seconds| seconds.replace_nanosecond(nanos))
        .map(timestamp::truncate)
        .map_err(|e| out_of_range().with_source(e))
}

#[cfg(test)]
mod tests {
    use dms_core::{DocumentId, DocumentStatus, Sha256};
    use proptest::prelude::*;

    use super::*;

    fn document() -> impl Strategy<Value = Document> {
        let micros = -62_135_596_800_000_000_i64..253_402_300_799_000_000;
        (any::<[u8; 16]>(), ".{1,40}", 0..1_u64 << 40, 0..3_usize, micros, 1..i32::MAX).prop_map(
            |(id, text, size, status, micros, version)| Document {
                id: DocumentId::from_uuid(uuid::Uuid::from_bytes(id)),
                title: text.clone(),
                content_type: "text/plain".into(),
                content_size: size,
                content_sha256: Sha256::of(text.as_bytes()),
                s3_key: "key".into(),
                status: DocumentStatus::ALL[status],
                created_by: text,
                created_at: timestamp::from_unix_micros(micros).unwrap(),
                updated_at: timestamp::from_unix_micros(micros).unwrap(),
                version,
            },
        )
    }

    proptest! {
        #[test]
        fn a_document_survives_the_wire(document in document()) {
            prop_assert_eq!(document_of(response_of(&document)).unwrap(), document);
        }

        #[test]
        fn hostile_timestamps_are_refused(seconds: i64, nanos: i32) {
            // Whatever comes, it is read or refused.
            let _ = date_time_of(Some(Timestamp { seconds, nanos }));
        }
    }

    #[test]
    fn a_message_that_is_no_document_is_refused() {
        let good = response_of(&Document {
            id: DocumentId::generate(),
            title: "t".into(),
            content_type: "text/plain".into(),
            content_size: 1,
            content_sha256: Sha256::of(b"x"),
            s3_key: "k".into(),
            status: DocumentStatus::Created,
            created_by: "ann".into(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            version: 1,
        });
        let spoilt = [
            DocumentResponse { id: "no".into(), ..good.clone() },
            DocumentResponse { status: "lost".into(), ..good.clone() },
            DocumentResponse { content_size: -1, ..good.clone() },
            DocumentResponse { content_sha256: String::new(), ..good.clone() },
            DocumentResponse { created_at: None, ..good.clone() },
            DocumentResponse {
                updated_at: Some(Timestamp { seconds: 0, nanos: -1 }),
                ..good.clone()
            },
        ];
        assert!(document_of(good).is_ok());
        for response in spoilt {
            assert!(document_of(response).is_err());
        }
    }
}
