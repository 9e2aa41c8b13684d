//! Documents in memory.

use std::collections::HashSet;

use async_trait::async_trait;

use super::idempotency::KeyState;
use super::{InMemoryDatabase, State};
use crate::model::change::{DocumentRow, Operation, RowChange};
use crate::model::text::TextKey;
use crate::ports::{DocumentRepository, IdempotencyRecord, Updated};
use crate::{
    Document, DocumentId, DocumentPage, DocumentPatch, DocumentStatus, Error, ErrorKind, ListQuery,
    NewDocument, Result,
};

/// Documents in an [`InMemoryDatabase`].
#[derive(Debug, Clone)]
pub struct InMemoryDocumentRepository {
    database: InMemoryDatabase,
}

impl InMemoryDocumentRepository {
    pub(super) fn new(database: InMemoryDatabase) -> Self {
        Self { database }
    }
}

impl State {
    fn live(&self, id: DocumentId, expected_version: Option<i32>) -> Result<Document> {
        let document = self
            .documents
            .get(&id)
            .cloned()
            .and_then(DocumentRow::into_document)
            .ok_or_else(|| Error::not_found("document", id))?;
        match expected_version {
            Some(expected) if expected != document.version => {
                Err(Error::version_mismatch(expected, document.version))
            }
            _ => Ok(document),
        }
    }

    fn replace(&mut self, after: DocumentRow) {
        let before = self.documents.insert(after.id, after.clone());
        let operation = if before.is_some() { Operation::Update } else { Operation::Create };
        let committed_at = after.updated_at;
        self.log(operation, RowChange::Document { before, after: Some(after) }, committed_at);
    }
}

#[async_trait]
impl DocumentRepository for InMemoryDocumentRepository {
    async fn create(
        &self,
        new: NewDocument,
        text: Option<(TextKey, String)>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Document> {
        let now = self.database.now();
        let mut state = self.database.lock();
        state.refuse_completed(idempotency.as_ref())?;
        if state.documents.contains_key(&new.id) {
            return Err(Error::new(ErrorKind::Conflict, "there is a document with this id")
                .with_code("already_exists"));
        }
        let document = Document {
            id: new.id,
            title: new.title,
            content_type: new.content_type,
            content_size: new.content_size,
            content_sha256: new.content_sha256,
            s3_key: new.s3_key,
            status: DocumentStatus::Created,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        if let Some(record) = idempotency {
            let first_answer = serde_json::to_value(&document)
                .map_err(|e| Error::internal("document can't be written").with_source(e))?;
            state.complete(record, document.id.as_uuid(), first_answer, now);
        }
        if let Some((key, text)) = text {
            state.texts.entry(key).or_insert(text);
        }
        state.replace(document.clone().into());
        Ok(document)
    }

    async fn get(&self, id: DocumentId) -> Result<Document> {
        self.database.lock().live(id, None)
    }

    async fn list(&self, query: &ListQuery) -> Result<DocumentPage> {
        let limit = query.limit.clamp(1, 100) as usize;
        let mut documents: Vec<Document> = self
            .database
            .lock()
            .documents
            .values()
            .rev()
            .filter(|row| query.before.is_none_or(|before| row.id < before))
            .filter(|row| query.status.is_none_or(|status| row.status == status))
            .filter(|row| query.created_by.as_ref().is_none_or(|by| row.created_by == *by))
            .cloned()
            .filter_map(DocumentRow::into_document)
            .take(limit + 1)
            .collect();
        let more = documents.len() > limit;
        documents.truncate(limit);
        let next = if more { documents.last().map(|document| document.id) } else { None };
        Ok(DocumentPage { documents, next })
    }

    async fn update(
        &self,
        id: DocumentId,
        patch: &DocumentPatch,
        expected_version: Option<i32>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Updated> {
        let now = self.database.now();
        let mut state = self.database.lock();
        if let Some(record) = &idempotency
            && let Some(KeyState::Completed { request_sha256, .. }) = state.keys.get(&record.key)
        {
            if *request_sha256 != record.request_sha256 {
                return Err(Error::invalid("Idempotency-Key", "was used for another request")
                    .with_code("idempotency_key_reused"));
            }
            return Ok(Updated { document: state.live(id, None)?, changed: false });
        }
        let mut document = state.live(id, expected_version)?;
        let changed = !patch.is_noop_for(&document);
        if let Some(record) = idempotency {
            state.complete(record, id.as_uuid(), serde_json::Value::Null, now);
        }
        if changed {
            document.status = patch.status.unwrap_or(document.status);
            document.title = patch.title.clone().unwrap_or(document.title);
            document.updated_at = now;
            document.version += 1;
            state.replace(document.clone().into());
        }
        Ok(Updated { document, changed })
    }

    async fn delete(&self, id: DocumentId, expected_version: Option<i32>) -> Result<i32> {
        let now = self.database.now();
        let mut state = self.database.lock();
        let document = state.live(id, expected_version)?;
        let version = document.version + 1;
        let row = DocumentRow::from(document);
        state.replace(DocumentRow { updated_at: now, version, deleted: true, ..row });
        Ok(version)
    }

    async fn scan(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<DocumentRow>> {
        let state = self.database.lock();
        Ok(state
            .documents
            .values()
            .filter(|row| after.is_none_or(|after| row.id > after))
            .take(limit as usize)
            .cloned()
            .collect())
    }

    async fn referenced(&self, ids: &[DocumentId]) -> Result<HashSet<DocumentId>> {
        let state = self.database.lock();
        Ok(ids.iter().copied().filter(|id| state.documents.contains_key(id)).collect())
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}
