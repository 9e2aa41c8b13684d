//! The hub: what a subscription gets, whatever is published in whichever order it is read.

use std::collections::HashSet;

use crate::history::{History, parse, summary};
use dms_core::DocumentStatus;
use dms_core::model::change::{Change, Position};
use dms_core::ports::{ChangeSink as _, Outcome};
use dms_realtime::{
    EndOfFeed, Hub, HubOptions, HubSink, LiveEvent, LiveFrame, Published, Subscription,
};
use futures_util::{FutureExt as _, StreamExt as _};
use proptest::prelude::*;

fn next(subscription: &mut Subscription) -> Option<LiveEvent> {
    subscription.next().now_or_never().flatten()
}

fn frame(subscription: &mut Subscription) -> Option<LiveFrame> {
    match next(subscription) {
        Some(LiveEvent::Frame(frame)) => Some(frame),
        _ => None,
    }
}

fn frames(subscription: &mut Subscription) -> Vec<(String, Option<i64>)> {
    std::iter::from_fn(|| frame(subscription)).map(|f| summary(f.text().as_str())).collect()
}

fn tight(connection_queue_bytes_max: usize) -> Hub {
    Hub::new(HubOptions { connection_queue_bytes_max, ..HubOptions::default() })
}

#[test]
fn only_subscribers_of_the_document_hear_of_a_change() {
    let hub = Hub::default();
    let (mut one, mut other) = (History::new(), History::new());
    let mut subscription = hub.subscribe(one.id());
    assert_eq!(hub.publish(&other.retitle()), Published::NoSubscribers);
    assert_eq!(hub.publish(&one.retitle()), Published::Queued(1));
    assert_eq!(frames(&mut subscription), [("document.updated".into(), Some(2))]);
}

#[test]
fn all_subscribers_share_one_serialised_text() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut subscriptions: Vec<_> = (0..3).map(|_| hub.subscribe(history.id())).collect();
    hub.publish(&history.retitle());
    let texts: Vec<_> = subscriptions
        .iter_mut()
        .filter_map(frame)
        .map(|frame| frame.into_text().into_bytes().as_ptr())
        .collect();
    assert_eq!(texts, [texts[0]; 3]);
}

#[test]
fn both_frames_of_one_change_arrive_and_the_last_completes_the_version() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut subscription = hub.subscribe(history.id());
    hub.publish(&history.set_both("New", DocumentStatus::Viewed));
    let first = frame(&mut subscription).expect("a frame");
    let second = frame(&mut subscription).expect("a second frame");
    assert_eq!((first.version(), first.completes_version()), (Some(2), false));
    assert_eq!((second.version(), second.completes_version()), (Some(2), true));
}

#[test]
fn a_redelivered_change_is_not_sent_again() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut subscription = hub.subscribe(history.id());
    let changes = [history.retitle(), history.sign(), history.retitle()];
    for change in changes.iter().chain(&changes) {
        hub.publish(change);
    }
    assert_eq!(hub.publish(&changes[0]), Published::AlreadyNewer);
    let kinds: Vec<_> = frames(&mut subscription).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["document.updated", "signature.created", "document.updated"]);
}

#[test]
fn what_the_snapshot_shows_is_dropped_queued_or_yet_to_come() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut subscription = hub.subscribe(history.id());
    let second = history.retitle();
    hub.publish(&second);
    hub.publish(&history.sign());
    subscription.know(3);
    hub.publish(&history.retitle());
    hub.publish(&history.retitle());
    let expected =
        [("signature.created".to_owned(), None), ("document.updated".to_owned(), Some(4))];
    assert_eq!(frames(&mut subscription), expected);
}

#[test]
fn a_removed_row_is_told_although_its_version_is_known() {
    let hub = Hub::default();
    let history = History::new();
    let mut subscription = hub.subscribe(history.id());
    subscription.know(history.version());
    hub.publish(&history.remove());
    hub.publish(&history.remove());
    assert_eq!(frames(&mut subscription), [("document.deleted".into(), Some(1))]);
}

#[test]
fn nothing_of_the_document_follows_its_deletion() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut subscription = hub.subscribe(history.id());
    let late = history.retitle();
    let deletion = history.delete();
    hub.publish(&deletion);
    assert_eq!(hub.publish(&late), Published::AlreadyNewer);
    assert_eq!(hub.publish(&deletion), Published::AlreadyNewer);
    assert_eq!(frames(&mut subscription), [("document.deleted".into(), Some(3))]);
}

