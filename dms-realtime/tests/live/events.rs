//! Server-sent events: the same frames, resumed by version.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use crate::history::{History, summary};
use dms_core::fake::ManualClock;
use dms_core::{Document, DocumentStatus, Error, ErrorKind};
use dms_realtime::{End, Events, Hub, Live, SseEvent, Watch, events};
use futures_util::StreamExt as _;
use tokio::time::Instant;

fn live() -> Live {
    Live::new(Hub::default(), Arc::new(ManualClock::at_unix(1_000)))
}

async fn open(live: &Live, history: &History, last_event_id: Option<&str>) -> Events {
    let watch = Watch::new(history.id(), None);
    let load = || ready(Ok(history.document()));
    events::open(live, watch, last_event_id, load).await.expect("the stream opens")
}

async fn frame(events: &mut Events) -> (Option<i32>, String, Option<i64>) {
    match events.next().await {
        Some(SseEvent::Frame { id, data }) => {
            let (kind, version) = summary(data.as_str());
            (id, kind, version)
        }
        other => panic!("{other:?} instead of a frame"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_id_of_an_event_is_the_version() {
    let (live, mut history) = (live(), History::new());
    let mut events = open(&live, &history, None).await;
    assert_eq!(frame(&mut events).await, (Some(1), "document.snapshot".into(), Some(1)));
    live.hub.publish(&history.sign());
    live.hub.publish(&history.retitle());
    assert_eq!(frame(&mut events).await, (None, "signature.created".into(), None));
    assert_eq!(frame(&mut events).await, (Some(2), "document.updated".into(), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn only_the_last_frame_of_a_version_carries_the_id() {
    let (live, mut history) = (live(), History::new());
    let mut events = open(&live, &history, None).await;
    frame(&mut events).await;
    live.hub.publish(&history.set_both("New", DocumentStatus::Viewed));
    assert_eq!(frame(&mut events).await, (None, "document.updated".into(), Some(2)));
    assert_eq!(frame(&mut events).await, (Some(2), "document.viewed".into(), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_client_with_the_present_version_gets_no_snapshot() {
    let (live, mut history) = (live(), History::new());
    let mut events = open(&live, &history, Some("1")).await;
    assert_eq!(events.next().await, Some(SseEvent::Heartbeat));
    live.hub.publish(&history.retitle());
    assert_eq!(frame(&mut events).await, (Some(2), "document.updated".into(), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn any_other_last_event_id_gets_a_snapshot() {
    let (live, mut history) = (live(), History::new());
    history.retitle();
    for last_event_id in ["1", "3", "", "two", "99999999999", "-2"] {
        let mut events = open(&live, &history, Some(last_event_id)).await;
        let expected = (Some(2), "document.snapshot".into(), Some(2));
        assert_eq!(frame(&mut events).await, expected, "{last_event_id:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_comes_after_25_quiet_seconds() {
    let (live, mut history) = (live(), History::new());
    let mut events = open(&live, &history, None).await;
    frame(&mut events).await;
    for _ in 0..3 {
        let quiet_since = Instant::now();
        assert_eq!(events.next().await, Some(SseEvent::Heartbeat));
        assert_eq!(quiet_since.elapsed().as_secs(), 25);
    }
    live.hub.publish(&history.retitle());
    frame(&mut events).await;
    let quiet_since = Instant::now();
    assert_eq!(events.next().await, Some(SseEvent::Heartbeat));
    assert_eq!(quiet_since.elapsed().as_secs(), 25);
}

#[tokio::test(start_paused = true)]
async fn deletion_is_told_and_ends_the_stream() {
    let (live, mut history) = (live(), History::new());
    let mut events = open(&live, &history, None).await;
    frame(&mut events).await;
    live.hub.publish(&history.delete());
    assert_eq!(frame(&mut events).await, (Some(2), "document.deleted".into(), Some(2)));
    assert_eq!(events.next().await, None);
    assert_eq!(events.end(), Some(End::Deleted));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_stream_and_refuses_new_ones() {
    let (live, history) = (live(), History::new());
    let mut events = open(&live, &history, None).await;
    frame(&mut events).await;
    live.hub.shutdown();
    assert_eq!(events.next().await, None);
    assert_eq!(events.end(), Some(End::Restarting));
    let watch = Watch::new(history.id(), None);
    let refused = events::open(&live, watch, None, || ready(Ok(history.document()))).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_its_token() {
    let clock = Arc::new(ManualClock::at_unix(1_000));
    let live = Live::new(Hub::default(), Arc::<ManualClock>::clone(&clock));
    let history = History::new();
    let watch = Watch { document_id: history.id(), token_expires_at: Some(1_010) };
    let load = || ready(Ok(history.document()));
    let mut events = events::open(&live, watch, None, load).await.expect("the stream opens");
    frame(&mut events).await;
    let opened_at = Instant::now();
    clock.advance(Duration::from_secs(10));
    assert_eq!(events.next().await, None);
    assert_eq!(opened_at.elapsed().as_secs(), 10);
    assert_eq!(events.end(), Some(End::TokenExpired));
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_not_there_is_an_error_before_the_stream() {
    let (live, history) = (live(), History::new());
    let watch = Watch::new(history.id(), None);
    let load = || ready(Err::<Document, _>(Error::not_found("document", history.id())));
    let refused = events::open(&live, watch, None, load).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert_eq!(live.hub.connections(), 0);
}

#[test]
fn events_are_encoded_as_the_standard_asks() {
    let frame = |id| SseEvent::Frame { id, data: r#"{"a":1}"#.into() };
    assert_eq!(frame(Some(7)).encode(), "id: 7\ndata: {\"a\":1}\n\n");
    assert_eq!(frame(None).encode(), "data: {\"a\":1}\n\n");
    assert_eq!(SseEvent::Heartbeat.encode(), ":\n\n");
}
