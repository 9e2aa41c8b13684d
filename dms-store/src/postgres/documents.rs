//! Documents.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use dms_core::model::change::DocumentRow;
use dms_core::model::text::TextKey;
use dms_core::ports::{DocumentRepository, IdempotencyRecord, Updated};
use dms_core::{
    Document, DocumentId, DocumentPage, DocumentPatch, DocumentStatus, Error, ListQuery,
    NewDocument, Result,
};
use sqlx::query_as;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::PostgresIdempotencyRepository;
use super::connections::Statement;
use super::database::Shared;
use super::error::Failure;
use super::row::{ChangedDocument, StoredDocument, document_columns};
use crate::sql::{DATABASE, already_exists, completed_meanwhile, key_reused, live_at, page};

/// How often a write is tried that others overtake between two statements.
const ATTEMPTS_MAX: usize = 8;

/// Documents in `PostgreSQL`. Cheap to clone.
#[derive(Clone)]
pub struct PostgresDocumentRepository {
    shared: Arc<Shared>,
}

impl PostgresDocumentRepository {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The row as of the last committed write, deleted or not.
    async fn row(&self, id: DocumentId) -> Result<Option<DocumentRow>> {
        const ROW: &str = concat!("SELECT ", document_columns!(), " FROM documents WHERE id = $1");
        let rows = self.shared.connections.read(query_as(ROW).bind(id.as_uuid())).await?;
        Ok(first(rows))
    }

    /// What an update comes to that changed nothing; none if it should be tried again.
    async fn unchanged(&self, update: &Update) -> Result<Option<Document>> {
        if let Some(record) = &update.idempotency {
            let keys = PostgresIdempotencyRepository::new(Arc::clone(&self.shared));
            match keys.completed_by(&record.key).await? {
                Some(digest) if digest == record.request_sha256 => {
                    return live_at(self.row(update.id).await?, update.id, None).map(Some);
                }
                Some(_) => return Err(key_reused()),
                None => {}
            }
        }
        let document = live_at(self.row(update.id).await?, update.id, update.expected_version)?;
        // With a key, what is as asked is found by the statement itself.
        let as_asked = update.idempotency.is_none() && update.patch.is_noop_for(&document);
        Ok(as_asked.then_some(document))
    }
}

fn first(rows: Vec<StoredDocument>) -> Option<DocumentRow> {
    rows.into_iter().next().map(|StoredDocument(row)| row)
}

/// The live document that a statement gave.
fn given(row: DocumentRow) -> Result<Document> {
    row.into_document().ok_or_else(|| Error::internal("deleted document among live ones"))
}

fn overtaken() -> Error {
    Error::unavailable(DATABASE, "document changes too fast")
}