#[test]
fn a_slow_reader_is_moved_on_to_the_newest_version() {
    let hub = tight(1_000);
    let mut history = History::new();
    let mut subscription = hub.subscribe(history.id());
    let signature = history.sign();
    hub.publish(&signature);
    for _ in 0..100 {
        hub.publish(&history.retitle());
    }
    let got = frames(&mut subscription);
    assert!(got.len() < 5, "{got:?}");
    assert_eq!(got.first(), Some(&("signature.created".into(), None)));
    assert_eq!(got.last(), Some(&("document.updated".into(), Some(101))));
}

#[test]
fn a_reader_who_lets_signatures_pile_up_is_ended() {
    let hub = tight(1_000);
    let history = History::new();
    let mut subscription = hub.subscribe(history.id());
    for _ in 0..10 {
        hub.publish(&history.sign());
    }
    assert_eq!(next(&mut subscription), Some(LiveEvent::End(EndOfFeed::TooSlow)));
    assert_eq!(subscription.next().now_or_never(), Some(None));
    assert_eq!(hub.queued_bytes(), 0);
}

#[test]
fn beyond_the_total_only_those_who_do_not_read_lose() {
    let hub = Hub::new(HubOptions { total_queue_bytes_max: 2_000, ..HubOptions::default() });
    let mut history = History::new();
    let mut lazy: Vec<_> = (0..10).map(|_| hub.subscribe(history.id())).collect();
    let mut diligent = hub.subscribe(history.id());
    for _ in 0..50 {
        hub.publish(&history.retitle());
        let version = i64::from(history.version());
        assert_eq!(frames(&mut diligent), [("document.updated".into(), Some(version))]);
    }
    // Each holds the newest publication at most, besides what fits the total.
    assert!(hub.queued_bytes() < 2_000 + 10 * 400, "{}", hub.queued_bytes());
    for subscription in &mut lazy {
        let got = frames(subscription);
        assert_eq!(got.last(), Some(&("document.updated".into(), Some(51))));
    }
    assert_eq!(hub.queued_bytes(), 0);
}

#[test]
fn dropping_subscriptions_in_any_order_leaves_the_others_registered() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut subscriptions: Vec<_> = (0..100).map(|_| hub.subscribe(history.id())).collect();
    for i in (0..50).map(|i| i * 7 % (100 - i)) {
        drop(subscriptions.swap_remove(i.min(subscriptions.len() - 1)));
    }
    assert_eq!(hub.connections(), 50);
    assert_eq!(hub.publish(&history.retitle()), Published::Queued(50));
    assert!(subscriptions.iter_mut().all(|s| frames(s).len() == 1));
    drop(subscriptions);
    assert_eq!(hub.connections(), 0);
    assert_eq!(hub.publish(&history.retitle()), Published::NoSubscribers);
    assert_eq!(hub.queued_bytes(), 0);
}

#[test]
fn a_full_hub_ends_new_subscriptions_and_says_so_before() {
    let hub = Hub::new(HubOptions { connections_max: 1, ..HubOptions::default() });
    let history = History::new();
    let first = hub.subscribe(history.id());
    assert!(hub.check_room().is_err_and(|error| error.is_retryable()));
    let mut second = hub.subscribe(history.id());
    assert_eq!(next(&mut second), Some(LiveEvent::End(EndOfFeed::Full)));
    drop((first, second));
    assert!(hub.check_room().is_ok());
}

#[test]
fn shutdown_ends_present_and_later_subscriptions() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut before = hub.subscribe(history.id());
    hub.publish(&history.retitle());
    hub.shutdown();
    let mut after = hub.subscribe(history.id());
    for subscription in [&mut before, &mut after] {
        assert_eq!(next(subscription), Some(LiveEvent::End(EndOfFeed::Restarting)));
        assert_eq!(subscription.next().now_or_never(), Some(None));
    }
    assert!(hub.check_room().is_err());
}

#[test]
fn disconnecting_ends_present_subscriptions_only() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut before = hub.subscribe(history.id());
    hub.disconnect();
    let mut after = hub.subscribe(history.id());
    assert_eq!(hub.publish(&history.retitle()), Published::Queued(1));
    assert_eq!(next(&mut before), Some(LiveEvent::End(EndOfFeed::Restarting)));
    assert_eq!(frames(&mut after), [("document.updated".into(), Some(2))]);
}

#[tokio::test]
async fn a_waiting_subscription_is_woken() {
    let hub = Hub::default();
    let mut history = History::new();
    let mut subscription = hub.subscribe(history.id());
    let change = history.retitle();
    let (event, published) = tokio::join!(subscription.next(), async { hub.publish(&change) });
    assert_eq!(published, Published::Queued(1));
    assert!(matches!(event, Some(LiveEvent::Frame(frame)) if frame.version() == Some(2)));
}

