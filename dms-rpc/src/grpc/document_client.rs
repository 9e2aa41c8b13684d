//! The documents of another process.

use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable as _};
use dms_core::ports::DocumentClient;
use dms_core::{
    Caller, Document, DocumentId, DocumentStatus, Error, ErrorChain, Result, SignatureId,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::ServiceToken;
use super::convert::document_of;
use super::proto::document_service_client::DocumentServiceClient;
use super::proto::{GetDocumentRequest, UpdateDocumentStatusRequest};
use super::status::{REQUEST_ID, deadline_passed, error_of, may_repeat, too_many_calls};

/// An answer on its way.
type Answer<A> = BoxFuture<'static, Result<Response<A>, Status>>;

/// Largest answer, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// How a [`GrpcDocumentClient`] reaches the document service.
#[derive(Debug, Clone)]
pub struct GrpcClientConfig {
    /// Where it is: `http://HOST:PORT`.
    pub url: String,
    /// What is shown to it.
    pub service_token: Option<ServiceToken>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a call may take, repetitions and waiting included. Sent as `grpc-timeout`.
    pub deadline: Duration,
    /// Most calls under way; more wait within their deadline.
    pub calls_max: usize,
    /// How often a call that found the service unavailable is repeated.
    pub retries_max: usize,
    /// First pause before a repetition; doubled each time up to ten times itself, with jitter.
    pub retry_pause: Duration,
    /// Pause between keep-alive pings.
    pub keep_alive_interval: Duration,
    /// A service that doesn't answer a ping for so long is gone.
    pub keep_alive_timeout: Duration,
}

impl GrpcClientConfig {
    /// Defaults for a service at `url`: 1 s to connect, 3 s and three repetitions for a call, 64
    /// calls at once.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            service_token: None,
            connect_timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(3),
            calls_max: 64,
            retries_max: 3,
            retry_pause: Duration::from_millis(50),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(10),
        }
    }
}

/// The [`DocumentClient`] of a document service reached over gRPC.
///
/// Connects at the first call and again whenever the connection is lost. A call that finds the
/// service unavailable is repeated within its deadline; all of them are safe to repeat.
pub struct GrpcDocumentClient {
    channel: Channel,
    authorization: Option<AsciiMetadataValue>,
    calls: Semaphore,
    deadline: Duration,
    pauses: ExponentialBuilder,
}

impl GrpcDocumentClient {
    /// A client that isn't connected yet. Needs to be called on a tokio runtime, on which its
    /// connection is driven until the client is dropped.
    ///
    /// # Errors
    /// `Invalid` for a URL that isn't `http://HOST:PORT`; `Internal` outside a runtime.
    pub fn new(config: &GrpcClientConfig) -> Result<Self> {
        let refuse = || Error::invalid("url", "must be http://HOST:PORT; TLS isn't supported yet");
        let endpoint = Endpoint::from_shared(config.url.clone())
            .map_err(|e| refuse().with_source(e))?
            .connect_timeout(config.connect_timeout)
            .http2_keep_alive_interval(config.keep_alive_interval)
            .keep_alive_timeout(config.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        // For a path to a socket tonic makes up an address of its own.
        if !config.url.starts_with("http://") || endpoint.uri().host().is_none() {
            return Err(refuse());
        }
        Handle::try_current()
            .map_err(|e| Error::internal("a gRPC client needs a tokio runtime").with_source(e))?;
        Self::with_channel(endpoint.connect_lazy(), config)
    }

    /// A client on a channel that is ready; what `config` says of connections isn't looked at.
    ///
    /// # Errors
    /// `Invalid` for a service token that can't be sent.
    pub fn with_channel(channel: Channel, config: &GrpcClientConfig) -> Result<Self> {
        let authorization = match &config.service_token {
            Some(token) => {
                let mut value = MetadataValue::try_from(token.header()).map_err(|e| {
                    Error::invalid("service_token", "must be visible ASCII").with_source(e)
                })?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let pauses = ExponentialBuilder::new()
            .with_min_delay(config.retry_pause)
            .with_max_delay(config.retry_pause.saturating_mul(10))
            .with_max_times(config.retries_max)
            .with_jitter();
        Ok(Self {
            channel,
            authorization,
            calls: Semaphore::new(config.calls_max.min(Semaphore::MAX_PERMITS)),
            deadline: config.deadline,
            pauses,
        })
    }

    /// Whether the document service says it is ready.
    ///
    /// # Errors
    /// `Unavailable` if it can't be reached or says that it isn't ready; `Timeout`.
    pub async fn check(&self) -> Result<()> {
        let request = HealthCheckRequest { service: String::new() };
        let answer = self
            .call(&Caller::system("health"), request, |channel, request| {
                async move { HealthClient::new(channel).check(request).await }.boxed()
            })
            .await?;
        let serving =
            tonic_health::pb::health_check_response::ServingStatus::from(ServingStatus::Serving);
        if answer.status == i32::from(serving) {
            Ok(())
        } else {
            Err(Error::unavailable("documents", "document service isn't ready"))
        }
    }

    async fn call<Q, A>(
        &self,
        caller: &Caller,
        message: Q,
        send: fn(Channel, Request<Q>) -> Answer<A>,
    ) -> Result<A>
    where
        Q: Clone + Send + Sync,
        A: Send,
    {
        let deadline = Instant::now() + self.deadline;
        // A closed semaphore doesn't happen: nobody closes it.
        let Ok(Ok(_permit)) = tokio::time::timeout_at(deadline, self.calls.acquire()).await else {
            return Err(too_many_calls());
        };
        let attempt =
            || send(self.channel.clone(), self.request(caller, message.clone(), deadline));
        let answer = attempt
            .retry(self.pauses)
            .when(may_repeat)
            .adjust(|_, pause| pause.filter(|pause| Instant::now() + *pause < deadline))
            .notify(|status, pause| {
                tracing::debug!(request_id = %caller.request_id, ?pause,
                    error = %ErrorChain(status), "call to the document service repeated");
            });
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(error_of(status)),
            Err(_) => Err(deadline_passed()),
        }
    }

    fn request<Q>(&self, caller: &Caller, message: Q, deadline: Instant) -> Request<Q> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let metadata = request.metadata_mut();
        if let Ok(id) = MetadataValue::try_from(caller.request_id.as_str()) {
            metadata.insert(REQUEST_ID, id);
        }
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        request
    }
}

fn documents(channel: Channel) -> DocumentServiceClient<Channel> {
    DocumentServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

#[async_trait]
impl DocumentClient for GrpcDocumentClient {
    async fn get(&self, caller: &Caller, id: DocumentId) -> Result<Document> {
        let request = GetDocumentRequest { document_id: id.to_string() };
        let answer = self
            .call(caller, request, |channel, request| {
                async move { documents(channel).get_document(request).await }.boxed()
            })
            .await?;
        document_of(answer)
    }

    async fn mark_signed(
        &self,
        caller: &Caller,
        id: DocumentId,
        signature: SignatureId,
    ) -> Result<Document> {
        let request = UpdateDocumentStatusRequest {
            document_id: id.to_string(),
            status: DocumentStatus::Signed.as_str().to_owned(),
            // The key that `Documents` itself uses, so that it doesn't matter which way the
            // document is told.
            idempotency_key: Some(format!("signature/{signature}")),
            expected_version: None,
        };
        let answer = self
            .call(caller, request, |channel, request| {
                async move { documents(channel).update_document_status(request).await }.boxed()
            })
            .await?;
        document_of(answer)
    }
}
