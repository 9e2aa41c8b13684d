//! Live updates as server-sent events.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use dms_core::{DocumentId, Frame};
use futures_util::{Stream, StreamExt as _};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};

use super::sse::{Parser, RawEvent};
use super::transport::Repeat;
use super::{ClientError, ClientResult, DmsClient, DownloadContent};

const EVENT_STREAM: &str = "text/event-stream";

/// A frame and the id to go on after.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveEvent {
    /// The version of the document, to be given when connecting again.
    pub id: Option<String>,
    /// What happened.
    pub frame: Frame,
}

/// Events of one document as they come. Ends after an error, and when the server ends it; connect
/// again with the last id to go on.
pub struct EventStream {
    /// None once it has ended.
    content: Option<DownloadContent>,
    parser: Parser,
    ready: VecDeque<RawEvent>,
}

impl DmsClient {
    /// Opens a stream of events of a document; with `last_event_id` it goes on after that one.
    ///
    /// # Errors
    /// Status 401 for a bad token, 404 if there is no such document.
    pub async fn events(
        &self,
        id: DocumentId,
        last_event_id: Option<&str>,
    ) -> ClientResult<EventStream> {
        let id = id.to_string();
        let last = last_event_id.map(HeaderValue::from_str).transpose();
        let last = last.map_err(ClientError::request)?;
        let make = || {
            let request = self
                .request(Method::GET, &["documents", &id, "events"])
                .header(ACCEPT, EVENT_STREAM);
            match &last {
                Some(last) => request.header("last-event-id", last),
                None => request,
            }
        };
        let response = self.open(Repeat::Safely, make).await?;
        let content = DownloadContent::of(response, self.inner.idle_timeout);
        if !content.content_type.starts_with(EVENT_STREAM) {
            return Err(ClientError::unreadable("the answer isn't an event stream"));
        }
        Ok(EventStream {
            content: Some(content),
            parser: Parser::after(last_event_id.map(str::to_owned)),
            ready: VecDeque::new(),
        })
    }
}

impl EventStream {
    fn receive(&mut self, bytes: &Bytes) -> ClientResult<()> {
        let Self { parser, ready, .. } = self;
        parser
            .feed(bytes, |event| ready.push_back(event))
            .map_err(|_| ClientError::unreadable("event too large"))
    }

    fn end(&mut self, error: ClientError) -> Poll<Option<ClientResult<LiveEvent>>> {
        self.content = None;
        self.ready.clear();
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for EventStream {
    type Item = ClientResult<LiveEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return match serde_json::from_str(&event.data) {
                    Ok(frame) => Poll::Ready(Some(Ok(LiveEvent { id: event.id, frame }))),
                    Err(error) => self.end(ClientError::unreadable(error)),
                };
            }
            let Some(content) = &mut self.content else { return Poll::Ready(None) };
            match ready!(content.poll_next_unpin(cx)) {
                Some(Ok(bytes)) => {
                    if let Err(error) = self.receive(&bytes) {
                        return self.end(error);
                    }
                }
                Some(Err(error)) => return self.end(error),
                None => self.content = None,
            }
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("open", &self.content.is_some()).finish_non_exhaustive()
    }
}