#[tokio::test]
async fn the_sink_answers_for_each_change_in_order() {
    let hub = Hub::default();
    let (mut heard, mut unheard) = (History::new(), History::new());
    let _subscription = hub.subscribe(heard.id());
    let first = heard.retitle();
    let same_status = heard.set_status(DocumentStatus::Created);
    let changes = [first.clone(), unheard.retitle(), same_status, first];
    let sink = HubSink::new(hub);
    let outcomes = sink.apply(&changes, &Position::new("4")).await.expect("never fails");
    assert_eq!(sink.name(), "live");
    assert_eq!(
        outcomes,
        [
            Outcome::Applied,
            Outcome::Skipped("nobody listens"),
            Outcome::Skipped("nothing to tell"),
            Outcome::AlreadyNewer,
        ]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Retitle,
    Both,
    Sign,
    Republish(usize),
    Subscribe,
    Snapshot(usize),
    Read(usize, usize),
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Retitle),
        2 => Just(Step::Both),
        3 => Just(Step::Sign),
        3 => any::<usize>().prop_map(Step::Republish),
        2 => Just(Step::Subscribe),
        2 => any::<usize>().prop_map(Step::Snapshot),
        4 => (any::<usize>(), 0..4_usize).prop_map(|(who, count)| Step::Read(who, count)),
        1 => any::<usize>().prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 1..120)
}

struct Reader {
    subscription: Subscription,
    /// Newest version it has or was promised.
    has: i32,
    promised: i32,
    seen: HashSet<String>,
    ended: bool,
}

impl Reader {
    fn new(subscription: Subscription) -> Self {
        Self { subscription, has: 0, promised: 0, seen: HashSet::new(), ended: false }
    }

    fn read(&mut self) -> Result<bool, TestCaseError> {
        match next(&mut self.subscription) {
            Some(LiveEvent::Frame(frame)) => {
                prop_assert!(!self.ended, "a frame after the end");
                if let Some(version) = frame.version() {
                    prop_assert!(version >= self.has, "{version} after {}", self.has);
                    self.has = version;
                }
                let data = parse(frame.text().as_str());
                let key =
                    format!("{}{}{}", data["type"], data["data"]["id"], data["data"]["version"]);
                prop_assert!(self.seen.insert(key.clone()), "{key} twice");
                Ok(true)
            }
            Some(LiveEvent::End(end)) => {
                prop_assert_eq!(end, EndOfFeed::TooSlow);
                self.ended = true;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

proptest! {
    #[test]
    fn versions_never_decrease_nothing_comes_twice_and_the_newest_arrives(
        steps in steps(), bytes_max in 300..3_000_usize,
    ) {
        let hub = tight(bytes_max);
        let mut history = History::new();
        let mut past: Vec<Change> = Vec::new();
        let mut readers: Vec<Reader> = Vec::new();
        for step in steps {
            let fresh = match step {
                Step::Retitle => Some(history.retitle()),
                Step::Both => {
                    let next = match history.document().status {
                        DocumentStatus::Signed => DocumentStatus::Viewed,
                        _ => DocumentStatus::Signed,
                    };
                    let title = format!("Both {}", history.version());
                    Some(history.set_both(&title, next))
                }
                Step::Sign => Some(history.sign()),
                Step::Republish(which) => {
                    if !past.is_empty() {
                        hub.publish(&past[which % past.len()]);
                    }
                    None
                }
                Step::Subscribe => {
                    readers.push(Reader::new(hub.subscribe(history.id())));
                    None
                }
                Step::Snapshot(who) if !readers.is_empty() => {
                    let who = who % readers.len();
                    readers[who].subscription.know(history.version());
                    readers[who].has = history.version();
                    None
                }
                Step::Read(who, count) if !readers.is_empty() => {
                    let who = who % readers.len();
                    for _ in 0..count {
                        readers[who].read()?;
                    }
                    None
                }
                Step::Drop(who) if !readers.is_empty() => {
                    readers.swap_remove(who % readers.len());
                    None
                }
                Step::Snapshot(_) | Step::Read(..) | Step::Drop(_) => None,
            };
            if let Some(change) = fresh {
                hub.publish(&change);
                if change.key() == Some(history.id().to_string()) {
                    for reader in &mut readers {
                        reader.promised = history.version();
                    }
                }
                past.push(change);
            }
        }
        for reader in &mut readers {
            while reader.read()? {}
            prop_assert!(
                reader.ended || reader.has >= reader.promised,
                "{} instead of {}", reader.has, reader.promised,
            );
        }
        prop_assert_eq!(hub.queued_bytes(), 0);
        prop_assert_eq!(hub.connections(), readers.len());
    }
}
