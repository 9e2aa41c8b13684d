//! Documents.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use dms_core::model::change::DocumentRow;
use dms_core::model::text::TextKey;
use dms_core::model::timestamp;
use dms_core::ports::{DocumentRepository, IdempotencyRecord, Updated};
use dms_core::{
    Document, DocumentId, DocumentPage, DocumentPatch, DocumentStatus, Error, ListQuery,
    NewDocument, Result,
};
use sqlx::{SqliteConnection, query, query_as, query_scalar};

use super::database::Shared;
use super::error::{from_sqlx, refusal};
use super::idempotency::is_completed_key;
use super::row::{document_json, document_row, live_documents};
use super::writer::Failure;
use crate::sql::{already_exists, completed_meanwhile, key_reused, live_at, page, unreadable};

/// Greater than every id.
const BEYOND_IDS: &str = "g";

/// A page as one text, so that it crosses from `SQLite`'s thread once.
macro_rules! list_sql {
    ($rows:literal) => {
        concat!(
            "SELECT group_concat(row, char(10)) FROM (SELECT ",
            document_json!(),
            " AS row FROM ",
            $rows,
            " LIMIT $2 + 0)"
        )
    };
}

const LIST: &str = list_sql!(
    "documents INDEXED BY documents_live
     WHERE deleted_at IS NULL AND id < $1
     ORDER BY id DESC"
);

const LIST_BY_STATUS: &str = list_sql!(
    "documents INDEXED BY documents_live_by_status
     WHERE deleted_at IS NULL AND status = $3 AND id < $1
     ORDER BY id DESC"
);

const LIST_BY_CREATOR_AND_STATUS: &str = list_sql!(
    "documents INDEXED BY documents_live_by_creator
     WHERE deleted_at IS NULL AND created_by = $4 AND status = $3 AND id < $1
     ORDER BY id DESC"
);

/// `SQLite` merges the three ranges of the index and stops at the limit.
const LIST_BY_CREATOR: &str = list_sql!(
    "(SELECT * FROM documents INDEXED BY documents_live_by_creator
      WHERE deleted_at IS NULL AND created_by = $4 AND status = 'created' AND id < $1
      UNION ALL
      SELECT * FROM documents INDEXED BY documents_live_by_creator
      WHERE deleted_at IS NULL AND created_by = $4 AND status = 'viewed' AND id < $1
      UNION ALL
      SELECT * FROM documents INDEXED BY documents_live_by_creator
      WHERE deleted_at IS NULL AND created_by = $4 AND status = 'signed' AND id < $1
      ORDER BY id DESC)"
);

/// Documents in `SQLite`. Cheap to clone.
#[derive(Clone)]
pub struct SqliteDocumentRepository {
    shared: Arc<Shared>,
}

impl SqliteDocumentRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn read_page(&self, query: &ListQuery) -> Result<DocumentPage> {
        let sql = match (&query.status, &query.created_by) {
            (None, None) => LIST,
            (Some(_), None) => LIST_BY_STATUS,
            (None, Some(_)) => LIST_BY_CREATOR,
            (Some(_), Some(_)) => LIST_BY_CREATOR_AND_STATUS,
        };
        let lines: Option<String> = query_scalar(sql)
            .bind(query.before.map_or_else(|| BEYOND_IDS.to_owned(), |id| id.to_string()))
            .bind(query.limit + 1)
            .bind(query.status.map(DocumentStatus::as_str))
            .bind(query.created_by.clone())
            .fetch_one(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        let mut documents = live_documents(lines.as_deref().unwrap_or_default())?;
        // An aggregate doesn't promise to take its rows in order.
        documents.sort_unstable_by_key(|document| std::cmp::Reverse(document.id));
        Ok(page(documents, query.limit))
    }
}

