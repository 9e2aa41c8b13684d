//! Keys of each test's own, and documents to put behind them.

use std::sync::Arc;
use std::time::Duration;

use dms_core::ports::{DocumentCache as _, DocumentLoader, View};
use dms_core::{Document, DocumentId, DocumentStatus, Error, Sha256, Visitor};
use dms_store::cache::CacheOptions;
use dms_store::redis::{RedisClient, RedisDocumentCache, RedisOptions, RedisViewCounter};
use futures_util::FutureExt as _;

use crate::proxy::Proxy;

fn url() -> String {
    std::env::var("DMS_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

pub(crate) fn address() -> String {
    url().trim_start_matches("redis://").trim_end_matches('/').to_owned()
}

/// Options with keys of this test's own, and with patience: the machine may be busy.
pub(crate) fn options() -> RedisOptions {
    RedisOptions {
        key_prefix: format!("dms-test-{}:", DocumentId::generate()),
        response_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        ..RedisOptions::default()
    }
}

/// Keys of one test, which are removed with this.
pub(crate) struct Keys {
    pub(crate) options: RedisOptions,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { options: options() }
    }

    pub(crate) fn client(&self) -> RedisClient {
        RedisClient::new(&url(), self.options.clone()).expect("a client")
    }

    /// One that doesn't wait long for an answer.
    pub(crate) fn hasty_client(&self, proxy: &Proxy) -> RedisClient {
        let options = RedisOptions {
            response_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_millis(250),
            ..self.options.clone()
        };
        RedisClient::new(&format!("redis://{}", proxy.address), options).expect("a client")
    }

    pub(crate) fn client_through(&self, proxy: &Proxy) -> RedisClient {
        RedisClient::new(&format!("redis://{}", proxy.address), self.options.clone())
            .expect("a client")
    }

    /// Asks Redis itself.
    pub(crate) fn ask<T: redis::FromRedisValue>(command: &redis::Cmd) -> T {
        let client = redis::Client::open(url()).expect("a client");
        command.query(&mut client.get_connection().expect("Redis")).expect("an answer")
    }

    pub(crate) fn all(&self) -> Vec<String> {
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

pub(crate) fn nothing_here() -> CacheOptions {
    CacheOptions { bytes_max: 0, ..CacheOptions::default() }
}

pub(crate) fn document(id: DocumentId, version: i32) -> Arc<Document> {
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

pub(crate) fn loaded(id: DocumentId, version: i32) -> DocumentLoader {
    async move { Ok(document(id, version)) }.boxed()
}

pub(crate) fn forbidden() -> DocumentLoader {
    async { panic!("loaded although it is cached") }.boxed()
}

pub(crate) fn not_there(id: DocumentId) -> DocumentLoader {
    async move { Err(Error::not_found("document", id)) }.boxed()
}

pub(crate) fn view(client: &RedisClient, visitor: &str) -> View {
    View {
        visitor: Visitor(Arc::from(visitor)),
        counter: Arc::new(RedisViewCounter::new(client.clone())),
    }
}

pub(crate) async fn version(
    cache: &RedisDocumentCache,
    id: DocumentId,
    load: DocumentLoader,
) -> i32 {
    cache.get_or_load(id, load).await.expect("a read never fails").version
}
