//! One request: sent, repeated where that is safe, and its answer read.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::builder::DmsClientBuilder;
use super::{ClientError, ClientResult, DmsClient, Problem};
use crate::types::ProblemBody;

/// Largest answer in JSON, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Largest problem that is read, in bytes.
const PROBLEM_BYTES_MAX: usize = 64 << 10;
/// Longest pause that a server may ask for before a repetition.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// How long an `Idempotency-Key` can stay taken by a request that died with its server, and a little
/// more: a server gives such a request up after a minute. Within one call the client itself waits
/// that long for a key of an earlier attempt that failed; a program that was started anew and
/// repeats what it did before may have to do so, too.
pub const KEY_HELD_MAX: Duration = Duration::from_secs(75);
/// Least pause before the key is asked for again.
const KEY_HELD_PAUSE: Duration = Duration::from_millis(500);
/// Header under which a `POST` may be repeated.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// After any failure that may pass: it has no effect, or has it once.
    Safely,
    /// If no connection could be made.
    Unsent,
    /// Never: what it sends is gone then.
    Never,
}

impl Repeat {
    fn allows(self, error: &ClientError) -> bool {
        match (self, error) {
            (Self::Unsent, ClientError::Unreachable { unsent, .. }) => *unsent,
            (Self::Safely, ClientError::Unreachable { .. } | ClientError::Timeout(_)) => true,
            (Self::Safely, ClientError::Problem(problem)) => problem.is_transient(),
            _ => false,
        }
    }
}

pub(super) struct Inner {
    http: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
    pub(super) request_timeout: Duration,
    pub(super) transfer_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pauses: ExponentialBuilder,
}

impl Inner {
    pub(super) fn new(
        http: reqwest::Client,
        base: Url,
        authorization: Option<HeaderValue>,
        options: &DmsClientBuilder,
    ) -> Self {
        Self {
            http,
            base,
            authorization,
            request_timeout: options.request_timeout,
            transfer_timeout: options.transfer_timeout,
            idle_timeout: options.idle_timeout,
            pauses: ExponentialBuilder::new()
                .with_min_delay(options.retry_pause)
                .with_max_delay(options.retry_pause.saturating_mul(50))
                .with_max_times(options.retries_max)
                .with_jitter(),
        }
    }
}

impl DmsClient {
    /// A request to a path, without a time-out.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.inner.base.clone();
        // Only addresses without a host have no path, and those are refused at the beginning.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.inner.http.request(method, url);
        match &self.inner.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// A `GET` whose answer is short.
    pub(super) fn get(&self, path: &[&str]) -> RequestBuilder {
        self.request(Method::GET, path).timeout(self.inner.request_timeout)
    }

    /// Sends a request and reads its answer.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        repeat: Repeat,
        make: impl Fn() -> RequestBuilder,
    ) -> ClientResult<T> {
        self.repeated(repeat, || async { read_json(answered(make()).await?).await }).await
    }

    /// Sends a request; the answer's body is left to be read, whose time-out is not this one's.
    pub(super) async fn open(
        &self,
        repeat: Repeat,
        make: impl Fn() -> RequestBuilder,
    ) -> ClientResult<Response> {
        let begin = || async {
            tokio::time::timeout(self.inner.request_timeout, answered(make()))
                .await
                .unwrap_or_else(|_| Err(ClientError::timeout("no answer in time")))
        };
        self.repeated(repeat, begin).await
    }

    /// Does something once, and again as often and as late as is right.
    pub(super) async fn repeated<T, F>(
        &self,
        repeat: Repeat,
        attempt: impl Fn() -> F,
    ) -> ClientResult<T>
    where
        F: Future<Output = ClientResult<T>>,
    {
        let mut pauses = self.inner.pauses.build();
        let mut failed_at = None;
        loop {
            let error = match attempt().await {
                Err(error) if repeat.allows(&error) => error,
                done => return done,
            };
            let asked = error.retry_after().unwrap_or_default();
            if error.is_in_progress() {
                // An earlier attempt of this call may have died with the key in its hand.
                if failed_at.is_some_and(|at: Instant| at.elapsed() < KEY_HELD_MAX) {
                    tokio::time::sleep(asked.max(KEY_HELD_PAUSE)).await;
                    continue;
                }
            } else {
                failed_at.get_or_insert_with(Instant::now);
            }
            match pauses.next() {
                Some(pause) if asked <= RETRY_AFTER_MAX => {
                    tokio::time::sleep(pause.max(asked)).await;
                }
                _ => return Err(error),
            }
        }
    }
}

/// The key of a `POST`: the caller's, or one of its own, so that it can be repeated.
pub(super) fn idempotency(key: Option<&str>) -> ClientResult<(&'static str, HeaderValue)> {
    let value = match key {
        Some(key) => HeaderValue::from_str(key),
        None => HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()),
    };
    Ok((IDEMPOTENCY_KEY, value.map_err(ClientError::request)?))
}

/// The entity tag of a version, as `If-Match` and `If-None-Match` take it.
pub(super) fn etag(version: i32) -> String {
    format!("\"{version}\"")
}

/// The answer to a request, unless it stands for an error.
pub(super) async fn answered(request: RequestBuilder) -> ClientResult<Response> {
    let response = request.send().await.map_err(ClientError::of_transport)?;
    let status = response.status();
    if status.is_success()
        || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS)
    {
        Ok(response)
    } else {
        Err(problem_of(response).await)
    }
}

/// Reads a whole answer.
pub(super) async fn read_json<T: DeserializeOwned>(response: Response) -> ClientResult<T> {
    let body = read(response, ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(ClientError::unreadable)
}

async fn read(mut response: Response, bytes_max: usize) -> ClientResult<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ClientError::of_transport)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(ClientError::unreadable("answer too large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn problem_of(response: Response) -> ClientError {
    let status = response.status().as_u16();
    let headers = response.headers();
    let mut problem = Problem {
        status,
        code: String::new(),
        detail: String::new(),
        fields: Vec::new(),
        request_id: text(headers, "x-request-id").map(str::to_owned),
        retry_after: text(headers, RETRY_AFTER.as_str())
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs),
        current_version: (status == 412).then(|| version(headers)).flatten(),
    };
    // Whatever is in between may answer with anything; the status says enough then.
    let body = read(response, PROBLEM_BYTES_MAX).await.unwrap_or_default();
    if let Ok(body) = serde_json::from_slice::<ProblemBody>(&body) {
        problem.code = body.code;
        problem.detail = body.detail;
        problem.fields = body.errors;
    }
    ClientError::Problem(Box::new(problem))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn version(headers: &HeaderMap) -> Option<i32> {
    text(headers, ETAG.as_str())?.trim_matches('"').parse().ok()
}