#[async_trait]
impl DocumentRepository for SqliteDocumentRepository {
    async fn create(
        &self,
        new: NewDocument,
        text: Option<(TextKey, String)>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Document> {
        let now = self.shared.now();
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
        let key = idempotency.as_ref().map(|record| record.key.clone());
        let text_bytes = text.as_ref().map_or(0, |(_, text)| text.len());
        let document = self
            .shared
            .writer
            .write(text_bytes, move |connection| {
                Box::pin(insert(connection, document, text, idempotency))
            })
            .await?;
        if let Some(key) = key {
            self.shared.reservations.forget(&key);
        }
        Ok(document)
    }

    async fn get(&self, id: DocumentId) -> Result<Document> {
        const GET: &str = concat!(
            "SELECT ",
            document_json!(),
            " FROM documents WHERE id = $1 AND deleted_at IS NULL"
        );
        let row: Option<String> = query_scalar(GET)
            .bind(id.to_string())
            .fetch_optional(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        live_row_at(row.as_deref(), id, None)
    }

    async fn list(&self, query: &ListQuery) -> Result<DocumentPage> {
        let query = ListQuery { limit: query.limit.clamp(1, 100), ..query.clone() };
        self.shared.pages.get(&query, self.read_page(&query)).await
    }

    async fn update(
        &self,
        id: DocumentId,
        patch: &DocumentPatch,
        expected_version: Option<i32>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Updated> {
        let key = idempotency.as_ref().map(|record| record.key.clone());
        let update = Update {
            id,
            patch: patch.clone(),
            expected_version,
            now: timestamp::format(self.shared.now()),
            idempotency,
        };
        let updated =
            self.shared.writer.write(0, move |connection| Box::pin(update.run(connection))).await?;
        if let Some(key) = key {
            self.shared.reservations.forget(&key);
        }
        Ok(updated)
    }

    async fn delete(&self, id: DocumentId, expected_version: Option<i32>) -> Result<i32> {
        let now = timestamp::format(self.shared.now());
        self.shared
            .writer
            .write(0, move |connection| Box::pin(delete(connection, id, expected_version, now)))
            .await
    }

    async fn scan(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<DocumentRow>> {
        const SCAN: &str = concat!(
            "SELECT ",
            document_json!(),
            " FROM documents WHERE id > $1 ORDER BY id LIMIT $2 + 0"
        );
        let rows: Vec<String> = query_scalar(SCAN)
            .bind(after.map_or_else(String::new, |id| id.to_string()))
            .bind(limit)
            .fetch_all(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        rows.iter().map(|row| document_row(row)).collect()
    }

    async fn referenced(&self, ids: &[DocumentId]) -> Result<HashSet<DocumentId>> {
        let ids = serde_json::to_string(ids).map_err(|e| unreadable("ids", e))?;
        let found: Vec<String> =
            query_scalar("SELECT id FROM documents WHERE id IN (SELECT value FROM json_each($1))")
                .bind(ids)
                .fetch_all(&self.shared.reads)
                .await
                .map_err(from_sqlx)?;
        found.iter().map(|id| id.parse().map_err(|e| unreadable("document id", e))).collect()
    }

    async fn check(&self) -> Result<()> {
        self.shared.writer.check()?;
        query("SELECT 1 FROM documents LIMIT 1")
            .fetch_optional(&self.shared.reads)
            .await
            .map_err(from_sqlx)?;
        Ok(())
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    document: Document,
    text: Option<(TextKey, String)>,
    idempotency: Option<IdempotencyRecord>,
) -> Result<Document, Failure> {
    const INSERT: &str = "INSERT INTO documents
            (id, title, content_type, content_size, content_sha256, s3_key, created_by,
             created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    const INSERT_WITH_KEY_OR_TEXT: &str = "INSERT INTO document_intake
            (id, title, content_type, content_size, content_sha256, s3_key, created_by,
             created_at, text_sha256, text_format, text, key_scope, key, request_sha256,
             first_answer)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

    let bare = text.is_none() && idempotency.is_none();
    let content_size = i64::try_from(document.content_size)
        .map_err(|e| Error::internal("content size out of range").with_source(e))?;
    let mut insert = query(if bare { INSERT } else { INSERT_WITH_KEY_OR_TEXT })
        .bind(document.id.to_string())
        .bind(document.title.clone())
        .bind(document.content_type.clone())
        .bind(content_size)
        .bind(document.content_sha256.to_string())
        .bind(document.s3_key.clone())
        .bind(document.created_by.clone())
        .bind(timestamp::format(document.created_at));
    if !bare {
        let (text_key, text) = text.unzip();
        let first_answer = match &idempotency {
            Some(_) => Some(
                serde_json::to_string(&document)
                    .map_err(|e| Error::internal("document can't be written").with_source(e))?,
            ),
            None => None,
        };
        insert = insert
            .bind(text_key.map(|key| key.content_sha256.to_string()))
            .bind(text_key.map(|key| key.format.as_str()))
            .bind(text)
            .bind(idempotency.as_ref().map(|record| record.key.scope().to_owned()))
            .bind(idempotency.as_ref().map(|record| record.key.key().to_owned()))
            .bind(idempotency.as_ref().map(|record| record.request_sha256.to_string()))
            .bind(first_answer);
    }
    match insert.execute(connection).await {
        Ok(_) => Ok(document),
        Err(error) => Err(match refusal(&error) {
            Some("documents.already_exists") => already_exists("document").into(),
            Some(message) if is_completed_key(message) => completed_meanwhile().into(),
            _ => error.into(),
        }),
    }
}

/// [`live_at`] of a row in JSON.
fn live_row_at(
    row: Option<&str>,
    id: DocumentId,
    expected_version: Option<i32>,
) -> Result<Document> {
    live_at(row.map(document_row).transpose()?, id, expected_version)
}

struct Update {
    id: DocumentId,
    patch: DocumentPatch,
    expected_version: Option<i32>,
    now: String,
    idempotency: Option<IdempotencyRecord>,
}

impl Update {
    /// One statement if the document changes and there is no key.
    async fn run(self, connection: &mut SqliteConnection) -> Result<Updated, Failure> {
        const UPDATE: &str = concat!(
            "UPDATE documents
            SET status = coalesce($2, status), title = coalesce($3, title), updated_at = $4,
                version = version + 1
            WHERE id = $1 AND deleted_at IS NULL
                AND ($5 IS NULL OR version = $5)
                AND (status <> $2 OR title <> $3)
                AND NOT EXISTS (SELECT 1 FROM idempotency_keys WHERE scope = $6 AND key = $7)
            RETURNING ",
            document_json!()
        );
        let changed: Option<String> = query_scalar(UPDATE)
            .bind(self.id.to_string())
            .bind(self.patch.status.map(DocumentStatus::as_str))
            .bind(self.patch.title.clone())
            .bind(self.now.clone())
            .bind(self.expected_version)
            .bind(self.idempotency.as_ref().map(|record| record.key.scope().to_owned()))
            .bind(self.idempotency.as_ref().map(|record| record.key.key().to_owned()))
            .fetch_optional(&mut *connection)
            .await?;
        let updated = match changed {
            Some(row) => {
                Updated { document: live_row_at(Some(&row), self.id, None)?, changed: true }
            }
            None => match self.unchanged(&mut *connection).await? {
                Unchanged::Repeated(document) => return Ok(Updated { document, changed: false }),
                Unchanged::AsAsked(document) => Updated { document, changed: false },
            },
        };
        if let Some(record) = &self.idempotency {
            query(
                "INSERT INTO idempotency_keys
                    (scope, key, request_sha256, resource_id, completed_at)
                VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(record.key.scope().to_owned())
            .bind(record.key.key().to_owned())
            .bind(record.request_sha256.to_string())
            .bind(self.id.to_string())
            .bind(self.now)
            .execute(connection)
            .await
            .map_err(Failure::Broken)?;
        }
        Ok(updated)
    }

    /// Why nothing changed.
    async fn unchanged(&self, connection: &mut SqliteConnection) -> Result<Unchanged, Failure> {
        const STATE: &str = concat!(
            "SELECT
                (SELECT request_sha256 FROM idempotency_keys WHERE scope = $2 AND key = $3),
                (SELECT ",
            document_json!(),
            " FROM documents WHERE id = $1)"
        );
        let (completed_by, row): (Option<String>, Option<String>) = query_as(STATE)
            .bind(self.id.to_string())
            .bind(self.idempotency.as_ref().map(|record| record.key.scope().to_owned()))
            .bind(self.idempotency.as_ref().map(|record| record.key.key().to_owned()))
            .fetch_one(connection)
            .await?;
        match (&self.idempotency, completed_by) {
            (Some(record), Some(digest)) if record.request_sha256.to_string() == digest => {
                Ok(Unchanged::Repeated(live_row_at(row.as_deref(), self.id, None)?))
            }
            (_, Some(_)) => Err(key_reused().into()),
            (_, None) => {
                Ok(Unchanged::AsAsked(live_row_at(row.as_deref(), self.id, self.expected_version)?))
            }
        }
    }
}

enum Unchanged {
    /// The key was completed by the same request before.
    Repeated(Document),
    /// Everything already was as asked.
    AsAsked(Document),
}

async fn delete(
    connection: &mut SqliteConnection,
    id: DocumentId,
    expected_version: Option<i32>,
    now: String,
) -> Result<i32, Failure> {
    const DELETE: &str = "UPDATE documents
        SET deleted_at = $2, updated_at = $2, version = version + 1
        WHERE id = $1 AND deleted_at IS NULL AND ($3 IS NULL OR version = $3)
        RETURNING version";
    const ROW: &str = concat!("SELECT ", document_json!(), " FROM documents WHERE id = $1");

    let deleted: Option<i32> = query_scalar(DELETE)
        .bind(id.to_string())
        .bind(now)
        .bind(expected_version)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(version) = deleted {
        return Ok(version);
    }
    let row: Option<String> =
        query_scalar(ROW).bind(id.to_string()).fetch_optional(connection).await?;
    live_row_at(row.as_deref(), id, expected_version)?;
    Err(Error::internal("live document not deleted").into())
}
