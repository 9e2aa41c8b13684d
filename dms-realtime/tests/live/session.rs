//! One WebSocket connection's life, by a paused clock.

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use crate::history::{History, parse, summary};
use crate::socket::{Client, Socket, pair};
use bytes::Bytes;
use dms_core::fake::ManualClock;
use dms_core::ports::Clock;
use dms_core::{Document, Error, Result};
use dms_realtime::{End, Hub, HubOptions, Live, Message, Watch, session};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Shows the time of the paused runtime.
struct RuntimeClock {
    started_at: Instant,
}

impl RuntimeClock {
    fn start() -> Arc<Self> {
        Arc::new(Self { started_at: Instant::now() })
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + self.started_at.elapsed()
    }
}

fn live() -> Live {
    Live::new(Hub::default(), RuntimeClock::start())
}

struct Running {
    client: Client,
    task: JoinHandle<End>,
}

fn start_watch(live: &Live, watch: Watch, document: Result<Document>) -> Running {
    let (socket, client): (Socket, Client) = pair();
    let live = live.clone();
    let task =
        tokio::spawn(async move { session::run(&live, watch, socket, || ready(document)).await });
    Running { client, task }
}

fn start(live: &Live, history: &History) -> Running {
    start_watch(live, Watch::new(history.id(), None), Ok(history.document()))
}

/// Started, and its snapshot received.
async fn open(live: &Live, history: &History) -> Running {
    let mut running = start(live, history);
    let expected = ("document.snapshot".to_owned(), Some(i64::from(history.version())));
    assert_eq!(running.client.frame().await, expected);
    running
}

