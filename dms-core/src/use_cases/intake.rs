//! One creation of a document, from the first byte of content to the row.

use crate::model::text::{TextFormat, TextKey, plain_text};
use crate::ports::{ByteStream, IdempotencyKey, IdempotencyRecord, Reservation};
use crate::use_cases::content::{Measured, drain, metered, request_digest};
use crate::validate::{self, Refusals};
use crate::{
    Caller, Document, DocumentId, Error, ErrorChain, ErrorKind, NewDocument, Result, Sha256,
};

use std::sync::Arc;
use std::time::Duration;

use super::{Created, Documents};

/// How long a key stays reserved for a request that died without a word.
const RESERVATION_LEASE: Duration = Duration::from_mins(1);

/// The fields of a new document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateDocument {
    /// Title.
    pub title: String,
    /// Creator.
    pub created_by: String,
    /// Media type of the content; `text/plain` if none.
    pub content_type: Option<String>,
}

impl CreateDocument {
    /// The fields, trimmed and within bounds.
    ///
    /// # Errors
    /// `Invalid`, naming every field that isn't acceptable.
    pub fn validated(self) -> Result<Self> {
        let mut refusals = Refusals::default();
        let title = refusals.take(validate::title(&self.title));
        let created_by = refusals.take(validate::created_by(&self.created_by));
        let content_type = self.content_type.as_deref().unwrap_or(validate::CONTENT_TYPE_DEFAULT);
        let content_type = refusals.take(validate::content_type(content_type));
        refusals.finish()?;
        Ok(Self {
            title: title.unwrap_or_default(),
            created_by: created_by.unwrap_or_default(),
            content_type,
        })
    }

    fn digest(&self, content: &Sha256) -> Sha256 {
        request_digest(&[
            self.title.as_bytes(),
            self.created_by.as_bytes(),
            self.content_type.as_deref().unwrap_or_default().as_bytes(),
            content.as_bytes(),
        ])
    }
}

/// A creation under way. If it is dropped, what it stored is swept later and its key lapses;
/// [`abort`](Self::abort) does both at once.
pub struct Intake {
    documents: Documents,
    id: DocumentId,
    key: Option<IdempotencyKey>,
    /// What an earlier request with the key did: then nothing is stored.
    earlier: Option<Earlier>,
    received: Option<Measured>,
    stored: bool,
}

struct Earlier {
    request_sha256: Sha256,
    first_answer: serde_json::Value,
}

impl Intake {
    pub(super) async fn begin(
        documents: Documents,
        caller: &Caller,
        idempotency_key: Option<&str>,
    ) -> Result<Self> {
        let mut intake = Self {
            documents,
            id: DocumentId::generate(),
            key: None,
            earlier: None,
            received: None,
            stored: false,
        };
        if let Some(key) = idempotency_key {
            let key = IdempotencyKey::new("documents", caller.subject(), key)?;
            match intake.documents.ports.idempotency.reserve(&key, RESERVATION_LEASE).await? {
                Reservation::Acquired => intake.key = Some(key),
                Reservation::Running => return Err(in_progress()),
                Reservation::Completed { request_sha256, first_answer, .. } => {
                    intake.earlier = Some(Earlier { request_sha256, first_answer });
                }
            }
        }
        Ok(intake)
    }

    /// Takes the content, once.
    ///
    /// # Errors
    /// `TooLarge`, `StorageFull`, `Unavailable`; whatever error the content ends with; `Malformed`
    /// the second time. Call [`abort`](Self::abort) then.
    pub async fn receive(&mut self, content: ByteStream) -> Result<()> {
        if self.received.is_some() {
            return Err(Error::malformed("the content was given twice"));
        }
        let limits = self.documents.limits;
        let (content, meter) = metered(content, limits.content_bytes_max, limits.text_bytes_max);
        if self.earlier.is_some() {
            drain(content).await?;
        } else {
            self.stored = true;
            self.documents.ports.blobs.put(&Document::content_key(self.id), content).await?;
        }
        self.received = Some(meter.measured());
        Ok(())
    }

