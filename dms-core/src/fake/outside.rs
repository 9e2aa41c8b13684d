//! A clock that is set by hand, tokens from a list, documents of a pretended other service.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::model::timestamp;
use crate::ports::{Clock, DocumentClient, TokenVerifier};
use crate::{
    Caller, Claims, Document, DocumentId, DocumentStatus, Error, ErrorKind, Result, SignatureId,
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that stands still until it is set or advanced.
#[derive(Debug)]
pub struct ManualClock(Mutex<OffsetDateTime>);

impl ManualClock {
    /// A clock that shows `now`, to the microsecond.
    pub fn new(now: OffsetDateTime) -> Self {
        Self(Mutex::new(timestamp::truncate(now)))
    }

    /// A clock that shows `seconds` since 1970, or 1970 itself if there is no such date.
    pub fn at_unix(seconds: i64) -> Self {
        Self::new(
            OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        )
    }

    /// Sets the time, backwards too.
    pub fn set(&self, now: OffsetDateTime) {
        *lock(&self.0) = timestamp::truncate(now);
    }

    /// Moves the time forward; stays where it is if no date is that late.
    pub fn advance(&self, by: Duration) {
        let mut now = lock(&self.0);
        let later = time::Duration::try_from(by).ok().and_then(|by| now.checked_add(by));
        *now = later.map_or(*now, timestamp::truncate);
    }
}

impl Default for ManualClock {
    /// A clock that shows 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at_unix(1_767_225_600)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *lock(&self.0)
    }
}

/// Accepts the tokens it was told of, whatever the time; every other one is `token_invalid`.
#[derive(Default)]
pub struct StaticTokenVerifier(Mutex<HashMap<String, Result<Claims, &'static str>>>);

impl StaticTokenVerifier {
    /// Knows no tokens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts `token` from now on.
    pub fn accept(&self, token: impl Into<String>, claims: Claims) {
        lock(&self.0).insert(token.into(), Ok(claims));
    }

    /// Accepts `token` for `subject`, until the year 2100.
    pub fn accept_subject(&self, token: impl Into<String>, subject: impl Into<String>) {
        let claims = Claims {
            sub: subject.into(),
            exp: 4_102_444_800,
            email: None,
            other: serde_json::Map::new(),
        };
        self.accept(token, claims);
    }

    /// Refuses `token` as expired from now on.
    pub fn expire(&self, token: impl Into<String>) {
        lock(&self.0).insert(token.into(), Err("token_expired"));
    }
}

impl fmt::Debug for StaticTokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokenVerifier").field("tokens", &lock(&self.0).len()).finish()
    }
}

#[async_trait]
impl TokenVerifier for StaticTokenVerifier {
    async fn verify(&self, token: &str) -> Result<Claims> {
        let refuse = |code| Error::new(ErrorKind::Unauthenticated, "token refused").with_code(code);
        match lock(&self.0).get(token) {
            Some(Ok(claims)) => Ok(claims.clone()),
            Some(Err(code)) => Err(refuse(code)),
            None => Err(refuse("token_invalid")),
        }
    }
}

/// A call that an [`InMemoryDocumentClient`] received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentCall {
    /// [`DocumentClient::get`].
    Get(DocumentId),
    /// [`DocumentClient::mark_signed`].
    MarkSigned(DocumentId, SignatureId),
}

/// A fault that an [`InMemoryDocumentClient`] shows for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentFault {
    /// The call doesn't arrive: `Unavailable`, nothing happened.
    Unreachable,
    /// The call takes effect, its answer is lost: `Timeout`.
    ReplyLost,
}

#[derive(Debug, Default)]
struct DocumentService {
    documents: HashMap<DocumentId, Document>,
    told_of: HashSet<SignatureId>,
    /// What the next calls show; those that are let through too.
    script: VecDeque<Option<DocumentFault>>,
    calls: Vec<DocumentCall>,
}

/// The document service as signing sees it, with faults on demand.
#[derive(Debug, Default)]
pub struct InMemoryDocumentClient(Mutex<DocumentService>);

impl InMemoryDocumentClient {
    /// Has no documents yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a document, or replaces it.
    pub fn put(&self, document: Document) {
        lock(&self.0).documents.insert(document.id, document);
    }

    /// Removes a document; false if there was none.
    pub fn remove(&self, id: DocumentId) -> bool {
        lock(&self.0).documents.remove(&id).is_some()
    }

    /// The document as it is now.
    pub fn document(&self, id: DocumentId) -> Option<Document> {
        lock(&self.0).documents.get(&id).cloned()
    }

    /// Shows `fault` for the next `calls` calls, after those that were spoken for before.
    pub fn fail_next(&self, calls: usize, fault: DocumentFault) {
        lock(&self.0).script.extend(std::iter::repeat_n(Some(fault), calls));
    }

    /// Lets the next `calls` calls through, after those that were spoken for before.
    pub fn pass_next(&self, calls: usize) {
        lock(&self.0).script.extend(std::iter::repeat_n(None, calls));
    }

    /// The calls received so far, failed ones too.
    pub fn calls(&self) -> Vec<DocumentCall> {
        lock(&self.0).calls.clone()
    }

    fn call<T>(
        &self,
        call: DocumentCall,
        effect: impl FnOnce(&mut DocumentService) -> Result<T>,
    ) -> Result<T> {
        let mut service = lock(&self.0);
        service.calls.push(call);
        match service.script.pop_front().flatten() {
            None => effect(&mut service),
            Some(DocumentFault::Unreachable) => {
                Err(Error::unavailable("document-service", "document service unreachable"))
            }
            Some(DocumentFault::ReplyLost) => {
                // What came of the call is just what the caller doesn't learn.
                drop(effect(&mut service));
                Err(Error::new(ErrorKind::Timeout, "document service didn't answer in time"))
            }
        }
    }
}

#[async_trait]
impl DocumentClient for InMemoryDocumentClient {
    async fn get(&self, _caller: &Caller, id: DocumentId) -> Result<Document> {
        self.call(DocumentCall::Get(id), |service| service.live(id).cloned())
    }

    async fn mark_signed(
        &self,
        _caller: &Caller,
        id: DocumentId,
        signature: SignatureId,
    ) -> Result<Document> {
        self.call(DocumentCall::MarkSigned(id, signature), |service| {
            service.live(id)?;
            let first = service.told_of.insert(signature);
            let document = service.live(id)?;
            if first && document.status != DocumentStatus::Signed {
                document.status = DocumentStatus::Signed;
                document.version += 1;
            }
            Ok(document.clone())
        })
    }
}

impl DocumentService {
    fn live(&mut self, id: DocumentId) -> Result<&mut Document> {
        self.documents.get_mut(&id).ok_or_else(|| Error::not_found("document", id))
    }
}
