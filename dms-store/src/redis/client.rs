//! The client that the implementations share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dms_core::ports::StoreId;
use dms_core::{DocumentId, Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{
    ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, RedisResult, TlsCertificates,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::error::{ends_connection, from_redis, unavailable};
use super::link::Link;

/// Bounds of a [`RedisClient`], and under which keys it works. The defaults suit a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// What every key begins with; `dms:`.
    pub key_prefix: String,
    /// How long an answer may take, and how long a request may wait for its turn; 250 ms. Then the
    /// connection counts as broken.
    pub response_timeout: Duration,
    /// How long making a connection may take; 500 ms.
    pub connect_timeout: Duration,
    /// Requests on their way at the same time; 256.
    pub requests_max: usize,
    /// Certificates in PEM that a `rediss://` server's must descend from. None: those of the public
    /// authorities that come with this program.
    pub root_certificates_pem: Option<Vec<u8>>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            key_prefix: "dms:".to_owned(),
            response_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_millis(500),
            requests_max: 256,
            root_certificates_pem: None,
        }
    }
}

/// A connection to one Redis, made when it is first needed and made anew when it breaks. Cheap to
/// clone; clones share it. Its methods, and those of what is built on it, must be called in a Tokio
/// runtime.
///
/// A Redis that can't be reached costs one request the deadline; from then on requests are refused
/// at once, until a task of this client, which ends with its last clone, has found Redis again.
///
/// ```
/// use std::sync::Arc;
/// use dms_store::cache::CacheOptions;
/// use dms_store::redis::{RedisClient, RedisDocumentCache, RedisOptions, RedisViewCounter};
///
/// let client = RedisClient::new("redis://127.0.0.1:6379", RedisOptions::default())?;
/// let cache = RedisDocumentCache::new(client.clone(), CacheOptions::default());
/// // On the same client, reading a document and counting the view is one round trip.
/// let views = RedisViewCounter::new(client);
/// # Ok::<_, dms_core::Error>(())
/// ```
#[derive(Clone)]
pub struct RedisClient(Arc<Shared>);

struct Shared {
    link: Link,
    permits: Semaphore,
    response_timeout: Duration,
    key_prefix: String,
    address: String,
    store: StoreId,
}

impl RedisClient {
    /// A client of the Redis at `redis://[user:password@]host[:port][/database]`, or `rediss://` for
    /// TLS. Connects to nothing yet.
    ///
    /// For TLS the process needs a `rustls` crypto provider; if none is installed by then, this
    /// installs aws-lc-rs.
    ///
    /// # Errors
    /// `Invalid` for another URL, or certificates that can't be read.
    pub fn new(url: &str, options: RedisOptions) -> Result<Self> {
        let refused = || {
            Error::invalid(
                "cache URL",
                "must be redis://[user:password@]host[:port][/database], or rediss:// for TLS",
            )
        };
        let info = url.into_connection_info().map_err(|error| refused().with_source(error))?;
        let tls = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => return Err(refused()),
            ConnectionAddr::TcpTls { .. } => true,
            _ => false,
        };
        // Its server tells when it ends a connection.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let address = info.addr().to_string();
        let client = if tls {
            if CryptoProvider::get_default().is_none() {
                // Another thread may be faster, with the same or its own.
                let _ = aws_lc_rs::default_provider().install_default();
            }
            let root_cert = options.root_certificates_pem;
            match root_cert {
                Some(_) => redis::Client::build_with_tls(
                    info,
                    TlsCertificates { client_tls: None, root_cert },
                ),
                None => redis::Client::open(info),
            }
        } else {
            redis::Client::open(info)
        };
        let client = client.map_err(|error| {
            Error::invalid("cache certificates", "must be certificates in PEM").with_source(error)
        })?;
        let requests_max = options.requests_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self(Arc::new(Shared {
            link: Link::new(client, options.connect_timeout, requests_max),
            permits: Semaphore::new(requests_max),
            response_timeout: options.response_timeout,
            key_prefix: options.key_prefix,
            address,
            store: StoreId::unique(),
        })))
    }

    /// Whether Redis answers. Nothing of the product stops when it doesn't.
    ///
    /// # Errors
    /// `Unavailable` of dependency `cache`.
    pub async fn check(&self) -> Result<()> {
        self.run(
            |mut connection| async move { redis::cmd("PING").exec_async(&mut connection).await },
        )
        .await
    }

    /// What counts and documents are kept in.
    pub(super) fn store(&self) -> &StoreId {
        &self.0.store
    }

    /// A key that belongs to a document. All of one document's are in one slot of a cluster.
    pub(super) fn document_key(&self, id: DocumentId, kind: &str) -> String {
        format!("{}{{{id}}}:{kind}", self.0.key_prefix)
    }

    /// Another key.
    pub(super) fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.0.key_prefix)
    }

    /// Asks for something that can be answered in one go, in time.
    pub(super) async fn run<T, F>(&self, ask: impl FnOnce(MultiplexedConnection) -> F) -> Result<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let shared = &*self.0;
        let _permit = timeout(shared.response_timeout, shared.permits.acquire())
            .await
            .map_err(|elapsed| unavailable("cache has too much to do").with_source(elapsed))?
            .map_err(|error| unavailable("cache is closed").with_source(error))?;
        let lease = shared.link.lease().await?;
        match timeout(shared.response_timeout, ask(lease.connection.clone())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if ends_connection(&error) {
                    shared.link.lost(&lease, error.clone());
                }
                Err(from_redis(error))
            }
            Err(elapsed) => {
                let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut);
                shared.link.lost(&lease, timed_out.into());
                Err(unavailable("cache doesn't answer").with_source(elapsed))
            }
        }
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient")
            .field("address", &self.0.address)
            .field("key_prefix", &self.0.key_prefix)
            .finish_non_exhaustive()
    }
}
