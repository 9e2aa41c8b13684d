//! Extracted texts.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use dms_core::model::text::TextKey;
use dms_core::ports::TextRepository;
use dms_core::{Error, Result};
use sqlx::{QueryBuilder, Sqlite, query_as};

use super::database::Shared;
use super::error::from_sqlx;
use super::writer::Failure;
use crate::sql::{format_named, unreadable};

/// Texts stored in one statement.
const PUT_BATCH: usize = 64;

/// Extracted texts in `SQLite`. Cheap to clone.
#[derive(Clone)]
pub struct SqliteTextRepository {
    shared: Arc<Shared>,
}

impl SqliteTextRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl TextRepository for SqliteTextRepository {
    async fn get_many(&self, keys: &[TextKey]) -> Result<HashMap<TextKey, String>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let pairs: Vec<_> =
            keys.iter().map(|key| (key.content_sha256, key.format.as_str())).collect();
        let pairs = serde_json::to_string(&pairs)
            .map_err(|e| Error::internal("keys can't be written").with_source(e))?;
        // CROSS JOIN keeps the order: each key is looked up once.
        let rows: Vec<(String, String, String)> = query_as(
            "SELECT content_sha256, format, text FROM json_each($1) AS wanted CROSS JOIN texts
            ON content_sha256 = wanted.value ->> 0 AND format = wanted.value ->> 1",
        )
        .bind(pairs)
        .fetch_all(&self.shared.reads)
        .await
        .map_err(from_sqlx)?;
        rows.into_iter()
            .map(|(content_sha256, format, text)| {
                let key = TextKey {
                    content_sha256: content_sha256.parse().map_err(|e| unreadable("digest", e))?,
                    format: format_named(&format)?,
                };
                Ok((key, text))
            })
            .collect()
    }

    async fn put_many(&self, texts: &[(TextKey, String)]) -> Result<()> {
        for texts in texts.chunks(PUT_BATCH) {
            let texts = texts.to_vec();
            let bytes = texts.iter().map(|(_, text)| text.len()).sum();
            self.shared
                .writer
                .write(bytes, move |connection| {
                    Box::pin(async move {
                        let mut insert: QueryBuilder<Sqlite> =
                            QueryBuilder::new("INSERT INTO texts (content_sha256, format, text) ");
                        insert.push_values(texts, |mut row, (key, text)| {
                            row.push_bind(key.content_sha256.to_string())
                                .push_bind(key.format.as_str())
                                .push_bind(text);
                        });
                        insert.push(" ON CONFLICT (content_sha256, format) DO NOTHING");
                        // Their number varies: not worth a place among the prepared statements.
                        insert.build().persistent(false).execute(connection).await?;
                        Ok::<_, Failure>(())
                    })
                })
                .await?;
        }
        Ok(())
    }
}