    /// Inserts the row, or gives what an earlier request with the key made.
    ///
    /// # Errors
    /// As [`Documents::create`]. Nothing is left behind then.
    pub async fn finish(mut self, request: CreateDocument) -> Result<Created<Document>> {
        let created = self.try_finish(request).await;
        match &created {
            Ok(created) if !created.replayed => {
                let document = Arc::new(created.resource.clone());
                self.documents.ports.cache.put(document).await;
            }
            // After a timeout the row may be there: its content must stay, and the sweeper decides.
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            _ => self.abort().await,
        }
        created
    }

    async fn try_finish(&mut self, request: CreateDocument) -> Result<Created<Document>> {
        let request = request.validated()?;
        let received =
            self.received.take().ok_or_else(|| Error::invalid("content", "must be given"))?;
        let request_sha256 = request.digest(&received.sha256);
        if let Some(earlier) = self.earlier.take() {
            return replay(earlier, request_sha256);
        }
        let content_type = request.content_type.unwrap_or_default();
        let text = (TextFormat::of(&content_type) == Some(TextFormat::Plain)).then(|| {
            let key = TextKey { content_sha256: received.sha256, format: TextFormat::Plain };
            (key, plain_text(&received.head, self.documents.limits.text_bytes_max))
        });
        let document = NewDocument {
            id: self.id,
            title: request.title,
            content_type,
            content_size: received.size,
            content_sha256: received.sha256,
            s3_key: Document::content_key(self.id),
            created_by: request.created_by,
        };
        let idempotency = self.key.clone().map(|key| IdempotencyRecord { key, request_sha256 });
        match self.documents.ports.documents.create(document, text, idempotency).await {
            Ok(document) => Ok(Created { resource: document, replayed: false }),
            Err(error) if error.code() == "idempotency_key_completed" => {
                self.replay_of_other(request_sha256).await
            }
            Err(error) => Err(error),
        }
    }

    /// Our reservation had lapsed and another request with the key was faster.
    async fn replay_of_other(&self, request_sha256: Sha256) -> Result<Created<Document>> {
        let Some(key) = &self.key else { return Err(in_progress()) };
        match self.documents.ports.idempotency.reserve(key, RESERVATION_LEASE).await? {
            Reservation::Completed { request_sha256: theirs, first_answer, .. } => {
                replay(Earlier { request_sha256: theirs, first_answer }, request_sha256)
            }
            Reservation::Acquired | Reservation::Running => Err(in_progress()),
        }
    }

    /// Removes what was stored and gives the key back.
    pub async fn abort(&mut self) {
        let ports = &self.documents.ports;
        if std::mem::take(&mut self.stored)
            && let Err(error) = ports.blobs.delete(&Document::content_key(self.id)).await
        {
            tracing::warn!(document_id = %self.id, error = %ErrorChain(&error),
                "content left to the sweeper");
        }
        if let Some(key) = self.key.take()
            && let Err(error) = ports.idempotency.release(&key).await
        {
            tracing::warn!(error = %ErrorChain(&error), "idempotency key left to lapse");
        }
    }
}

fn replay(earlier: Earlier, request_sha256: Sha256) -> Result<Created<Document>> {
    if earlier.request_sha256 != request_sha256 {
        return Err(key_reused());
    }
    let document = serde_json::from_value(earlier.first_answer)
        .map_err(|e| Error::internal("kept answer can't be read").with_source(e))?;
    Ok(Created { resource: document, replayed: true })
}

/// Another request with the key is under way.
pub(super) fn in_progress() -> Error {
    Error::new(ErrorKind::Conflict, "a request with this Idempotency-Key is still running")
        .with_code("request_in_progress")
        .with_retry_after(Duration::from_secs(1))
}

/// The key was used for another request.
pub(super) fn key_reused() -> Error {
    Error::invalid("Idempotency-Key", "was used for another request")
        .with_code("idempotency_key_reused")
}
