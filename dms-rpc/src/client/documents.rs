//! Calls about documents.

use std::ops::RangeBounds;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use dms_core::use_cases::CreateDocument;
use dms_core::{Document, DocumentId, DocumentStatus};
use futures_util::Stream;
use futures_util::stream::{TryStreamExt as _, iter, try_unfold};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, RANGE};
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, StatusCode};

use super::content::range_header;
use super::transport::{Repeat, answered, etag, idempotency, read_json};
use super::{ClientError, ClientResult, DmsClient, DownloadContent, UploadContent};
use crate::types::{
    ContentEncoding, CreateDocumentBody, DocumentListBody, PatchDocumentBody, StatsBody,
};

/// Which documents to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentQuery {
    /// How many on a page, 1–100; 20 if none.
    pub limit: Option<u32>,
    /// Where to begin: [`DocumentListBody::next_cursor`] of the page before.
    pub cursor: Option<String>,
    /// Only those with this status.
    pub status: Option<DocumentStatus>,
    /// Only those of this creator.
    pub created_by: Option<String>,
}

impl DocumentQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
            ("status", self.status.map(|status| status.to_string())),
            ("created_by", self.created_by.clone()),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl DmsClient {
    /// Creates a document of content in memory, sent as JSON.
    ///
    /// The same key and request give the same document again, for at least 24 hours; without a key
    /// the client makes one up, under which it repeats the request itself.
    ///
    /// # Errors
    /// Status 422 for fields that aren't acceptable or a key used for another request, 413 for
    /// content that is too large.
    pub async fn create_document(
        &self,
        fields: &CreateDocument,
        content: impl Into<Bytes>,
        idempotency_key: Option<&str>,
    ) -> ClientResult<Document> {
        let content = content.into();
        let (content, content_encoding) = match str::from_utf8(&content) {
            Ok(text) => (text.to_owned(), None),
            Err(_) => (BASE64.encode(&content), Some(ContentEncoding::Base64)),
        };
        let body = CreateDocumentBody {
            title: fields.title.clone(),
            content,
            created_by: fields.created_by.clone(),
            content_type: fields.content_type.clone(),
            content_encoding,
        };
        let (name, key) = idempotency(idempotency_key)?;
        self.json(Repeat::Safely, || {
            self.request(Method::POST, &["documents"])
                .timeout(self.inner.transfer_timeout)
                .header(name, &key)
                .json(&body)
        })
        .await
    }

    /// Creates a document of content from anywhere, sent as it is read.
    ///
    /// Keys as with [`create_document`](Self::create_document); a reader or stream is read once, so
    /// such an upload isn't repeated.
    ///
    /// # Errors
    /// As [`create_document`](Self::create_document); [`ClientError::Content`] if the content can't
    /// be read.
    pub async fn upload_document(
        &self,
        fields: &CreateDocument,
        content: UploadContent,
        idempotency_key: Option<&str>,
    ) -> ClientResult<Document> {
        let (name, key) = idempotency(idempotency_key)?;
        let content_type = fields.content_type.as_deref().map(HeaderValue::from_str);
        let content_type = content_type.transpose().map_err(ClientError::request)?;
        let (content, content_type, key) = (&content, &content_type, &key);
        let attempt = || async {
            let mut part = content.part().await?.file_name("content");
            if let Some(content_type) = content_type {
                part = part.headers(HeaderMap::from_iter([(CONTENT_TYPE, content_type.clone())]));
            }
            let form = Form::new()
                .text("title", fields.title.clone())
                .text("created_by", fields.created_by.clone())
                .part("file", part);
            let request = self
                .request(Method::POST, &["documents"])
                .timeout(self.inner.transfer_timeout)
                .header(name, key)
                .multipart(form);
            read_json(answered(request).await?).await
        };
        self.repeated(content.repeat(), attempt).await
    }

    /// Reads a document. Counts a view.
    ///
    /// # Errors
    /// Status 404 if there is none.
    pub async fn document(&self, id: DocumentId) -> ClientResult<Document> {
        self.json(Repeat::Safely, || self.get(&["documents", &id.to_string()])).await
    }

    /// Reads a document unless it is still at `version`.
    ///
    /// # Errors
    /// Status 404 if there is none.
    pub async fn document_if_changed(
        &self,
        id: DocumentId,
        version: i32,
    ) -> ClientResult<Option<Document>> {
        let id = id.to_string();
        let (id, etag) = (&id, &etag(version));
        let attempt = || async {
            let request = self.get(&["documents", id]).header(IF_NONE_MATCH, etag);
            let response = answered(request).await?;
            if response.status() == StatusCode::NOT_MODIFIED {
                return Ok(None);
            }
            read_json(response).await.map(Some)
        };
        self.repeated(Repeat::Safely, attempt).await
    }

    /// One page of documents, newest first.
    ///
    /// # Errors
    /// Status 422 for a limit out of bounds, 400 for a cursor that isn't one.
    pub async fn list_documents(&self, query: &DocumentQuery) -> ClientResult<DocumentListBody> {
        let pairs = query.pairs();
        self.json(Repeat::Safely, || self.get(&["documents"]).query(&pairs)).await
    }

    /// All documents, newest first, read page by page as they are asked for.
    pub fn documents(
        &self,
        query: DocumentQuery,
    ) -> impl Stream<Item = ClientResult<Document>> + Send + use<> {
        let client = self.clone();
        let pages = try_unfold(Some(query), move |query| {
            let client = client.clone();
            async move {
                let Some(query) = query else { return Ok::<_, ClientError>(None) };
                let page = client.list_documents(&query).await?;
                let next =
                    page.next_cursor.map(|cursor| DocumentQuery { cursor: Some(cursor), ..query });
                Ok(Some((iter(page.documents.into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten()
    }

    /// Opens the content of a document, or the part of it within `range`; `..` for everything.
    ///
    /// # Errors
    /// Status 404 if there is none, 416 for a range that begins beyond the end.
    pub async fn content(
        &self,
        id: DocumentId,
        range: impl RangeBounds<u64>,
    ) -> ClientResult<DownloadContent> {
        let range = range_header(&range)?;
        let id = id.to_string();
        let make = || {
            let request = self.request(Method::GET, &["documents", &id, "content"]);
            match &range {
                Some(range) => request.header(RANGE, range),
                None => request,
            }
        };
        let response = self.open(Repeat::Safely, make).await?;
        Ok(DownloadContent::of(response, self.inner.idle_timeout))
    }

    /// Changes a document. With `if_version` only if it is at that version. Setting what already is
    /// changes nothing.
    ///
    /// # Errors
    /// Status 404, 422; 412 with [`Problem::current_version`](super::Problem::current_version).
    pub async fn update_document(
        &self,
        id: DocumentId,
        patch: &PatchDocumentBody,
        if_version: Option<i32>,
    ) -> ClientResult<Document> {
        let make = || self.write(Method::PATCH, id, if_version).json(patch);
        self.json(Repeat::Unsent, make).await
    }

    /// Deletes a document. With `if_version` only if it is at that version.
    ///
    /// # Errors
    /// As [`update_document`](Self::update_document).
    pub async fn delete_document(
        &self,
        id: DocumentId,
        if_version: Option<i32>,
    ) -> ClientResult<()> {
        let make = || self.write(Method::DELETE, id, if_version);
        self.open(Repeat::Unsent, make).await.map(drop)
    }

    fn write(&self, method: Method, id: DocumentId, if_version: Option<i32>) -> RequestBuilder {
        let request = self
            .request(method, &["documents", &id.to_string()])
            .timeout(self.inner.request_timeout);
        match if_version {
            Some(version) => request.header(IF_MATCH, etag(version)),
            None => request,
        }
    }

    /// How often a document was viewed.
    ///
    /// # Errors
    /// Status 404 if there is none.
    pub async fn stats(&self, id: DocumentId) -> ClientResult<StatsBody> {
        self.json(Repeat::Safely, || self.get(&["documents", &id.to_string(), "stats"])).await
    }
}
