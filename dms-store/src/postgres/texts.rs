//! Extracted texts.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use dms_core::Result;
use dms_core::model::text::TextKey;
use dms_core::ports::TextRepository;
use sqlx::query_as;

use super::database::Shared;
use crate::sql::{format_named, unreadable};

/// Texts stored in one statement, and their bytes.
const PUT_BATCH: usize = 64;
const PUT_BATCH_BYTES: usize = 4 << 20;

/// Extracted texts in `PostgreSQL`. Cheap to clone.
#[derive(Clone)]
pub struct PostgresTextRepository {
    shared: Arc<Shared>,
}

impl PostgresTextRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn put(&self, texts: &[&(TextKey, String)]) -> Result<()> {
        let digests: Vec<_> = texts.iter().map(|(key, _)| key.content_sha256.to_string()).collect();
        let formats: Vec<_> = texts.iter().map(|(key, _)| key.format.as_str()).collect();
        let texts: Vec<_> = texts.iter().map(|(_, text)| text.as_bytes().to_vec()).collect();
        let statement = query_as::<_, (i64,)>(
            "WITH put AS (
                INSERT INTO texts (content_sha256, format, text)
                SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
                ON CONFLICT (content_sha256, format) DO NOTHING
                RETURNING TRUE
            )
            SELECT count(*) FROM put",
        )
        .bind(digests)
        .bind(formats)
        .bind(texts);
        self.shared.connections.write(statement).await?;
        Ok(())
    }
}

#[async_trait]
impl TextRepository for PostgresTextRepository {
    async fn get_many(&self, keys: &[TextKey]) -> Result<HashMap<TextKey, String>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let digests: Vec<_> = keys.iter().map(|key| key.content_sha256.to_string()).collect();
        let formats: Vec<_> = keys.iter().map(|key| key.format.as_str()).collect();
        let statement = query_as::<_, (String, String, Vec<u8>)>(
            "SELECT content_sha256, format, text FROM texts
            WHERE (content_sha256, format) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        )
        .bind(digests)
        .bind(formats);
        let rows = self.shared.connections.read(statement).await?;
        rows.into_iter()
            .map(|(digest, format, text)| {
                let key = TextKey {
                    content_sha256: digest.parse().map_err(|e| unreadable("digest", e))?,
                    format: format_named(&format)?,
                };
                let text = String::from_utf8(text).map_err(|e| unreadable("text", e))?;
                Ok((key, text))
            })
            .collect()
    }

    async fn put_many(&self, texts: &[(TextKey, String)]) -> Result<()> {
        // In one order everywhere, so that two of these never wait for each other.
        let mut sorted: Vec<_> = texts.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        let mut rest = sorted.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take(PUT_BATCH).take_while(|(_, text)| {
                bytes += text.len();
                bytes <= PUT_BATCH_BYTES
            });
            let (batch, after) = rest.split_at(fitting.count().max(1));
            self.put(batch).await?;
            rest = after;
        }
        Ok(())
    }
}
