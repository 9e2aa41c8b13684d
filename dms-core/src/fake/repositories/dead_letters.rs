//! Dead letters in memory.

use async_trait::async_trait;

use super::InMemoryDatabase;
use crate::Result;
use crate::model::change::Position;
use crate::model::timestamp;
use crate::ports::{DeadLetter, DeadLetterRepository};

/// Dead letters in an [`InMemoryDatabase`].
#[derive(Debug, Clone)]
pub struct InMemoryDeadLetterRepository {
    database: InMemoryDatabase,
}

impl InMemoryDeadLetterRepository {
    pub(super) fn new(database: InMemoryDatabase) -> Self {
        Self { database }
    }
}

#[async_trait]
impl DeadLetterRepository for InMemoryDeadLetterRepository {
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()> {
        let mut state = self.database.lock();
        for letter in letters {
            let known = state.letters.iter().any(|known| {
                known.consumer == letter.consumer && known.position == letter.position
            });
            if !known {
                let created_at = timestamp::truncate(letter.created_at);
                state.letters.push(DeadLetter { created_at, ..letter.clone() });
            }
        }
        Ok(())
    }

    async fn list(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        let state = self.database.lock();
        Ok(state
            .letters
            .iter()
            .filter(|letter| letter.consumer == consumer)
            .take(limit as usize)
            .cloned()
            .collect())
    }

    async fn count(&self, consumer: &str) -> Result<u64> {
        let state = self.database.lock();
        Ok(state.letters.iter().map(|letter| u64::from(letter.consumer == consumer)).sum())
    }

    async fn remove(&self, consumer: &str, position: &Position) -> Result<bool> {
        let mut state = self.database.lock();
        let before = state.letters.len();
        state.letters.retain(|letter| letter.consumer != consumer || letter.position != *position);
        Ok(state.letters.len() < before)
    }
}
