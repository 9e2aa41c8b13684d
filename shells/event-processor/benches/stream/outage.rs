//! Writes go on while something is away; how long it takes until the index equals the database again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dms_core::DocumentPatch;
use dms_core::ports::DocumentRepository as _;
use dms_store::postgres::PostgresDatabase;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::elasticsearch::Versions;
use crate::line::Line;
use crate::print;
use crate::processor::{Places, Processor};
use crate::replay::rate;
use crate::steady::create;
use crate::system::{PATIENCE, System, Tier};

/// How long writes go on before the outage.
const BEFORE: Duration = Duration::from_secs(5);
const WRITERS: u32 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn measure(system: &System, tier: Tier, lasts: Duration, writes: f64) {
    println!("{tier:?}, {writes} writes a second go on for {} s of outage:", lasts.as_secs());
    let places = |search: String| Places {
        events: system.events_url(tier),
        search,
        group: system.name.clone(),
    };
    let direct = places(system.elasticsearch.index_url(&system.name));
    let processor = Processor::start(system, &direct);
    processor.ready().await;

    let writers = Writers::start(&system.database, writes);
    sleep(BEFORE).await;
    let memory = processor.memory_mib();
    processor.kill();
    let missed = writers.go_on_for(lasts).await;
    let over = Instant::now();
    let processor = Processor::start(system, &direct);
    caught_up(system, "the processor was killed", &processor, 0, over, missed).await;
    print("memory at most", &format!("{} MiB", memory.max(processor.memory_mib())));
    processor.stop();

    let line = Line::to(system.elasticsearch.address()).await;
    let through = places(format!("http://{}/{}", line.address, system.name));
    let processor = Processor::start(system, &through);
    processor.ready().await;
    let writers = Writers::start(&system.database, writes);
    sleep(BEFORE).await;
    line.cut();
    // What was on its way is answered or lost by then.
    sleep(Duration::from_secs(1)).await;
    let before = processor.applied().await;
    let missed = writers.go_on_for(lasts).await;
    let over = Instant::now();
    line.mend();
    caught_up(system, "Elasticsearch was out of reach", &processor, before, over, missed).await;
    print("memory at most", &format!("{} MiB", processor.memory_mib()));
    processor.stop();
}

/// Waits until index and database agree, and says when that was.
async fn caught_up(
    system: &System,
    what: &str,
    processor: &Processor,
    applied_before: u64,
    over: Instant,
    missed: u64,
) {
    while processor.applied().await <= applied_before {
        assert!(over.elapsed() < PATIENCE, "nothing came");
        sleep(LOOK_EVERY).await;
    }
    let first = over.elapsed();
    let count = system.query("SELECT count(*) FROM documents").await;
    let sum = system.query("SELECT sum(version)::bigint FROM documents").await;
    let wanted = [count, sum].map(|number| u64::try_from(number).expect("a sum"));
    loop {
        let sum = system.elasticsearch.sum(&system.name).await;
        if sum == wanted {
            break;
        }
        assert!(over.elapsed() < PATIENCE, "{sum:?} of {wanted:?} came");
        sleep(LOOK_EVERY * 5).await;
    }
    let whole = over.elapsed();
    let versions = system.elasticsearch.versions(&system.name).await;
    assert_eq!(versions, rows(system).await, "index and database");
    print(
        what,
        &format!(
            "{missed} changes missed, the first after {:.2} s, equal after {:.2} s, {:.0}/s \
            since the first",
            first.as_secs_f64(),
            whole.as_secs_f64(),
            rate(missed, whole.saturating_sub(first)),
        ),
    );
}

async fn rows(system: &System) -> Versions {
    let mut connection =
        PgConnection::connect(&system.database_url()).await.expect("PostgreSQL runs");
    let rows: Vec<(String, i32, bool)> =
        sqlx::query_as("SELECT id::text, version, deleted_at IS NOT NULL FROM documents")
            .fetch_all(&mut connection)
            .await
            .expect("rows");
    rows.into_iter().map(|(id, version, deleted)| (id, (i64::from(version), deleted))).collect()
}

/// Create, change and delete documents at a rate.
struct Writers {
    written: Arc<AtomicU64>,
    is_over: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Writers {
    fn start(database: &PostgresDatabase, writes: f64) -> Self {
        let (is_over, _) = watch::channel(false);
        let written = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..WRITERS {
            let every = Duration::from_secs_f64(f64::from(WRITERS) / writes);
            tasks.spawn(write(database.clone(), every, Arc::clone(&written), is_over.subscribe()));
        }
        Self { written, is_over, tasks }
    }

    /// How much is written in this time, after which nothing more is.
    async fn go_on_for(self, time: Duration) -> u64 {
        let before = self.written.load(Ordering::Relaxed);
        sleep(time).await;
        self.is_over.send_replace(true);
        self.tasks.join_all().await;
        self.written.load(Ordering::Relaxed) - before
    }
}

/// Of three documents that one writer makes, the first is changed and the second is deleted.
async fn write(
    database: PostgresDatabase,
    every: Duration,
    written: Arc<AtomicU64>,
    is_over: watch::Receiver<bool>,
) {
    let documents = database.documents();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut made = Vec::new();
    for step in (0..5).cycle() {
        ticks.tick().await;
        if *is_over.borrow() {
            return;
        }
        match step {
            3 => {
                let title = Some("another title".to_owned());
                let patch = DocumentPatch { title, status: None };
                documents.update(made[0], &patch, None, None).await.expect("changed");
            }
            4 => {
                documents.delete(made[1], None).await.expect("deleted");
                made.clear();
            }
            _ => made.push(create(&database).await),
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
}
