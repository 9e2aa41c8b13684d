//! Live updates: what servers send to the client, and what comes back to the server.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::future::ready;
use std::sync::Arc;

use dms_core::fake::ManualClock;
use dms_core::model::change::DocumentRow;
use dms_core::{Document, DocumentId, DocumentStatus, Sha256};
use dms_realtime::{Hub, Live, SseEvent, Watch, events};
use dms_rpc::client::sse::{Parser, RawEvent};
use futures_util::StreamExt as _;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

/// An event stream, its first byte the size of its pieces. It doesn't matter where it is cut, and
/// what is read can be written and read again.
pub fn event_stream(input: &[u8]) {
    let Some((size, stream)) = super::choice(input) else { return };
    let events = parse(stream.chunks(stream.len().max(1)));
    assert_eq!(parse(stream.chunks(usize::from(size).max(1))), events);
    let mut again = String::new();
    for RawEvent { id, data } in &events {
        let id = id.as_deref().unwrap_or_default();
        assert!(!id.contains(['\r', '\n', '\0']) && !data.contains('\r'), "{id:?} {data:?}");
        let _ = writeln!(again, "id: {id}");
        for line in data.split('\n') {
            let _ = writeln!(again, "data: {line}");
        }
        again.push('\n');
    }
    assert_eq!(parse([again.as_bytes()].into_iter()), events);
}

fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<RawEvent> {
    let (mut parser, mut events) = (Parser::default(), Vec::new());
    for piece in pieces {
        // Far less is given than an event may have.
        parser.feed(piece, |event| events.push(event)).expect("small events");
    }
    events
}

/// `Last-Event-ID`: a client that has the present version, and no other, isn't sent the document; and
/// the client reads what the server writes.
pub fn last_event_id(input: &[u8]) {
    thread_local!(static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() });
    let Ok(text) = std::str::from_utf8(input) else { return };
    let first = RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
        });
        runtime.block_on(async {
            let live = Live::new(Hub::default(), Arc::new(ManualClock::at_unix(1_000)));
            let document = document();
            let watch = Watch::new(document.id, None);
            let events = events::open(&live, watch, Some(text), || ready(Ok(document))).await;
            events.expect("an open stream").next().await.expect("an event")
        })
    });
    let has_it = text.trim().trim_start_matches('+').trim_start_matches('0') == "1207";
    match &first {
        SseEvent::Heartbeat => assert!(has_it, "{text:?} isn't the version"),
        SseEvent::Frame { id, data } => {
            assert_eq!(*id, Some(1207));
            assert!(text.trim() != "1207", "{text:?} is the version");
            let read = parse([&first.encode()[..]].into_iter());
            let expected = RawEvent { id: Some("1207".to_owned()), data: data.as_str().to_owned() };
            assert_eq!(read, [expected]);
        }
    }
}

fn document() -> Document {
    let id: DocumentId = "01900000-0000-7000-8000-000000000001".parse().expect("an id");
    let row = DocumentRow {
        id,
        title: "Contract\u{2028}\u{85}".into(),
        content_type: "text/plain".into(),
        content_size: 5,
        content_sha256: Some(Sha256::of(b"hello")),
        s3_key: Some(Document::content_key(id)),
        status: DocumentStatus::Created,
        created_by: "ann".into(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version: 1207,
        deleted: false,
    };
    row.into_document().expect("a live document")
}
