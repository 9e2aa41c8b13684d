//! Requests, each with a deadline, and not too many at a time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::{Error, Result};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Method;
use reqwest::header::{HeaderValue, IF_NONE_MATCH};
use tokio::sync::Semaphore;

use super::options::S3Options;

/// How much faster than this the line to the store is expected to be.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// What putting the parts of a large object together may take besides.
const COMPLETION_ALLOWANCE: Duration = Duration::from_secs(10);

/// How requests go out. Clones share connections and bounds.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    permits: Arc<Semaphore>,
    response_timeout: Duration,
}

impl Transport {
    pub(super) fn new(options: &S3Options) -> Result<Self> {
        let unusable = |error: reqwest::Error| {
            Error::invalid("root certificates", "must be certificates in PEM").with_source(error)
        };
        let mut client = reqwest::Client::builder()
            // A proxy would be taken from the environment, which belongs to the program.
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.connect_timeout.saturating_mul(10))
            .pool_max_idle_per_host(options.requests_max);
        if let Some(pem) = &options.root_certificates_pem {
            let certificates = reqwest::tls::Certificate::from_pem_bundle(pem).map_err(unusable)?;
            client = client.tls_certs_merge(certificates);
        }
        let requests_max = options.requests_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            client: client.build().map_err(unusable)?,
            permits: Arc::new(Semaphore::new(requests_max)),
            response_timeout: options.response_timeout,
        })
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let bytes = request.body().content_length() as u64;
        let mut time = self.response_timeout + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
        if is_completion(&request) {
            time += COMPLETION_ALLOWANCE;
            // `object_store` completes uploads unconditionally. The signature covers headers that
            // are signed, and others may be there.
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let exchange = async {
            let _permit = self.permits.acquire().await.map_err(closed)?;
            self.client.call(request).await
        };
        match tokio::time::timeout(time, exchange).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        }
    }
}

fn closed(error: tokio::sync::AcquireError) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error)
}

/// Whether a request completes a multipart upload.
fn is_completion(request: &HttpRequest) -> bool {
    *request.method() == Method::POST
        && request.uri().query().is_some_and(|query| query.contains("uploadId="))
}

impl HttpConnector for Transport {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
