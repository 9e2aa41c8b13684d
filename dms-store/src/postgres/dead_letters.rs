//! Dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use dms_core::model::change::Position;
use dms_core::ports::{DeadLetter, DeadLetterRepository};
use dms_core::{Error, Result};
use sqlx::query_as;
use time::OffsetDateTime;

use super::database::Shared;
use super::row::only;

/// Letters stored in one statement.
const PUT_BATCH: usize = 64;

/// Dead letters in `PostgreSQL`. Cheap to clone.
///
/// In keys and reasons, which are for people, U+0000 becomes U+FFFD; the raw record is kept as it is.
#[derive(Clone)]
pub struct PostgresDeadLetterRepository {
    shared: Arc<Shared>,
}

impl PostgresDeadLetterRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// Without what the type `text` can't hold: a letter must never be refused.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[async_trait]
impl DeadLetterRepository for PostgresDeadLetterRepository {
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()> {
        for letters in letters.chunks(PUT_BATCH) {
            let statement = query_as::<_, (i64,)>(
                "WITH put AS (
                    INSERT INTO dead_letters (consumer, position, key, raw, reason, created_at)
                    SELECT consumer, position, key, raw, reason, created_at
                    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[],
                        $6::timestamptz[])
                        WITH ORDINALITY
                        AS letter (consumer, position, key, raw, reason, created_at, place)
                    ORDER BY place
                    ON CONFLICT (consumer, position) DO NOTHING
                    RETURNING TRUE
                )
                SELECT count(*) FROM put",
            )
            .bind(letters.iter().map(|letter| letter.consumer.clone()).collect::<Vec<_>>())
            .bind(letters.iter().map(|l| l.position.as_str().to_owned()).collect::<Vec<_>>())
            .bind(letters.iter().map(|l| l.key.as_deref().map(storable)).collect::<Vec<_>>())
            .bind(letters.iter().map(|letter| letter.raw.clone()).collect::<Vec<_>>())
            .bind(letters.iter().map(|letter| storable(&letter.reason)).collect::<Vec<_>>())
            .bind(letters.iter().map(|letter| letter.created_at).collect::<Vec<_>>());
            self.shared.connections.write(statement).await?;
        }
        Ok(())
    }

    async fn list(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        type Row = (String, String, Option<String>, Vec<u8>, String, OffsetDateTime);
        let statement = query_as::<_, Row>(
            "SELECT consumer, position, key, raw, reason, created_at FROM dead_letters
            WHERE consumer = $1 ORDER BY seq LIMIT $2",
        )
        .bind(consumer.to_owned())
        .bind(i64::from(limit));
        let rows = self.shared.connections.read(statement).await?;
        let letter = |(consumer, position, key, raw, reason, created_at): Row| DeadLetter {
            consumer,
            position: Position::new(position),
            key,
            raw,
            reason,
            created_at,
        };
        Ok(rows.into_iter().map(letter).collect())
    }

    async fn count(&self, consumer: &str) -> Result<u64> {
        let statement =
            query_as::<_, (i64,)>("SELECT count(*) FROM dead_letters WHERE consumer = $1")
                .bind(consumer.to_owned());
        let (count,) = only(self.shared.connections.read(statement).await?)?;
        u64::try_from(count).map_err(|e| Error::internal("count out of range").with_source(e))
    }

    async fn remove(&self, consumer: &str, position: &Position) -> Result<bool> {
        let statement = query_as::<_, (i64,)>(
            "DELETE FROM dead_letters WHERE consumer = $1 AND position = $2 RETURNING seq",
        )
        .bind(consumer.to_owned())
        .bind(position.as_str().to_owned());
        Ok(!self.shared.connections.write(statement).await?.is_empty())
    }
}
