//! How a client is set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Url, redirect, retry};

use super::transport::Inner;
use super::{ClientError, ClientResult, DmsClient};

/// Sets up a [`DmsClient`].
#[derive(Clone)]
#[must_use]
pub struct DmsClientBuilder {
    pub(super) base_url: String,
    pub(super) token: Option<String>,
    pub(super) user_agent: String,
    pub(super) root_certificates: Vec<u8>,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) transfer_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) retries_max: usize,
    pub(super) retry_pause: Duration,
}

impl fmt::Debug for DmsClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmsClientBuilder")
            .field("base_url", &self.base_url)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

impl DmsClientBuilder {
    pub(super) fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            token: None,
            user_agent: concat!("dms-client/", env!("CARGO_PKG_VERSION")).into(),
            root_certificates: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            transfer_timeout: Duration::from_mins(10),
            idle_timeout: Duration::from_secs(75),
            retries_max: 3,
            retry_pause: Duration::from_millis(100),
        }
    }

    /// Shows this token with every request, as `Authorization: Bearer TOKEN`.
    pub fn bearer_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// What the client calls itself; `dms-client/VERSION` unless set.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Trusts these certificates too, in PEM, besides those that the system trusts.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = pem.into();
        self
    }

    /// How long a connection may take to be made; 5 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take that carries no content, and how long content may take to
    /// begin; each repetition anew. 30 s unless set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long an upload may take; each repetition anew. 10 min unless set.
    pub fn transfer_timeout(mut self, timeout: Duration) -> Self {
        self.transfer_timeout = timeout;
        self
    }

    /// How long content on its way down, and a live connection, may be silent; 75 s unless set. A
    /// server says something on a live connection every 25 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How often a request is repeated, at most; 3 unless set.
    pub fn retries_max(mut self, retries: usize) -> Self {
        self.retries_max = retries;
        self
    }

    /// First pause before a repetition; 100 ms unless set. Doubled each time, up to fifty times
    /// itself, with jitter.
    pub fn retry_pause(mut self, pause: Duration) -> Self {
        self.retry_pause = pause;
        self
    }

    /// The client. It connects at the first call.
    ///
    /// # Errors
    /// [`ClientError::Request`] for an address that isn't `http://` or `https://`, a token that
    /// can't be sent, or certificates that can't be read.
    pub fn build(self) -> ClientResult<DmsClient> {
        let base = base(&self.base_url)?;
        let authorization = self.token.as_deref().map(authorization).transpose()?;
        let roots =
            Certificate::from_pem_bundle(&self.root_certificates).map_err(ClientError::request)?;
        let http = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(self.connect_timeout)
            // WebSockets upgrade from HTTP/1.1.
            .http1_only()
            .pool_idle_timeout(Duration::from_mins(1))
            .tcp_keepalive(Duration::from_secs(30))
            .tls_certs_merge(roots)
            .redirect(redirect::Policy::none())
            // Repetitions are decided in one place, here.
            .retry(retry::never())
            // Otherwise proxies would be taken from the environment.
            .no_proxy()
            .build()
            .map_err(ClientError::request)?;
        Ok(DmsClient { inner: Arc::new(Inner::new(http, base, authorization, &self)) })
    }
}

fn base(text: &str) -> ClientResult<Url> {
    let url = Url::parse(text).map_err(ClientError::request)?;
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !bare {
        return Err(ClientError::request("base URL must be http://HOST or https://HOST"));
    }
    Ok(url)
}

fn authorization(token: &str) -> ClientResult<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(ClientError::request)?;
    value.set_sensitive(true);
    Ok(value)
}
