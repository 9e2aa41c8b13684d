//! Forms that create documents (RFC 7578), their file streamed into the store.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use dms_core::ports::ByteStream;
use dms_core::use_cases::{CreateDocument, Created, Documents, Intake};
use dms_core::validate::{self, Refusals};
use dms_core::{Caller, Document, Error, Result};
use futures_util::stream::{Stream, StreamExt as _};
use multer::{Field, Multipart};

/// Longest field but the file, in bytes: more than any of them may have in characters.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// How much may come before a part begins, headers included.
const BETWEEN_PARTS_BYTES_MAX: i64 = 64 << 10;

/// A form on its way in.
pub(super) struct Form {
    parts: Multipart<'static>,
    allowance: Arc<AtomicI64>,
}

impl Form {
    /// Reads the form in `body`.
    ///
    /// # Errors
    /// `Malformed` if the headers give no boundary.
    pub(super) fn new(headers: &HeaderMap, body: ByteStream) -> Result<Self> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(content_type.unwrap_or_default())
            .map_err(|e| Error::malformed("the form has no boundary").with_source(e))?;
        let allowance = Arc::new(AtomicI64::new(BETWEEN_PARTS_BYTES_MAX));
        let body = Paced { inner: body, allowance: Arc::clone(&allowance), pause: false };
        Ok(Self { parts: Multipart::new(body, boundary), allowance })
    }

    async fn next_part(&mut self) -> Result<Option<Field<'static>>> {
        self.allowance.store(BETWEEN_PARTS_BYTES_MAX, Ordering::Relaxed);
        let part = self.parts.next_field().await.map_err(unreadable)?;
        self.allowance.store(i64::MAX, Ordering::Relaxed);
        Ok(part)
    }
}

/// Creates a document from a form whose parts come in any order.
///
/// # Errors
/// As [`Documents::create`]; `Invalid` for parts that are unknown, missing or there twice;
/// `Malformed` for a form that can't be read or breaks off. Nothing is left behind then.
pub(super) async fn create_from_form(
    documents: &Documents,
    caller: &Caller,
    form: Form,
    idempotency_key: Option<&str>,
) -> Result<Created<Document>> {
    let mut intake = documents.begin(caller, idempotency_key).await?;
    match receive(&mut intake, form).await {
        Ok(request) => intake.finish(request).await,
        Err(error) => {
            intake.abort().await;
            Err(error)
        }
    }
}

#[derive(Default)]
struct Fields {
    title: Option<String>,
    created_by: Option<String>,
    content_type: Option<String>,
}

impl Fields {
    /// Refuses what can be refused before the file is stored.
    fn check(&self) -> Result<()> {
        let mut refusals = Refusals::default();
        if let Some(title) = &self.title {
            refusals.take(validate::title(title));
        }
        if let Some(created_by) = &self.created_by {
            refusals.take(validate::created_by(created_by));
        }
        if let Some(content_type) = &self.content_type {
            refusals.take(validate::content_type(content_type));
        }
        refusals.finish()
    }
}

async fn receive(intake: &mut Intake, mut form: Form) -> Result<CreateDocument> {
    let mut fields = Fields::default();
    let mut file_type = None;
    while let Some(part) = form.next_part().await? {
        let name = part.name().unwrap_or_default().to_owned();
        let slot = match name.as_str() {
            "file" => {
                if file_type.is_some() {
                    return Err(twice(&name));
                }
                fields.check()?;
                let declared = part.headers().get(header::CONTENT_TYPE);
                file_type = Some(declared.and_then(|v| v.to_str().ok()).map(str::to_owned));
                intake.receive(FileContent(Some(part)).boxed()).await?;
                continue;
            }
            "title" => &mut fields.title,
            "created_by" => &mut fields.created_by,
            "content_type" => &mut fields.content_type,
            _ => return Err(unknown(&name)),
        };
        if slot.is_some() {
            return Err(twice(&name));
        }
        *slot = Some(text(&name, part).await?);
    }
    let mut refusals = Refusals::default();
    let missing = |name: &str| dms_core::FieldError::new(name, "must be given");
    let title = refusals.take(fields.title.ok_or_else(|| missing("title")));
    let created_by = refusals.take(fields.created_by.ok_or_else(|| missing("created_by")));
    let file_type = refusals.take(file_type.ok_or_else(|| missing("file")));
    refusals.finish()?;
    Ok(CreateDocument {
        title: title.unwrap_or_default(),
        created_by: created_by.unwrap_or_default(),
        content_type: fields.content_type.or(file_type.flatten()),
    })
}

async fn text(name: &str, mut part: Field<'static>) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(unreadable)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(Error::invalid(name, "is too long"));
        }
    }
    String::from_utf8(bytes).map_err(|e| Error::invalid(name, "must be UTF-8").with_source(e))
}

fn twice(name: &str) -> Error {
    Error::invalid(name, "must be there once")
}

fn unknown(name: &str) -> Error {
    const ACCEPTED: &str = "must be one of title, created_by, content_type, file";
    match name {
        "" => Error::invalid("name of a part", ACCEPTED),
        name => Error::invalid(name.chars().take(100).collect::<String>(), ACCEPTED),
    }
}

/// Our own error if the body ended with one, else the form's.
fn unreadable(error: multer::Error) -> Error {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(cause) => Error::malformed("the form broke off").with_source(cause),
        },
        multer::Error::IncompleteStream
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteFieldData { .. } => {
            Error::malformed("the form is incomplete").with_source(error)
        }
        error => Error::malformed("the form can't be read").with_source(error),
    }
}

/// The file's bytes. The part is let go of where it ends, because the next one can't begin before.
struct FileContent(Option<Field<'static>>);

impl Stream for FileContent {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(part) = &mut self.0 else { return Poll::Ready(None) };
        Poll::Ready(match ready!(part.poll_next_unpin(cx)) {
            Some(Ok(chunk)) => Some(Ok(chunk)),
            Some(Err(error)) => {
                self.0 = None;
                Some(Err(unreadable(error)))
            }
            None => {
                self.0 = None;
                None
            }
        })
    }
}

/// Gives one chunk at a time. The parser takes everything that is ready before it passes anything
/// on, and searches all of it again with each chunk; a pause after each chunk, and a bound where it
/// searches, keep both small.
struct Paced {
    inner: ByteStream,
    allowance: Arc<AtomicI64>,
    pause: bool,
}

impl Stream for Paced {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = ready!(self.inner.poll_next_unpin(cx));
        if let Some(Ok(chunk)) = &chunk {
            let taken = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
            if self.allowance.fetch_sub(taken, Ordering::Relaxed) <= 0 {
                return Poll::Ready(Some(Err(Error::malformed("a part doesn't begin"))));
            }
            self.pause = true;
        }
        Poll::Ready(chunk)
    }
}