impl Running {
    async fn end(self) -> End {
        self.task.await.expect("the session doesn't panic")
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_comes_first_and_every_later_version_after_it() {
    let (live, mut history) = (live(), History::new());
    let mut running = open(&live, &history).await;
    for version in 2..5 {
        live.hub.publish(&history.retitle());
        assert_eq!(running.client.frame().await, ("document.updated".into(), Some(version)));
    }
    live.hub.publish(&history.sign());
    assert_eq!(running.client.frame().await, ("signature.created".into(), None));
}

#[tokio::test(start_paused = true)]
async fn a_change_while_the_document_is_read_is_neither_missed_nor_repeated() {
    for already_in_snapshot in [false, true] {
        let (live, mut history) = (live(), History::new());
        let before = history.document();
        let watch = Watch::new(history.id(), None);
        let (socket, mut client) = pair();
        let served = live.clone();
        tokio::spawn(async move {
            let load = || async {
                served.hub.publish(&history.retitle());
                let document = if already_in_snapshot { history.document() } else { before };
                Ok::<_, Error>(Arc::new(document))
            };
            session::run(&served, watch, socket, load).await
        });
        let first = client.frame().await;
        if already_in_snapshot {
            assert_eq!(first, ("document.snapshot".into(), Some(2)));
            // Nothing but a ping comes next.
            assert_eq!(client.next().await, Some(Message::Ping(Bytes::new())));
        } else {
            assert_eq!(first, ("document.snapshot".into(), Some(1)));
            assert_eq!(client.frame().await, ("document.updated".into(), Some(2)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pings_come_every_25_seconds_and_silence_ends_after_60() {
    let (live, history) = (live(), History::new());
    let started_at = Instant::now();
    let mut running = open(&live, &history).await;
    for seconds in [25, 50] {
        assert_eq!(running.client.next().await, Some(Message::Ping(Bytes::new())));
        assert_eq!(started_at.elapsed().as_secs(), seconds);
    }
    assert_eq!(running.client.close_code().await, Some(1001));
    assert_eq!(started_at.elapsed().as_secs(), 60);
    assert_eq!(running.end().await, End::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_stays_connected() {
    let (live, mut history) = (live(), History::new());
    let mut running = open(&live, &history).await;
    for _ in 0..20 {
        assert_eq!(running.client.next().await, Some(Message::Ping(Bytes::new())));
        running.client.pong();
    }
    live.hub.publish(&history.retitle());
    assert_eq!(running.client.frame().await, ("document.updated".into(), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_its_token_does() {
    let (live, history) = (live(), History::new());
    let watch = Watch { document_id: history.id(), token_expires_at: Some(90) };
    let started_at = Instant::now();
    let mut running = start_watch(&live, watch, Ok(history.document()));
    assert_eq!(running.client.frame().await.0, "document.snapshot");
    while let Some(message) = running.client.next().await {
        match message {
            Message::Ping(_) => running.client.pong(),
            Message::Close(close) => {
                assert_eq!(close.map(|close| close.code), Some(4401));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(started_at.elapsed().as_secs(), 90);
    assert_eq!(running.end().await, End::TokenExpired);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_ends_tokens_within_30_seconds() {
    let clock = Arc::new(ManualClock::at_unix(1_000));
    let live = Live::new(Hub::default(), Arc::<ManualClock>::clone(&clock));
    let history = History::new();
    let watch = Watch { document_id: history.id(), token_expires_at: Some(1_000_000) };
    let mut running = start_watch(&live, watch, Ok(history.document()));
    assert_eq!(running.client.frame().await.0, "document.snapshot");
    let set_at = Instant::now();
    clock.set(OffsetDateTime::from_unix_timestamp(1_000_000).expect("a date"));
    assert_eq!(running.client.close_code().await, Some(4401));
    assert!(set_at.elapsed() <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_gets_no_snapshot() {
    let (live, history) = (live(), History::new());
    let watch = Watch { document_id: history.id(), token_expires_at: Some(0) };
    let mut running = start_watch(&live, watch, Ok(history.document()));
    let first = running.client.next().await;
    assert!(matches!(first, Some(Message::Close(Some(close))) if close.code == 4401));
}

#[tokio::test(start_paused = true)]
async fn deletion_is_told_and_closes() {
    let (live, mut history) = (live(), History::new());
    let mut running = open(&live, &history).await;
    live.hub.publish(&history.delete());
    assert_eq!(running.client.frame().await, ("document.deleted".into(), Some(2)));
    assert_eq!(running.client.close_code().await, Some(4404));
    assert_eq!(running.end().await, End::Deleted);
    assert_eq!(live.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_cannot_be_read_closes_with_the_code_for_it() {
    let (live, history) = (live(), History::new());
    let id = history.id();
    for (error, code) in [
        (Error::not_found("document", id), 4404),
        (Error::unavailable("database", "down"), 1013),
        (Error::internal("corrupt"), 1011),
    ] {
        let mut running = start_watch(&live, Watch::new(id, None), Err(error));
        let first = running.client.next().await;
        assert!(
            matches!(&first, Some(Message::Close(Some(close))) if close.code == code),
            "{first:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_is_given_up() {
    let (live, history) = (live(), History::new());
    let (socket, mut client) = pair();
    let watch = Watch::new(history.id(), None);
    tokio::spawn(
        async move { session::run(&live, watch, socket, pending::<Result<Document>>).await },
    );
    assert_eq!(client.close_code().await, Some(1013));
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_every_connection_with_1012() {
    let (live, history) = (live(), History::new());
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(open(&live, &history).await);
    }
    live.hub.shutdown();
    for mut running in running {
        assert_eq!(running.client.close_code().await, Some(1012));
        assert_eq!(running.end().await, End::Restarting);
    }
    let mut late = start(&live, &history);
    assert_eq!(late.client.close_code().await, Some(1012));
}

#[tokio::test(start_paused = true)]
async fn a_connection_beyond_the_bound_is_told_to_try_later_without_a_read() {
    let options = HubOptions { connections_max: 1, ..HubOptions::default() };
    let live = Live::new(Hub::new(options), RuntimeClock::start());
    let history = History::new();
    let first = open(&live, &history).await;
    let mut second = start(&live, &history);
    let refused = second.client.next().await;
    assert!(matches!(refused, Some(Message::Close(Some(close))) if close.code == 1013));
    first.task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_a_close_is_left() {
    let (live, history) = (live(), History::new());
    let running = open(&live, &history).await;
    let asked_at = Instant::now();
    live.hub.shutdown();
    assert_eq!(running.end().await, End::Restarting);
    assert_eq!(asked_at.elapsed(), live.options.close_timeout);
}

fn tight() -> Live {
    let options = HubOptions { connection_queue_bytes_max: 1_500, ..HubOptions::default() };
    Live::new(Hub::new(options), RuntimeClock::start())
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_newest_version_when_it_reads_again() {
    let (live, mut history) = (tight(), History::new());
    let mut running = open(&live, &history).await;
    running.client.stop_reading();
    for _ in 0..200 {
        live.hub.publish(&history.retitle());
        tokio::task::yield_now().await;
    }
    running.client.read_again();
    let (mut last, mut received) = (1, 0);
    while last < 201 {
        let version = running.client.frame().await.1.expect("a version");
        assert!(version > last);
        last = version;
        received += 1;
    }
    assert!(received < 20, "{received}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_too_slow_for_conflation_is_closed_with_1013() {
    let (live, history) = (tight(), History::new());
    let mut running = open(&live, &history).await;
    running.client.stop_reading();
    for _ in 0..50 {
        live.hub.publish(&history.sign());
        tokio::task::yield_now().await;
    }
    running.client.read_again();
    assert_eq!(running.client.close_code().await, Some(1013));
    assert_eq!(running.end().await, End::TooSlow);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_sent_in_time_ends_the_connection() {
    let (live, mut history) = (live(), History::new());
    let running = open(&live, &history).await;
    running.client.stop_reading();
    live.hub.publish(&history.retitle());
    assert_eq!(running.end().await, End::SendTimeout);
    assert_eq!(live.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn small_texts_of_a_client_are_ignored() {
    let (live, mut history) = (live(), History::new());
    let mut running = open(&live, &history).await;
    for _ in 0..10 {
        running.client.send(Message::Text("hello".into()));
        running.client.send(Message::Ping(Bytes::new()));
    }
    live.hub.publish(&history.retitle());
    assert_eq!(running.client.frame().await, ("document.updated".into(), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn unwanted_messages_close_with_the_code_for_them() {
    let (live, history) = (live(), History::new());
    let large = "x".repeat(live.options.client_message_bytes_max + 1);
    for (messages, end, code) in [
        (vec![Message::Binary(Bytes::from_static(b"x"))], End::BinaryRefused, 1003),
        (vec![Message::Text(large.into())], End::MessageTooLarge, 1009),
        (vec![Message::TooLarge], End::MessageTooLarge, 1009),
        (vec![Message::Text("x".into()); 101], End::TooManyMessages, 1008),
    ] {
        let mut running = open(&live, &history).await;
        for message in messages {
            running.client.send(message);
        }
        assert_eq!(running.client.close_code().await, Some(code));
        assert_eq!(running.end().await, end);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_after_a_message_that_the_transport_refused() {
    let (live, history) = (live(), History::new());
    let mut running = open(&live, &history).await;
    running.client.send(Message::TooLarge);
    assert_eq!(running.client.close_code().await, Some(1009));
    let told_at = Instant::now();
    // Would end the wait at once if it were read.
    running.client.send(Message::Close(None));
    assert_eq!(running.end().await, End::MessageTooLarge);
    assert_eq!(told_at.elapsed(), live.options.close_timeout);
}

#[tokio::test(start_paused = true)]
async fn a_close_of_the_client_is_answered() {
    let (live, history) = (live(), History::new());
    let mut running = open(&live, &history).await;
    running.client.send(Message::Close(None));
    assert_eq!(running.client.close_code().await, Some(1000));
    assert_eq!(running.end().await, End::ClientClosed);
    assert_eq!(live.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_or_vanishes_is_unregistered() {
    let (live, history) = (live(), History::new());
    let failing = open(&live, &history).await;
    let mut vanishing = open(&live, &history).await;
    assert_eq!(live.hub.connections(), 2);
    failing.client.fail();
    vanishing.client.vanish();
    assert_eq!(failing.end().await, End::TransportFailed);
    assert_eq!(vanishing.end().await, End::TransportFailed);
    assert_eq!(live.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_session_unregisters_it() {
    let (live, history) = (live(), History::new());
    let running = open(&live, &history).await;
    running.task.abort();
    assert!(running.task.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(live.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn frames_are_json_with_type_data_and_timestamp() {
    let (live, history) = (live(), History::new());
    let mut running = start(&live, &history);
    let Some(Message::Text(text)) = running.client.next().await else { panic!("no frame") };
    assert_eq!(summary(text.as_str()).0, "document.snapshot");
    let frame = parse(text.as_str());
    assert_eq!(frame["data"]["title"], "Contract");
    assert!(frame["timestamp"].is_i64());
}

#[tokio::test(start_paused = true)]
async fn connections_frames_and_ends_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // The runtime is single-threaded, so the guard covers the session's task too.
    let _recording = metrics::set_default_local_recorder(&recorder);
    dms_realtime::describe_metrics();
    let (live, mut history) = (live(), History::new());
    let mut running = open(&live, &history).await;
    assert!(handle.render().contains("dms_live_connections 1"));
    live.hub.publish(&history.delete());
    running.client.close_code().await;
    running.end().await;
    let text = handle.render();
    for line in [
        "dms_live_connections 0",
        "dms_live_frames_total 2",
        "dms_live_closed_total{reason=\"deleted\"} 1",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
}