#[async_trait]
impl DocumentRepository for PostgresDocumentRepository {
    async fn create(
        &self,
        new: NewDocument,
        text: Option<(TextKey, String)>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Document> {
        let statement = insert(new, text, idempotency.as_ref())?;
        let rows =
            self.shared.connections.write(statement).await.map_err(
                |failure: Failure| match failure.constraint() {
                    Some("documents_pkey") => already_exists("document"),
                    _ => failure.into(),
                },
            )?;
        given(first(rows).ok_or_else(completed_meanwhile)?)
    }

    async fn get(&self, id: DocumentId) -> Result<Document> {
        live_at(self.row(id).await?, id, None)
    }

    async fn list(&self, query: &ListQuery) -> Result<DocumentPage> {
        let limit = query.limit.clamp(1, 100);
        let rows = match &self.shared.replica {
            Some(replica) => replica.read(|| list(query, limit), &self.shared.connections).await?,
            None => self.shared.connections.read(list(query, limit)).await?,
        };
        let documents =
            rows.into_iter().map(|StoredDocument(row)| given(row)).collect::<Result<Vec<_>>>()?;
        Ok(page(documents, limit))
    }

    async fn update(
        &self,
        id: DocumentId,
        patch: &DocumentPatch,
        expected_version: Option<i32>,
        idempotency: Option<IdempotencyRecord>,
    ) -> Result<Updated> {
        let update = Update { id, patch: patch.clone(), expected_version, idempotency };
        for _ in 0..ATTEMPTS_MAX {
            let rows = self.shared.connections.write(update.statement()).await?;
            if let Some(ChangedDocument { row, changed }) = rows.into_iter().next() {
                return Ok(Updated { document: given(row)?, changed });
            }
            if let Some(document) = self.unchanged(&update).await? {
                return Ok(Updated { document, changed: false });
            }
        }
        Err(overtaken())
    }

    async fn delete(&self, id: DocumentId, expected_version: Option<i32>) -> Result<i32> {
        const DELETE: &str = "UPDATE documents SET deleted_at = clock_timestamp()
            WHERE id = $1 AND deleted_at IS NULL AND ($2 IS NULL OR version = $2)
            RETURNING version";
        for _ in 0..ATTEMPTS_MAX {
            let statement = query_as::<_, (i32,)>(DELETE).bind(id.as_uuid()).bind(expected_version);
            if let Some((version,)) = self.shared.connections.write(statement).await?.first() {
                return Ok(*version);
            }
            live_at(self.row(id).await?, id, expected_version)?;
        }
        Err(overtaken())
    }

    async fn scan(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<DocumentRow>> {
        const SCAN: &str = concat!(
            "SELECT ",
            document_columns!(),
            " FROM documents WHERE id > $1 ORDER BY id LIMIT $2"
        );
        let statement = query_as::<_, StoredDocument>(SCAN)
            .bind(after.map_or(Uuid::nil(), |id| id.as_uuid()))
            .bind(i64::from(limit));
        let rows = self.shared.connections.read(statement).await?;
        Ok(rows.into_iter().map(|StoredDocument(row)| row).collect())
    }

    async fn referenced(&self, ids: &[DocumentId]) -> Result<HashSet<DocumentId>> {
        let ids: Vec<_> = ids.iter().map(DocumentId::as_uuid).collect();
        let statement =
            query_as::<_, (Uuid,)>("SELECT id FROM documents WHERE id = ANY($1)").bind(ids);
        let found = self.shared.connections.read(statement).await?;
        Ok(found.into_iter().map(|(id,)| DocumentId::from_uuid(id)).collect())
    }

    async fn check(&self) -> Result<()> {
        let statement = query_as::<_, (bool,)>("SELECT EXISTS (SELECT FROM documents)");
        self.shared.connections.read(statement).await?;
        Ok(())
    }
}

fn insert(
    new: NewDocument,
    text: Option<(TextKey, String)>,
    idempotency: Option<&IdempotencyRecord>,
) -> Result<Statement<StoredDocument>> {
    const INSERT: &str = concat!(
        "INSERT INTO documents
            (id, title, content_type, content_size, content_sha256, s3_key, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        RETURNING ",
        document_columns!()
    );
    const INSERT_WITH_KEY_OR_TEXT: &str = concat!(
        "WITH completed AS (
            INSERT INTO idempotency_keys AS held
                (scope, key, request_sha256, resource_id, first_answer, completed_at)
            SELECT $11, $12, $13, $1,
                $14 || jsonb_build_object('created_at', created_at, 'updated_at', created_at),
                now()
            FROM (SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
                AS times (created_at)
            WHERE $11 IS NOT NULL
            ON CONFLICT (scope, key) DO UPDATE SET
                holder = NULL, held_until = NULL, request_sha256 = excluded.request_sha256,
                resource_id = excluded.resource_id, first_answer = excluded.first_answer,
                completed_at = excluded.completed_at
                WHERE held.completed_at IS NULL
            RETURNING TRUE
        ), kept AS (
            INSERT INTO texts (content_sha256, format, text)
            SELECT $8, $9, $10
            WHERE $10 IS NOT NULL AND ($11 IS NULL OR EXISTS (SELECT FROM completed))
            ON CONFLICT (content_sha256, format) DO NOTHING
        )
        INSERT INTO documents
            (id, title, content_type, content_size, content_sha256, s3_key, created_by)
        SELECT $1, $2, $3, $4, $5, $6, $7
        WHERE $11 IS NULL OR EXISTS (SELECT FROM completed)
        RETURNING ",
        document_columns!()
    );

    let bare = text.is_none() && idempotency.is_none();
    let content_size = i64::try_from(new.content_size)
        .map_err(|e| Error::internal("content size out of range").with_source(e))?;
    let first_answer = match idempotency {
        Some(_) => Some(Json(first_answer(&new)?)),
        None => None,
    };
    let statement = query_as(if bare { INSERT } else { INSERT_WITH_KEY_OR_TEXT })
        .bind(new.id.as_uuid())
        .bind(new.title)
        .bind(new.content_type)
        .bind(content_size)
        .bind(new.content_sha256.to_string())
        .bind(new.s3_key)
        .bind(new.created_by);
    if bare {
        return Ok(statement);
    }
    let (text_key, text) = text.unzip();
    Ok(statement
        .bind(text_key.map(|key| key.content_sha256.to_string()))
        .bind(text_key.map(|key| key.format.as_str()))
        .bind(text.map(String::into_bytes))
        .bind(idempotency.map(|record| record.key.scope().to_owned()))
        .bind(idempotency.map(|record| record.key.key().to_owned()))
        .bind(idempotency.map(|record| record.request_sha256.to_string()))
        .bind(first_answer))
}

/// The document as it is answered first, but for its times, which the database puts in.
fn first_answer(new: &NewDocument) -> Result<serde_json::Value> {
    let document = Document {
        id: new.id,
        title: new.title.clone(),
        content_type: new.content_type.clone(),
        content_size: new.content_size,
        content_sha256: new.content_sha256,
        s3_key: new.s3_key.clone(),
        status: DocumentStatus::Created,
        created_by: new.created_by.clone(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version: 1,
    };
    serde_json::to_value(document)
        .map_err(|e| Error::internal("document can't be written").with_source(e))
}

/// A page as one more than it holds, newest first.
fn list(query: &ListQuery, limit: u32) -> Statement<StoredDocument> {
    const LIST: &str = concat!(
        "SELECT ",
        document_columns!(),
        " FROM documents WHERE deleted_at IS NULL AND id < $1 ORDER BY id DESC LIMIT $2"
    );
    const LIST_BY_STATUS: &str = concat!(
        "SELECT ",
        document_columns!(),
        " FROM documents WHERE deleted_at IS NULL AND status = $3 AND id < $1
        ORDER BY id DESC LIMIT $2"
    );
    const LIST_BY_CREATOR_AND_STATUS: &str = concat!(
        "SELECT ",
        document_columns!(),
        " FROM documents
        WHERE deleted_at IS NULL AND created_by = $3 AND status = $4 AND id < $1
        ORDER BY id DESC LIMIT $2"
    );
    // One range of the index for each status, merged.
    const LIST_BY_CREATOR: &str = concat!(
        "SELECT ",
        document_columns!(),
        " FROM (
            (SELECT * FROM documents
             WHERE deleted_at IS NULL AND created_by = $3 AND status = 'created' AND id < $1
             ORDER BY id DESC LIMIT $2)
            UNION ALL
            (SELECT * FROM documents
             WHERE deleted_at IS NULL AND created_by = $3 AND status = 'viewed' AND id < $1
             ORDER BY id DESC LIMIT $2)
            UNION ALL
            (SELECT * FROM documents
             WHERE deleted_at IS NULL AND created_by = $3 AND status = 'signed' AND id < $1
             ORDER BY id DESC LIMIT $2)
        ) AS documents
        ORDER BY id DESC LIMIT $2"
    );

    let status = query.status.map(DocumentStatus::as_str);
    let from = |sql| {
        query_as(sql)
            .bind(query.before.map_or(Uuid::max(), |id| id.as_uuid()))
            .bind(i64::from(limit) + 1)
    };
    match (status, query.created_by.clone()) {
        (None, None) => from(LIST),
        (Some(status), None) => from(LIST_BY_STATUS).bind(status),
        (None, Some(created_by)) => from(LIST_BY_CREATOR).bind(created_by),
        (Some(status), Some(created_by)) => {
            from(LIST_BY_CREATOR_AND_STATUS).bind(created_by).bind(status)
        }
    }
}

struct Update {
    id: DocumentId,
    patch: DocumentPatch,
    expected_version: Option<i32>,
    idempotency: Option<IdempotencyRecord>,
}

impl Update {
    /// Gives the document if it was changed, and with a key also if it is as asked.
    fn statement(&self) -> Statement<ChangedDocument> {
        const UPDATE: &str = concat!(
            "UPDATE documents SET status = coalesce($2, status), title = coalesce($3, title)
            WHERE id = $1 AND deleted_at IS NULL AND ($4 IS NULL OR version = $4)
                AND (status <> $2 OR title <> $3)
            RETURNING ",
            document_columns!(),
            ", TRUE"
        );
        // The row is locked first: what is compared with the patch is then the newest version, and
        // the key is completed only if there is one to complete it with.
        const UPDATE_ONCE: &str = concat!(
            "WITH target AS MATERIALIZED (
                SELECT * FROM documents
                WHERE id = $1 AND deleted_at IS NULL AND ($4 IS NULL OR version = $4)
                FOR NO KEY UPDATE
            ), completed AS (
                INSERT INTO idempotency_keys AS held
                    (scope, key, request_sha256, resource_id, completed_at)
                SELECT $5, $6, $7, id, now() FROM target
                ON CONFLICT (scope, key) DO UPDATE SET
                    holder = NULL, held_until = NULL, request_sha256 = excluded.request_sha256,
                    resource_id = excluded.resource_id, completed_at = excluded.completed_at
                    WHERE held.completed_at IS NULL
                RETURNING resource_id
            ), changed AS (
                UPDATE documents AS d
                SET status = coalesce($2, d.status), title = coalesce($3, d.title)
                FROM target, completed
                WHERE d.id = target.id AND d.id = completed.resource_id
                    AND (target.status <> $2 OR target.title <> $3)
                RETURNING d.*
            )
            SELECT ",
            document_columns!(),
            ", TRUE FROM changed
            UNION ALL
            SELECT ",
            document_columns!("target."),
            ", FALSE FROM target, completed WHERE NOT EXISTS (SELECT FROM changed)"
        );

        let statement = query_as(if self.idempotency.is_some() { UPDATE_ONCE } else { UPDATE })
            .bind(self.id.as_uuid())
            .bind(self.patch.status.map(DocumentStatus::as_str))
            .bind(self.patch.title.clone())
            .bind(self.expected_version);
        match &self.idempotency {
            None => statement,
            Some(record) => statement
                .bind(record.key.scope().to_owned())
                .bind(record.key.key().to_owned())
                .bind(record.request_sha256.to_string()),
        }
    }
}
