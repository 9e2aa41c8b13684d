//! Views: [`ViewCounter`].

use std::sync::Arc;

use futures_util::future::join_all;

use crate::ports::ViewCounter;
use crate::{DocumentId, ViewStats, Visitor};

/// Checks everything that [`ViewCounter`] promises, but for the death of the process.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(views: &dyn ViewCounter) {
    nothing_viewed(views).await;
    exact_at_once(views).await;
    visitors(views).await;
    concurrent_views(views).await;
}

fn visitor(name: impl Into<Arc<str>>) -> Visitor {
    Visitor(name.into())
}

async fn assert_stats(views: &dyn ViewCounter, id: DocumentId, expected: (u64, u64), step: &str) {
    let stats = views.stats(id).await.expect(step);
    let expected = ViewStats { total_views: expected.0, unique_views: expected.1 };
    assert_eq!(stats, expected, "{step}");
}

async fn nothing_viewed(views: &dyn ViewCounter) {
    assert_stats(views, DocumentId::generate(), (0, 0), "a document nobody viewed").await;
}

async fn exact_at_once(views: &dyn ViewCounter) {
    let (id, other) = (DocumentId::generate(), DocumentId::generate());
    let (jane, john) = (visitor("sub:jane"), visitor("sub:john"));
    for (i, (who, expected)) in
        [(&jane, (1, 1)), (&jane, (2, 1)), (&john, (3, 2)), (&jane, (4, 2)), (&john, (5, 2))]
            .into_iter()
            .enumerate()
    {
        views.record(id, who).await.expect("record");
        assert_stats(views, id, expected, &format!("after view {i}")).await;
    }
    assert_stats(views, other, (0, 0), "another document").await;
    views.record(other, &jane).await.expect("record");
    assert_stats(views, other, (1, 1), "a visitor is new to each document").await;
    assert_stats(views, id, (5, 2), "the first document stays").await;
}

async fn visitors(views: &dyn ViewCounter) {
    let id = DocumentId::generate();
    let long = "x".repeat(10_000);
    let names = [
        "",
        " ",
        "jane",
        "Jane",
        "jane ",
        "sub:jane",
        "ip:jane",
        "ip:::1",
        "j\u{e4}ne",
        "ja\0ne",
        "'; --",
        "\"",
        "\\",
        "[1]",
        "\u{1f600}",
        &long,
    ];
    for _ in 0..2 {
        for name in names {
            views.record(id, &visitor(name)).await.expect("record");
        }
    }
    let different = names.len() as u64;
    assert_stats(views, id, (2 * different, different), "visitors by their whole name").await;
}

async fn concurrent_views(views: &dyn ViewCounter) {
    const DOCUMENTS: usize = 7;
    const VISITORS: usize = 31;
    const REPEATS: usize = 5;
    let ids: Vec<_> = (0..DOCUMENTS).map(|_| DocumentId::generate()).collect();
    let records = (0..DOCUMENTS * VISITORS * REPEATS).map(|i| {
        let id = ids[i % DOCUMENTS];
        let who = visitor(format!("visitor {}", i / DOCUMENTS % VISITORS));
        async move {
            let before = views.stats(id).await.expect("stats").total_views;
            views.record(id, &who).await.expect("record");
            let after = views.stats(id).await.expect("stats").total_views;
            assert!(after > before, "a recorded view is in the stats: {before}, then {after}");
        }
    });
    join_all(records).await;
    for id in ids {
        let expected = ((VISITORS * REPEATS) as u64, VISITORS as u64);
        assert_stats(views, id, expected, "after concurrent views").await;
    }
}
