//! JSON over HTTP, bounded in time, size and number.

use std::time::Duration;

use dms_core::{Error, Result};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, StatusCode, Url, redirect, retry};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::DEPENDENCY;
use super::error::{of_answer, of_transport, overloaded, unreadable};
use super::options::{Credentials, ElasticsearchOptions, address};

/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

const JSON: HeaderValue =
    HeaderValue::from_static("application/vnd.elasticsearch+json; compatible-with=8");
const LINES: HeaderValue =
    HeaderValue::from_static("application/vnd.elasticsearch+x-ndjson; compatible-with=8");
/// Elasticsearch names itself on every answer; whatever is before it may answer too.
const PRODUCT: &str = "x-elastic-product";

/// Connections to Elasticsearch, made when they are needed.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    searches: Semaphore,
    writes: Semaphore,
    search_time_max: Duration,
    write_time_max: Duration,
}

/// Which bounds hold for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Somebody waits for it.
    Search,
    /// It changes documents.
    Write,
    /// It asks for or changes the index itself.
    Admin,
}

/// What to send.
pub(super) enum Payload {
    Nothing,
    Json(Value),
    Lines(bytes::Bytes),
}

/// An answer with any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Client {
    pub(super) fn new(options: &ElasticsearchOptions) -> Result<Self> {
        let address = address(&options.url)?;
        let invalid = |what: &'static str| {
            move |error: reqwest::Error| {
                Error::invalid(what, "can't be used").with_source(error.without_url())
            }
        };
        let roots = Certificate::from_pem_bundle(&options.root_certificates)
            .map_err(invalid("root_certificates"))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, JSON);
        if let Some(value) = authorization(&address.credentials)? {
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_keepalive(Duration::from_secs(30))
            .tls_certs_merge(roots)
            .redirect(redirect::Policy::none())
            // Repetitions are decided by who asks.
            .retry(retry::never())
            // Otherwise proxies would be taken from the environment.
            .no_proxy()
            .build()
            .map_err(invalid("url"))?;
        Ok(Self {
            http,
            base: address.url,
            searches: Semaphore::new(options.searches_max.max(1)),
            writes: Semaphore::new(options.writes_max.max(1)),
            search_time_max: options.search_time_max,
            write_time_max: options.write_time_max,
        })
    }

    /// Sends a request to `path`, which may have a query and begins without a slash; waits for its
    /// answer, whatever its status.
    pub(super) async fn send(
        &self,
        class: Class,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<Answer> {
        let (semaphore, time_max) = match class {
            Class::Search => (Some(&self.searches), self.search_time_max),
            Class::Write => (Some(&self.writes), self.write_time_max),
            Class::Admin => (None, self.write_time_max),
        };
        let exchange = async {
            let _permit = match semaphore {
                Some(semaphore) => Some(semaphore.acquire().await.map_err(|closed| {
                    Error::internal("search bound is closed").with_source(closed)
                })?),
                None => None,
            };
            self.exchange(method, path, payload).await
        };
        // Covers everything from waiting for its turn to the last byte.
        tokio::time::timeout(time_max, exchange).await.unwrap_or_else(|_| Err(overloaded()))
    }

    async fn exchange(&self, method: Method, path: &str, payload: Payload) -> Result<Answer> {
        let url = self.base.join(path).map_err(|error| {
            Error::internal("request to the search index has no address").with_source(error)
        })?;
        let mut request = self.http.request(method, url);
        match payload {
            Payload::Nothing => {}
            Payload::Json(value) => {
                request = request.header(CONTENT_TYPE, JSON).body(value.to_string());
            }
            Payload::Lines(lines) => request = request.header(CONTENT_TYPE, LINES).body(lines),
        }
        let mut response = request.send().await.map_err(of_transport)?;
        let status = response.status();
        if status.is_success() && !response.headers().contains_key(PRODUCT) {
            return Err(Error::unavailable(DEPENDENCY, "what answers is not Elasticsearch"));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(of_transport)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(unreadable("is too large"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, body })
    }

    /// Sends a request and reads its answer, which must be one of success.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        class: Class,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<T> {
        self.send(class, method, path, payload).await?.success()?.json()
    }
}

impl Answer {
    /// This answer, unless it is one of failure.
    pub(super) fn success(self) -> Result<Self> {
        if self.status.is_success() { Ok(self) } else { Err(of_answer(&self)) }
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| unreadable("can't be read").with_source(error))
    }
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>> {
    let text = match credentials {
        Credentials::None => return Ok(None),
        Credentials::Basic { user, password } => {
            format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
        }
        Credentials::ApiKey(key) => format!("ApiKey {key}"),
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::invalid("url", "holds a key that can't be sent"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}
