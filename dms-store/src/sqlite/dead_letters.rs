//! Dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use dms_core::model::change::Position;
use dms_core::model::timestamp;
use dms_core::ports::{DeadLetter, DeadLetterRepository};
use dms_core::{Error, Result};
use sqlx::{QueryBuilder, Sqlite, query, query_as, query_scalar};

use super::database::Shared;
use super::error::from_sqlx;
use super::writer::Failure;
use crate::sql::unreadable;

/// Letters stored in one statement.
const PUT_BATCH: usize = 64;

/// Dead letters in `SQLite`. Cheap to clone.
#[derive(Clone)]
pub struct SqliteDeadLetterRepository {
    shared: Arc<Shared>,
}

impl SqliteDeadLetterRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl DeadLetterRepository for SqliteDeadLetterRepository {
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()> {
        for letters in letters.chunks(PUT_BATCH) {
            let letters = letters.to_vec();
            let bytes = letters.iter().map(|letter| letter.raw.len() + letter.reason.len()).sum();
            self.shared
                .writer
                .write(bytes, move |connection| {
                    Box::pin(async move {
                        let mut insert: QueryBuilder<Sqlite> = QueryBuilder::new(
                            "INSERT INTO dead_letters
                                (consumer, position, key, raw, reason, created_at) ",
                        );
                        insert.push_values(letters, |mut row, letter| {
                            row.push_bind(letter.consumer)
                                .push_bind(letter.position.as_str().to_owned())
                                .push_bind(letter.key)
                                .push_bind(letter.raw)
                                .push_bind(letter.reason)
                                .push_bind(timestamp::format(letter.created_at));
                        });
                        insert.push(" ON CONFLICT (consumer, position) DO NOTHING");
                        insert.build().persistent(false).execute(connection).await?;
                        Ok::<_, Failure>(())
                    })
                })
                .await?;
        }
        Ok(())
    }

    async fn list(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        type Row = (String, String, Option<String>, Vec<u8>, String, String);
        let rows: Vec<Row> = query_as(
            "SELECT consumer, position, key, raw, reason, created_at FROM dead_letters
            WHERE consumer = $1 ORDER BY seq LIMIT $2 + 0",
        )
        .bind(consumer.to_owned())
        .bind(limit)
        .fetch_all(&self.shared.reads)
        .await
        .map_err(from_sqlx)?;
        rows.into_iter()
            .map(|(consumer, position, key, raw, reason, created_at)| {
                Ok(DeadLetter {
                    consumer,
                    position: Position::new(position),
                    key,
                    raw,
                    reason,
                    created_at: timestamp::parse(&created_at)
                        .map_err(|e| unreadable("time of a dead letter", e))?,
                })
            })
            .collect()
    }

    async fn count(&self, consumer: &str) -> Result<u64> {
        let count: i64 = query_scalar("SELECT count(*) FROM dead_letters WHERE consumer = $1")
            .bind(consumer.to_owned())
            .fetch_one(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        u64::try_from(count).map_err(|e| Error::internal("count out of range").with_source(e))
    }

    async fn remove(&self, consumer: &str, position: &Position) -> Result<bool> {
        let consumer = consumer.to_owned();
        let position = position.as_str().to_owned();
        self.shared
            .writer
            .write(0, move |connection| {
                Box::pin(async move {
                    let removed =
                        query("DELETE FROM dead_letters WHERE consumer = $1 AND position = $2")
                            .bind(consumer)
                            .bind(position)
                            .execute(connection)
                            .await?;
                    Ok::<_, Failure>(removed.rows_affected() > 0)
                })
            })
            .await
    }
}
