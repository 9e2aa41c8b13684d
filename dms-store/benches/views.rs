//! How many views a second are counted: `cargo bench -p dms-store --features sqlite --bench views`.

use std::sync::Arc;
use std::time::Instant;

use dms_core::ports::ViewCounter as _;
use dms_core::{DocumentId, Visitor};
use dms_store::sqlite::SqliteViewCounter;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    const VIEWS: u32 = 100_000;
    let ids: Vec<_> = (0..1_000).map(|_| DocumentId::generate()).collect();
    for (concurrent, visitors) in [(1, 10), (16, 10), (64, 10), (256, 10), (64, 1_000_000)] {
        let folder = tempfile::tempdir().unwrap();
        let views = SqliteViewCounter::open(&folder.path().join("views.db")).await.unwrap();
        let each = if concurrent == 1 { 2_000 } else { VIEWS / concurrent };
        let began = Instant::now();
        let tasks: Vec<_> = (0..concurrent)
            .map(|task| {
                let (views, ids) = (views.clone(), ids.clone());
                tokio::spawn(async move {
                    for i in 0..each {
                        let number = task * each + i;
                        let who = Visitor(Arc::from(format!("sub:{}", number % visitors)));
                        views.record(ids[number as usize * 7 % ids.len()], &who).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let (took, views_recorded) = (began.elapsed().as_secs_f64(), each * concurrent);
        println!(
            "{concurrent:>4} at a time, {visitors:>7} visitors: {:>6.0} views/s",
            f64::from(views_recorded) / took
        );
        views.close().await.unwrap();
    }
}
