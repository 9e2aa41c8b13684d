//! Redis: suites of the ports on a real one, and what happens without it.
#![cfg(feature = "redis")]

#[expect(dead_code, reason = "other tests use the rest")]
mod proxy;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::conformance::{cache, idempotency, viewed_reads, views};
use dms_core::fake::{InMemoryDatabase, ManualClock};
use dms_core::ports::{
    DocumentCache, DocumentLoader, DocumentRepository as _, IdempotencyKey, IdempotencyRecord,
    IdempotencyRepository, Reservation, View, ViewCounter,
};
use dms_core::{
    Document, DocumentId, DocumentStatus, Error, ErrorChain, ErrorKind, NewDocument, Result,
    Sha256, ViewStats, Visitor,
};
use dms_store::cache::CacheOptions;
use dms_store::redis::{
    RedisCacheOptions, RedisClient, RedisDocumentCache, RedisIdempotencyRepository, RedisOptions,
    RedisViewCounter,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use proxy::{Line, Proxy};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_mins(1);

fn url() -> String {
    std::env::var("DMS_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

fn address() -> String {
    url().trim_start_matches("redis://").trim_end_matches('/').to_owned()
}

/// Options with keys of this test's own, and with patience: the machine may be busy.
fn options() -> RedisOptions {
    RedisOptions {
        key_prefix: format!("dms-test-{}:", DocumentId::generate()),
        response_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        ..RedisOptions::default()
    }
}

/// Keys of one test, which are removed with this.
struct Keys {
    options: RedisOptions,
}

impl Keys {
    fn new() -> Self {
        Self { options: options() }
    }

    fn client(&self) -> RedisClient {
        RedisClient::new(&url(), self.options.clone()).expect("a client")
    }

    /// One that doesn't wait long for an answer.
    fn hasty_client(&self, proxy: &Proxy) -> RedisClient {
        let options = RedisOptions {
            response_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_millis(250),
            ..self.options.clone()
        };
        RedisClient::new(&format!("redis://{}", proxy.address), options).expect("a client")
    }

    fn client_through(&self, proxy: &Proxy) -> RedisClient {
        RedisClient::new(&format!("redis://{}", proxy.address), self.options.clone())
            .expect("a client")
    }

    /// Asks Redis itself.
    fn ask<T: redis::FromRedisValue>(command: &redis::Cmd) -> T {
        let client = redis::Client::open(url()).expect("a client");
        command.query(&mut client.get_connection().expect("Redis")).expect("an answer")
    }

    fn all(&self) -> Vec<String> {
        let pattern = format!("{}*", self.options.key_prefix);
        let (mut found, mut cursor) = (Vec::new(), 0);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<String>) = Self::ask(&scan);
            found.extend(keys);
            cursor = next;
            if cursor == 0 {
                return found;
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for key in self.all() {
                let () = Self::ask(redis::cmd("DEL").arg(key));
            }
        }
    }
}

fn nothing_here() -> CacheOptions {
    CacheOptions { bytes_max: 0, ..CacheOptions::default() }
}

fn document(id: DocumentId, version: i32) -> Arc<Document> {
    let at = std::time::SystemTime::UNIX_EPOCH.into();
    Arc::new(Document {
        id,
        title: format!("version {version}"),
        content_type: "text/plain".to_owned(),
        content_size: 1,
        content_sha256: Sha256::of(b"x"),
        s3_key: Document::content_key(id),
        status: DocumentStatus::Created,
        created_by: "jane".to_owned(),
        created_at: at,
        updated_at: at,
        version,
    })
}

fn loaded(id: DocumentId, version: i32) -> DocumentLoader {
    async move { Ok(document(id, version)) }.boxed()
}

fn forbidden() -> DocumentLoader {
    async { panic!("loaded although it is cached") }.boxed()
}

fn not_there(id: DocumentId) -> DocumentLoader {
    async move { Err(Error::not_found("document", id)) }.boxed()
}

fn view(client: &RedisClient, visitor: &str) -> View {
    View {
        visitor: Visitor(Arc::from(visitor)),
        counter: Arc::new(RedisViewCounter::new(client.clone())),
    }
}

async fn version(cache: &RedisDocumentCache, id: DocumentId, load: DocumentLoader) -> i32 {
    cache.get_or_load(id, load).await.expect("a read never fails").version
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Everything an error says.
fn all_of(error: &Error) -> String {
    format!("{} {error:?}", ErrorChain(error))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn the_cache_passes_the_suite() {
    let keys = Keys::new();
    let cache = RedisDocumentCache::new(keys.client(), CacheOptions::default());
    cache::suite(&cache).await;
}

/// So every guard is Redis' own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn the_cache_passes_the_suite_with_nothing_kept_in_process() {
    let keys = Keys::new();
    let options = RedisCacheOptions { local: nothing_here(), ..RedisCacheOptions::default() };
    let cache = RedisDocumentCache::new(keys.client(), options);
    cache::suite(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn reads_that_are_counted_pass_the_suite() {
    let keys = Keys::new();
    for local in [CacheOptions::default(), nothing_here()] {
        let client = keys.client();
        let options = RedisCacheOptions { local, ..RedisCacheOptions::default() };
        let cache = RedisDocumentCache::new(client.clone(), options);
        viewed_reads::suite(&cache, Arc::new(RedisViewCounter::new(client))).await;
        // A counter that is elsewhere.
        let views = Arc::new(RedisViewCounter::new(keys.client()));
        viewed_reads::suite(&cache, views).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn the_view_counter_passes_the_suite() {
    let keys = Keys::new();
    views::suite(&RedisViewCounter::new(keys.client())).await;
}

fn pass_time(clock: Arc<ManualClock>) -> impl Fn(Duration) -> BoxFuture<'static, ()> {
    move |by| {
        clock.advance(by);
        Box::pin(ready(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn idempotency_keys_pass_the_suite() {
    let keys = Keys::new();
    let clock = Arc::new(ManualClock::default());
    let database = InMemoryDatabase::new(clock.clone());
    let inner = Arc::new(database.idempotency());
    let fast = RedisIdempotencyRepository::new(keys.client(), inner);
    idempotency::suite(&fast, &database.documents(), &pass_time(clock)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn processes_share_documents_and_an_older_version_never_comes_back() {
    let keys = Keys::new();
    let process = || RedisDocumentCache::new(keys.client(), CacheOptions::default());
    let id = DocumentId::generate();
    assert_eq!(version(&process(), id, loaded(id, 1)).await, 1);
    assert_eq!(version(&process(), id, forbidden()).await, 1, "another process has it from Redis");

    // A slow reader elsewhere has read the row before the write, and fills it in afterwards.
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let (began, begun) = tokio::sync::oneshot::channel::<()>();
    let slow = process();
    slow.invalidate(id, 2).await;
    let load = async move {
        began.send(()).expect("it's awaited");
        gate.await.expect("opened");
        Ok(document(id, 1))
    };
    let reader = tokio::spawn(async move { slow.get_or_load(id, load.boxed()).await });
    begun.await.expect("it loads");
    process().put(document(id, 2)).await;
    open.send(()).expect("it waits");
    assert!(reader.await.unwrap().unwrap().version >= 1);
    assert_eq!(version(&process(), id, forbidden()).await, 2, "the old value has lost");

    process().put_deleted(id, 3).await;
    process().put(document(id, 2)).await;
    process().invalidate(id, 3).await;
    let error = process().get_or_load(id, forbidden()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "deleted for every process");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_process_that_knows_of_a_newer_version_does_not_take_an_older_one_from_redis() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let id = DocumentId::generate();
    let options =
        RedisCacheOptions { time_to_live: Duration::from_hours(1), ..RedisCacheOptions::default() };
    RedisDocumentCache::new(keys.client(), options).put(document(id, 1)).await;
    let client = keys.hasty_client(&proxy);
    let cache = RedisDocumentCache::new(client.clone(), options);
    proxy.set(Line::Cut);
    cache.invalidate(id, 2).await;
    proxy.set(Line::Open);
    until("Redis is back", || async { client.check().await.is_ok() }).await;
    assert_eq!(version(&cache, id, loaded(id, 2)).await, 2, "although Redis still has 1");
    let other = RedisDocumentCache::new(keys.client(), options);
    assert_eq!(version(&other, id, forbidden()).await, 2, "Redis has learnt it now");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_lost_invalidation_is_made_good_by_the_time_to_live() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let options = RedisCacheOptions {
        local: CacheOptions { time_to_live: Duration::from_millis(300), ..CacheOptions::default() },
        time_to_live: Duration::from_millis(300),
    };
    let writer = RedisDocumentCache::new(keys.hasty_client(&proxy), options);
    let reader = RedisDocumentCache::new(keys.client(), options);
    let id = DocumentId::generate();
    assert_eq!(version(&writer, id, loaded(id, 1)).await, 1);
    version(&reader, id, loaded(id, 1)).await;
    proxy.set(Line::Cut);
    writer.put(document(id, 2)).await;
    let reader = &reader;
    until("the reader has the new version", || async move {
        version(reader, id, loaded(id, 2)).await == 2
    })
    .await;
    for _ in 0..50 {
        assert_eq!(version(&writer, id, loaded(id, 2)).await, 2, "the writer never had less");
        assert_eq!(version(reader, id, loaded(id, 2)).await, 2, "nor has the reader again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_read_and_its_view_are_one_round_trip() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let client = keys.client_through(&proxy);
    let [one, other] =
        [0, 1].map(|_| RedisDocumentCache::new(client.clone(), CacheOptions::default()));
    let counter = RedisViewCounter::new(client.clone());
    // Connected, and Redis knows the scripts.
    let warm = DocumentId::generate();
    one.get_or_load_viewed(warm, loaded(warm, 1), view(&client, "jane")).await.unwrap();

    let id = DocumentId::generate();
    let mut before = proxy.round_trips();
    let mut trips = || {
        let now = proxy.round_trips();
        now - std::mem::replace(&mut before, now)
    };
    let read = async |cache: &RedisDocumentCache, load| {
        let viewed = cache.get_or_load_viewed(id, load, view(&client, "jane")).await.unwrap();
        viewed.counted.unwrap();
    };
    read(&one, loaded(id, 1)).await;
    assert_eq!(trips(), 2, "nobody had it: asked for, then kept, with the view");
    read(&other, forbidden()).await;
    assert_eq!(trips(), 1, "Redis had it: value and view");
    read(&other, forbidden()).await;
    assert_eq!(trips(), 1, "this process had it: the view");
    other.get_or_load(id, forbidden()).await.unwrap();
    assert_eq!(trips(), 0, "no view");
    let stats = counter.stats(id).await.unwrap();
    assert_eq!(stats, ViewStats { total_views: 3, unique_views: 1 });
    assert_eq!(trips(), 1, "both counts");
    one.put(document(id, 2)).await;
    assert_eq!(trips(), 1, "a write");
    let absent = DocumentId::generate();
    one.get_or_load_viewed(absent, not_there(absent), view(&client, "jane")).await.unwrap_err();
    assert_eq!(trips(), 1, "what isn't there");
    assert_eq!(counter.stats(absent).await.unwrap().total_views, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_fails_and_nothing_is_asked_twice() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = RedisClient::new(&format!("redis://{nobody}"), RedisOptions::default()).unwrap();
    let cache = RedisDocumentCache::new(client.clone(), CacheOptions::default());
    // The suite that a cache passes, on what is left of it.
    cache::suite(&cache).await;
    let id = DocumentId::generate();
    let viewed = cache.get_or_load_viewed(id, loaded(id, 1), view(&client, "jane")).await.unwrap();
    let error = viewed.counted.unwrap_err();
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("cache")));
    let error = client.check().await.unwrap_err();
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("cache")));
    assert!(error.source().is_some(), "it says why");
    assert_eq!(
        RedisViewCounter::new(client).stats(id).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_redis_that_hangs_costs_one_read_its_deadline_and_is_used_again_later() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let client = keys.hasty_client(&proxy);
    let cache = RedisDocumentCache::new(client.clone(), nothing_here());
    until("connected", || async { client.check().await.is_ok() }).await;
    proxy.set(Line::Held);
    let id = DocumentId::generate();
    assert_eq!(version(&cache, id, loaded(id, 1)).await, 1, "the first read waits in vain");
    // Attempts to connect send a little; a thousand reads would send a lot.
    let asked = proxy.bytes_up();
    for _ in 0..1_000 {
        assert_eq!(version(&cache, id, loaded(id, 1)).await, 1);
        let view = view(&client, "jane");
        let viewed = cache.get_or_load_viewed(id, loaded(id, 1), view).await.unwrap();
        assert_eq!(viewed.document.version, 1);
    }
    assert!(proxy.bytes_up() - asked < 20_000, "{} bytes asked", proxy.bytes_up() - asked);
    proxy.set(Line::Open);
    until("used again", || async {
        let id = DocumentId::generate();
        cache.put(document(id, 1)).await;
        let read = cache.get_or_load(id, not_there(id)).await;
        read.is_ok()
    })
    .await;
    client.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_connection_that_is_cut_is_made_anew_without_being_asked() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let client = keys.client_through(&proxy);
    client.check().await.unwrap();
    let counter = RedisViewCounter::new(client.clone());
    let id = DocumentId::generate();
    for cut in 1..=3 {
        let before = proxy.bytes_up();
        proxy.set(Line::Cut);
        until("away is noticed", || async { client.check().await.is_err() }).await;
        proxy.set(Line::Open);
        until("a new connection", || async { proxy.bytes_up() > before }).await;
        until("back", || async { client.check().await.is_ok() }).await;
        counter.record(id, &Visitor(Arc::from("jane"))).await.unwrap();
        assert_eq!(counter.stats(id).await.unwrap().total_views, cut);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn services_that_start_before_redis_use_it_once_it_is_there() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    proxy.set(Line::Cut);
    let client = keys.client_through(&proxy);
    let cache = RedisDocumentCache::new(client.clone(), nothing_here());
    let id = DocumentId::generate();
    assert_eq!(version(&cache, id, loaded(id, 1)).await, 1);
    assert_eq!(client.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    proxy.set(Line::Open);
    until("there", || async { client.check().await.is_ok() }).await;
    cache.put(document(id, 2)).await;
    assert_eq!(version(&cache, id, forbidden()).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn readers_that_leave_do_no_harm() {
    let keys = Keys::new();
    let client = keys.client();
    let cache = RedisDocumentCache::new(client.clone(), nothing_here());
    let id = DocumentId::generate();
    cache.put(document(id, 1)).await;
    for polls in 0..40 {
        let mut read = cache.get_or_load_viewed(id, loaded(id, 1), view(&client, "jane"));
        for _ in 0..polls % 5 {
            if futures_util::future::poll_immediate(&mut read).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(read);
        let other = DocumentId::generate();
        cache.put(document(other, polls + 1)).await;
        assert_eq!(version(&cache, other, forbidden()).await, polls + 1, "answers aren't mixed up");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn what_is_not_ours_is_loaded_over() {
    let keys = Keys::new();
    let cache = RedisDocumentCache::new(keys.client(), nothing_here());
    let id = DocumentId::generate();
    cache.put(document(id, 1)).await;
    let key = keys.all().pop().expect("the document's key");
    for garbage in ["", "x", "garbage that is long enough", "00000000011{}", "000000000a1"] {
        let () = Keys::ask(redis::cmd("SET").arg(&key).arg(garbage));
        assert_eq!(version(&cache, id, loaded(id, 2)).await, 2, "{garbage:?}");
    }
    let () = Keys::ask(redis::cmd("DEL").arg(&key));
    let () = Keys::ask(redis::cmd("LPUSH").arg(&key).arg("x"));
    assert_eq!(version(&cache, id, loaded(id, 3)).await, 3, "not even a string");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn documents_leave_redis_after_their_time_and_counts_stay() {
    let keys = Keys::new();
    let client = keys.client();
    let cache = RedisDocumentCache::new(client.clone(), CacheOptions::default());
    let id = DocumentId::generate();
    cache.get_or_load_viewed(id, loaded(id, 1), view(&client, "jane")).await.unwrap();
    cache.put_deleted(DocumentId::generate(), 2).await;
    cache.invalidate(DocumentId::generate(), 2).await;
    let all = keys.all();
    assert_eq!(all.len(), 5, "{all:?}");
    for key in all {
        let expires_in_ms: i64 = Keys::ask(redis::cmd("PTTL").arg(&key));
        if key.ends_with(":document:v1") {
            assert!((1..=30_000).contains(&expires_in_ms), "{key} in {expires_in_ms}");
        } else {
            assert_eq!(expires_in_ms, -1, "{key} stays");
        }
    }
}

/// Counts how often the repository behind is asked.
struct Counted<T>(T, AtomicUsize);

#[async_trait]
impl<T: IdempotencyRepository> IdempotencyRepository for Counted<T> {
    async fn reserve(&self, key: &IdempotencyKey, lease: Duration) -> Result<Reservation> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.reserve(key, lease).await
    }

    async fn release(&self, key: &IdempotencyKey) -> Result<()> {
        self.0.release(key).await
    }

    async fn purge(&self, retention: Duration) -> Result<u64> {
        self.0.purge(retention).await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn completed_keys_are_answered_without_the_database_and_others_never() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let database = InMemoryDatabase::new(Arc::new(ManualClock::default()));
    let inner = Arc::new(Counted(database.idempotency(), AtomicUsize::new(0)));
    let client = keys.hasty_client(&proxy);
    until("connected", || async { client.check().await.is_ok() }).await;
    let fast = RedisIdempotencyRepository::new(client.clone(), inner.clone());
    let reserve = async |key: &IdempotencyKey| {
        let before = inner.1.load(Ordering::SeqCst);
        let reservation = fast.reserve(key, Duration::from_mins(1)).await.unwrap();
        (reservation, inner.1.load(Ordering::SeqCst) - before)
    };
    let complete = async |key: &IdempotencyKey| {
        let id = DocumentId::generate();
        let new = NewDocument {
            id,
            title: "title".into(),
            content_type: "text/plain".into(),
            content_size: 0,
            content_sha256: Sha256::of(b""),
            s3_key: Document::content_key(id),
            created_by: "creator".into(),
        };
        let record = IdempotencyRecord { key: key.clone(), request_sha256: Sha256::of(b"request") };
        let made = database.documents().create(new, None, Some(record)).await.unwrap();
        Reservation::Completed {
            request_sha256: Sha256::of(b"request"),
            resource_id: made.id.as_uuid(),
            first_answer: serde_json::to_value(&made).unwrap(),
        }
    };
    let new_key = || {
        let text = DocumentId::generate().to_string();
        IdempotencyKey::new("documents", Some("jane"), &text).unwrap()
    };

    let key = new_key();
    assert_eq!(reserve(&key).await, (Reservation::Acquired, 1));
    assert_eq!(reserve(&key).await, (Reservation::Running, 1));
    let expected = complete(&key).await;
    assert_eq!(reserve(&key).await, (expected.clone(), 1), "the first repetition");
    assert_eq!(reserve(&key).await, (expected.clone(), 0), "from then on");
    fast.release(&key).await.unwrap();
    assert_eq!(reserve(&key).await, (expected.clone(), 0), "released, still completed");
    // Another process and another caller.
    let other = RedisIdempotencyRepository::new(keys.client(), inner.clone());
    assert_eq!(other.reserve(&key, Duration::from_mins(1)).await.unwrap(), expected);
    let theirs = IdempotencyKey::new("documents", Some("john"), key.key()).unwrap();
    assert_eq!(reserve(&theirs).await, (Reservation::Acquired, 1));

    let [redis_key] = &keys.all()[..] else { panic!("only the completed key is kept") };
    let expires_in_s: i64 = Keys::ask(redis::cmd("TTL").arg(redis_key));
    assert!((86_000..=86_400).contains(&expires_in_s), "{expires_in_s}");
    let () = Keys::ask(redis::cmd("SET").arg(redis_key).arg("{\"resource_id\":7}"));
    assert_eq!(reserve(&key).await, (expected.clone(), 1), "garbage");
    assert_eq!(reserve(&key).await, (expected.clone(), 0), "made good");
    let () = Keys::ask(redis::cmd("DEL").arg(redis_key));
    assert_eq!(reserve(&key).await, (expected.clone(), 1), "lost");

    for line in [Line::Cut, Line::Held] {
        proxy.set(line);
        assert_eq!(reserve(&key).await, (expected.clone(), 1), "{line:?}");
        let key = new_key();
        assert_eq!(reserve(&key).await, (Reservation::Acquired, 1), "{line:?}");
        let expected = complete(&key).await;
        assert_eq!(reserve(&key).await, (expected, 1), "{line:?}");
    }
    proxy.set(Line::Open);
    until("back", || async { client.check().await.is_ok() }).await;
    assert_eq!(reserve(&key).await.0, expected);
    assert_eq!(reserve(&key).await, (expected, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn secrets_are_not_told() {
    let url = format!("redis://jane:hunter2secret@{}/0", address());
    let client = RedisClient::new(&url, options()).unwrap();
    assert!(!format!("{client:?}").contains("hunter2secret"));
    let error = client.check().await.unwrap_err();
    assert_eq!(error.dependency(), Some("cache"));
    assert!(!all_of(&error).contains("hunter2secret"), "{}", all_of(&error));
    let cache = RedisDocumentCache::new(client, CacheOptions::default());
    assert!(!format!("{cache:?}").contains("hunter2secret"));
}

#[test]
fn other_urls_are_refused_and_not_repeated() {
    for url in [
        "",
        "redis",
        "http://jane:hunter2secret@host",
        "redis://jane:hunter2secret@host/x",
        "redis://jane:hunter2secret@host:99999",
        "redis://jane:hunter2secret@",
        "rediss://jane:hunter2secret@host#insecure",
    ] {
        let error = RedisClient::new(url, RedisOptions::default()).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        assert!(!all_of(&error).contains("hunter2secret"), "{}", all_of(&error));
    }
    let options = RedisOptions {
        root_certificates_pem: Some(
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".to_vec(),
        ),
        ..RedisOptions::default()
    };
    let error = RedisClient::new("rediss://host", options).expect_err("no certificate");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// In front of Redis, with a certificate of its own for `localhost`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn tls_to_a_server_whose_authority_is_given() {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs;

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key =
        tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut redis = tokio::net::TcpStream::connect(address()).await.unwrap();
                if let Ok(mut client) = acceptor.accept(client).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut redis).await;
                }
            });
        }
    });
    let keys = Keys::new();
    let url = format!("rediss://localhost:{port}");
    let stranger = RedisClient::new(&url, keys.options.clone()).unwrap();
    let error = stranger.check().await.expect_err("its authority isn't known");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let trusting = RedisOptions {
        root_certificates_pem: Some(made.cert.pem().into_bytes()),
        ..keys.options.clone()
    };
    let client = RedisClient::new(&url, trusting).unwrap();
    client.check().await.expect("TLS");
    views::suite(&RedisViewCounter::new(client)).await;
    server.abort();
}
