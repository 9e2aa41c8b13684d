//! Dead letters: [`DeadLetterRepository`].

use futures_util::future::join_all;
use time::{Duration, OffsetDateTime};

use crate::DocumentId;
use crate::model::change::Position;
use crate::model::timestamp;
use crate::ports::{DeadLetter, DeadLetterRepository};

/// Checks everything that [`DeadLetterRepository`] promises, except durability.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(letters: &dyn DeadLetterRepository) {
    put_list_and_count(letters).await;
    one_per_consumer_and_position(letters).await;
    remove(letters).await;
    many(letters).await;
}

fn consumer() -> String {
    format!("consumer'\"-{}", DocumentId::generate())
}

fn letter(consumer: &str, position: &str) -> DeadLetter {
    DeadLetter {
        consumer: consumer.into(),
        position: Position::new(position),
        key: Some("key '\"".into()),
        raw: vec![0, 255, b'\'', 0, 128],
        reason: "unknown op \"x\"".into(),
        created_at: timestamp::truncate(OffsetDateTime::now_utc()),
    }
}

async fn put_list_and_count(letters: &dyn DeadLetterRepository) {
    let (ours, theirs) = (consumer(), consumer());
    assert_eq!(letters.count(&ours).await.expect("count"), 0, "count of none");
    assert_eq!(letters.list(&ours, 10).await.expect("list"), [], "list of none");
    letters.put_many(&[]).await.expect("put of none");

    // Neither positions nor times are in the order of arrival.
    let first = letter(&ours, "9");
    let mut second = DeadLetter { key: None, raw: Vec::new(), ..letter(&ours, "10") };
    second.created_at -= Duration::HOUR;
    let third = letter(&ours, "{\"offset\":1}");
    let foreign = letter(&theirs, "9");
    letters.put_many(&[first.clone(), foreign.clone(), second.clone()]).await.expect("put");
    letters.put_many(std::slice::from_ref(&third)).await.expect("put");
    let all = [first.clone(), second.clone(), third];
    assert_eq!(letters.list(&ours, 10).await.expect("list"), all, "in order of arrival");
    assert_eq!(letters.list(&ours, 2).await.expect("list"), [first, second], "at most two");
    assert_eq!(letters.count(&ours).await.expect("count"), 3, "count of ours");
    assert_eq!(letters.list(&theirs, 10).await.expect("list"), [foreign], "list of theirs");
    assert_eq!(letters.count(&theirs).await.expect("count"), 1, "count of theirs");
}

async fn one_per_consumer_and_position(letters: &dyn DeadLetterRepository) {
    let ours = consumer();
    let first = letter(&ours, "1");
    let again = DeadLetter { reason: "later".into(), raw: vec![1], ..first.clone() };
    letters.put_many(std::slice::from_ref(&first)).await.expect("put");
    let other = letter(&ours, "2");
    letters.put_many(&[again.clone(), other.clone(), again]).await.expect("put again");
    let kept = letters.list(&ours, 10).await.expect("list");
    assert_eq!(kept, [first, other], "putting a letter again changes nothing");

    let contested = [letter(&ours, "3")];
    for result in join_all((0..8).map(|_| letters.put_many(&contested))).await {
        result.expect("one of several puts");
    }
    assert_eq!(letters.count(&ours).await.expect("count"), 3, "concurrent puts of one letter");
}

async fn remove(letters: &dyn DeadLetterRepository) {
    let (ours, theirs) = (consumer(), consumer());
    let put = [letter(&ours, "1"), letter(&ours, "2"), letter(&theirs, "1")];
    letters.put_many(&put).await.expect("put");
    let position = Position::new("1");
    assert!(letters.remove(&ours, &position).await.expect("remove"), "remove one");
    assert!(!letters.remove(&ours, &position).await.expect("remove"), "remove it again");
    assert_eq!(letters.list(&ours, 10).await.expect("list"), put[1..2], "the other stays");
    assert_eq!(letters.count(&theirs).await.expect("count"), 1, "theirs stays");

    letters.put_many(&put[..1]).await.expect("put a removed one");
    let kept = letters.list(&ours, 10).await.expect("list");
    assert_eq!(kept, [put[1].clone(), put[0].clone()], "a removed letter arrives anew");
}

async fn many(letters: &dyn DeadLetterRepository) {
    let ours = consumer();
    let put: Vec<_> = (0..200).map(|n| letter(&ours, &n.to_string())).collect();
    letters.put_many(&put).await.expect("put many");
    assert_eq!(letters.list(&ours, 1_000).await.expect("list"), put, "many at once");
    assert_eq!(letters.count(&ours).await.expect("count"), 200, "count of many");
}
