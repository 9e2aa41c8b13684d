//! Extracted texts in memory.

use std::collections::HashMap;

use async_trait::async_trait;

use super::InMemoryDatabase;
use crate::Result;
use crate::model::text::TextKey;
use crate::ports::TextRepository;

/// Extracted texts in an [`InMemoryDatabase`].
#[derive(Debug, Clone)]
pub struct InMemoryTextRepository {
    database: InMemoryDatabase,
}

impl InMemoryTextRepository {
    pub(super) fn new(database: InMemoryDatabase) -> Self {
        Self { database }
    }
}

#[async_trait]
impl TextRepository for InMemoryTextRepository {
    async fn get_many(&self, keys: &[TextKey]) -> Result<HashMap<TextKey, String>> {
        let state = self.database.lock();
        Ok(keys
            .iter()
            .filter_map(|key| state.texts.get(key).map(|text| (*key, text.clone())))
            .collect())
    }

    async fn put_many(&self, texts: &[(TextKey, String)]) -> Result<()> {
        let mut state = self.database.lock();
        for (key, text) in texts {
            state.texts.entry(*key).or_insert_with(|| text.clone());
        }
        Ok(())
    }
}
